"""F-SAM, table 4: ResNet-50 on ImageNet.

python -m train --config=configs/fsam_table4.py:resnet50-imagenet-fsam \
  --workdir=runs/imagenet
"""

from configs import fsam, published, settings
from train import config as train_config

TABLE = published.title('fsam', 4)
PUBLISHED = published.table('fsam', 4)
VARIANTS = settings.trained(PUBLISHED)


def get_config(variant: str = 'resnet50-imagenet-sgd'):
  row = train_config.pick_variant(variant, VARIANTS)
  return fsam.imagenet(row)
