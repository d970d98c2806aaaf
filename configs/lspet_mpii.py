"""A small HRNet with SimCC on Leeds Sports Pose Extended, from scratch.

python -m train.sweep --config=configs/lspet_mpii.py --seeds=2 \
  --config.data.name=lspet_mpii.zip --workdir=runs/pose

The base optimizer is Adam. All numbers are our choice: the sizes so that the
sweep takes about an hour of one shared core, and the radius below the usual
0.05, at which SAM learned less than Adam (see results/pose.md).
"""

from train import config as train_config

# Of the training split's list, and of the test split's.
FIRST = (2400, 300)
BATCH_SIZE = 16
STEPS_PER_EPOCH = FIRST[0] // BATCH_SIZE

ARSAM = {'rho': 0.01, 'segment': 10, 'warmup_steps': STEPS_PER_EPOCH}

VARIANTS = {
  'adam': ('identity', {}),
  'sam': ('sam', {'rho': 0.01}),
  'arsam': ('arsam', ARSAM),
  'ausam': ('ausam', {'rho': 0.01, 'ramp_epochs': 2}),
  'arsam_ausam': ('arsam_ausam', {**ARSAM, 'ramp_epochs': 2}),
}


def get_config(variant: str = 'sam'):
  name, changes = train_config.pick_variant(variant, VARIANTS)
  config = train_config.default()
  config.task = 'pose'
  config.epochs = 7
  config.batch_size = BATCH_SIZE
  config.test_batch_size = 100
  config.eval_every = 2
  config.data.name = 'lspet_mpii.zip'
  config.data.first = FIRST
  # SimCC's smallest; whole images of that size, in memory.
  config.data.size, config.data.stream = 64, False
  with config.unlocked():
    config.pose = {
      'sigma': 1.5,  # 6 of 512 bins, as 1.5 of 128
      'rotation': 15.0,
      'scale': 0.15,
    }
  config.model = {
    'name': 'simcc_hrnet',
    'width': 16,
    'modules': (1, 1),
    'blocks': 1,
    'stem_width': 8,
    'stem_blocks': 1,
  }
  config.optimizer.update(
    name='adam', learning_rate=3e-3, weight_decay=0.0, warmup_steps=20
  )
  config.method = train_config.method(name, **changes)
  return config
