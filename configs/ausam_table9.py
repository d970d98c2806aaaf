"""AUSAM, table 9: hyperparameters of pose.

python -m train --config=configs/ausam_table9.py:simcc_hrnet-mpii-sam \
  --workdir=runs/hyperparameters

It prints no accuracies. The runs are those of `configs/ausam_table5.py`.
"""

from configs import ausam, published, settings
from train import config as train_config

TABLE = published.title('ausam', 9)
PUBLISHED = published.table('ausam', 9)
VARIANTS = settings.trained(PUBLISHED)


def get_config(variant: str = 'simcc_hrnet-mpii-adam'):
  row = train_config.pick_variant(variant, VARIANTS)
  return ausam.config(row)
