"""A run's folder: whether a run may begin or be resumed in it."""

import contextlib
import fcntl
import json
import os
import pathlib
from collections.abc import Generator, Mapping
from typing import Any

from train.checks import Config, ConfigError

# May differ when a run is resumed: it changes nothing that is computed.
MAY_DIFFER = ('checkpoint', 'log_every', 'pictures', 'data.workers')
# What a sweep leaves in the folder of a run that failed.
FAILURE = 'failure.json'
# The name of a run's task and its main score.
TASK = 'task.json'
# What of the data set was seen, and a digest of it.
DATA = 'data.json'
# The folder of a finished run's model, see train/engine/export.py.
MODEL = 'model'
_OF_A_RUN = ('metrics.jsonl', 'checkpoints')
# Whoever has one of these is a run, also one that has only begun.
_OURS = {
  *_OF_A_RUN,
  *('config.json', 'result.json', 'lock', FAILURE, TASK, DATA, MODEL),
}


class Busy(ConfigError):
  """A folder in which another process trains."""


def check(folder: pathlib.Path, config: Config) -> None:
  """Refuses a folder in which this run may neither begin nor be resumed.

  Args:
    folder: the folder, which need not exist.
    config: the config of the run.

  Raises:
    ConfigError: if it holds a run that is finished, that has no checkpoints,
      or that is of another config.
  """
  _check_place(folder)
  saved = _saved(folder)
  given = f'Given workdir={folder}. It already holds a run'
  if (folder / 'result.json').exists():
    raise ConfigError(
      f'{given}, which is finished and would be overwritten. Give another '
      'folder, or delete this one.'
    )
  if not is_begun(folder):
    if (folder / MODEL).exists():
      raise ConfigError(
        f'Given workdir={folder}. It holds {MODEL!r} and no run, and what is '
        'there could be overwritten. Give another folder, or move that away.'
      )
    return
  every = saved.get('checkpoint', {}).get('every')
  if not (every and config.checkpoint.every):
    raise ConfigError(
      f'{given}, which has no checkpoints to resume from and would be '
      'overwritten. Give another folder, or delete this one; with '
      'checkpoint.every above 0, a run can be resumed.'
    )
  check_same(folder, config)


def check_apart(folder: pathlib.Path, images: pathlib.Path | None) -> None:
  """Refuses a folder among the images of a data set.

  Args:
    folder: the folder, which need not exist.
    images: what the data set is read from; None for no path of the config's.

  Raises:
    ConfigError: if it is inside.
  """
  if images is None or not images.is_dir():
    return
  if folder.resolve().is_relative_to(images.resolve()):
    raise ConfigError(
      f'Given workdir={folder}. It is in the folder of the data, {images}, '
      'where its files would be taken for images and classes. Give a folder '
      'outside.'
    )


def check_same(folder: pathlib.Path, config: Config) -> None:
  """Refuses a folder that holds a run of another config.

  Args:
    folder: the folder of a run.
    config: the config that it should be of.

  Raises:
    ConfigError: if it is of another one, with the differences.
  """
  differences = [
    f'{key} is {there!r} there and {here!r} here'
    for key, (there, here) in differing(_saved(folder), as_json(config)).items()
    if not key.startswith(MAY_DIFFER)
  ]
  if differences:
    raise ConfigError(
      f'Given workdir={folder}. It already holds a run of another config: '
      f'{"; ".join(differences)}. What came out would be of neither. Give the '
      'same config to resume, or another folder; '
      f'only {", ".join(MAY_DIFFER)} may differ.'
    )


def check_data(folder: pathlib.Path, data: Mapping[str, Any]) -> None:
  """Refuses a folder that holds a run on other data under the same name.

  Args:
    folder: the folder of a run.
    data: 'digest' of the data, what was 'seen' of them, and the digests of the
      further test sets by name, as 'tests', where there are any.

  Raises:
    ConfigError: if the run was begun on data of another digest.
  """
  if not is_begun(folder):
    return
  try:
    there = json.loads((folder / DATA).read_text())
    digest, seen = there['digest'], there['seen']
    tests = dict(there.get('tests', {}))
  except FileNotFoundError:
    return
  except (ValueError, KeyError, TypeError) as error:
    raise ConfigError(
      f'Given workdir={folder}. Its {DATA} is not whole, so that nobody knows '
      'which data its run is on. Give another folder, or, if the data are '
      f'those that it was begun on, delete {DATA}.'
    ) from error
  if digest != data['digest']:
    raise ConfigError(
      f'Given workdir={folder}. It already holds a run on other data of the '
      f'same name: {seen} (digest {digest}) there, and {data["seen"]} (digest '
      f'{data["digest"]}) here. What came out would be of neither. Put the '
      'data back to resume, or give another folder.'
    )
  for name, here in data.get('tests', {}).items():
    if tests.get(name) != here:
      raise ConfigError(
        f'Given workdir={folder}. It already holds a run whose further test '
        f'set data.tests.{name} was another: digest {tests.get(name)} there, '
        f'and {here} here. Its scores would be of two sets. Put the files back '
        'to resume, or give another folder.'
      )


def begin_data(folder: pathlib.Path, data: Mapping[str, Any]) -> None:
  """Checks the data of a run, see `check_data`, and writes what they are."""
  check_data(folder, data)
  write(folder / DATA, json.dumps(data, indent=2))


def differing(
  one: Mapping[str, Any], two: Mapping[str, Any]
) -> dict[str, tuple[Any, Any]]:
  """The keys, with dots, in which two configs differ, and both values."""
  one, two = _flat(one), _flat(two)
  return {
    key: (one.get(key), two.get(key))
    for key in sorted({*one, *two})
    if one.get(key) != two.get(key)
  }


def as_json(config: Config) -> dict[str, Any]:
  """A config as `config.json` has it."""
  return json.loads(_json(config))


def is_begun(folder: pathlib.Path) -> bool:
  """Whether a folder holds something of a run's steps: a line or a checkpoint.

  A run that fails before its first step leaves an empty log.
  """
  log, checkpoints = (folder / name for name in _OF_A_RUN)
  if log.exists() and log.stat().st_size:
    return True
  return checkpoints.is_dir() and any(
    path.name.isdecimal() for path in checkpoints.iterdir()
  )


def is_busy(folder: pathlib.Path) -> bool:
  """Whether a process trains in a folder at this moment."""
  try:
    with (folder / 'lock').open() as lock:
      fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError:
    return True
  except (FileNotFoundError, NotADirectoryError):
    pass
  return False


@contextlib.contextmanager
def locked(folder: pathlib.Path, config: Config) -> Generator[None, None, None]:
  """Makes the folder, and locks it against a second run.

  Args:
    folder: the folder.
    config: the config of the run, which is written into it first of all.

  Yields:
    Nothing.

  Raises:
    Busy: if another process trains in it.
    ConfigError: see `check`.
  """
  folder.mkdir(parents=True, exist_ok=True)
  # The system gives the lock back however the process ends.
  with (folder / 'lock').open('w') as lock:
    try:
      fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
      raise Busy(
        f'Given workdir={folder}. Another process trains in it. Wait for its '
        'end, or give another folder.'
      ) from error
    check(folder, config)
    write_config(folder, config)
    yield


def write_config(folder: pathlib.Path, config: Config) -> None:
  """Writes the config of a run into its folder."""
  write(folder / 'config.json', _json(config))


def write_task(
  folder: pathlib.Path, name: str, main: Mapping[str, Any]
) -> None:
  """Writes a run's task into its folder, for reports.

  Args:
    folder: of the run.
    name: of the task.
    main: the fields of its main score.
  """
  write(folder / TASK, json.dumps({'task': name, 'main': main}, indent=2))


def write(path: pathlib.Path, text: str) -> None:
  """Writes a file in one piece: it is complete or not there."""
  part = path.with_name(path.name + '.part')
  part.write_text(text + '\n')
  os.replace(part, path)


def record(path: pathlib.Path) -> dict[str, Any] | None:
  """Reads a JSON file of a run; None if it is not there, or damaged."""
  try:
    content = json.loads(path.read_bytes())
  except (OSError, ValueError):
    return None
  return content if isinstance(content, dict) else None


def _check_place(folder: pathlib.Path) -> None:
  """Refuses a folder that cannot be made, or is somebody else's."""
  given = f'Given workdir={folder}.'
  try:
    there = {path.name for path in folder.iterdir()}
  except FileNotFoundError:
    there = set()
  except NotADirectoryError as error:
    raise ConfigError(
      f'{given} It is a file, or in one, and a run needs a folder. Give the '
      'path of a new folder.'
    ) from error
  if folder.is_symlink() and not folder.exists():
    raise ConfigError(
      f'{given} It is a link to {os.readlink(folder)}, which is not there. '
      'Make that folder, or give another path.'
    )
  place = next(path for path in (folder, *folder.parents) if path.exists())
  if not os.access(place, os.W_OK | os.X_OK):
    raise ConfigError(
      f'{given} You may not write in {place}, where the run would leave its '
      'files. Give another folder, or the right to write in this one.'
    )
  for name in _OF_A_RUN:
    if (folder / name).is_dir() != (name == 'checkpoints') and name in there:
      kind = 'file' if name == 'checkpoints' else 'folder'
      raise ConfigError(
        f'{given} Its {name} is a {kind}, which no run leaves there. Move it '
        'away, or give another folder.'
      )
  ours = {name.removesuffix('.part') for name in there} & _OURS
  others = sorted(name for name in there if not name.startswith('.'))
  if others and not ours:
    raise ConfigError(
      f'{given} It holds no run but other files, such as {others[0]!r}, which '
      'a run should not be mixed with. Give a folder that is empty or new.'
    )


def _saved(folder: pathlib.Path) -> dict[str, Any]:
  path = folder / 'config.json'
  if not path.exists() and not is_begun(folder):
    return {}
  saved = record(path)
  if saved is None or not {'model', 'method', 'data'} <= set(saved):
    raise ConfigError(
      f'Given workdir={folder}. Its config.json is missing, damaged, or not of '
      'a run, so that nothing can be resumed here and nothing is overwritten. '
      'Put the file back, or give another folder.'
    )
  return saved


def _json(config: Config) -> str:
  return config.to_json_best_effort(indent=2)


def _flat(section: Mapping[str, Any], prefix: str = '') -> dict[str, Any]:
  """A nested section's values by dotted key."""
  flat = {}
  for key, value in section.items():
    if isinstance(value, Mapping):
      flat |= _flat(value, f'{prefix}{key}.')
    else:
      flat[prefix + key] = value
  return flat
