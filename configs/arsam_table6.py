"""ARSAM, table 6: Tiny-ImageNet.

python -m train --config=configs/arsam_table6.py:resnet18-tiny_imagenet-arsam \
  --workdir=runs/tiny

The images are looked for in `tiny-imagenet-200`, the folder that the published
archive unpacks to; `--config.data.name=PATH` names another. MobileNet sees them
enlarged to 224 pixels.
"""

from configs import arsam, published, settings
from train import config as train_config

TABLE = published.title('arsam', 6)
PUBLISHED = published.table('arsam', 6)
VARIANTS = settings.trained(PUBLISHED)


def get_config(variant: str = 'resnet18-tiny_imagenet-sgd'):
  row = train_config.pick_variant(variant, VARIANTS)
  return arsam.config(row)
