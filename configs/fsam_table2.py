"""F-SAM, table 2: CIFAR-100.

python -m train --config=configs/fsam_table2.py:resnet18-cifar100-fsam \
  --workdir=runs/fsam

The networks are those of fsam_table1.py, where the released code's differ. Not
checked in the paper: that this is its second table. PUBLISHED has what the
released logs end in; the paper's accuracies were not at hand.
"""

from configs import recipes, settings
from train import config as train_config

TABLE = 'F-SAM, table 2: accuracy on CIFAR-100'
VARIANTS = settings.grid(
  recipes.FRIENDLY,
  ['cifar100'],
  ['sgd', 'sam', 'asam', 'fishersam', 'fsam'],
)
# Not the paper's means: one run each (seed 1), after the last epoch, of the
# logs in the released code's results/.
PUBLISHED = {
  'resnet18-cifar100-sam': (80.78, None),
  'resnet18-cifar100-fsam': (81.19, None),
}


def get_config(variant: str = 'vgg16bn-cifar100-sgd'):
  row = train_config.pick_variant(variant, VARIANTS)
  return recipes.friendly(row)
