"""AUSAM, table 10: hyperparameters of quantised networks.

python -m train --config=configs/ausam_table10.py:resnet18-cifar10-sam \
  --workdir=runs/hyperparameters

It prints no accuracies. The runs are those of `configs/ausam_table6.py`, which
has the float networks too.
"""

from configs import ausam, published, settings
from train import config as train_config

TABLE = published.title('ausam', 10)
PUBLISHED = published.table('ausam', 10)
VARIANTS = settings.trained(PUBLISHED)


def get_config(variant: str = 'resnet18-cifar10-sgd'):
  row = train_config.pick_variant(variant, VARIANTS)
  return ausam.config(row)
