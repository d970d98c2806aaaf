"""ARSAM, table 3: against SAM and cheaper versions of it.

python -m train --config=configs/arsam_table3.py:wrn28_10-cifar100-arsam \
  --workdir=runs/comparison
"""

from configs import arsam, published, settings
from train import config as train_config

TABLE = published.title('arsam', 3)
PUBLISHED = published.table('arsam', 3)
VARIANTS = settings.trained(PUBLISHED)


def get_config(variant: str = 'resnet18-cifar10-sgd'):
  row = train_config.pick_variant(variant, VARIANTS)
  return arsam.config(row)
