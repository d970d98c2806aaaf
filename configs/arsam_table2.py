"""ARSAM, table 2: its two parts, sampling and reuse, one by one.

python -m train --config=configs/arsam_table2.py:resnet18-cifar10-arsam_a \
  --workdir=runs/ablation

ARSAM-A samples and does not reuse.
"""

from configs import arsam, published, settings
from train import config as train_config

TABLE = published.title('arsam', 2)
PUBLISHED = published.table('arsam', 2)
VARIANTS = settings.trained(PUBLISHED)


def get_config(variant: str = 'resnet18-cifar10-sam'):
  row = train_config.pick_variant(variant, VARIANTS)
  return arsam.config(row)
