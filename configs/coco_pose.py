"""A small HRNet with SimCC on the 29 people that are in the repository.

python -m train --config=configs/coco_pose.py:sam --workdir=runs/people

22 people are enough to see that everything works, and far too few to learn
where joints are. Their heads have no label: what is called PCKh is relative to
a share of the box of a person. All numbers are our choice.
"""

from configs import lspet_mpii
from train import config as train_config

FOLDER = 'train/data/coco_ccby/pose'  # from the root of the checkout
BATCH_SIZE = 11
STEPS_PER_EPOCH = 22 // BATCH_SIZE
EPOCHS = 100

ARSAM = {'rho': 0.05, 'segment': 10, 'warmup_steps': 10 * STEPS_PER_EPOCH}

VARIANTS = {
  'adam': ('identity', {}),
  'sam': ('sam', {'rho': 0.05}),
  'arsam': ('arsam', ARSAM),
  'ausam': ('ausam', {'rho': 0.05, 'ramp_epochs': 20}),
}

# What `make demo TASK=pose` puts side by side.
DEMO = {'Adam': 'adam', 'SAM': 'sam', 'ARSAM': 'arsam', 'AUSAM': 'ausam'}


def get_config(variant: str = 'sam'):
  name, changes = train_config.pick_variant(variant, VARIANTS)
  config = lspet_mpii.get_config()
  config.epochs = EPOCHS
  config.batch_size = BATCH_SIZE
  config.test_batch_size = 7
  config.eval_every = 20
  config.data.name = FOLDER
  config.data.first = None
  config.data.size, config.data.stream = 64, False
  config.method = train_config.method(name, **changes)
  return config
