"""AUSAM, table 1: the share of the batch that is kept.

python -m train --workdir=runs/keep \
  --config=configs/ausam_table1.py:resnet18-cifar100-keep0.4-ausam
"""

from configs import ausam, published, settings
from train import config as train_config

TABLE = published.title('ausam', 1)
PUBLISHED = published.table('ausam', 1, 'keep')
VARIANTS = settings.trained(PUBLISHED)


def get_config(variant: str = 'resnet18-cifar100-sam'):
  row = train_config.pick_variant(variant, VARIANTS)
  return ausam.config(row)
