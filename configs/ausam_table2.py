"""AUSAM, table 2: against SAM and the other ways of making it cheaper.

python -m train --config=configs/ausam_table2.py:wrn28_10-cifar100-ausam \
  --workdir=runs/comparison

Not checked in the paper: whether it has more rows. PUBLISHED is empty: the
paper's accuracies were not at hand.
"""

from configs import recipes, settings
from train import config as train_config

TABLE = 'AUSAM, table 2: accuracy and speed on CIFAR'
VARIANTS = settings.grid(
  ['resnet18', 'wrn28_10', 'pyramidnet110'],
  ['cifar10', 'cifar100'],
  ['sgd', 'sam', 'looksam_5', 'esam', 'saf', 'ausam', 'ausam_keep0.6'],
)
PUBLISHED = {}


def get_config(variant: str = 'resnet18-cifar10-sgd'):
  row = train_config.pick_variant(variant, VARIANTS)
  return recipes.accelerated(row)
