"""Trains one model with one method.

python -m train --config=configs/digits.py --workdir=runs/digits
"""

import json
import pathlib
import sys

import jax
from absl import app, flags, logging
from ml_collections import config_flags

from train import config as train_config
from train import data, log, loop, records, sets, workdir
from train.checkpoint import CheckpointError, Checkpoints, Stopped

_CONFIG = config_flags.DEFINE_config_file(
  'config', None, 'A file in configs/, with :VARIANT if it has variants.'
)
_WORKDIR = flags.DEFINE_string(
  'workdir',
  None,
  'The folder of the run: a new one, or one whose run is to go on.',
  required=True,
)

# The status of a run that SIGTERM stopped: 128 + 15, as of a shell's commands.
_STOPPED = 143


def main(argv: list[str]) -> None:
  """Reads the flags, trains, and says what came out."""
  if not flags.FLAGS['verbosity'].present:
    logging.set_verbosity(logging.ERROR)  # TFDS and JAX report every detail
  if len(argv) > 1:
    raise app.UsageError(f'Given {argv[1]!r}, which is not a flag.')
  try:
    summary = train(_CONFIG.value, pathlib.Path(_WORKDIR.value))
  except Stopped as stopped:
    print(stopped, file=sys.stderr)
    sys.exit(_STOPPED)
  except (
    train_config.ConfigError,
    data.DataError,
    records.NotFinite,
    CheckpointError,
    OSError,  # the log's: a full disk
  ) as error:
    sys.exit(f'error: {error}')
  print(summary)


def train(config, folder: pathlib.Path) -> str:
  """Runs a config in a folder, from where the run stands there.

  Args:
    config: the config of the run.
    folder: where the run goes: a new folder, made once the config has proved
      good, or that of a run of the same config which was stopped.

  Returns:
    What came out, for a person.

  Raises:
    ConfigError, DataError, NotFinite, CheckpointError, Stopped: see
      `train/config.py`, `train/data.py`, `train/records.py` and
      `train/checkpoint.py`.
  """
  workdir.check(folder, config)
  dataset = sets.open_set(config.data)
  program = loop.Program(config, dataset)
  with (
    workdir.claimed(folder, config),
    _checkpoints(folder, program) as checkpoints,
  ):
    start = checkpoints.restore(
      program.init(config.seed), log.steps_logged(folder)
    )
    keep = start[1].step if start else 0
    with log.Log(folder, program.total_steps, keep) as lines:
      result = program.run(config.seed, lines, checkpoints, start)
      files = [folder / 'config.json', *lines.files, folder / 'result.json']
  record = {
    **result._asdict(),
    'device': jax.devices()[0].device_kind,
    'jax': jax.__version__,
  }
  workdir.write(files[-1], json.dumps(record, indent=2))
  lines = [
    f'test accuracy                  {result.test_accuracy:.2%}',
    f'images/s                       {result.images_per_second:,.0f}',
    'gradient evaluations per step  '
    f'{result.gradient_evaluations_per_step:.3f}',
    f'steps that looked              {result.look_share:.1%}',
    f'compilation                    {result.compile_seconds:.1f} s',
    *(f'wrote {path}' for path in files),
  ]
  return '\n'.join(lines)


def _checkpoints(folder, program):
  config = program.config
  if not config.checkpoint.every:
    return Checkpoints.nowhere()
  return Checkpoints(
    folder / 'checkpoints',
    every=config.checkpoint.every,
    keep=config.checkpoint.keep,
    # With the records, so that the device has work meanwhile.
    lag=config.log_every,
    total_steps=program.total_steps,
  )


def parse_flags(argv: list[str]) -> list[str]:
  """Parses the flags; what the config refuses is an error, not a traceback."""
  try:
    return flags.FLAGS(argv)
  except AttributeError as error:  # an override of a key that is not there
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


if __name__ == '__main__':
  flags.mark_flag_as_required('config')
  app.run(main, flags_parser=parse_flags)
