"""Trains the same network with several methods, side by side.

python -m train.demo --workdir=runs/demo
"""

import argparse
import pathlib
import shutil
import sys
from collections.abc import Sequence

from absl import logging

from train import checkpoint, checks, curves, data, report, results, runs, sweep
from train.__main__ import STOPPED


def main(argv: Sequence[str] | None = None) -> int:
  """Trains, prints the table, writes table and picture.

  Args:
    argv: the arguments; those of the process by default.

  Returns:
    The exit status.
  """
  logging.set_verbosity(logging.ERROR)
  args = _parser().parse_args(argv)
  try:
    return _demo(args)
  except (checks.ConfigError, data.DataError, OSError) as error:
    print(f'error: {error}', file=sys.stderr)
    return 1
  except (checkpoint.Stopped, KeyboardInterrupt):
    return STOPPED


def _demo(args: argparse.Namespace) -> int:
  folder = args.workdir / 'runs'
  module = runs.read(args.config)
  labels = {variant: label for label, variant in module['DEMO'].items()}
  if args.methods is not None:
    labels = {name: name for name in runs.choose(module, args.methods)}
  # Begun anew each time, so that there is nothing to go on from. On one device,
  # since the methods are compared and not the machines.
  overrides = ['--config.checkpoint.every=0', '--config.mesh=(1,)']
  if args.epochs is not None:
    overrides.append(f'--config.epochs={args.epochs}')
  todo = runs.plan(
    module, list(labels), args.seeds, folder, overrides=overrides
  )
  for run in todo:
    shutil.rmtree(run.folder, ignore_errors=True)
  sweep.prepare(todo)
  config = todo[0].config
  dataset = sweep.dataset(todo[0])
  print(
    f'{config.data.name}: {dataset.num_examples:,} training and '
    f'{dataset.num_tested:,} test images, model {config.model.name}, '
    f'{args.seeds} seeds for each of {len(labels)} methods'
  )
  with sweep.stoppable():
    sweep.go_through(todo)
  wanted = {run.folder for run in todo}
  found = [run for run in results.read(folder) if run.folder in wanted]
  text = report.text(found, results.Names(labels))
  (args.workdir / 'table.md').write_text(text + '\n')
  curves.picture(
    {
      label: [curves.read(run.folder) for run in found if run.variant == name]
      for name, label in labels.items()
    },
    f'{config.model.name} on {config.data.name}, {args.seeds} seeds',
    args.workdir / 'demo.png',
    when=True,
  )
  print(f'\n{text}\n\nwrote {args.workdir}/table.md, {args.workdir}/demo.png')
  return sweep.missing(todo)


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    prog='python -m train.demo', description=__doc__
  )
  parser.add_argument(
    '--config',
    default='configs.digits',
    help='the module whose DEMO rows are trained (default: configs.digits)',
  )
  parser.add_argument(
    '--methods', help="its variants, with commas, or 'all'; its DEMO by default"
  )
  parser.add_argument(
    '--seeds', type=checks.count, default=3, help='runs of each (default: 3)'
  )
  parser.add_argument(
    '--epochs', type=checks.count, help="in place of the config's"
  )
  parser.add_argument(
    '--workdir',
    type=pathlib.Path,
    default=pathlib.Path('runs/demo'),
    help='where the results go; what is there is replaced (default: runs/demo)',
  )
  return parser


if __name__ == '__main__':
  sys.exit(main())
