"""F-SAM, table 3: with ASAM.

python -m train --config=configs/fsam_table3.py:resnet18-cifar100-fasam \
  --workdir=runs/fasam
"""

from configs import fsam, published, settings
from train import config as train_config

TABLE = published.title('fsam', 3)
PUBLISHED = published.table('fsam', 3)
VARIANTS = settings.trained(PUBLISHED)


def get_config(variant: str = 'resnet18-cifar10-asam'):
  row = train_config.pick_variant(variant, VARIANTS)
  return fsam.cifar(row)
