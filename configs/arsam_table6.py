"""ARSAM, table 6: Tiny-ImageNet.

python -m train --config=configs/arsam_table6.py --workdir=runs/tiny

The images are looked for in `tiny-imagenet-200`, the folder that the published
archive unpacks to; `--config.data.name=PATH` is another.

Not checked in the paper: which methods stand beside ARSAM. PUBLISHED is empty:
the paper's accuracies were not at hand.
"""

from configs import recipes, settings
from train import config as train_config

TABLE = 'ARSAM, table 6: accuracy and speed on Tiny-ImageNet'
VARIANTS = settings.grid(
  ['resnet18', 'resnet50', 'mobilenet'],
  ['tiny'],
  ['sgd', 'sam', 'looksam_5', 'esam', 'arsam'],
)
PUBLISHED = {}


def get_config(variant: str = 'resnet18-tiny-sgd'):
  row = train_config.pick_variant(variant, VARIANTS)
  return recipes.accelerated(row)
