"""F-SAM, table 3: ResNet-50 on ImageNet.

python -m train --config=configs/fsam_table3.py:resnet50-imagenet-fsam \
  --workdir=runs/imagenet

The released code takes torchvision's ResNet-50 for ImageNet, with bottlenecks
as here; the `resnet50` among its CIFAR networks has basic blocks.

Not checked in the paper: that this is its third table. PUBLISHED is empty: the
paper's accuracies were not at hand.
"""

from configs import recipes, settings
from train import config as train_config

TABLE = 'F-SAM, table 3: accuracy on ImageNet'
VARIANTS = settings.grid(['resnet50'], ['imagenet'], ['sgd', 'sam', 'fsam'])
PUBLISHED = {}

_METHODS = {
  'sgd': ('identity', {}),
  'sam': ('sam', {'rho': 0.075}),  # F-SAM's paper
  'fsam': ('fsam', {'rho': 0.075, 'sigma': 1.0, 'decay': 0.95}),  # the same
}


def get_config(variant: str = 'resnet50-imagenet-sgd'):
  row = train_config.pick_variant(variant, VARIANTS)
  config = recipes.photographs(row, _METHODS)
  config.epochs = 90  # F-SAM's paper
  # F-SAM's paper.
  config.optimizer.update(learning_rate=0.05, weight_decay=1e-4, momentum=0.9)
  return config
