"""A config file: its variants, and a config with overrides."""

import contextlib
import fnmatch
import importlib
import runpy
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from absl import flags
from ml_collections import config_flags

from train import checks
from train.checks import Config, ConfigError


def read(name: str) -> Mapping[str, Any]:
  """What a config defines, by name.

  Args:
    name: the path of its file, or the name of a module.

  Returns:
    Its names and what they stand for.

  Raises:
    ConfigError: if there is no such module.
    OSError: if there is no such file.
  """
  if name.endswith('.py'):
    return runpy.run_path(name)
  try:
    return vars(importlib.import_module(name))
  except ModuleNotFoundError as error:
    raise ConfigError(
      f'Given --config={name}. There is no such module: {error}. Give the path '
      'of a file, such as configs/digits.py.'
    ) from error


def choose(module: Mapping[str, Any], methods: str | None) -> list[str]:
  """The variants of a config file that are asked for.

  Args:
    module: what the file defines.
    methods: names or patterns such as ``*sam``, with commas; None or 'all'
      for all of them.

  Returns:
    The variants, those of a pattern in the order of the file.

  Raises:
    ConfigError: if there is no such variant.
  """
  known = list(module.get('VARIANTS', ()))
  if not known:
    raise ConfigError(
      'Given --config. The file has no VARIANTS, so that there is nothing to '
      'compare. Give one that has, or train with python -m train.'
    )
  if methods in (None, 'all'):
    return known
  chosen = []
  for name in methods.replace(' ', '').split(','):
    found = fnmatch.filter(known, name)
    if not found:
      checks.pick('--methods', name, dict.fromkeys(known))
    chosen += found
  return list(dict.fromkeys(chosen))


@contextlib.contextmanager
def refusing() -> Iterator[None]:
  """Ends the process with what a config refuses of its overrides."""
  try:
    yield
  # An override of a key, or of a section, that is not there.
  except (AttributeError, KeyError) as error:
    key = error.args[0]
    text = key.args[0] if isinstance(key, KeyError) else str(key)
    sys.exit(
      f'error: Given an override of {", ".join(text.splitlines())} The config '
      'has no such key. Its keys are those of default() in train/config.py '
      'and the arguments of the method.'
    )
  except (flags.Error, OSError) as error:
    # A config file's own error comes as the text of its traceback.
    sys.exit(f'error: {str(error).rpartition("ConfigError: ")[2].strip()}')


def overridden(config: Config, overrides: Sequence[str]) -> Config:
  """The config that `python -m train` would make of some overrides.

  Args:
    config: as its file has it.
    overrides: ``--config.KEY=VALUE``.

  Returns:
    The config.
  """
  values, argv = flags.FlagValues(), ['train', *overrides]
  with refusing():
    config_flags.DEFINE_config_dict(
      'config', config, flag_values=values, sys_argv=argv
    )
    values(argv)
  return values.config
