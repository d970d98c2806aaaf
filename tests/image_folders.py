"""Small folders of images, and the batches that are read from them."""

import itertools

import numpy as np
import pytest
from PIL import Image

from train import config as train_config
from train.checks import DataError
from train.data.open import open_set

CLASSES = ('ant', 'bee', 'cat')
ORDER = np.random.default_rng(0).permutation(24).reshape(4, 6).astype(np.int32)


def noise(seed, height, width):
  shape = (height, width, 3)
  return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def write(path, pixels):
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.fromarray(pixels).save(path)


def write_folder(root, shape, suffix, test='test', each=8):
  """Images whose shape is that of their number, over all the classes."""
  numbers = itertools.count()
  for split, count in (('train', each), (test, 4)):
    for name in CLASSES:
      for file in range(count):
        number = next(numbers)
        pixels = noise(number, *shape(number))
        write(root / split / name / f'{file}.{suffix}', pixels)
  return str(root)


@pytest.fixture(name='same', scope='module')
def same_folder(tmp_path_factory):
  """A folder of 24 and 12 images of one shape, stored without loss."""
  root = tmp_path_factory.mktemp('same')
  return write_folder(root, lambda number: (8, 8), 'png')


@pytest.fixture(name='varied', scope='module')
def varied_folder(tmp_path_factory):
  """A folder of 24 and 12 JPEGs of many shapes."""
  root = tmp_path_factory.mktemp('varied')
  return write_folder(root, lambda number: (9 + number, 40 - number), 'JPEG')


def options(name, **changes):
  section = train_config.default().data
  section.update({'name': name, **changes})
  return section


def cropped(name, **changes):
  return open_set(options(name, size=6, crop='inception', **changes))


def taken(batches):
  batches = list(batches)
  return [np.stack([x[name] for x in batches]) for name in ('image', 'label')]


def assert_same(one, two):
  for a, b in zip(one, two, strict=True):
    np.testing.assert_array_equal(a, b)


def raises(match, call, *args):
  with pytest.raises(DataError, match=match) as caught:
    call(*args)
  message = str(caught.value)
  assert message.startswith('Cannot ') and message.count('. ') >= 2, message
  return message
