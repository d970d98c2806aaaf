"""Sets as TFDS and others lay them out."""

import io

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from tests.image_folders import (
  ORDER,
  assert_same,
  cropped,
  noise,
  options,
  raises,
  taken,
  varied_folder,  # noqa: F401
  write,
  write_folder,
)
from train.data import folder, memory, stream
from train.data import open as data_open
from train.data import tfds as tfds_sets
from train.data.open import open_set

# -- Sets prepared by TFDS ----------------------------------------------------


class Blots(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """JPEGs of many shapes, with a mask that nobody asks for."""

  VERSION = tfds.core.Version('1.0.0')

  def _info(self):
    return tfds.core.DatasetInfo(
      builder=self,
      features=tfds.features.FeaturesDict(
        {
          'image': tfds.features.Image(encoding_format='jpeg'),
          'label': tfds.features.ClassLabel(num_classes=3),
          'mask': tfds.features.Image(shape=(None, None, 1)),
        }
      ),
      disable_shuffling=True,
    )

  def _split_generators(self, dl_manager):
    del dl_manager
    return {'train': self._generate_examples(6), 'validation': self._some(3)}

  def _some(self, count):
    return self._generate_examples(count)

  def _generate_examples(self, count):
    for number in range(count):
      file = io.BytesIO()
      pixels = noise(number, 9 + number, 20 - number)
      Image.fromarray(pixels).save(file, 'jpeg')
      broken = io.BytesIO(b'no image')
      file.seek(0)
      yield number, {'image': file, 'label': number % 3, 'mask': broken}


@pytest.fixture(scope='module')
def blots(tmp_path_factory):
  where = str(tmp_path_factory.mktemp('tfds'))
  tfds.disable_progress_bar()
  Blots(data_dir=where).download_and_prepare(file_format='array_record')
  return where


def test_a_set_of_tfds_is_streamed(blots):
  streamed = cropped('blots', dir=blots)
  assert (len(streamed.train), len(streamed.test)) == (6, 3)
  assert streamed.facts['num_classes'] == 3
  order = np.array([[5, 0], [2, 3]], np.int32)
  images, labels = taken(streamed.train_batches(order, 0, 0))
  assert images.shape == (2, 2, 6, 6, 3)
  np.testing.assert_array_equal(labels, order % 3)


def test_the_number_of_workers_does_not_matter(blots):
  order = np.array([[5, 0], [2, 3], [4, 1]], np.int32)
  alone, shared = (
    taken(cropped('blots', dir=blots, workers=count).train_batches(order, 0, 0))
    for count in (0, 2)
  )
  assert_same(shared, alone)


def test_a_small_set_of_many_shapes_is_kept_in_memory(blots, monkeypatch):
  section = options('blots', dir=blots, size=6)
  whole = open_set(section)
  assert isinstance(whole, memory.Dataset)
  assert whole.train['image'].shape == (6, 6, 6, 3)
  assert whole.test['label'].tolist() == [0, 1, 2]
  monkeypatch.setattr(data_open, '_IN_MEMORY', 9 * 6 * 6 * 3 - 1)
  streamed = open_set(section)
  assert isinstance(streamed, stream.Streamed)
  rows = np.arange(6).reshape(3, 2)
  images, _ = taken(streamed.train_batches(rows, 0, 0))
  np.testing.assert_array_equal(images, whole.train['image'][rows])


def test_many_shapes_need_a_size(blots, varied):
  raises('Give data.size', open_set, options('blots', dir=blots))
  asked = options('blots', dir=blots, stream=True)
  raises('None, None, 3', open_set, asked)
  raises('Give data.size', open_set, options(varied))
  streamed = open_set(options(varied, stream=True))
  message = raises('Give data.size', list, streamed.train_batches(ORDER, 0, 0))
  assert 'train/' in message


def test_the_splits_of_a_set():
  every = {'train', 'test', 'validation'}
  assert tfds_sets.splits_of('imagenet2012', every) == ('train', 'validation')
  assert tfds_sets.splits_of('oxford_flowers102', every) == ('train', 'test')
  some = {'train', 'validation'}
  assert tfds_sets.splits_of('imagenette', some) == ('train', 'validation')
  assert tfds_sets.splits_of('other', {'train'}) == ('train', 'test')


# -- Layouts of folders -------------------------------------------------------


def test_val_stands_for_test(tmp_path):
  write_folder(tmp_path, lambda number: (4, 4), 'png', test='val', each=1)
  found = folder.find(str(tmp_path))
  assert found.test.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4


@pytest.fixture
def tiny_imagenet(tmp_path):
  """The layout that the archive unpacks to, in small."""
  pixels = noise(0, 4, 4)
  for wnid in ('n2', 'n1'):
    for number in range(2):
      write(tmp_path / f'train/{wnid}/images/{wnid}_{number}.JPEG', pixels)
    (tmp_path / f'train/{wnid}/{wnid}_boxes.txt').write_text('')
  for number in range(3):
    write(tmp_path / f'val/images/val_{number}.JPEG', pixels)
    write(tmp_path / f'test/images/test_{number}.JPEG', pixels)
  lines = ['val_2.JPEG\tn1\t0\t0\t3\t3', 'val_0.JPEG\tn2\t0\t0\t3\t3']
  # As an editor of Windows may have saved it.
  text = '\ufeff' + '\r\n'.join(lines) + '\r\n'
  (tmp_path / 'val/val_annotations.txt').write_bytes(text.encode())
  return tmp_path


def test_tiny_imagenet_is_read_as_it_unpacks(tiny_imagenet):
  found = folder.find(str(tiny_imagenet))
  assert found.num_classes == 2
  names = [path.rpartition('/')[2] for path in found.train.paths]
  assert names == ['n1_0.JPEG', 'n1_1.JPEG', 'n2_0.JPEG', 'n2_1.JPEG']
  assert found.train.labels.tolist() == [0, 0, 1, 1]
  names = [path.rpartition('/')[2] for path in found.test.paths]
  assert names == ['val_0.JPEG', 'val_2.JPEG']
  assert found.test.labels.tolist() == [1, 0]


def test_a_damaged_layout_of_tiny_imagenet(tiny_imagenet):
  annotations = tiny_imagenet / 'val' / 'val_annotations.txt'
  for text, match in (
    ('val_1.JPEG\tn3\t0\t0\t3\t3\n', "class 'n3'"),
    ('val_9.JPEG\tn1\t0\t0\t3\t3\n', 'val_9.JPEG'),
    ('', 'It is empty'),
  ):
    annotations.write_text(text)
    raises(match, folder.find, str(tiny_imagenet))
  annotations.write_bytes('val_0.JPEG\tstraße'.encode('cp1252'))
  raises('no text in UTF-8', folder.find, str(tiny_imagenet))
  annotations.unlink()
  message = raises("classes .'images'", folder.find, str(tiny_imagenet))
  assert 'val_annotations.txt' in message
