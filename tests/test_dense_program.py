"""Segmentation and pose through the program: folders, options, refusals.

`test_pictures.py` trains both.
"""

import json

import numpy as np
import pytest
from PIL import Image

from train import config as train_config
from train import tasks
from train.checks import ConfigError
from train.data.open import open_set


@pytest.fixture(scope='module')
def scenes(tmp_path_factory):
  """Six images of squares, in VOC's layout; a class for each colour."""
  folder = tmp_path_factory.mktemp('voc')
  for name in ('JPEGImages', 'SegmentationClass', 'ImageSets/Segmentation'):
    (folder / name).mkdir(parents=True)
  rng = np.random.default_rng(0)
  for number in range(6):
    mask = rng.integers(0, 3, (2, 2 + number % 2)).repeat(9, 0).repeat(9, 1)
    pixels = np.array([[0, 0, 0], [250, 0, 0], [0, 250, 0]])[mask]
    for place, array, kind in (
      ('JPEGImages', pixels, 'jpg'),
      ('SegmentationClass', mask, 'png'),
    ):
      path = folder / place / f'{number}.{kind}'
      Image.fromarray(array.astype(np.uint8)).save(path)
  for split, numbers in (('train', '0123'), ('val', '45')):
    path = folder / 'ImageSets/Segmentation' / f'{split}.txt'
    path.write_text('\n'.join(numbers))
  return str(folder)


@pytest.fixture(scope='module')
def people(tmp_path_factory):
  """Six images of noise and two sizes, with joints, in MPII's layout."""
  folder = tmp_path_factory.mktemp('mpii')
  for name in ('images', 'annot'):
    (folder / name).mkdir()
  rng = np.random.default_rng(0)
  for split, numbers in (('train', range(4)), ('valid', range(4, 6))):
    listed = []
    for number in numbers:
      shape = (16 + number % 2, 16, 3)
      pixels = rng.integers(0, 256, shape).astype(np.uint8)
      Image.fromarray(pixels).save(folder / 'images' / f'{number}.jpg')
      listed.append({
        'image': f'{number}.jpg',
        'joints': rng.uniform(4, 12, (16, 2)).tolist(),
        'joints_vis': [1] * 16,
        'center': [9, 8],
        'scale': 0.064,
        'head_size': 4,
      })  # fmt: skip
    (folder / 'annot' / f'{split}.json').write_text(json.dumps(listed))
  return str(folder)


def _config(task, data, **section):
  config = train_config.default()
  config.update({
    'task': task,
    'batch_size': 2,
    'steps': 2,
    'log_every': 1,
    'data': {'name': data},
    'optimizer': {'learning_rate': 0.01},
  })  # fmt: skip
  if data.rpartition('/')[-1].startswith('mpii'):
    config.data.size = 16  # streamed: its images are of two sizes
  with config.unlocked():
    config[task] = section
    if task == 'segmentation':
      config.model = {
        'name': 'deeplabv3plus',
        'widths': (4, 6),
        'blocks': (1, 1),
        'block': 'basic',
        'stem': 'cifar',
        'output_stride': 2,
        'rates': (1, 2),
        'head_width': 6,
      }
    else:
      config.model = {
        'name': 'simcc_hrnet',
        'width': 4,
        'modules': (1,),
        'blocks': 1,
        'stem_width': 4,
        'stem_blocks': 1,
      }
  return config


@pytest.mark.parametrize(
  ('task', 'changes', 'message'),
  [
    ('segmentation', {'label_smoothing': 0.1}, 'Only classification uses it'),
    ('pose', {'augment.flip': True}, "see the section 'pose'"),
    ('segmentation', {'segmentation.croop': 9}, "Did you mean 'crop'"),
    ('segmentation', {'segmentation.over': 'pixels'}, 'there are two means'),
    ('pose', {'pose.sigma': -1.0}, 'Give a number above 0'),
    ('classification', {}, 'lack label'),
  ],
)
def test_what_cannot_be_trained(task, changes, message, request):
  data = 'people' if task == 'pose' else 'scenes'
  place = request.getfixturevalue(data)
  config = _config(task, place)
  with config.unlocked():
    for name, value in changes.items():
      config.update_from_flattened_dict({name: value})
  with pytest.raises(ConfigError, match=message):
    tasks.create(config, open_set(config.data))


def test_a_set_of_another_task(scenes, people):
  config = _config('pose', scenes)
  with pytest.raises(ConfigError, match='The task asks for joints'):
    tasks.create(config, open_set(config.data))
  config = _config('classification', people)
  with pytest.raises(ConfigError, match='The task asks for num_classes'):
    tasks.create(config, open_set(config.data))


def test_the_first_masks_are_kept_in_memory(scenes):
  config = _config('segmentation', scenes)
  config.data.first = (3, 1)
  dataset = open_set(config.data)
  assert dataset.num_examples == 3 and dataset.num_tested == 1
