"""AUSAM, table 7: hyperparameters on CIFAR.

python -m train --config=configs/ausam_table7.py:resnet18-cifar10-sam \
  --workdir=runs/hyperparameters

It prints no accuracies. Its rows hold for both sets; here they are trained on
CIFAR-10, and in ausam_table2.py on both.
"""

from configs import ausam, published, settings
from train import config as train_config

TABLE = published.title('ausam', 7)
PUBLISHED = published.table('ausam', 7, 'keep')
VARIANTS = settings.trained(PUBLISHED)


def get_config(variant: str = 'resnet18-cifar10-sgd'):
  row = train_config.pick_variant(variant, VARIANTS)
  return ausam.config(row)
