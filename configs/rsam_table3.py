"""R-SAM, table 3: ViTs on ImageNet, with and without augmentation.

python -m train --config=configs/rsam_table3.py:vit_b16-imagenet-mixup-rsam \
  --workdir=runs/vit
"""

from configs import published, rsam, settings
from train import config as train_config

TABLE = published.title('rsam', 3)
PUBLISHED = published.table('rsam', 3, 'mixup', 'randaugment')
VARIANTS = settings.trained(PUBLISHED)


def get_config(variant: str = 'vit_b16-imagenet-adamw'):
  row = train_config.pick_variant(variant, VARIANTS)
  return rsam.imagenet(row)
