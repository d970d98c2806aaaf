"""Accuracy against cost on scikit-learn's digits with wrong labels, for a CPU.

python -m train.sweep --config=configs/digits_cost.py --workdir=runs/digits_cost

The runs of configs/digits_noise.py at 60 % noise, and SGD for twice the epochs.
The weight decay is the best for SGD and for SAM of those from 5e-4 to 2e-2.
"""

from configs import digits_noise
from train import config as train_config

METHODS = ('sam', 'fsam', 'rsam', 'arsam', 'ausam', 'arsam_ausam')
VARIANTS = {
  'sgd': digits_noise.VARIANTS['sgd'],
  'sgd_twice': digits_noise.VARIANTS['sgd'],
  **{name: digits_noise.VARIANTS[name] for name in METHODS},
}


def get_config(variant: str = 'sam'):
  name, changes = train_config.pick_variant(variant, VARIANTS)
  config = digits_noise.get_config('sgd')
  if variant == 'sgd_twice':
    config.epochs *= 2
  config.data.label_noise = 0.6
  config.optimizer.weight_decay = 1e-2
  config.method = train_config.method(name, **changes)
  return config
