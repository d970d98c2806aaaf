"""Trains the same network with several methods, side by side.

Examples:
  python -m train.tools.demo
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

from train import command, variants
from train.engine import preemption
from train.report import curves, document, results
from train.sweep import execute, plan


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
  folder = args.workdir / 'runs'
  module = variants.read(args.config)
  labels = {variant: label for label, variant in module['DEMO'].items()}
  if args.methods is not None:
    labels = {name: name for name in variants.choose(module, args.methods)}
  # Trained anew each time, so there is nothing to resume. On one device, since
  # the methods are compared and not the machines.
  overrides = ['--config.checkpoint.every=0', '--config.mesh=(1,)']
  if args.epochs is not None:
    overrides.append(f'--config.epochs={args.epochs}')
  todo = plan.plan(module, list(labels), args.seeds, folder, common=overrides)
  for run in todo:
    shutil.rmtree(run.folder, ignore_errors=True)
  execute.prepare(todo)
  config = todo[0].config
  dataset = execute.dataset(todo[0])
  print(
    f'{config.data.name}: {dataset.num_examples:,} training and '
    f'{dataset.num_tested:,} test images, model {config.model.name}, '
    f'{args.seeds} seeds for each of {len(labels)} methods'
  )
  execute.run_all(todo)
  wanted = {run.folder for run in todo}
  found = [run for run in results.read(folder) if run.folder in wanted]
  markdown = document.text(found, results.Names(labels))
  (args.workdir / 'table.md').write_text(markdown + '\n')
  curves.picture(
    {
      label: [curves.read(run.folder) for run in found if run.variant == name]
      for name, label in labels.items()
    },
    results.main_of(found),
    f'{config.model.name} on {config.data.name}, {args.seeds} seeds',
    args.workdir / 'demo.png',
    cadence=True,
  )
  print(
    f'\n{markdown}\n\nwrote {args.workdir}/table.md, {args.workdir}/demo.png'
  )
  return execute.missing(todo)


def _parser() -> argparse.ArgumentParser:
  parser = command.parser('train.tools.demo', __doc__ or '')
  parser.add_argument(
    '--config',
    default='configs.digits',
    metavar='FILE',
    help='a config file that has DEMO rows (default: configs.digits)',
  )
  parser.add_argument(
    '--methods',
    metavar='NAMES',
    help="variants of the config with commas, or 'all' (default: its DEMO)",
  )
  parser.add_argument(
    '--seeds',
    type=command.count,
    default=3,
    metavar='N',
    help='runs of each method (default: 3)',
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
    default=pathlib.Path('runs/demo'),
    metavar='FOLDER',
    help='where the results go; what is there is replaced (default: runs/demo)',
  )
  return parser


if __name__ == '__main__':
  preemption.watch()
  sys.exit(main())
