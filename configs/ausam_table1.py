"""AUSAM, table 1: which record of an example's loss rise to sample by.

python -m train --config=configs/ausam_table1.py --workdir=runs/history

AUSAM-1 samples by the last rise, AUSAM by the mean of all. Not checked in the
paper: that this is its first table, and the network. PUBLISHED is empty: the
paper's accuracies were not at hand.
"""

from configs import recipes, settings
from train import config as train_config

TABLE = 'AUSAM, table 1: the last loss rise, or the mean of all'
VARIANTS = settings.grid(
  ['resnet18'],
  ['cifar10', 'cifar100'],
  ['ausam_1', 'ausam', 'ausam_1_keep0.6', 'ausam_keep0.6'],
)
PUBLISHED = {}


def get_config(variant: str = 'resnet18-cifar10-ausam_1'):
  row = train_config.pick_variant(variant, VARIANTS)
  return recipes.accelerated(
    row,
    **{
      'ausam_1': recipes.ausam(row, history='last'),
      'ausam_1_keep0.6': recipes.ausam(row, history='last', keep=0.6),
    },
  )
