"""R-SAM, table 1: CIFAR.

python -m train --config=configs/rsam_table1.py:resnet18-cifar10-rsam \
  --workdir=runs/rsam

The released code is for ViTs only. Not checked in the paper: that this is its
first table, and the networks. PUBLISHED is empty: the paper's accuracies were
not at hand.
"""

from configs import recipes, settings
from train import config as train_config

TABLE = 'R-SAM, table 1: accuracy on CIFAR'
VARIANTS = settings.grid(
  ['resnet18', 'wrn28_10'],
  ['cifar10', 'cifar100'],
  ['sgd', 'lpfsgd', 'sam', 'rsam'],
)
PUBLISHED = {}

# Not published: our choice, the radii of F-SAM's CIFAR runs.
_RHO = {'cifar10': 0.1, 'cifar100': 0.2}


def get_config(variant: str = 'resnet18-cifar10-sgd'):
  row = train_config.pick_variant(variant, VARIANTS)
  rho = _RHO[row.data]
  return recipes.smoothed(
    row,
    {
      'sgd': ('identity', {}),
      # LPF-SGD's released code, for ResNets on CIFAR.
      'lpfsgd': ('lpfsgd', {'gamma': 0.002, 'draws': 1}),
      'sam': ('sam', {'rho': rho}),
      'rsam': recipes.rsam(rho),
    },
  )
