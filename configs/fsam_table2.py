"""F-SAM, table 2: CIFAR-100.

python -m train --config=configs/fsam_table2.py:resnet18-cifar100-fsam \
  --workdir=runs/fsam

The logs in the released code have one run each (seed 1) of ResNet-18: 80.78 %
with SAM and 81.19 % with F-SAM after the last epoch.
"""

from configs import fsam, published, settings
from train import config as train_config

TABLE = published.title('fsam', 2)
PUBLISHED = published.table('fsam', 2)
VARIANTS = settings.trained(PUBLISHED)


def get_config(variant: str = 'vgg16_bn-cifar100-sgd'):
  row = train_config.pick_variant(variant, VARIANTS)
  return fsam.cifar(row)
