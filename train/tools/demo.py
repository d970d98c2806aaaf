"""Trains the same network with several methods, side by side.

python -m train.tools.demo --workdir=runs/demo
"""

import argparse
import pathlib
import shutil
import sys
from collections.abc import Sequence

from absl import logging

from train import checks, variants
from train.engine import preemption
from train.report import curves, document, results
from train.sweep import execute, plan


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
  except (checks.ConfigError, checks.DataError, OSError) as error:
    print(f'error: {error}', file=sys.stderr)
    return 1
  except (preemption.Stopped, KeyboardInterrupt):
    return preemption.STOPPED


def _demo(args: argparse.Namespace) -> int:
  folder = args.workdir / 'runs'
  module = variants.read(args.config)
  labels = {variant: label for label, variant in module['DEMO'].items()}
  if args.methods is not None:
    labels = {name: name for name in variants.choose(module, args.methods)}
  # Begun anew each time, so that there is nothing to go on from. On one device,
  # since the methods are compared and not the machines.
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
  with preemption.stoppable():
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
  parser = argparse.ArgumentParser(
    prog='python -m train.tools.demo', description=__doc__
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
