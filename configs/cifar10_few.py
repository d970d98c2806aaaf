"""Accuracy against cost on 5,000 images of CIFAR-10, for a CPU.

python -m train.prepare cifar10 --from=FOLDER
python -m train.sweep --config=configs/cifar10_few.py \
  --config.data.label_noise=0.4 --workdir=runs/cifar10_few

All numbers are our choice. So few images are trained on, and the last layers of
the network have so many parameters, that it can learn wrong labels in 100
epochs. It is a small ResNet that reads the image in patches of 4x4 pixels.
"""

from configs import cifar10_cost
from train import config as train_config

IMAGES = 5_000
STEPS_PER_EPOCH = IMAGES // cifar10_cost.BATCH_SIZE
EPOCHS = 100

# Radii and decays were chosen on 1,000 images held out.
RHO = 0.05
DECAY = {'ausam': 2e-3, 'arsam_ausam': 1e-3}  # the others: 5e-3
ARSAM = {'rho': RHO, 'segment': 3, 'warmup_steps': 3 * STEPS_PER_EPOCH}

VARIANTS = {
  'sgd': ('identity', {}),
  'sgd_twice': ('identity', {}),
  'sam': ('sam', {'rho': RHO}),
  'fsam': ('fsam', {'rho': RHO, 'decay': 0.6}),
  'rsam': ('rsam', {'rho': 2 * RHO}),
  'arsam': ('arsam', ARSAM),
  'ausam': ('ausam', {'rho': 2 * RHO, 'ramp_epochs': 2}),
  'arsam_ausam': (
    'arsam_ausam',
    {**ARSAM, 'rho': 2 * RHO, 'ramp_epochs': 2},
  ),
}

TABLE = '5,000 images of CIFAR-10, a small ResNet, 100 epochs'


def get_config(variant: str = 'sam'):
  name, changes = train_config.pick_variant(variant, VARIANTS)
  config = cifar10_cost.get_config('sgd')
  config.epochs = 2 * EPOCHS if variant == 'sgd_twice' else EPOCHS
  config.data.first = (IMAGES, 10_000)
  config.optimizer.update(
    weight_decay=DECAY.get(variant, 5e-3),
    warmup_steps=STEPS_PER_EPOCH,
  )
  config.method = train_config.method(name, **changes)
  return config
