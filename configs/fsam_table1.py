"""F-SAM, table 1: CIFAR-10.

python -m train --config=configs/fsam_table1.py:resnet18-cifar10-fsam \
  --workdir=runs/fsam
"""

from configs import fsam, published, settings
from train import config as train_config

TABLE = published.title('fsam', 1)
PUBLISHED = published.table('fsam', 1)
VARIANTS = settings.trained(PUBLISHED)


def get_config(variant: str = 'vgg16_bn-cifar10-sgd'):
  row = train_config.pick_variant(variant, VARIANTS)
  return fsam.cifar(row)
