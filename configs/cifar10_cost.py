"""Accuracy against cost on CIFAR-10, for a CPU.

python -m train.prepare cifar10 --from=FOLDER
python -m train.sweep --config=configs/cifar10_cost.py --workdir=runs/cost
python -m train.sweep --config=configs/cifar10_cost.py \
  --config.data.label_noise=0.4 --config.optimizer.learning_rate=0.2 \
  --workdir=runs/cost_noise

All numbers are our choice. The network is a small ResNet that reads the image
in patches of 4x4 pixels.
"""

from configs import cifar10
from train import config as train_config

BATCH_SIZE = 128
STEPS_PER_EPOCH = 50_000 // BATCH_SIZE
EPOCHS = 30
# Chosen on 5,000 images held out, as are the decay and the learning rates.
RHO = 0.02
RAMP = {'ramp_epochs': 4}
ARSAM = {'rho': RHO, 'segment': 10, 'warmup_steps': STEPS_PER_EPOCH}

VARIANTS = {
  'sgd': ('identity', {}),
  'sgd_twice': ('identity', {}),
  'sam': ('sam', {'rho': RHO}),
  'fsam': ('fsam', {'rho': RHO, 'decay': 0.6}),
  'rsam': ('rsam', {'rho': RHO}),
  'arsam': ('arsam', ARSAM),
  'ausam': ('ausam', {'rho': RHO, **RAMP}),
  'arsam_ausam': ('arsam_ausam', {**ARSAM, **RAMP}),
}

TABLE = 'CIFAR-10, a small ResNet, 30 epochs'


def get_config(variant: str = 'sam'):
  name, changes = train_config.pick_variant(variant, VARIANTS)
  config = cifar10.get_config('sgd')
  config.epochs = 2 * EPOCHS if variant == 'sgd_twice' else EPOCHS
  config.batch_size = BATCH_SIZE
  config.eval_every = 10
  config.model = {
    'name': 'resnet',
    'stem': 'patch',
    'widths': (16,),
    'blocks': (1,),
    'hidden': 512,
  }
  config.optimizer.update(
    learning_rate=0.1,
    weight_decay=5e-4,
    warmup_steps=STEPS_PER_EPOCH,
  )
  config.augment.update(cutout=0)
  config.method = train_config.method(name, **changes)
  return config
