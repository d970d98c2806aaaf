"""Your own images: a folder of classes, or an `.npz` file.

python -m train --config=configs/own_images.py --workdir=runs/own \
  --config.data.name=FOLDER
python -m train --config=configs/own_images.py --workdir=runs/own \
  --config.data.name=FILE.npz --config.data.size=None

See docs/your-own-images.md. Nothing here was tuned: it is where to start.
"""

from train import config as train_config

# The radii are those that papers train small images with. ARSAM's segments and
# AUSAM's ramp are for runs of some thousand steps.
VARIANTS = {
  'sgd': ('identity', {}),
  'sam': ('sam', {'rho': 0.05}),
  'asam': ('asam', {'rho': 0.5}),
  'fsam': ('fsam', {'rho': 0.05, 'decay': 0.6}),
  'rsam': ('rsam', {'rho': 0.05}),
  'arsam': ('arsam', {'rho': 0.05, 'segment': 20, 'warmup_steps': 100}),
  'ausam': ('ausam', {'rho': 0.05, 'ramp_epochs': 3}),
}


def get_config(variant: str = 'sam'):
  name, changes = train_config.pick_variant(variant, VARIANTS)
  config = train_config.default()
  config.data.name = 'images'
  # The middle of each image, cut to a square and resized, in colour. None keeps
  # them as they are, which an .npz file needs.
  config.data.size = 64
  # Four pixels of 64 in every direction, and mirrored: not for letters and
  # digits. The channels are normalised by the training images.
  config.augment.pad = 4
  config.augment.fill = 'reflect'
  config.augment.flip = True
  # 0.3 million parameters. The stem halves the resolution at once.
  config.model = {
    'name': 'resnet',
    'stem': 'tiny',
    'widths': (32, 64, 128),
    'blocks': (1, 1, 1),
  }
  # Few images in a batch, as own sets are mostly small.
  config.batch_size = 32
  config.epochs = 30
  config.eval_every = 2
  config.checkpoint.every = 200
  config.optimizer.learning_rate = 0.05
  config.method = train_config.method(name, **changes)
  return config
