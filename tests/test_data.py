"""Reading arrays, folders of images and the digits."""

import io
import os
import subprocess
import sys

import numpy as np
import pytest
from sklearn import datasets

from tests.own_sets import (
  ARRAYS,
  ROOT,
  arrays,
  flat,
  image_folder,
  no_network,  # noqa: F401
  raises,
  write_image,
  write_npz,
)
from train.data import memory


def test_one_class_is_no_data_set(tmp_path):
  one = write_npz(tmp_path, train_y=np.zeros(6, int), test_y=np.zeros(3, int))
  raises('all of one class', memory.load, one)


@pytest.mark.parametrize('shape', [(4, 5), (4, 5, 3)])
def test_npz_is_read_as_it_was_written(tmp_path, shape):
  read = memory.load(write_npz(tmp_path, shape=shape))
  expected = arrays(shape)
  assert read.facts['num_classes'] == 3
  for found, name in zip(flat(read), ARRAYS, strict=True):
    if name.endswith('x'):
      assert found.dtype == np.uint8 and found.ndim == 4
      found = found.reshape(expected[name].shape)
    else:
      assert found.dtype == np.int32
    np.testing.assert_array_equal(found, expected[name])


@pytest.mark.parametrize(
  ('changes', 'match'),
  [
    ({'train_y': None}, 'lacks train_y and holds train_x, test_x, test_y'),
    ({'test_x': np.zeros((3, 4, 4))}, 'test split .* images are float64'),
    ({'train_x': np.zeros((6, 16), np.uint8)}, r'uint8 of shape \(6, 16\)'),
    ({'train_y': np.arange(5)}, 'train split .* 6 images and 5 labels'),
    ({'train_y': np.zeros(6)}, 'train split .* labels are float64'),
    ({'train_y': np.zeros((6, 1), int)}, r'labels are int64 of shape \(6, 1\)'),
    ({'train_y': np.array([0, -1, 2, 0, 1, 2])}, 'run from -1 to 2'),
    ({'test_y': np.array([0, 3, 1])}, '0 to 3, where with 3 classes'),
    ({'test_x': np.zeros((3, 4, 5), np.uint8)}, r'\(4, 4, 1\) and its test'),
    ({'train_y': np.array([None] * 6)}, 'plain arrays'),
    (
      {'test_x': np.zeros((0, 4, 4), np.uint8), 'test_y': np.zeros(0, int)},
      'test split .* 0 images and 0 labels',
    ),
    (
      {'train_x': np.zeros((0, 4, 4), np.uint8), 'train_y': np.zeros(0, int)},
      'train split .* 0 images and 0 labels',
    ),
  ],
)
def test_npz_errors(tmp_path, changes, match):
  raises(match, memory.load, write_npz(tmp_path, **changes))


def test_npz_that_is_missing_or_damaged(tmp_path):
  path = write_npz(tmp_path)
  raises('no such file', memory.load, str(tmp_path / 'other.npz'))
  with open(path, 'rb') as file:
    content = file.read()
  array = io.BytesIO()
  np.save(array, np.zeros(3))
  half = content[: len(content) // 2]
  for damaged in (b'', b'not a zip', half, array.getvalue()):
    with open(path, 'wb') as file:
      file.write(damaged)
    raises('not a whole .npz', memory.load, path)


@pytest.mark.parametrize('shape', [(5, 4, 3), (5, 4)])
def test_folder_is_read_in_the_order_of_names(tmp_path, shape):
  written = image_folder(tmp_path, shape)
  (tmp_path / 'train' / 'cat' / 'notes.txt').write_text('no image')
  (tmp_path / 'train' / '.hidden').mkdir()
  read = memory.load(str(tmp_path))
  expected = [
    written['train', kind, name] for kind in ('cat', 'dog') for name in '9b'
  ]
  assert read.train['image'].shape[1:] == (*shape, 1)[:3]
  np.testing.assert_array_equal(
    read.train['image'].reshape(4, *shape), np.stack(expected)
  )
  assert read.train['label'].tolist() == [0, 0, 1, 1]
  assert read.test['label'].tolist() == [0, 1]
  assert read.facts['num_classes'] == 2


def test_folder_reads_webp_and_bmp(tmp_path):
  image_folder(tmp_path)
  pixels = np.full((5, 4, 3), 7, np.uint8)
  for name in ('train/cat/c.webp', 'train/cat/d.bmp'):
    write_image(tmp_path / name, pixels)
  assert (memory.load(str(tmp_path)).train['image'][2:4] == 7).all()


def test_folder_reads_jpeg_and_drops_alpha(tmp_path):
  image_folder(tmp_path)
  write_image(tmp_path / 'train/cat/c.JPG', np.zeros((5, 4, 3), np.uint8))
  write_image(tmp_path / 'train/cat/d.jpeg', np.zeros((5, 4, 3), np.uint8))
  write_image(tmp_path / 'train/cat/e.png', np.full((5, 4, 4), 7, np.uint8))
  read = memory.load(str(tmp_path))
  assert read.train['image'].shape == (7, 5, 4, 3)
  assert (read.train['image'][4] == 7).all()


def test_folder_errors(tmp_path):
  raises('no train/CLASS folders', memory.load, str(tmp_path))
  image_folder(tmp_path)
  odd = tmp_path / 'train' / 'dog' / 'odd.png'
  for pixels, match in (
    (np.zeros((5, 5, 3), np.uint8), r'odd.png.*\(5, 5, 3\).*\(5, 4, 3\)'),
    (np.zeros((5, 4), np.uint8), r'odd.png.*\(5, 4, 1\)'),
    (np.zeros((5, 4), np.uint16), 'odd.png.*8 bits'),
  ):
    write_image(odd, pixels)
    raises(match, memory.load, str(tmp_path))
  odd.write_bytes(b'not an image')
  raises('odd.png.*not a whole image', memory.load, str(tmp_path))
  odd.unlink()
  (tmp_path / 'train' / 'eel').mkdir()
  raises('eel.*no .png', memory.load, str(tmp_path))
  (tmp_path / 'train' / 'eel').rmdir()
  write_image(tmp_path / 'test/fox/a.png', np.zeros((5, 4, 3), np.uint8))
  raises("test split has the classes .'fox'", memory.load, str(tmp_path))


def test_digits_are_those_of_sklearn():
  read = memory.load('digits')
  pixels, labels = datasets.load_digits(return_X_y=True)
  pixels = np.round(pixels * 255 / 16).reshape(-1, 8, 8, 1)
  test = np.arange(1797) % 5 == 0
  assert read.train['image'].shape == (1437, 8, 8, 1)
  assert read.test['image'].shape == (360, 8, 8, 1)
  assert read.train['image'].dtype == np.uint8
  assert (read.train['image'].min(), read.train['image'].max()) == (0, 255)
  np.testing.assert_array_equal(read.train['image'], pixels[~test])
  np.testing.assert_array_equal(read.test['image'], pixels[test])
  np.testing.assert_array_equal(read.train['label'], labels[~test])
  np.testing.assert_array_equal(read.test['label'], labels[test])
  np.testing.assert_array_equal(
    np.bincount(read.train['label']) + np.bincount(read.test['label']),
    [178, 182, 177, 183, 181, 182, 181, 179, 174, 180],
  )


def test_digits_need_no_tfds_and_write_nothing(tmp_path):
  program = """
import sys
from train.data.memory import load
assert len(load('digits').train['label']) == 1437
assert 'tensorflow_datasets' not in sys.modules
"""
  done = subprocess.run(
    [sys.executable, '-c', program],
    env={**os.environ, 'HOME': str(tmp_path), 'TFDS_DATA_DIR': str(tmp_path)},
    cwd=ROOT,
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  assert done.stdout == done.stderr == ''
  assert not os.listdir(tmp_path)
