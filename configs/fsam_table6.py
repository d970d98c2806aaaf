"""F-SAM, table 6: its ascent under ASAM's radius.

python -m train --config=configs/fsam_table6.py:resnet18-cifar100-fasam \
  --workdir=runs/fasam

Not checked in the paper: that this is its sixth table, and the networks.
PUBLISHED is empty: the paper's accuracies were not at hand.
"""

from configs import recipes, settings
from train import config as train_config

TABLE = 'F-SAM, table 6: with ASAM'
VARIANTS = settings.grid(
  recipes.FRIENDLY, ['cifar10', 'cifar100'], ['asam', 'fasam']
)
PUBLISHED = {}


def get_config(variant: str = 'vgg16bn-cifar10-asam'):
  row = train_config.pick_variant(variant, VARIANTS)
  return recipes.friendly(row)
