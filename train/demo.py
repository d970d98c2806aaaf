"""Trains the same network with several methods, side by side.

python -m train.demo --workdir=runs/demo
"""

import importlib
import pathlib
import sys

from absl import app, flags, logging

from train import data, loop, report
from train.log import Log

_CONFIG = flags.DEFINE_string(
  'config', 'configs.digits', 'The module whose DEMO rows are trained.'
)
_METHODS = flags.DEFINE_string(
  'methods',
  None,
  "Variants of the config, comma-separated, or 'all'; its DEMO by default.",
)
_SEEDS = flags.DEFINE_integer('seeds', 3, 'Runs of each method.', 1)
_EPOCHS = flags.DEFINE_integer('epochs', None, "Instead of the config's.", 1)
_WORKDIR = flags.DEFINE_string(
  'workdir', 'runs/demo', 'Where the results go; what is there is replaced.'
)


def main(argv: list[str]) -> None:
  """Trains, prints the table, writes table and picture."""
  del argv
  logging.set_verbosity(logging.ERROR)
  workdir = pathlib.Path(_WORKDIR.value)
  module = importlib.import_module(_CONFIG.value)
  variants = module.DEMO
  if _METHODS.value is not None:
    chosen = _METHODS.value.split(',')
    chosen = list(module.VARIANTS) if chosen == ['all'] else chosen
    variants = {variant: variant for variant in chosen}
  configs = {
    label: module.get_config(variant) for label, variant in variants.items()
  }
  first = next(iter(configs.values()))
  dataset = data.load(first.data.name, first.data.dir)
  print(
    f'{first.data.name}: {len(dataset.train_images):,} training and '
    f'{len(dataset.test_images):,} test images, model {first.model.name}, '
    f'{_SEEDS.value} seeds for each of {len(configs)} methods'
  )
  programs = {}
  for label, config in configs.items():
    if _EPOCHS.value is not None:
      config.epochs = _EPOCHS.value
    config.mesh = (1,)  # the methods are compared, not the machines
    programs[label] = loop.Program(config, dataset)
  runs = {label: [] for label in configs}
  # One seed of every method before the next seed, so that a machine whose
  # speed drifts slows them alike.
  for seed in range(_SEEDS.value):
    for label, program in programs.items():
      folder = workdir / 'runs' / variants[label] / str(seed)
      with Log(folder) as log:
        result = program.run(seed, log)
      runs[label].append(report.read(folder, result))
      print(
        f'  {label:14} seed {seed}   {result.test_accuracy:.2%} in '
        f'{result.train_seconds:.1f} s + {result.compile_seconds:.1f} s to '
        'compile',
        flush=True,
      )
  text = report.table(runs)
  (workdir / 'table.md').write_text(text + '\n')
  report.picture(
    runs,
    f'{first.model.name} on {first.data.name}, {_SEEDS.value} seeds',
    workdir / 'demo.png',
  )
  print(f'\n{text}\n\nwrote {workdir}/table.md, {workdir}/demo.png')


if __name__ == '__main__':
  sys.exit(app.run(main))
