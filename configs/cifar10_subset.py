"""The first 2,000 training images and all test images of CIFAR-10, for a CPU.

python -m train.prepare cifar10 --from=FOLDER
python -m train --config=configs/cifar10_subset.py:sam --workdir=runs/subset

Radii and decays are those of configs/cifar10.py; what is measured in steps or
epochs is shortened with the run, which is our choice.
"""

from configs import cifar10
from train import config as train_config

BATCH_SIZE = 64
STEPS_PER_EPOCH = 2_000 // BATCH_SIZE

ARSAM = {'rho': 0.1, 'segment': 10, 'warmup_steps': 2 * STEPS_PER_EPOCH}

VARIANTS = {
  'sgd': ('identity', {}),
  'sam': ('sam', {'rho': 0.1}),
  'asam': ('asam', {'rho': 2.0, 'eta': 0.0, 'adapt_all': True}),
  'fsam': ('fsam', {'rho': 0.1, 'decay': 0.6}),
  'rsam': ('rsam', {'rho': 0.1}),
  'arsam': ('arsam', ARSAM),
  'ausam': ('ausam', {'rho': 0.1, 'ramp_epochs': 2}),
  'arsam_ausam': ('arsam_ausam', {**ARSAM, 'ramp_epochs': 2}),
  'looksam': ('looksam', {'rho': 0.1, 'k': 5}),
  'aesam': ('aesam', {'rho': 0.1}),
}


def get_config(variant: str = 'sam'):
  name, changes = train_config.pick_variant(variant, VARIANTS)
  config = cifar10.get_config('sgd' if variant == 'sgd' else 'sam')
  config.data.first = (2_000, 10_000)
  config.batch_size = BATCH_SIZE
  config.epochs = 12
  config.eval_every = 6
  config.method = train_config.method(name, **changes)
  return config
