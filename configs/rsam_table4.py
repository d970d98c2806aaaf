"""R-SAM, table 4: ViTs on five test sets of ImageNet.

python -m train --config=configs/rsam_table4.py:vit_s16-imagenet-rsam \
  --workdir=runs/vit

A row of each network and method is one run, tested on all of the sets; so only
the rows of ImageNet itself are variants.
"""

from configs import published, rsam, settings
from train import config as train_config

TABLE = published.title('rsam', 4)
PUBLISHED = published.table('rsam', 4)
VARIANTS = settings.trained(PUBLISHED)


def get_config(variant: str = 'vit_b16-imagenet-adamw'):
  row = train_config.pick_variant(variant, VARIANTS)
  return rsam.imagenet(row)
