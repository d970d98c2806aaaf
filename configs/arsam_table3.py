"""ARSAM, table 3: against SAM and the other ways of making it cheaper.

python -m train --config=configs/arsam_table3.py:wrn28_10-cifar100-arsam \
  --workdir=runs/comparison

The paper prints 20 % of SAM steps for SAM-5 and 49.5 to 50.3 % for AE-SAM. Not checked in the paper: whether it has more rows. PUBLISHED is empty:
the paper's accuracies were not at hand.
"""

from configs import recipes, settings
from train import config as train_config

TABLE = 'ARSAM, table 3: accuracy and speed on CIFAR'
VARIANTS = settings.grid(
  ['resnet18', 'wrn28_10', 'pyramidnet110'],
  ['cifar10', 'cifar100'],
  ['sgd', 'sam', 'sam_5', 'looksam_5', 'esam', 'saf', 'aesam', 'arsam'],
)
PUBLISHED = {}


def get_config(variant: str = 'resnet18-cifar10-sgd'):
  row = train_config.pick_variant(variant, VARIANTS)
  return recipes.accelerated(row)
