"""Readers of masks, from folders and zips."""

import pickle

import numpy as np
import pytest

from tests.dense_files import (
  MASK,
  encoded,
  options_of,
  voc_files,
  write,
  zipped,
)
from train.checks import DataError
from train.data import dense, mpii, voc
from train.data import open as train_open
from train.data.memory import Dataset
from train.data.open import open_set
from train.tasks import segmentation


@pytest.mark.parametrize('place', [write, zipped])
@pytest.mark.parametrize('top', ['', 'VOCdevkit/VOC2012/'])
def test_voc_in_a_folder_and_in_a_zip(tmp_path, place, top):
  path = place(tmp_path, voc_files(top))
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
  path = write(tmp_path, voc_files(masks=masks))
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
      {'SegmentationClass/a.png': encoded(MASK[:1], 'PNG')},
      'val',
      'has 3x1 pixels, and its image 3x2',
    ),
    (
      {
        'SegmentationClass/a.png': encoded(np.zeros((2, 3, 3), np.uint8), 'PNG')
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
      {'SegmentationClass/a.png': encoded(MASK + 1, 'PNG')},
      'val',
      'a.png.*the value 21, and the classes are 0 to 20',
    ),
  ],
)
def test_voc_that_cannot_be_read(tmp_path, changes, split, message):
  path = write(tmp_path, {**voc_files(), **changes})
  with pytest.raises(DataError, match=message):
    voc.find(path, split)[0]


@pytest.mark.parametrize('place', [write, zipped])
def test_voc_of_other_files_than_the_original(tmp_path, place):
  files = voc_files()
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
  files = voc_files()
  binary = np.where(MASK > 0, 255, 0).astype(np.uint8)
  for name in 'ab':
    files[f'SegmentationClass/{name}.png'] = encoded(binary, 'PNG')
  dataset = open_set(options_of(write(tmp_path, files), stream=stream))
  assert 'training masks show one class, 0 (background)' in dataset.notes[0]
  assert 'write 1 for 255' in dataset.notes[0]
  assert not open_set(
    options_of(write(tmp_path, voc_files()), stream=stream)
  ).notes


def test_masks_without_labels_are_refused(tmp_path):
  files = voc_files()
  files['SegmentationClass/a.png'] = encoded(np.full_like(MASK, 255), 'PNG')
  path = write(tmp_path, files)
  with pytest.raises(DataError, match='its test split, of 1 images, every pix'):
    open_set(options_of(path))


def test_a_broken_list_is_not_passed_over(tmp_path):
  files = voc_files()
  files['ImageSets/Segmentation/train_aug.txt'] = b'a.jpg a.png'
  with pytest.raises(DataError, match='train_aug.*one name in each line'):
    dense.segmentation(write(tmp_path, files))


def test_no_layout_at_all(tmp_path):
  with pytest.raises(DataError, match='no ImageSets/Segmentation'):
    voc.find(str(tmp_path), 'val')
  with pytest.raises(DataError, match='no annot/valid.json'):
    mpii.find(str(tmp_path), 'valid')
  (tmp_path / 'broken.zip').write_bytes(b'PK')
  with pytest.raises(DataError, match='not a whole zip'):
    voc.find(str(tmp_path / 'broken.zip'), 'val')


def test_images_of_many_sizes_in_one_array(tmp_path):
  files = voc_files()
  wide = np.full((1, 5, 3), 200, np.uint8)
  files['JPEGImages/c.jpg'] = encoded(wide, 'JPEG')
  files['SegmentationClass/c.png'] = encoded(wide[..., 0] // 50, 'PNG')
  files['ImageSets/Segmentation/val.txt'] = b'c\n'
  dataset = dense.segmentation(write(tmp_path, files))
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
  files = voc_files()
  files['ImageSets/Segmentation/train_aug.txt'] = b'a\nb\na\n'
  path = write(tmp_path, files)
  assert dense.segmentation(path).num_examples == 3
  assert dense.segmentation(path, 'train').num_examples == 2


def _files_of_two_sizes():
  files = voc_files()
  wide = np.full((1, 5, 3), 200, np.uint8)
  files['JPEGImages/c.jpg'] = encoded(wide, 'JPEG')
  files['SegmentationClass/c.png'] = encoded(wide[..., 0] // 50, 'PNG')
  files['ImageSets/Segmentation/val.txt'] = b'c\n'
  return files


@pytest.mark.parametrize('place', [write, zipped])
def test_masks_are_streamed_as_they_are_in_memory(tmp_path, place):
  path = place(tmp_path, _files_of_two_sizes())
  whole = open_set(options_of(path))
  streamed = open_set(options_of(path, stream=True))
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
  path = write(tmp_path, voc_files())
  assert isinstance(open_set(options_of(path)), Dataset)
  # Two images of the one list and one of the other, of 2x3 pixels.
  monkeypatch.setattr(train_open, '_IN_MEMORY', 3 * 18 - 1)
  assert not isinstance(open_set(options_of(path)), Dataset)
  for changes in ({'stream': False}, {'first': (1, 1)}):
    assert isinstance(open_set(options_of(path, **changes)), Dataset)


def test_a_stream_is_another_one_where_a_file_is(tmp_path):
  files = voc_files()
  first = open_set(options_of(write(tmp_path, files), stream=True)).digest()
  assert open_set(options_of(str(tmp_path), stream=True)).digest() == first
  files['SegmentationClass/a.png'] = encoded(MASK[:, ::-1].copy(), 'PNG')
  other = open_set(options_of(write(tmp_path, files), stream=True)).digest()
  assert other != first
