"""F-SAM, table 5: training on wrong labels.

python -m train --config=configs/fsam_table5.py:resnet18-cifar10-noise40-fsam \
  --workdir=runs/noise

The labels are drawn as in the released code, from all classes. Not checked in
the paper: that this is its fifth table, the network and the shares of noise.
PUBLISHED is empty: the paper's accuracies were not at hand.
"""

from configs import recipes, settings
from train import config as train_config

TABLE = 'F-SAM, table 5: robustness to label noise'
VARIANTS = settings.grid(
  ['resnet18'],
  ['cifar10'],
  ['sgd', 'sam', 'fsam'],
  ['noise20', 'noise40', 'noise60', 'noise80'],
)
PUBLISHED = {}


def get_config(variant: str = 'resnet18-cifar10-noise20-sgd'):
  row = train_config.pick_variant(variant, VARIANTS)
  config = recipes.friendly(row)
  recipes.add_noise(config, row.setting)
  return config
