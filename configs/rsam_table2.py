"""R-SAM, table 2: ResNet-50 on ImageNet.

python -m train --config=configs/rsam_table2.py:resnet50-imagenet-rsam \
  --workdir=runs/imagenet

The released code is for ViTs only; the training is that of SAF's released code,
our choice. Not checked in the paper: that this is its second table. PUBLISHED
is empty: the paper's accuracies were not at hand.
"""

from configs import recipes, settings
from train import config as train_config

TABLE = 'R-SAM, table 2: accuracy of a ResNet on ImageNet'
VARIANTS = settings.grid(
  ['resnet50'], ['imagenet'], ['sgd', 'lpfsgd', 'sam', 'rsam']
)
PUBLISHED = {}

_METHODS = {
  'sgd': ('identity', {}),
  # LPF-SGD's released code: 5e-4 that grows 15-fold, eight draws.
  'lpfsgd': (
    'lpfsgd',
    {
      'gamma': {'follows': 'steps', 'first': 5e-4, 'last': 7.5e-3},
      'draws': 8,
    },
  ),
  'sam': ('sam', {'rho': 0.075}),  # not published: our choice, as F-SAM's
  'rsam': recipes.rsam(0.075),  # not published: our choice
}


def get_config(variant: str = 'resnet50-imagenet-sgd'):
  row = train_config.pick_variant(variant, VARIANTS)
  config = recipes.photographs(row, _METHODS)
  # SAF's released code: 4 x 256 images, 90 epochs.
  config.batch_size = 1024
  config.epochs = 90
  config.label_smoothing = 0.1
  config.optimizer.update(learning_rate=0.4, weight_decay=1e-4, momentum=0.9)
  return config
