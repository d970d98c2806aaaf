"""F-SAM, table 5: DeiT-small, pretrained on ImageNet, on other sets.

python -m train --config=configs/fsam_table5.py:deit_s-oxford_iiit_pet-fsam \
  --workdir=runs/pets

`--config.model.pretrained=FILE` names the weights, see `configs/fsam.py`.
"""

from configs import fsam, published, settings
from train import config as train_config

TABLE = published.title('fsam', 5)
PUBLISHED = published.table('fsam', 5)
VARIANTS = settings.trained(PUBLISHED)


def get_config(variant: str = 'deit_s-cifar10-adamw'):
  row = train_config.pick_variant(variant, VARIANTS)
  return fsam.transfer(row)
