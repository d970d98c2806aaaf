"""F-SAM, table 1: CIFAR-10.

python -m train --config=configs/fsam_table1.py:resnet18-cifar10-fsam \
  --workdir=runs/fsam

The networks are those that the paper names. The released code's WideResNet28x10
has five blocks in a stage, not four: `--config.model.depth=34` is that one. The
name decides here because rows of one name are compared across papers, and
because a wrong number of blocks is no choice of the method. The code's VGG16BN
has three dense layers with dropout, ours one without.

Not checked in the paper: that this is its first table. PUBLISHED is empty: the
paper's accuracies were not at hand.
"""

from configs import recipes, settings
from train import config as train_config

TABLE = 'F-SAM, table 1: accuracy on CIFAR-10'
VARIANTS = settings.grid(
  recipes.FRIENDLY,
  ['cifar10'],
  ['sgd', 'sam', 'asam', 'fishersam', 'fsam'],
)
PUBLISHED = {}


def get_config(variant: str = 'vgg16bn-cifar10-sgd'):
  row = train_config.pick_variant(variant, VARIANTS)
  return recipes.friendly(row)
