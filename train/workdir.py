"""A run's folder: whether a run may begin or go on in it."""

import contextlib
import fcntl
import json
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

from train.config import Config, ConfigError

# What may differ when a run goes on: it changes nothing that is computed.
MAY_DIFFER = ('checkpoint', 'log_every', 'data.workers')
_OF_A_RUN = ('metrics.jsonl', 'checkpoints')


def check(folder: pathlib.Path, config: Config) -> None:
  """Refuses a folder in which this run may neither begin nor go on.

  Args:
    folder: the folder, which need not exist.
    config: the config of the run.

  Raises:
    ConfigError: if it holds a run that is finished, that has no checkpoints,
      or that is of another config.
  """
  given = f'Given workdir={folder}. It already holds a run'
  if (folder / 'result.json').exists():
    raise ConfigError(
      f'{given}, which is finished and would be overwritten. Give another '
      'folder, or delete this one.'
    )
  if not any((folder / name).exists() for name in _OF_A_RUN):
    return
  try:
    saved = json.loads((folder / 'config.json').read_text())
  except OSError:
    saved = {}
  if not (saved.get('checkpoint', {}).get('every') and config.checkpoint.every):
    raise ConfigError(
      f'{given}, which cannot go on without checkpoints and would be '
      'overwritten. Give another folder, or delete this one; with '
      'checkpoint.every above 0, a run can go on.'
    )
  there, here = _flat(saved), _flat(json.loads(_json(config)))
  differences = [
    f'{key} is {there.get(key)!r} there and {here.get(key)!r} here'
    for key in sorted({*there, *here})
    if there.get(key) != here.get(key) and not key.startswith(MAY_DIFFER)
  ]
  if differences:
    raise ConfigError(
      f'{given} of another config: {"; ".join(differences)}. What came out '
      'would be of neither. Give the same config to go on, or another folder; '
      f'only {", ".join(MAY_DIFFER)} may differ.'
    )


@contextlib.contextmanager
def claimed(folder: pathlib.Path, config: Config) -> Iterator[None]:
  """Makes the folder, and keeps it from a second run at the same time.

  Args:
    folder: the folder.
    config: the config of the run, which is written into it first of all.

  Yields:
    Nothing.

  Raises:
    ConfigError: if a run goes on in it, or see `check`.
  """
  folder.mkdir(parents=True, exist_ok=True)
  # The system gives the lock back however the process ends.
  with (folder / 'lock').open('w') as lock:
    try:
      fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
      raise ConfigError(
        f'Given workdir={folder}. Another process trains in it. Wait for its '
        'end, or give another folder.'
      ) from error
    check(folder, config)
    write(folder / 'config.json', _json(config))
    yield


def write(path: pathlib.Path, text: str) -> None:
  """Writes a file that is there whole or not at all."""
  part = path.with_name(path.name + '.part')
  part.write_text(text + '\n')
  os.replace(part, path)


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
