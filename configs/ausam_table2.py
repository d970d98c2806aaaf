"""AUSAM, table 2: against SAM and cheaper versions of it.

python -m train --workdir=runs/comparison \
  --config=configs/ausam_table2.py:wrn28_10-cifar100-keep0.5-ausam
"""

from configs import ausam, published, settings
from train import config as train_config

TABLE = published.title('ausam', 2)
PUBLISHED = published.table('ausam', 2, 'keep')
VARIANTS = settings.trained(PUBLISHED)


def get_config(variant: str = 'resnet18-cifar10-sgd'):
  row = train_config.pick_variant(variant, VARIANTS)
  return ausam.config(row)
