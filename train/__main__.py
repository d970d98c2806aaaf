"""Trains one model with one method.

python -m train --config=configs/digits.py --workdir=runs/digits
"""

import contextlib
import json
import pathlib
import sys
from collections.abc import Iterator

import flax
import jax
import optax
from absl import app, flags, logging
from ml_collections import config_flags

import sam_optax
from train import config as train_config
from train import log, loop, processes, records, sets, workdir
from train.checkpoint import CheckpointError, Checkpoints, Stopped
from train.checks import DataError

_CONFIG = config_flags.DEFINE_config_file(
  'config', None, 'A file in configs/, with :VARIANT if it has variants.'
)
_WORKDIR = flags.DEFINE_string(
  'workdir',
  None,
  'The folder of the run: a new one, or one whose run is to go on.',
  required=True,
)

# What a result depends on besides its config.
_VERSIONS = (sam_optax, jax, optax, flax)

_DISTRIBUTED = flags.DEFINE_bool(
  'distributed',
  False,
  'One of several processes, which Slurm, GKE, Open MPI or a TPU pod started.',
)
_COORDINATOR = flags.DEFINE_string(
  'coordinator',
  None,
  'HOST:PORT of the first of several processes, to name them by hand.',
)
_NUM_PROCESSES = flags.DEFINE_integer(
  'num_processes', None, 'How many processes there are.', 1
)
_PROCESS_ID = flags.DEFINE_integer(
  'process_id', None, 'The number of this process, from 0.', 0
)

# The status of a run that a signal ended, as a shell's: 128 and its number.
_INTERRUPTED, STOPPED = 130, 143


def main(argv: list[str]) -> None:
  """Reads the flags, trains, and says what came out."""
  if not flags.FLAGS['verbosity'].present:
    logging.set_verbosity(logging.ERROR)  # TFDS and JAX report every detail
  if len(argv) > 1:
    raise app.UsageError(f'Given {argv[1]!r}, which is not a flag.')
  try:
    processes.start(
      _DISTRIBUTED.value,
      _COORDINATOR.value,
      _NUM_PROCESSES.value,
      _PROCESS_ID.value,
    )
    summary = train(_CONFIG.value, pathlib.Path(_WORKDIR.value))
  except Stopped as stopped:
    if processes.is_first():
      print(stopped, file=sys.stderr)
    sys.exit(STOPPED)
  # What all processes find, and what one finds by itself.
  except (
    train_config.ConfigError,
    DataError,
    records.NotFinite,
    processes.Failed,
  ) as error:
    sys.exit(f'error: {error}')
  except (
    CheckpointError,
    OSError,  # the log's: a full disk
  ) as error:
    processes.leave(f'error: {error}')
  except jax.errors.JaxRuntimeError as error:
    if not processes.are_several():
      raise
    reason = str(error).partition('\n')[0][:200]
    processes.leave(
      f'error: {reason}. Mostly another process has ended. {_again()}'
    )
  except KeyboardInterrupt:
    processes.leave(f'\nInterrupted. {_again()}', _INTERRUPTED)
  if processes.is_first():
    print(summary)


def train(
  config,
  folder: pathlib.Path,
  program: loop.Program | None = None,
  bar: bool = True,
) -> str:
  """Runs a config in a folder, from where the run stands there.

  Args:
    config: the config of the run.
    folder: where the run goes: a new folder, made once the config has proved
      good, or that of a run of the same config which was stopped.
    program: of the same config but for its seed, to compile only once.
    bar: whether to show the progress.

  Returns:
    What came out, for a person.

  Raises:
    ConfigError, DataError, NotFinite, CheckpointError, Stopped, Failed: see
      `train/config.py`, `train/data.py`, `train/records.py`,
      `train/checkpoint.py` and `train/processes.py`.
  """
  processes.in_first(lambda: workdir.check(folder, config))
  if program is None:
    dataset = processes.in_turn(lambda: sets.open_set(config.data))
    program = loop.Program(config, dataset)
  with contextlib.ExitStack() as stack:
    claimed = workdir.claimed(folder, config)
    processes.in_first(lambda: stack.enter_context(claimed))
    checkpoints = stack.enter_context(_checkpoints(folder, program))
    start = checkpoints.restore(
      program.init(config.seed), log.steps_logged(folder)
    )
    keep = start[1].step if start else 0
    lines = log.Log.nowhere()
    if processes.is_first():
      total_steps = program.total_steps if bar else None
      lines = log.Log(folder, total_steps, keep)
    with lines:
      result = program.run(config.seed, lines, checkpoints, start)
      files = [folder / 'config.json', *lines.files, folder / 'result.json']
  record = {
    **result._asdict(),
    'device': jax.devices()[0].device_kind,
    'devices': program.devices.count,
    **{module.__name__: module.__version__ for module in _VERSIONS},
  }
  if processes.is_first():
    workdir.write(files[-1], json.dumps(record, indent=2))
  lines = [
    f'test accuracy                  {result.test_accuracy:.2%}',
    f'images/s                       {result.images_per_second:,.0f}',
    'gradient evaluations per step  '
    f'{result.gradient_evaluations_per_step:.3f}',
    f'steps that perturbed              {result.sam_fraction:.1%}',
    f'compilation                    {result.compile_seconds:.1f} s',
    *(f'wrote {path}' for path in files),
  ]
  return '\n'.join(lines)


def _again() -> str:
  """How to go on with a run that ended before it was saved."""
  if not _CONFIG.value.checkpoint.every:
    return 'Without checkpoints it cannot go on.'
  return 'Run the same command again to go on from the last checkpoint.'


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
    num_devices=program.devices.count,
  )


def parse_flags(argv: list[str]) -> list[str]:
  """Parses the flags; what the config refuses is an error, not a traceback."""
  with refusing():
    return flags.FLAGS(argv)


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


if __name__ == '__main__':
  flags.mark_flag_as_required('config')
  app.run(main, flags_parser=parse_flags)
