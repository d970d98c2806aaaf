"""R-SAM, figure 3: how much rho, gamma and lambda matter.

python -m train --config=configs/rsam_figure3.py:resnet18-cifar100-lam1-rsam \
  --workdir=runs/lambda

One number at a time leaves the setting of rsam_table1.py. Not checked in the
paper: the network, the set and the values. PUBLISHED is empty: the paper's
accuracies were not at hand.
"""

from configs import recipes, settings
from train import config as train_config

TABLE = 'R-SAM, figure 3: sensitivity to rho, gamma and lambda'
_SETTINGS = {
  'rho0.2': {},  # the setting that the others leave
  'rho0.05': {'rho': 0.05},
  'rho0.1': {'rho': 0.1},
  'rho0.4': {'rho': 0.4},
  # Constant, in place of what grows from 5e-4 to 2.5e-3.
  'gamma0': {'gamma': 0.0},
  'gamma0.0005': {'gamma': 5e-4},
  'gamma0.0025': {'gamma': 2.5e-3},
  'gamma0.0125': {'gamma': 12.5e-3},
  'lam0.5': {'lam': 0.5},
  'lam1': {'lam': 1.0},
  'lam4': {'lam': 4.0},
  'lam8': {'lam': 8.0},
}
VARIANTS = settings.grid(['resnet18'], ['cifar100'], ['rsam'], _SETTINGS)
PUBLISHED = {}


def get_config(variant: str = 'resnet18-cifar100-rho0.2-rsam'):
  row = train_config.pick_variant(variant, VARIANTS)
  arguments = {'rho': 0.2, **_SETTINGS[row.setting]}
  return recipes.smoothed(row, {'rsam': recipes.rsam(**arguments)})
