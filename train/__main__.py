"""Trains one model with one method.

python -m train --config=configs/digits.py --workdir=runs/digits
"""

import pathlib
import sys

import jax
from absl import app, flags, logging
from ml_collections import config_flags

from train import run, variants
from train.checks import ConfigError, DataError
from train.engine import preemption
from train.engine.checkpoint import CheckpointError
from train.engine.preemption import Stopped
from train.engine.records import NotFinite
from train.parallel import processes

_CONFIG = config_flags.DEFINE_config_file(
  'config', None, 'A file in configs/, with :VARIANT if it has variants.'
)
_WORKDIR = flags.DEFINE_string(
  'workdir',
  None,
  'The folder of the run: a new one, or one whose run is to go on.',
  required=True,
)

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


def main(argv: list[str]) -> None:
  """Reads the flags, trains, and says what came out."""
  if not flags.FLAGS['verbosity'].present:
    logging.set_verbosity(logging.ERROR)  # TFDS and JAX report every detail
  if len(argv) > 1:
    raise app.UsageError(f'Given {argv[1]!r}, which is not a flag.')
  folder = pathlib.Path(_WORKDIR.value)
  try:
    processes.start(
      _DISTRIBUTED.value,
      _COORDINATOR.value,
      _NUM_PROCESSES.value,
      _PROCESS_ID.value,
    )
    result = run.run(_CONFIG.value, folder)
  except Stopped as stopped:
    if processes.is_first():
      print(stopped, file=sys.stderr)
    sys.exit(preemption.STOPPED)
  # What all processes find, and what one finds by itself.
  except (
    ConfigError,
    DataError,
    NotFinite,
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
    processes.leave(f'\nInterrupted. {_again()}', preemption.INTERRUPTED)
  if processes.is_first():
    print(run.summary(result, folder))


def _again() -> str:
  """How to resume a run that ended before it was saved."""
  if not _CONFIG.value.checkpoint.every:
    return 'Without checkpoints a run cannot be resumed.'
  return 'Run the same command again to resume from the last checkpoint.'


def parse_flags(argv: list[str]) -> list[str]:
  """Parses the flags; what the config refuses is an error, not a traceback."""
  with variants.refusing():
    return flags.FLAGS(argv)


if __name__ == '__main__':
  flags.mark_flag_as_required('config')
  app.run(main, flags_parser=parse_flags)
