"""Readers of people, from folders and zips; what neither set can be."""

import io
import json

import numpy as np
import pytest
from scipy import io as matlab

from tests.dense_files import (
  encoded,
  mpii_files,
  options_of,
  two_people,
  voc_files,
  write,
  zipped,
)
from train.checks import DataError
from train.data import dense, mpii
from train.data.open import open_set


@pytest.mark.parametrize('place', [write, zipped])
def test_mpii_in_a_folder_and_in_a_zip(tmp_path, place):
  split = mpii.find(place(tmp_path, mpii_files(two_people())), 'valid')
  assert len(split) == 2
  people = split.people
  # From 1-based to 0-based.
  np.testing.assert_allclose(people.joints[0, 3], [12, 25])
  np.testing.assert_array_equal(people.visible[0], np.arange(16) != 6)
  # The published code: 15 pixels a scale down, 1.25 times as large.
  np.testing.assert_allclose(people.center, [[32, 45], [32, 69]], rtol=1e-6)
  np.testing.assert_allclose(people.side, [100, 500], rtol=1e-6)
  np.testing.assert_allclose(people.head_size, 7.5)
  assert split.image(0).shape == split.image(1).shape == (4, 5, 3)


def test_the_heads_of_mpii(tmp_path):
  file = io.BytesIO()
  boxes = np.zeros((2, 2, 2))
  boxes[1] = [[3, 30], [4, 40]]
  matlab.savemat(file, {'headboxes_src': boxes})
  people = two_people()
  for person in people:
    del person['head_size']
  split = mpii.find(write(tmp_path / 'without', mpii_files(people)), 'valid')
  assert np.isnan(split.people.head_size).all()
  more = {'annot/gt_valid.mat': file.getvalue()}
  split = mpii.find(
    write(tmp_path / 'with', mpii_files(people, **more)), 'valid'
  )
  np.testing.assert_allclose(split.people.head_size, [3, 30], rtol=1e-6)
  files = mpii_files(people[:1], **more)
  with pytest.raises(DataError, match='has 2 heads'):
    mpii.find(write(tmp_path / 'other', files), 'valid')


@pytest.mark.parametrize(
  'changes',
  [
    {'joints': [[1, 2, 3]] * 16},
    {'joints_vis': [1]},
    {'scale': 'x'},
    {'center': [None, 1.0]},
    {'joints': [[None, None]] * 16},
  ],
)
def test_mpii_that_cannot_be_read(tmp_path, changes):
  path = write(tmp_path, mpii_files(two_people(**changes)))
  with pytest.raises(DataError, match='no list of people'):
    mpii.find(path, 'valid')


def test_joints_without_a_place_or_a_label(tmp_path):
  people = two_people()
  people[0]['joints'][6] = [None, None]
  found = mpii.find(write(tmp_path, mpii_files(people)), 'valid').people
  assert np.isfinite(found.joints).all() and not found.visible[0, 6]


def _two(people, others):
  files = mpii_files(others)
  files['annot/train.json'] = json.dumps(people).encode()
  return files


@pytest.mark.parametrize('size', [None, 8])
def test_people_that_cannot_be_scored(tmp_path, size):
  def opened(train, test):
    return open_set(options_of(write(tmp_path, _two(train, test)), size=size))

  some = two_people()
  some[1]['head_size'] = 0.0
  (note,) = opened(some, some).notes
  assert note.startswith('1 of 2 test people have no head_size')
  # In training nobody needs it.
  assert not opened(two_people(head_size=None), two_people()).notes
  with pytest.raises(DataError, match='Nobody in its test split'):
    opened(some, two_people(head_size=None))
  with pytest.raises(DataError, match="1 of 2 people.*'a.jpg'.*not above 0"):
    opened(two_people(scale=0.0), two_people())
  with pytest.raises(DataError, match='have 3 joints and its test people 16'):
    opened(two_people(joints=[[1, 2]] * 3, joints_vis=[1] * 3), two_people())


def test_people_as_rows(tmp_path):
  files = mpii_files(two_people())
  files['annot/train.json'] = files['annot/valid.json']
  dataset = dense.pose(write(tmp_path / 'a', files))
  assert dataset.image_shape == (4, 5, 3) and dataset.facts['joints'] == 16
  assert set(dataset.fields) == set(mpii.People._fields)
  assert dataset.train['visible'].shape == (2, 16)
  files['images/b.jpg'] = encoded(np.zeros((9, 9, 3), np.uint8), 'JPEG')
  with pytest.raises(DataError, match='They have 2 sizes.*Give data.size'):
    dense.pose(write(tmp_path / 'b', files))


def _crowd(tmp_path):
  """Two people of many pixels and of few, each joint a pixel of its colour."""
  people, files = [], {}
  for name, shape, scale in (
    ('a', (90, 70), 0.1),
    ('b', (40, 60), 0.3),
  ):
    rng = np.random.default_rng(len(people))
    joints = rng.integers(10, 30, (16, 2))
    pixels = np.zeros((*shape, 3), np.uint8)
    for number, (x, y) in enumerate(joints[:3]):
      pixels[y - 3 : y + 4, x - 3 : x + 4, number] = 255
    files[f'images/{name}.jpg'] = encoded(pixels, 'PNG')
    people.append({
      'image': f'{name}.jpg',
      'joints': (joints + 1.0).tolist(),
      'joints_vis': [1] * 16,
      'center': [21.0, 21.0 - 15 * scale],
      'scale': scale,
      'head_size': 8.0,
    })  # fmt: skip
  for split in ('train', 'valid'):
    files[f'annot/{split}.json'] = json.dumps(people).encode()
  return write(tmp_path, files)


def test_people_are_cut_out_of_images_of_many_sizes(tmp_path):
  path = _crowd(tmp_path)
  with pytest.raises(DataError, match='They have 2 sizes'):
    open_set(options_of(path))
  dataset = open_set(options_of(path, size=32))
  assert dataset.image_shape == (32, 32, 3)
  side = dataset.row_shape[0]
  assert 32 * 1.25 * 2**0.5 <= side < 32 * 1.25 * 2**0.5 + 1
  assert dataset.facts == {'joints': 16, 'joint_names': mpii.JOINTS}
  assert dataset.num_examples == 2
  (rows,) = dataset.train_batches(np.array([[1, 0]]), 0, 0)
  assert rows['image'].shape == (2, side, side, 3)
  # The box lies in the middle, with what training can reach around it.
  np.testing.assert_allclose(rows['center'], (side - 1) / 2, atol=1)
  np.testing.assert_allclose(rows['side'], 32, rtol=0.05)
  before = mpii.find(path, 'train').people
  factor = rows['side'] / before.side[[1, 0]]
  np.testing.assert_allclose(rows['head_size'], 8 * factor, rtol=1e-6)
  distances = lambda x: np.linalg.norm(x[:, 1:] - x[:, :-1], axis=-1)
  np.testing.assert_allclose(
    distances(rows['joints']),
    distances(before.joints[[1, 0]]) * factor[:, None],
    rtol=1e-4,
  )
  # The first joints are still in the middle of what shows them.
  grid = np.arange(side)
  for pixels, joints in zip(rows['image'], rows['joints'], strict=True):
    for number in range(3):
      shown = pixels[..., number].astype(np.float64)
      middle = [np.average(grid, weights=shown.sum(axis)) for axis in (0, 1)]
      np.testing.assert_allclose(joints[number], middle, atol=0.1)


@pytest.mark.parametrize(
  ('layout', 'changes', 'message'),
  [
    ('voc', {'size': 8}, 'Leave out data.size, and give segmentation.crop'),
    ('mpii', {'stream': True}, 'Give data.size, or leave out data.stream'),
    ('mpii', {'size': 8, 'crop': 'inception'}, 'Leave out data.crop'),
    ('mpii', {'stream': False, 'size': 8}, 'Leave out data.stream'),
    ('mpii', {'size': 8, 'first': (1, 1)}, 'Leave out data.first'),
    ('voc', {'stream': True, 'validation': 1}, 'Leave out data.validation'),
  ],
)
def test_how_masks_and_people_cannot_be_read(
  tmp_path, layout, changes, message
):
  path = write(tmp_path, voc_files()) if layout == 'voc' else _crowd(tmp_path)
  with pytest.raises(DataError, match=message):
    open_set(options_of(path, **changes))
