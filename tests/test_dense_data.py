"""Readers of masks and of people, from folders and zips."""

import io
import json
import os
import pickle
import zipfile

import numpy as np
import pytest
from PIL import Image
from scipy import io as matlab

from train import config as train_config
from train.checks import DataError
from train.data import dense, mpii, voc
from train.data import open as train_open
from train.data.memory import Dataset
from train.data.open import open_set
from train.tasks import segmentation

MASK = np.array([[0, 1, 20], [255, 5, 0]], np.uint8)


def _encoded(pixels, kind, palette=False):
  image = Image.fromarray(pixels)
  if palette:  # Colours that say nothing of the class.
    image = Image.frombytes('P', image.size, pixels.tobytes())
    image.putpalette([(7 * i) % 256 for i in range(768)])
  file = io.BytesIO()
  image.save(file, kind)
  return file.getvalue()


def _write(folder, files):
  for name, content in files.items():
    path = os.path.join(folder, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, 'wb') as file:
      file.write(content)
  return str(folder)


def _zipped(folder, files):
  path = os.path.join(folder, 'all.zip')
  with zipfile.ZipFile(path, 'w') as archive:
    for name, content in files.items():
      archive.writestr(name, content)
  return path


def _voc(top='', masks=('SegmentationClass',)):
  image = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
  grey = np.full((2, 3), 90, np.uint8)
  files = {
    'ImageSets/Segmentation/train.txt': b'b\na\n',
    'ImageSets/Segmentation/val.txt': b'a\n\n',
    'JPEGImages/a.jpg': _encoded(image, 'JPEG'),
    'JPEGImages/b.jpg': _encoded(grey, 'JPEG'),
  }
  for number, folder in enumerate(masks):
    shifted = MASK.copy()
    shifted[0, 0] = number
    files[f'{folder}/a.png'] = _encoded(shifted, 'PNG', palette=number == 0)
    files[f'{folder}/b.png'] = _encoded(shifted[::-1].copy(), 'PNG')
  return {top + name: content for name, content in files.items()}


def _people(**changes):
  joints = [[10.0 + i, 20.0 + 2 * i] for i in range(16)]
  joints[6] = [-1.0, -1.0]
  person = {
    'image': 'a.jpg',
    'joints': joints,
    'joints_vis': [int(i != 6) for i in range(16)],
    'center': [33.0, 40.0],
    'scale': 0.4,
    'head_size': 7.5,
    **changes,
  }
  return [person, {**person, 'scale': 2.0, 'image': 'b.jpg'}]


def _mpii(people, **more):
  image = np.full((4, 5, 3), 9, np.uint8)
  return {
    'annot/valid.json': json.dumps(people).encode(),
    'images/a.jpg': _encoded(image, 'JPEG'),
    'images/b.jpg': _encoded(image[..., 0], 'JPEG'),
    **more,
  }


@pytest.mark.parametrize('place', [_write, _zipped])
@pytest.mark.parametrize('top', ['', 'VOCdevkit/VOC2012/'])
def test_voc_in_a_folder_and_in_a_zip(tmp_path, place, top):
  path = place(tmp_path, _voc(top))
  split = voc.find(path, 'train')
  assert len(split) == 2 and split.names == ['b', 'a']
  # In another process the zip is opened again.
  split = pickle.loads(pickle.dumps(split))
  image, mask = split[1]
  assert image.shape == (2, 3, 3) and image.dtype == np.uint8
  np.testing.assert_array_equal(mask, MASK)
  image, mask = split[0]  # Grey, and made three channels.
  assert image.shape == (2, 3, 3)
  np.testing.assert_array_equal(mask, MASK[::-1])
  assert voc.find(path, 'val').names == ['a']


def test_voc_prefers_the_augmented_masks(tmp_path):
  masks = 'SegmentationClass', 'SegmentationClassAug'
  path = _write(tmp_path, _voc(masks=masks))
  assert voc.find(path, 'val')[0].mask[0, 0] == 1
  chosen = voc.find(path, 'val', masks='SegmentationClass')
  assert chosen[0].mask[0, 0] == 0


@pytest.mark.parametrize(
  ('changes', 'split', 'message'),
  [
    ({'ImageSets/Segmentation/val.txt': b'x y\n'}, 'val', 'one name in each'),
    ({}, 'trainaug', 'There is no ImageSets/Segmentation/trainaug.txt'),
    ({'SegmentationClass/a.png': b'x'}, 'val', 'not a whole image'),
    (
      {'SegmentationClass/a.png': _encoded(MASK[:1], 'PNG')},
      'val',
      'has 3x1 pixels, and its image 3x2',
    ),
    (
      {
        'SegmentationClass/a.png': _encoded(
          np.zeros((2, 3, 3), np.uint8), 'PNG'
        )
      },
      'val',
      'Its mode is RGB',
    ),
    ({'ImageSets/Segmentation/val.txt': b'c\n'}, 'val', 'no such file'),
    (
      {'ImageSets/Segmentation/val.txt': 'straße'.encode('cp1252')},
      'val',
      'no text in UTF-8',
    ),
    (
      {'SegmentationClass/a.png': _encoded(MASK + 1, 'PNG')},
      'val',
      'a.png.*the value 21, and the classes are 0 to 20',
    ),
  ],
)
def test_voc_that_cannot_be_read(tmp_path, changes, split, message):
  path = _write(tmp_path, {**_voc(), **changes})
  with pytest.raises(DataError, match=message):
    voc.find(path, split)[0]


@pytest.mark.parametrize('place', [_write, _zipped])
def test_voc_of_other_files_than_the_original(tmp_path, place):
  files = _voc()
  files['ImageSets/Segmentation/val.txt'] = b'\xef\xbb\xbfmy a\r\nb'
  files['JPEGImages/my a.JPG'] = files['JPEGImages/a.jpg']
  files['JPEGImages/b.png'] = files.pop('JPEGImages/b.jpg')
  files['SegmentationClass/my a.PNG'] = files['SegmentationClass/a.png']
  split = voc.find(place(tmp_path, files), 'val')
  assert split.names == ['my a', 'b']
  np.testing.assert_array_equal(split[0].mask, MASK)
  assert split[1].image.shape == (2, 3, 3)


@pytest.mark.parametrize('stream', [False, True])
def test_masks_of_0_and_255_are_noted(tmp_path, stream):
  files = _voc()
  binary = np.where(MASK > 0, 255, 0).astype(np.uint8)
  for name in 'ab':
    files[f'SegmentationClass/{name}.png'] = _encoded(binary, 'PNG')
  dataset = open_set(_options(_write(tmp_path, files), stream=stream))
  assert 'training masks show one class, 0 (background)' in dataset.notes[0]
  assert 'write 1 for 255' in dataset.notes[0]
  assert not open_set(_options(_write(tmp_path, _voc()), stream=stream)).notes


def test_masks_without_labels_are_refused(tmp_path):
  files = _voc()
  files['SegmentationClass/a.png'] = _encoded(np.full_like(MASK, 255), 'PNG')
  path = _write(tmp_path, files)
  with pytest.raises(DataError, match='its test split, of 1 images, every pix'):
    open_set(_options(path))


def test_a_broken_list_is_not_passed_over(tmp_path):
  files = _voc()
  files['ImageSets/Segmentation/train_aug.txt'] = b'a.jpg a.png'
  with pytest.raises(DataError, match='train_aug.*one name in each line'):
    dense.segmentation(_write(tmp_path, files))


def test_no_layout_at_all(tmp_path):
  with pytest.raises(DataError, match='no ImageSets/Segmentation'):
    voc.find(str(tmp_path), 'val')
  with pytest.raises(DataError, match='no annot/valid.json'):
    mpii.find(str(tmp_path), 'valid')
  (tmp_path / 'broken.zip').write_bytes(b'PK')
  with pytest.raises(DataError, match='not a whole zip'):
    voc.find(str(tmp_path / 'broken.zip'), 'val')


@pytest.mark.parametrize('place', [_write, _zipped])
def test_mpii_in_a_folder_and_in_a_zip(tmp_path, place):
  split = mpii.find(place(tmp_path, _mpii(_people())), 'valid')
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
  people = _people()
  for person in people:
    del person['head_size']
  split = mpii.find(_write(tmp_path / 'without', _mpii(people)), 'valid')
  assert np.isnan(split.people.head_size).all()
  more = {'annot/gt_valid.mat': file.getvalue()}
  split = mpii.find(_write(tmp_path / 'with', _mpii(people, **more)), 'valid')
  np.testing.assert_allclose(split.people.head_size, [3, 30], rtol=1e-6)
  files = _mpii(people[:1], **more)
  with pytest.raises(DataError, match='has 2 heads'):
    mpii.find(_write(tmp_path / 'other', files), 'valid')


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
  path = _write(tmp_path, _mpii(_people(**changes)))
  with pytest.raises(DataError, match='no list of people'):
    mpii.find(path, 'valid')


def test_joints_without_a_place_or_a_label(tmp_path):
  people = _people()
  people[0]['joints'][6] = [None, None]
  found = mpii.find(_write(tmp_path, _mpii(people)), 'valid').people
  assert np.isfinite(found.joints).all() and not found.visible[0, 6]


def _two(people, others):
  files = _mpii(others)
  files['annot/train.json'] = json.dumps(people).encode()
  return files


@pytest.mark.parametrize('size', [None, 8])
def test_people_that_cannot_be_scored(tmp_path, size):
  def opened(train, test):
    return open_set(_options(_write(tmp_path, _two(train, test)), size=size))

  some = _people()
  some[1]['head_size'] = 0.0
  (note,) = opened(some, some).notes
  assert note.startswith('1 of 2 test people have no head_size')
  # In training nobody needs it.
  assert not opened(_people(head_size=None), _people()).notes
  with pytest.raises(DataError, match='Nobody in its test split'):
    opened(some, _people(head_size=None))
  with pytest.raises(DataError, match="1 of 2 people.*'a.jpg'.*not above 0"):
    opened(_people(scale=0.0), _people())
  with pytest.raises(DataError, match='have 3 joints and its test people 16'):
    opened(_people(joints=[[1, 2]] * 3, joints_vis=[1] * 3), _people())


def test_images_of_many_sizes_in_one_array(tmp_path):
  files = _voc()
  wide = np.full((1, 5, 3), 200, np.uint8)
  files['JPEGImages/c.jpg'] = _encoded(wide, 'JPEG')
  files['SegmentationClass/c.png'] = _encoded(wide[..., 0] // 50, 'PNG')
  files['ImageSets/Segmentation/val.txt'] = b'c\n'
  dataset = dense.segmentation(_write(tmp_path, files))
  assert dataset.fields == ('mask', 'extent')
  assert dataset.image_shape == (2, 5, 3)
  assert dataset.num_examples == 2 and dataset.num_tested == 1
  assert dataset.facts['num_classes'] == 21
  np.testing.assert_array_equal(dataset.train['extent'], [[3, 2]] * 2)
  np.testing.assert_array_equal(dataset.test['extent'], [[5, 1]])
  np.testing.assert_array_equal(dataset.train['mask'][1, :, :3], MASK)
  np.testing.assert_array_equal(dataset.train['mask'][:, :, 3:], 255)
  np.testing.assert_array_equal(dataset.test['mask'][0, 0], 4)
  np.testing.assert_array_equal(dataset.test['mask'][0, 1], 255)
  # The rest has the mean colour of the training images.
  inside = dataset.train['image'][:, :, :3].reshape(-1, 3)
  for rest in (dataset.train['image'][:, :, 3:], dataset.test['image'][:, 1]):
    assert len(np.unique(rest.reshape(-1, 3), axis=0)) == 1
    np.testing.assert_allclose(rest.reshape(-1, 3)[0], inside.mean(0), atol=0.6)
  # As a trained model lays the image of a file into its array.
  files = segmentation.row(dataset).files
  image = voc.find(str(tmp_path), 'val')[0].image
  view = files.view(image, 'c.jpg', dataset.image_shape, {'resize': False})
  np.testing.assert_array_equal(view.row['image'], dataset.test['image'][0])


def test_the_augmented_split_is_the_default(tmp_path):
  files = _voc()
  files['ImageSets/Segmentation/train_aug.txt'] = b'a\nb\na\n'
  path = _write(tmp_path, files)
  assert dense.segmentation(path).num_examples == 3
  assert dense.segmentation(path, 'train').num_examples == 2


def test_people_as_rows(tmp_path):
  files = _mpii(_people())
  files['annot/train.json'] = files['annot/valid.json']
  dataset = dense.pose(_write(tmp_path / 'a', files))
  assert dataset.image_shape == (4, 5, 3) and dataset.facts['joints'] == 16
  assert set(dataset.fields) == set(mpii.People._fields)
  assert dataset.train['visible'].shape == (2, 16)
  files['images/b.jpg'] = _encoded(np.zeros((9, 9, 3), np.uint8), 'JPEG')
  with pytest.raises(DataError, match='They have 2 sizes.*Give data.size'):
    dense.pose(_write(tmp_path / 'b', files))


def _options(path, **changes):
  options = train_config.default().data
  options.name = path
  options.update(changes)
  return options


def _files_of_two_sizes():
  files = _voc()
  wide = np.full((1, 5, 3), 200, np.uint8)
  files['JPEGImages/c.jpg'] = _encoded(wide, 'JPEG')
  files['SegmentationClass/c.png'] = _encoded(wide[..., 0] // 50, 'PNG')
  files['ImageSets/Segmentation/val.txt'] = b'c\n'
  return files


@pytest.mark.parametrize('place', [_write, _zipped])
def test_masks_are_streamed_as_they_are_in_memory(tmp_path, place):
  path = place(tmp_path, _files_of_two_sizes())
  whole = open_set(_options(path))
  streamed = open_set(_options(path, stream=True))
  assert isinstance(whole, Dataset) and not isinstance(streamed, Dataset)
  for name in ('image_shape', 'fields', 'num_examples', 'num_tested', 'facts'):
    assert getattr(streamed, name) == getattr(whole, name), name
  assert streamed.values('mask') is None
  order = np.array([[1, 0], [0, 0]], np.int32)
  for ids, rows in zip(order, streamed.train_batches(order, 0, 0), strict=True):
    assert rows.keys() == whole.train.keys()
    for name, found in rows.items():
      np.testing.assert_array_equal(found, whole.train[name][ids], name)
  (rows,) = streamed.test_batches(np.zeros((1, 1), np.int32))
  np.testing.assert_array_equal(rows['mask'], whole.test['mask'])


def test_large_sets_of_masks_are_streamed(tmp_path, monkeypatch):
  path = _write(tmp_path, _voc())
  assert isinstance(open_set(_options(path)), Dataset)
  # Two images of the one list and one of the other, of 2x3 pixels.
  monkeypatch.setattr(train_open, '_IN_MEMORY', 3 * 18 - 1)
  assert not isinstance(open_set(_options(path)), Dataset)
  for changes in ({'stream': False}, {'first': (1, 1)}):
    assert isinstance(open_set(_options(path, **changes)), Dataset)


def test_a_stream_is_another_one_where_a_file_is(tmp_path):
  files = _voc()
  first = open_set(_options(_write(tmp_path, files), stream=True)).digest()
  assert open_set(_options(str(tmp_path), stream=True)).digest() == first
  files['SegmentationClass/a.png'] = _encoded(MASK[:, ::-1].copy(), 'PNG')
  other = open_set(_options(_write(tmp_path, files), stream=True)).digest()
  assert other != first


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
    files[f'images/{name}.jpg'] = _encoded(pixels, 'PNG')
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
  return _write(tmp_path, files)


def test_people_are_cut_out_of_images_of_many_sizes(tmp_path):
  path = _crowd(tmp_path)
  with pytest.raises(DataError, match='They have 2 sizes'):
    open_set(_options(path))
  dataset = open_set(_options(path, size=32))
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
  path = _write(tmp_path, _voc()) if layout == 'voc' else _crowd(tmp_path)
  with pytest.raises(DataError, match=message):
    open_set(_options(path, **changes))
