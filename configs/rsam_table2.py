"""R-SAM, table 2: CIFAR-100.

python -m train --config=configs/rsam_table2.py:resnet18-cifar100-rsam \
  --workdir=runs/rsam
"""

from configs import published, rsam, settings
from train import config as train_config

TABLE = published.title('rsam', 2)
PUBLISHED = published.table('rsam', 2)
VARIANTS = settings.trained(PUBLISHED)


def get_config(variant: str = 'resnet18-cifar100-sgd'):
  row = train_config.pick_variant(variant, VARIANTS)
  return rsam.cifar(row)
