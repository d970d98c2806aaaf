r"""Trains one model with one method.

Examples:
  python -m train --config=configs/digits.py --workdir=runs/digits
  python -m train --config=configs/digits.py:fsam --workdir=runs/fsam \
      --config.epochs=5 --config.method.rho=0.1

The workdir gets the config, a line for each step (metrics.jsonl), TensorBoard
files, checkpoints, the trained model and the result. Run the same command again
to resume a run that was stopped from its last checkpoint.
"""

import signal

if __name__ == '__main__':  # until `preemption.watch`: the system ends it
  if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import argparse
import functools
import sys
from collections.abc import Sequence

import jax

from train import checks, command, run, variants
from train.checks import Config, ConfigError, DataError
from train.engine import preemption
from train.engine.checkpoint import CheckpointError
from train.engine.preemption import Stopped
from train.engine.records import NotFinite
from train.parallel import processes


def main(argv: Sequence[str] | None = None) -> int:
  """Reads the flags, trains, and says what came out.

  Args:
    argv: the arguments; the process's by default.

  Returns:
    The exit status.
  """
  return command.status_of(functools.partial(_main, argv))


def _main(argv: Sequence[str] | None) -> int:
  args, settings = command.parse(_parser(), argv)
  config = variants.load(args.config, settings)
  try:
    processes.start(
      args.distributed, args.coordinator, args.num_processes, args.process_id
    )
    result = run.run(config, args.workdir)
  except Stopped as stopped:
    if processes.is_primary():
      print(stopped, file=sys.stderr)
    return stopped.status
  # What all processes find; what one finds by itself is below.
  except (ConfigError, DataError, NotFinite, processes.Failed) as error:
    print(f'error: {error}', file=sys.stderr)
    return 1
  except CheckpointError as error:
    processes.exit_process(f'error: {error}')
  except OSError as error:  # such as the log's
    processes.exit_process(f'error: {checks.shortage(error) or error}')
  except jax.errors.JaxRuntimeError as error:
    if not processes.are_several():
      raise  # of memory that ran out, see command.status_of
    if lacking := checks.shortage(error):
      processes.exit_process(f'error: {lacking}')
    reason = str(error).partition('\n')[0][:200]
    processes.exit_process(
      f'error: {checks.said(reason)} Mostly another process has ended. '
      f'{_again(config)}'
    )
  if processes.is_primary():
    print(run.summary(result, args.workdir))
  return 0


def _again(config: Config) -> str:
  """How to resume a run that ended before it was saved."""
  if not config.checkpoint.every:
    return 'Without checkpoints a run cannot be resumed.'
  return 'Run the same command again to resume from the last checkpoint.'


def _parser() -> argparse.ArgumentParser:
  parser = command.parser('train', __doc__ or '', overrides=True)
  parser.add_argument(
    '--config',
    required=True,
    metavar='FILE[:VARIANT]',
    help='a file in configs/, and one of its VARIANTS',
  )
  parser.add_argument(
    '--workdir',
    required=True,
    type=command.folder,
    metavar='FOLDER',
    help='the folder of the run: a new one, or a stopped run to resume',
  )
  several = parser.add_argument_group('several processes as one run')
  several.add_argument(
    '--distributed',
    action='store_true',
    help='started by Slurm, GKE, Open MPI or on a TPU pod, which say the rest',
  )
  several.add_argument(
    '--coordinator',
    metavar='HOST:PORT',
    help='elsewhere: where the first process can be reached',
  )
  several.add_argument(
    '--num_processes',
    type=command.count,
    metavar='N',
    help='elsewhere: how many processes there are',
  )
  several.add_argument(
    '--process_id',
    type=int,
    metavar='I',
    help='elsewhere: the number of this process, from 0 to N - 1',
  )
  return parser


if __name__ == '__main__':
  preemption.watch()
  sys.exit(main())
