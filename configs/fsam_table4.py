"""F-SAM, table 4: DeiT-S, pretrained on ImageNet, on other sets.

python -m train --config=configs/fsam_table4.py:deit_s-pets-fsam \
  --config.model.pretrained=FILE --workdir=runs/pets

FILE has timm's deit_small_patch16_224 as safetensors. The released code drops
whole branches of the network (stochastic depth, 0.1), which ours cannot.

Not checked in the paper: that this is its fourth table, and its sets. PUBLISHED
is empty: the paper's accuracies were not at hand.
"""

from configs import recipes, settings
from train import config as train_config

TABLE = 'F-SAM, table 4: fine-tuning DeiT-S'
VARIANTS = settings.grid(
  ['deit_s'],
  ['cifar10_224', 'cifar100_224', 'dogs', 'cars', 'pets', 'flowers'],
  ['adamw', 'sam', 'fsam'],
)
PUBLISHED = {}

_METHODS = {
  'adamw': ('identity', {}),
  'sam': ('sam', {'rho': 0.075}),  # F-SAM's paper
  # rho: F-SAM's paper. decay: our choice, train.py's default.
  'fsam': ('fsam', {'rho': 0.075, 'sigma': 1.0, 'decay': 0.95}),
}


def get_config(variant: str = 'deit_s-cifar10_224-adamw'):
  row = train_config.pick_variant(variant, VARIANTS)
  config = recipes.photographs(row, _METHODS)
  config.epochs = 10  # F-SAM's paper
  # F-SAM's paper; the schedule is that of its train.py.
  config.optimizer.update(
    name='adamw', learning_rate=1e-4, weight_decay=1e-5, schedule='cosine'
  )
  return config
