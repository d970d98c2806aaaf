"""AUSAM, table 8: hyperparameters on Tiny-ImageNet.

python -m train --config=configs/ausam_table8.py:resnet50-tiny_imagenet-sam \
  --workdir=runs/hyperparameters

It prints no accuracies: those of the same runs are in ausam_table3.py.
"""

from configs import ausam, published, settings
from train import config as train_config

TABLE = published.title('ausam', 8)
PUBLISHED = published.table('ausam', 8, 'keep')
VARIANTS = settings.trained(PUBLISHED)


def get_config(variant: str = 'resnet18-tiny_imagenet-sgd'):
  row = train_config.pick_variant(variant, VARIANTS)
  return ausam.config(row)
