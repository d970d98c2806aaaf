"""ARSAM, table 1: the gain alpha and the share of steps that perturb.

python -m train --workdir=runs/alpha \
  --config=configs/arsam_table1.py:wrn28_10-cifar100-alpha0.1-arsam
"""

from configs import arsam, published, settings
from train import config as train_config

TABLE = published.title('arsam', 1)
PUBLISHED = published.table('arsam', 1, 'alpha')
VARIANTS = settings.trained(PUBLISHED)


def get_config(variant: str = 'wrn28_10-cifar100-sam'):
  row = train_config.pick_variant(variant, VARIANTS)
  return arsam.config(row)
