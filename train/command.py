"""How the commands read their command lines, and how they fail."""

import argparse
import io
import pathlib
import sys
import textwrap
from collections.abc import Callable, Sequence

from absl import logging

from train import checks, keys
from train.checks import ConfigError, DataError

OVERRIDE = '--config.'
_MENDED_BY_USERS = (ConfigError, DataError, OSError)
_COLUMN = 28  # where the meanings begin
_OVERRIDES = """\
keys of the config:
  --config.KEY=VALUE   Set a key, which may have dots, such as
                       --config.optimizer.learning_rate=0.05 or
                       --config.method.rho=0.1. The keys are those of default()
                       in train/config.py and the arguments of the method.
"""


def parser(
  name: str, description: str, overrides: bool = False
) -> argparse.ArgumentParser:
  """A parser of a command line.

  Args:
    name: of the command, as in ``python -m NAME``.
    description: what it does, with examples, for `--help`.
    overrides: whether the keys of a config can be set, see `parse`.

  Returns:
    The parser, which shows the description as it is written.
  """
  return argparse.ArgumentParser(
    prog=f'python -m {name}',
    description=description.strip(),
    epilog=_overrides() if overrides else None,
    formatter_class=argparse.RawDescriptionHelpFormatter,
    allow_abbrev=False,  # else --conf would be --config, and so --config.KEY
  )


def _overrides() -> str:
  """The keys of the config and their meaning; those of the method are many."""
  lines = []
  for key, meaning in keys.MEANINGS.items():
    if len(key) > _COLUMN - 3:
      lines.append(f'  {key}')
      key = ''
    first, *rest = textwrap.wrap(meaning, 80 - _COLUMN)
    lines.append(f'  {key}'.ljust(_COLUMN) + first)
    lines += [' ' * _COLUMN + more for more in rest]
  return '\n'.join([_OVERRIDES, *lines])


def parse(
  parser: argparse.ArgumentParser, argv: Sequence[str] | None
) -> tuple[argparse.Namespace, list[str]]:
  """Parses a command line that may set keys of a config.

  Args:
    parser: of the flags that are the command's own.
    argv: the arguments; the process's by default.

  Returns:
    The flags, and the settings: ``--config.KEY=VALUE`` each.

  Raises:
    ConfigError: if an argument is neither.
  """
  args, rest = parser.parse_known_args(argv)
  settings = []
  for text in rest:
    if text.startswith((OVERRIDE, '--noconfig.')):
      settings.append(text)
    # The value of the key before it, given as a word of its own.
    elif settings and not text.startswith('-') and '=' not in settings[-1]:
      settings[-1] += f'={text}'
    else:
      raise ConfigError(
        f'Given {text!r}. There is no such flag. See --help; keys of the '
        f'config are given as {OVERRIDE}KEY=VALUE.'
      )
  return args, settings


def count(text: str) -> int:
  """A positive number, as argparse takes a type."""
  if not text.isdecimal() or not int(text):
    raise argparse.ArgumentTypeError(
      f'given {text!r}, which is no whole number above 0; use 1 or more'
    )
  return int(text)


def status_of(function: Callable[[], int | None]) -> int:
  """Runs a command; what a user can mend is said in a line.

  Args:
    function: the command; it returns its exit status, None for 0.

  Returns:
    The exit status: 1 after an error, which is printed.
  """
  # TFDS and JAX report every detail, and Orbax each error that it raises too.
  logging.set_verbosity(logging.FATAL)
  # A folder's name need not be Unicode, and the name of a class is one.
  if isinstance(sys.stdout, io.TextIOWrapper):
    sys.stdout.reconfigure(errors='backslashreplace')
  try:
    return function() or 0
  except Exception as error:
    lacking = checks.shortage(error)
    if lacking is None and not isinstance(error, _MENDED_BY_USERS):
      raise
    print(f'error: {lacking or error}', file=sys.stderr)
    return 1


def folder(text: str) -> pathlib.Path:
  """A folder, as argparse takes a type; ~ is the home of a user."""
  if not text.strip():
    raise argparse.ArgumentTypeError(
      f'given {text!r}, which names no folder; use a path such as runs/digits'
    )
  try:
    return pathlib.Path(text).expanduser()
  except RuntimeError as error:
    raise argparse.ArgumentTypeError(
      f'given {text!r}, of whose user no home is known; use a path without ~'
    ) from error


def check_folder(path: pathlib.Path) -> None:
  """Refuses a path that cannot be a folder to write into.

  Raises:
    ConfigError: if it is a file, or in one.
  """
  place = next(one for one in (path, *path.parents) if one.exists())
  if not place.is_dir():
    raise ConfigError(
      f'Given --workdir={path}. It is a file, or in one, and a folder is '
      'needed. Give the path of a folder, which need not exist.'
    )
