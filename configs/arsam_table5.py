"""ARSAM, table 5: training on wrong labels.

python -m train --workdir=runs/noise \
  --config=configs/arsam_table5.py:resnet18-cifar10-noise40-arsam

Not checked in the paper: the network, the shares of noise and how the labels
are drawn. PUBLISHED is empty: the paper's accuracies were not at hand.
"""

from configs import recipes, settings
from train import config as train_config

TABLE = 'ARSAM, table 5: robustness to label noise'
VARIANTS = settings.grid(
  ['resnet18'],
  ['cifar10', 'cifar100'],
  ['sgd', 'sam', 'arsam'],
  ['noise20', 'noise40', 'noise60', 'noise80'],
)
PUBLISHED = {}

# ARSAM's paper has 0.3 and 0.4 under label noise; which of them is for which
# set is our reading.
_ALPHA = {'cifar10': 0.3, 'cifar100': 0.4}


def get_config(variant: str = 'resnet18-cifar10-noise20-sgd'):
  row = train_config.pick_variant(variant, VARIANTS)
  arsam = recipes.arsam(row, alpha=_ALPHA[row.data])
  config = recipes.accelerated(row, arsam=arsam)
  recipes.add_noise(config, row.setting)
  return config
