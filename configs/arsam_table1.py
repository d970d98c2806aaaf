"""ARSAM, table 1: how alpha sets the share of steps that perturb.

python -m train --config=configs/arsam_table1.py --workdir=runs/alpha

The paper prints shares of 7.4, 16.5, 27.7, 38.2 and 40.4 % for the five alphas.
Not checked in the paper: the network and the set. PUBLISHED is empty: the
paper's accuracies were not at hand.
"""

from configs import recipes, settings
from train import config as train_config

TABLE = 'ARSAM, table 1: the share of steps that perturb, by alpha'
VARIANTS = settings.grid(
  ['resnet18'],
  ['cifar100', 'cifar10'],
  ['arsam'],
  ['alpha0.1', 'alpha0.2', 'alpha0.3', 'alpha0.4', 'alpha0.5'],
)
PUBLISHED = {}


def get_config(variant: str = 'resnet18-cifar100-alpha0.1-arsam'):
  row = train_config.pick_variant(variant, VARIANTS)
  alpha = float(row.setting.removeprefix('alpha'))
  return recipes.accelerated(row, arsam=recipes.arsam(row, alpha=alpha))
