"""AUSAM, table 3: Tiny-ImageNet.

python -m train --workdir=runs/tiny \
  --config=configs/ausam_table3.py:resnet18-tiny_imagenet-keep0.5-ausam

The images are looked for in `tiny-imagenet-200`, the folder that the published
archive unpacks to; `--config.data.name=PATH` names another. MobileNet sees them
enlarged to 224 pixels.
"""

from configs import ausam, published, settings
from train import config as train_config

TABLE = published.title('ausam', 3)
PUBLISHED = published.table('ausam', 3, 'keep')
VARIANTS = settings.trained(PUBLISHED)


def get_config(variant: str = 'resnet18-tiny_imagenet-sgd'):
  row = train_config.pick_variant(variant, VARIANTS)
  return ausam.config(row)
