"""Data sets written to disk, and errors of reading them."""

import pathlib

import numpy as np
import pytest
from PIL import Image

from train import checks

ROOT = pathlib.Path(__file__).parent.parent
ARRAYS = ('train_x', 'train_y', 'test_x', 'test_y')


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
  def refuse(*args, **kwargs):
    raise AssertionError(f'The network was asked for {args}.')

  monkeypatch.setattr('socket.socket.connect', refuse)
  monkeypatch.setattr('socket.getaddrinfo', refuse)


def raises(match, call, *args):
  """Checks that a call fails with a message of the three beats."""
  with pytest.raises(checks.DataError, match=match) as caught:
    call(*args)
  message = str(caught.value)
  assert message.startswith(('Cannot ', 'Refused ')), message
  assert message.count('. ') >= 2, message
  return message


def flat(dataset):
  """The arrays of a data set in the order of ARRAYS."""
  return [
    rows[name]
    for rows in (dataset.train, dataset.test)
    for name in ('image', 'label')
  ]


def arrays(shape=(4, 4), **changes):
  rng = np.random.default_rng(0)
  values = {
    'train_x': rng.integers(0, 256, (6, *shape), np.uint8),
    'train_y': np.array([0, 1, 2, 0, 1, 2]),
    'test_x': rng.integers(0, 256, (3, *shape), np.uint8),
    'test_y': np.array([2, 1, 0], np.uint8),
  }
  values.update(changes)
  return {k: v for k, v in values.items() if v is not None}


def write_npz(tmp_path, **changes):
  path = str(tmp_path / 'set.npz')
  np.savez(path, **arrays(**changes))
  return path


def write_image(path, pixels):
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.fromarray(pixels).save(path)


def image_folder(root, shape=(5, 4, 3)):
  rng = np.random.default_rng(1)
  written = {}
  # Neither the classes nor the files are made in the order of their names.
  for split, names in (('test', '2'), ('train', '9b')):
    for kind in ('dog', 'cat'):
      for name in names:
        pixels = rng.integers(0, 256, shape, np.uint8)
        write_image(root / split / kind / f'{name}.png', pixels)
        written[split, kind, name] = pixels
  return written
