"""F-SAM, table 6: training on wrong labels.

python -m train --config=configs/fsam_table6.py:resnet18-cifar10-noise60-fsam \
  --workdir=runs/noise
"""

from configs import fsam, published, settings
from train import config as train_config

TABLE = published.title('fsam', 6)
PUBLISHED = published.table('fsam', 6, 'noise_percent')
VARIANTS = settings.trained(PUBLISHED)


def get_config(variant: str = 'resnet18-cifar10-noise20-sgd'):
  row = train_config.pick_variant(variant, VARIANTS)
  return fsam.cifar(row)
