"""AUSAM, table 3: Tiny-ImageNet.

python -m train --config=configs/ausam_table3.py --workdir=runs/tiny

The images are looked for in `tiny-imagenet-200`, the folder that the published
archive unpacks to; `--config.data.name=PATH` is another.

Not checked in the paper: that this is its third table, and which methods stand
beside AUSAM. PUBLISHED is empty: the paper's accuracies were not at hand.
"""

from configs import recipes, settings
from train import config as train_config

TABLE = 'AUSAM, table 3: accuracy and speed on Tiny-ImageNet'
VARIANTS = settings.grid(
  ['resnet18', 'resnet50', 'mobilenet'],
  ['tiny'],
  ['sgd', 'sam', 'looksam_5', 'esam', 'ausam'],
)
PUBLISHED = {}


def get_config(variant: str = 'resnet18-tiny-sgd'):
  row = train_config.pick_variant(variant, VARIANTS)
  return recipes.accelerated(row)
