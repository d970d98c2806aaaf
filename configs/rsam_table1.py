"""R-SAM, table 1: CIFAR-10.

python -m train --config=configs/rsam_table1.py:resnet18-cifar10-rsam \
  --workdir=runs/rsam
"""

from configs import published, rsam, settings
from train import config as train_config

TABLE = published.title('rsam', 1)
PUBLISHED = published.table('rsam', 1)
VARIANTS = settings.trained(PUBLISHED)


def get_config(variant: str = 'resnet18-cifar10-sgd'):
  row = train_config.pick_variant(variant, VARIANTS)
  return rsam.cifar(row)
