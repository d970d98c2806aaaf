"""ARSAM, table 5: training on wrong labels.

python -m train --workdir=runs/noise \
  --config=configs/arsam_table5.py:resnet18-cifar10-noise40-arsam
"""

from configs import arsam, published, settings
from train import config as train_config

TABLE = published.title('arsam', 5)
PUBLISHED = published.table('arsam', 5, 'noise_percent')
VARIANTS = settings.trained(PUBLISHED)


def get_config(variant: str = 'resnet18-cifar10-noise20-sgd'):
  row = train_config.pick_variant(variant, VARIANTS)
  return arsam.config(row)
