"""A small DeepLabv3+ on the animals of VOC 2012, from scratch, for a CPU.

python -m train.sweep --config=configs/voc2012_animals.py --seeds=2 \
  --config.data.name=voc2012_animals.zip --workdir=runs/segmentation

The score is the mean over background and the six classes that the images are
chosen for. All numbers are our choice: the sizes so that the sweep takes about
a quarter of an hour of one core.
"""

from train import config as train_config

# Of the training split's list, and of the test split's.
FIRST = (800, 200)
BATCH_SIZE = 16
STEPS_PER_EPOCH = FIRST[0] // BATCH_SIZE

# Background, cat, cow, dog, horse, person, sheep.
CLASSES = (0, 8, 10, 12, 13, 15, 17)

ARSAM = {'rho': 0.05, 'segment': 10, 'warmup_steps': STEPS_PER_EPOCH}

VARIANTS = {
  'sgd': ('identity', {}),
  'sam': ('sam', {'rho': 0.05}),
  'arsam': ('arsam', ARSAM),
  'ausam': ('ausam', {'rho': 0.05, 'ramp_epochs': 2}),
  'arsam_ausam': ('arsam_ausam', {**ARSAM, 'ramp_epochs': 2}),
}


def get_config(variant: str = 'sam'):
  name, changes = train_config.pick_variant(variant, VARIANTS)
  config = train_config.default()
  config.task = 'segmentation'
  config.epochs = 10
  config.batch_size = BATCH_SIZE
  config.test_batch_size = 50
  config.eval_every = 5
  config.data.name = 'voc2012_animals.zip'
  config.data.first = FIRST
  with config.unlocked():
    config.segmentation = {
      'crop': 97,
      'scale': (0.5, 1.25),
      # AUSAM compares images, so the others have the same loss.
      'over': 'image',
      'classes': CLASSES,
    }
  config.model = {
    'name': 'deeplabv3plus',
    'widths': (16, 32, 64),
    'blocks': (1, 1, 1),
    'block': 'basic',
    'output_stride': 8,
    'rates': (2, 4),
    'head_width': 32,
    'low_width': 8,
  }
  config.optimizer.update(
    learning_rate=0.1, weight_decay=5e-4, schedule='poly', warmup_steps=20
  )
  config.method = train_config.method(name, **changes)
  return config
