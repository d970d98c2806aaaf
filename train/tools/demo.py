"""Trains the same network with several methods, side by side.

Examples:
  python -m train.tools.demo
  python -m train.tools.demo --task=classification --seeds=1
  python -m train.tools.demo --methods=sgd,sam,gsam --seeds=5

It prints a table of the methods, and writes it and a picture of the runs into
the workdir.
"""

import argparse
import functools
import pathlib
import shutil
import sys
from collections.abc import Sequence

from train import checks, command, variants
from train.engine import preemption
from train.report import document, results
from train.sweep import execute, plan
from train.tools import demos


def main(argv: Sequence[str] | None = None) -> int:
  """Trains, prints the table, writes table and picture.

  Args:
    argv: the arguments; the process's by default.

  Returns:
    The exit status.
  """
  return command.status_of(functools.partial(_main, argv))


def _main(argv: Sequence[str] | None) -> int:
  args = _parser().parse_args(argv)
  try:
    return _demo(args)
  except preemption.Stopped as stopped:
    return stopped.status


def _demo(args: argparse.Namespace) -> int:
  demo = checks.pick('task', args.task, demos.DEMOS)
  workdir = args.workdir or pathlib.Path('runs/demo') / args.task
  seeds = args.seeds or demo.seeds
  module = variants.read(args.config or demo.config)
  labels = {variant: label for label, variant in module['DEMO'].items()}
  if args.methods is not None:
    labels = {name: name for name in variants.choose(module, args.methods)}
  # Trained anew each time, so there is nothing to resume. On one device, since
  # the methods are compared and not the machines.
  settings = ['--config.checkpoint.every=0', '--config.mesh=(1,)']
  if args.epochs is not None:
    settings.append(f'--config.epochs={args.epochs}')
  settings += demo.prepare(workdir)
  todo = plan.plan(
    module, list(labels), seeds, workdir / 'runs', common=settings
  )
  for run in todo:
    shutil.rmtree(run.folder, ignore_errors=True)
  execute.prepare(todo)
  config = todo[0].config
  title = f'{config.model.name} on {config.data.name}, {seeds} seeds'
  print(_what(todo[0], f'{seeds} seeds for each of {len(labels)} methods'))
  execute.run_all(todo)
  wanted = {run.folder for run in todo}
  found = [
    run for run in results.read(workdir / 'runs') if run.folder in wanted
  ]
  markdown = document.text(found, results.Names(labels))
  (workdir / 'table.md').write_text(markdown + '\n')
  groups = {
    label: [run for run in found if run.variant == name]
    for name, label in labels.items()
  }
  main = results.main_of(found)
  demo.picture(groups, main, title, workdir / 'demo.png')
  print(f'\n{markdown}')
  if words := demo.words(groups, main):
    print('', *words, sep='\n')
  print(f'\nwrote {workdir}/table.md, {workdir}/demo.png')
  return execute.missing(todo)


def _what(run: plan.PlannedRun, how_often: str) -> str:
  """A line that says what is about to be trained."""
  return f'model {run.config.model.name} on {run.config.data.name}, {how_often}'


def _parser() -> argparse.ArgumentParser:
  parser = command.parser('train.tools.demo', __doc__ or '')
  parser.add_argument(
    '--task',
    default='classification',
    metavar='NAME',
    help=f'one of {", ".join(demos.DEMOS)} (default: classification)',
  )
  parser.add_argument(
    '--config',
    metavar='FILE',
    help="a config file that has DEMO rows (default: the task's)",
  )
  parser.add_argument(
    '--methods',
    metavar='NAMES',
    help="variants of the config with commas, or 'all' (default: its DEMO)",
  )
  parser.add_argument(
    '--seeds',
    type=command.count,
    metavar='N',
    help="runs of each method (default: the task's, 3 of most)",
  )
  parser.add_argument(
    '--epochs',
    type=command.count,
    metavar='N',
    help="epochs of each run (default: the config's)",
  )
  parser.add_argument(
    '--workdir',
    type=pathlib.Path,
    metavar='FOLDER',
    help='where the results go; what is there is replaced '
    '(default: runs/demo/NAME)',
  )
  return parser


if __name__ == '__main__':
  preemption.watch()
  sys.exit(main())
