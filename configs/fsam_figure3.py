"""F-SAM, figure 3: SAM and F-SAM over the radius.

python -m train --config=configs/fsam_figure3.py:resnet18-cifar100-rho0.4-fsam \
  --workdir=runs/radius

Not checked in the paper: the network, the sets and the radii. PUBLISHED is
empty: the paper's accuracies were not at hand.
"""

from configs import recipes, settings
from train import config as train_config

TABLE = 'F-SAM, figure 3: the radius'
VARIANTS = settings.grid(
  ['resnet18'],
  ['cifar10', 'cifar100'],
  ['sam', 'fsam'],
  ['rho0.05', 'rho0.1', 'rho0.2', 'rho0.4', 'rho0.8'],
)
PUBLISHED = {}


def get_config(variant: str = 'resnet18-cifar10-rho0.05-sam'):
  row = train_config.pick_variant(variant, VARIANTS)
  return recipes.friendly(row, rho=float(row.setting.removeprefix('rho')))
