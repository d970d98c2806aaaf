"""F-SAM, figure 4: SAM and F-SAM over the batch size.

python -m train --workdir=runs/batch \
  --config=configs/fsam_figure4.py:resnet18-cifar10-batch512-fsam

The learning rate stays: our choice. Not checked in the paper: the network, the
sets and the sizes. PUBLISHED is empty: the paper's accuracies were not at hand.
"""

from configs import recipes, settings
from train import config as train_config

TABLE = 'F-SAM, figure 4: the batch size'
VARIANTS = settings.grid(
  ['resnet18'],
  ['cifar10', 'cifar100'],
  ['sam', 'fsam'],
  ['batch64', 'batch128', 'batch256', 'batch512', 'batch1024'],
)
PUBLISHED = {}


def get_config(variant: str = 'resnet18-cifar10-batch64-sam'):
  row = train_config.pick_variant(variant, VARIANTS)
  config = recipes.friendly(row)
  config.batch_size = int(row.setting.removeprefix('batch'))
  return config
