"""A small DeepLabv3+ on the 44 images with masks that are in the repository.

python -m train --config=configs/coco_segmentation.py:sam --workdir=runs/masks

32 images are enough to see that everything works, and far too few to learn what
20 classes look like. All numbers are our choice.
"""

from configs import voc2012_animals
from train import config as train_config

FOLDER = 'train/data/coco_ccby/seg'  # from the root of the checkout
BATCH_SIZE = 8
STEPS_PER_EPOCH = 32 // BATCH_SIZE
EPOCHS = 100

ARSAM = {'rho': 0.05, 'segment': 10, 'warmup_steps': 10 * STEPS_PER_EPOCH}

VARIANTS = {
  'sgd': ('identity', {}),
  'sam': ('sam', {'rho': 0.05}),
  'arsam': ('arsam', ARSAM),
  'ausam': ('ausam', {'rho': 0.05, 'ramp_epochs': 20}),
}

# What `make demo TASK=segmentation` puts side by side: the methods of ARSAM's
# table of segmentation.
DEMO = {'SGD': 'sgd', 'SAM': 'sam', 'ARSAM': 'arsam'}


def get_config(variant: str = 'sam'):
  name, changes = train_config.pick_variant(variant, VARIANTS)
  config = voc2012_animals.get_config()
  config.epochs = EPOCHS
  config.batch_size = BATCH_SIZE
  config.test_batch_size = 12
  config.eval_every = 20
  config.data.name = FOLDER
  config.data.first = None
  # Of all classes that occur.
  config.segmentation.classes = None
  config.segmentation.crop = 81
  config.segmentation.scale = (0.75, 1.25)
  config.method = train_config.method(name, **changes)
  return config
