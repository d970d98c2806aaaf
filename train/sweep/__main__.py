"""Trains several methods with several seeds, whatever of it is missing.

  python -m train.sweep --config=configs/digits.py --methods=sgd,sam,fsam
  python -m train.sweep --config=configs/digits.py --methods=sgd,sam \
      --grid=data.label_noise=0,0.2,0.4 --config.epochs=5

Each run has a folder WORKDIR/VARIANT/SEED, with a grid
WORKDIR/VARIANT/KEY=VALUE/SEED, as `python -m train` makes it. The same command
goes on where an earlier one was stopped: finished runs are passed over, begun
ones go on from their checkpoints. A run that fails is written down, and the
others go on. Table and pictures of all runs in WORKDIR are made at the end.
"""

import argparse
import pathlib
import sys
from collections.abc import Sequence

from absl import logging

from train import checks, variants
from train.engine import preemption
from train.report import document, results
from train.sweep import execute, jobs, plan


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command.

  Args:
    argv: its arguments; those of the process by default.

  Returns:
    The exit status: 0 if every run is finished.
  """
  logging.set_verbosity(logging.ERROR)
  argv = sys.argv[1:] if argv is None else list(argv)
  args, overrides = _parser().parse_known_args(argv)
  root = pathlib.Path(args.workdir)
  try:
    module = variants.read(args.config)
    todo = plan.plan(
      module,
      variants.choose(module, args.methods),
      args.seeds,
      root,
      plan.combinations(args.grid),
      overrides,
    )
    if args.worker is not None:
      with preemption.stoppable():
        execute.run_all(jobs.share(todo, *map(int, args.worker.split('/'))))
      return 0
    execute.prepare(todo)
    with preemption.stoppable():
      if args.jobs == '1':
        execute.run_all(todo, bar=sys.stderr.isatty())
      else:
        jobs.run(argv, jobs.environments(args.jobs))
  except (checks.ConfigError, checks.DataError, OSError) as error:
    print(f'error: {error}', file=sys.stderr)
    return 1
  except (preemption.Stopped, KeyboardInterrupt) as stopped:
    print(stopped, file=sys.stderr)
    return preemption.STOPPED
  markdown, files = document.write(
    results.read(root), results.names_in(module), root
  )
  print(f'\n{markdown}\n', *(f'wrote {path}' for path in files), sep='\n')
  return execute.missing(todo)


def _jobs(text: str) -> str:
  return text if text == 'all' else str(checks.count(text))


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    prog='python -m train.sweep',
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
    epilog='Any --config.KEY=VALUE overrides that key in every run.',
    allow_abbrev=False,
  )
  parser.add_argument('--config', required=True, help='a file with VARIANTS')
  parser.add_argument(
    '--methods', help='variants, or patterns, with commas (default: all)'
  )
  parser.add_argument(
    '--seeds',
    type=checks.count,
    default=3,
    help='runs of each variant (default: 3)',
  )
  parser.add_argument(
    '--grid',
    action='append',
    default=[],
    metavar='KEY=VALUE,VALUE',
    help='runs at every value of a key; more keys, every combination',
  )
  parser.add_argument('--workdir', required=True, help='where the runs go')
  parser.add_argument(
    '--jobs',
    type=_jobs,
    default='1',
    metavar='N',
    help="processes at once, each with a device of its own; 'all' for as many "
    'as there are devices (default: 1, this process)',
  )
  # How `jobs.py` calls the command again: which of how many.
  parser.add_argument('--worker', help=argparse.SUPPRESS)
  return parser


if __name__ == '__main__':
  sys.exit(main())
