r"""Trains several methods with several seeds, skipping finished runs.

Examples:
  python -m train.sweep --config=configs/digits.py --workdir=runs/sweep \
      --methods=sgd,sam,fsam
  python -m train.sweep --config=configs/digits.py --workdir=runs/noise \
      --methods=sgd,sam --grid=data.label_noise=0,0.2,0.4 --config.epochs=5

Each run has its own folder, WORKDIR/VARIANT/SEED, or with a grid
WORKDIR/VARIANT/KEY=VALUE/SEED, with the files that python -m train writes. Run
the same command again to resume: finished runs are left alone, and the others
resume from their checkpoints. A failed run is recorded in its folder, the
remaining runs continue, and the exit status is 1. At the end a table and
pictures of all runs in WORKDIR are written there.
"""

import signal

if __name__ == '__main__':  # until `preemption.watch`: the system ends it
  if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import argparse
import functools
import sys
from collections.abc import Sequence

from train import command, variants
from train.checks import ConfigError
from train.engine import preemption
from train.report import document, results
from train.sweep import execute, jobs, plan


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command.

  Args:
    argv: its arguments; the process's by default.

  Returns:
    The exit status: 0 if every run is finished.
  """
  argv = sys.argv[1:] if argv is None else list(argv)
  return command.status_of(functools.partial(_main, argv))


def _main(argv: Sequence[str]) -> int:
  args, settings = command.parse(_parser(), argv)
  name, variant = variants.split(args.config)
  if variant and args.methods:
    raise ConfigError(
      f'Given --config={args.config} and --methods={args.methods}. Both choose '
      f'variants. Give --config={name} --methods={variant},{args.methods} for '
      'all of them.'
    )
  if (args.workdir / 'config.json').exists():
    raise ConfigError(
      f'Given --workdir={args.workdir}. It is the folder of one run, which the '
      'runs of a sweep should not be mixed with. Give a folder that is new, or '
      'that of a sweep.'
    )
  module = variants.read(name)
  todo = plan.plan(
    module,
    variants.choose(module, variant or args.methods),
    args.seeds,
    args.workdir,
    plan.combinations(args.grid),
    settings,
  )
  try:
    if args.worker is not None:
      execute.run_all(jobs.share(todo, *map(int, args.worker.split('/'))))
      return 0
    if args.jobs == '1':
      execute.prepare(todo)
      execute.run_all(todo, bar=sys.stderr.isatty())
    else:
      environments = jobs.environments(args.jobs)
      jobs.leave_devices()
      execute.prepare(todo)
      jobs.run(argv, environments)
  except preemption.Stopped as stopped:
    print(stopped, file=sys.stderr)
    return stopped.status
  markdown, files = document.write(
    results.read(args.workdir), results.names_in(module), args.workdir
  )
  print(f'\n{markdown}\n', *(f'wrote {path}' for path in files), sep='\n')
  return execute.missing(todo)


def _jobs(text: str) -> str:
  return text if text == 'all' else str(command.count(text))


def _parser() -> argparse.ArgumentParser:
  parser = command.parser('train.sweep', __doc__ or '', overrides=True)
  parser.add_argument(
    '--config',
    required=True,
    metavar='FILE[:VARIANT]',
    help='a file in configs/ that has VARIANTS',
  )
  parser.add_argument(
    '--workdir',
    required=True,
    type=command.folder,
    metavar='FOLDER',
    help='where the runs go',
  )
  parser.add_argument(
    '--methods',
    metavar='NAMES',
    help="variants, or patterns such as '*sam', with commas (default: all)",
  )
  parser.add_argument(
    '--seeds',
    type=command.count,
    default=3,
    metavar='N',
    help='runs of each variant, with the seeds from 0 (default: 3)',
  )
  parser.add_argument(
    '--grid',
    action='append',
    default=[],
    metavar='KEY=VALUE,VALUE',
    help='run at each value of a key of the config; give it several times for '
    'every combination',
  )
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
  preemption.watch()
  sys.exit(main())
