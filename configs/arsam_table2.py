"""ARSAM, table 2: what its two parts, sampling and reuse, are worth.

python -m train --config=configs/arsam_table2.py --workdir=runs/ablation

ARSAM-A samples and does not reuse. Not checked in the paper: the networks, and
whether SGD and SAM stand beside. PUBLISHED is empty: the paper's accuracies
were not at hand.
"""

from configs import recipes, settings
from train import config as train_config

TABLE = 'ARSAM, table 2: ablation of its sampling and its reuse'
VARIANTS = settings.grid(
  ['resnet18', 'wrn28_10'],
  ['cifar10', 'cifar100'],
  ['sgd', 'sam', 'arsam_a', 'arsam'],
)
PUBLISHED = {}


def get_config(variant: str = 'resnet18-cifar10-sgd'):
  row = train_config.pick_variant(variant, VARIANTS)
  return recipes.accelerated(row, arsam_a=recipes.arsam(row, horizon=0))
