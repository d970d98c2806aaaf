"""Streamed sets: the same batches as from memory, whoever reads them."""

import io
import pathlib
import shutil
import types

import jax
import numpy as np
import pytest
from PIL import Image

from tests.image_folders import (
  ORDER,
  assert_same,
  cropped,
  noise,
  options,
  raises,
  same_folder,  # noqa: F401
  taken,
  varied_folder,  # noqa: F401
  write,
  write_folder,
)
from train import config as train_config
from train.data import crop, folder, image, memory
from train.data.open import open_set
from train.engine import feed
from train.parallel import devices
from train.tasks import Field

FIELDS = {'label': Field((), 'int32', 0)}


# -- What a batch holds -------------------------------------------------------


def test_batches_are_those_of_the_order(same):
  whole = memory.load(same)
  streamed = open_set(options(same, stream=True))
  images, labels = taken(streamed.train_batches(ORDER, 0, 0))
  assert images.dtype == np.uint8 and labels.dtype == np.int32
  np.testing.assert_array_equal(images, whole.train['image'][ORDER])
  np.testing.assert_array_equal(labels, whole.train['label'][ORDER])
  rows = ORDER[:2] % 12
  images, labels = taken(streamed.test_batches(rows))
  np.testing.assert_array_equal(images, whole.test['image'][rows])
  np.testing.assert_array_equal(labels, whole.test['label'][rows])
  assert streamed.num_examples == whole.num_examples == 24
  assert streamed.image_shape == whole.image_shape
  assert streamed.facts['num_classes'] == whole.facts['num_classes']
  np.testing.assert_array_equal(streamed.sample(), whole.sample())


def test_one_class_is_refused_before_it_is_read(same, tmp_path):
  for split in ('train', 'test'):
    shutil.copytree(pathlib.Path(same, split, 'ant'), tmp_path / split / 'ant')
  raises('all of one class', lambda: cropped(str(tmp_path)))


def test_a_crop_follows_from_seed_epoch_and_id_alone(varied):
  whole = cropped(varied)
  images, _ = taken(whole.train_batches(ORDER, 1, 2))
  assert images.shape == (4, 6, 6, 6, 3)
  # Wherever in the epoch the examples are met, and in whichever company.
  turned, _ = taken(whole.train_batches(ORDER[::-1, ::2], 1, 2))
  np.testing.assert_array_equal(turned, images[::-1, ::2])
  for seed, epoch in ((1, 3), (3, 2), (2, 1)):
    other, _ = taken(whole.train_batches(ORDER, seed, epoch))
    differ = np.any(other != images, axis=(2, 3, 4))
    assert differ.mean() > 0.9
  # Of another draw for each example.
  number = int(ORDER[0, 0])
  large, _ = taken(cropped(varied, crop_area=0.6).train_batches(ORDER, 1, 2))
  for least, found in ((0.08, images), (0.6, large)):
    generator = np.random.default_rng((1, 1, 2, number))
    with Image.open(whole.train.paths[number]) as opened:
      shape = opened.height, opened.width
      box = crop.draw_box(generator, shape, (least, 1.0), (3 / 4, 4 / 3))
      np.testing.assert_array_equal(found[0, 0], crop.cut(opened, box, 6))


def test_test_images_are_the_middle(varied, tmp_path):
  pixels = noise(0, 16, 48)
  for place in ('train/ant', 'train/bee', 'test/ant'):
    write(tmp_path / place / 'a.png', pixels)
  row = np.zeros((1, 1), np.int32)
  sides = {'none': 16, 'inception': 14}  # 224 of 256
  for kind, side in sides.items():
    opened = open_set(options(str(tmp_path), size=side, crop=kind, stream=True))
    found = next(opened.test_batches(row))['image']
    left, top = (48 - side) // 2, (16 - side) // 2
    np.testing.assert_array_equal(
      found[0], pixels[top : top + side, left : left + side]
    )
  # Squashed to 16 by 16, as the whole image has 16 rows: 14 of 16 each way.
  opened = open_set(
    options(str(tmp_path), size=14, crop='inception', test_crop='squash')
  )
  found = next(opened.test_batches(row))['image'][0].astype(int)
  square = Image.fromarray(pixels).resize((16, 16), Image.Resampling.BILINEAR)
  middle = np.asarray(square).astype(int)[1:15, 1:15]
  # But for the columns at the edge, which are means over what was cut off too.
  assert np.abs(found - middle)[:, 1:-1].max() <= 1
  # Twice the same, whatever the crops of the training are.
  one = cropped(varied)
  rows = ORDER % 12
  assert_same(taken(one.test_batches(rows)), taken(one.test_batches(rows)))


def test_grey_and_other_images_are_read_as_colour(tmp_path):
  for split in ('train', 'test'):
    for name, mode in (('a', 'L'), ('b', 'RGBA'), ('c', 'P'), ('d', 'CMYK')):
      kind = 'ant' if name < 'c' else 'bee'
      suffix = 'jpg' if name == 'd' else 'png'
      path = tmp_path / split / kind / f'{name}.{suffix}'
      path.parent.mkdir(parents=True, exist_ok=True)
      Image.fromarray(np.full((8, 9, 3), 100, np.uint8)).convert(mode).save(
        path
      )
  dataset = open_set(options(str(tmp_path), size=8))
  assert dataset.train['image'].shape == (4, 8, 8, 3)
  assert np.all(np.abs(dataset.train['image'].astype(int) - 100) <= 3)


def test_a_large_jpeg_is_decoded_to_fewer_pixels():
  # A ramp, so that a rectangle which is misplaced has another brightness.
  ramp = np.add.outer(np.arange(320), np.arange(480)) * 255 // 800
  file = io.BytesIO()
  Image.fromarray(ramp.astype(np.uint8)).convert('RGB').save(file, 'jpeg')
  box = (200, 100, 170, 130)
  with Image.open(io.BytesIO(file.getvalue())) as opened:
    found = crop.cut(opened, box, 16)
    assert opened.size == (60, 40)
  with Image.open(io.BytesIO(file.getvalue())) as opened:
    opened.load()
    expected = crop.cut(opened, box, 16)
    assert opened.size == (480, 320)
  assert np.abs(found.astype(int) - expected.astype(int)).max() <= 4


# -- Who reads it -------------------------------------------------------------


class Half(devices.Devices):
  """The devices of one of two processes, without a mesh."""

  process = 0

  def own_rows(self, size):
    return np.arange(size).reshape(2, -1)[self.process]


def test_two_processes_read_their_columns_of_the_batch(varied):
  streamed = cropped(varied)
  images, labels = taken(streamed.train_batches(ORDER, 0, 0))
  for process in range(2):
    own = slice(3 * process, 3 * process + 3)
    half = Half()
    half.process = process
    fed = feed.PrefetchingFeed(streamed, FIELDS, half).train(ORDER, 0, 0)
    assert_same(taken(fed), (images[:, own], labels[:, own]))


def test_reading_goes_on_at_any_position(varied):
  images, labels = taken(cropped(varied).train_batches(ORDER, 0, 0))
  rest = taken(cropped(varied).train_batches(ORDER[2:], 0, 0))
  assert_same(rest, (images[2:], labels[2:]))


def test_batches_are_on_the_device_ahead(same):
  streamed = open_set(options(same, stream=True))
  fed = feed.make(streamed, FIELDS).train(ORDER, 0, 0)
  first = next(fed)
  assert all(isinstance(x, jax.Array) for x in first.values())
  assert len(list(fed)) == len(ORDER) - 1


# -- Errors -------------------------------------------------------------------


@pytest.mark.parametrize(
  ('changes', 'match'),
  [
    ({'crop': 'inception'}, 'no data.size'),
    ({'crop': 'inception', 'size': 6, 'stream': False}, 'data.stream=False'),
    ({'name': 'a.npz', 'stream': True}, 'An .npz file'),
    ({'name': 'a.npz', 'size': 6}, 'An .npz file'),
    ({'size': 6, 'crop_area': 0.5}, 'leave out data.crop_area'),
    ({'size': 6, 'test_crop': 'squash'}, 'leave out data.test_crop'),
  ],
)
def test_what_cannot_be_asked(changes, match, varied):
  raises(match, open_set, options(**{'name': varied} | changes))


@pytest.mark.parametrize(
  ('changes', 'match'),
  [
    ({'crop': 'inceptoin', 'size': 6}, "Did you mean 'inception'"),
    ({'crop_area': 0.0, 'crop': 'inception', 'size': 6}, 'above 0'),
    ({'test_crop': 'squashed', 'size': 6}, "Did you mean 'squash'"),
    ({'size': 0}, 'data.size=0'),
    ({'workers': -1}, 'data.workers=-1'),
  ],
)
def test_values_that_are_none(changes, match, varied):
  with pytest.raises(train_config.ConfigError, match=match):
    open_set(options(varied, **changes))


@pytest.mark.parametrize('workers', [0, 1])
def test_a_damaged_file_is_named(workers, tmp_path):
  write_folder(tmp_path, lambda number: (9, 9), 'png', each=2)
  path = tmp_path / 'train' / 'cat' / '1.png'
  path.write_bytes(path.read_bytes()[:100])
  streamed = cropped(str(tmp_path), workers=workers)
  rows = np.array([[0, 1], [4, 5]])
  raises('train/cat/1.png', list, streamed.train_batches(rows, 0, 0))


def test_a_label_beyond_the_classes(same):
  streamed = open_set(options(same, stream=True))
  files = folder.Files(streamed.test.paths, streamed.test.labels + 1)
  batches = streamed._replace(test=files).test_batches(ORDER % 12)
  raises('Its label is 3', list, batches)


def test_what_has_two_or_four_channels(monkeypatch):
  found = types.SimpleNamespace(
    records=lambda: ([], []), shape=(8, 8, 4), num_classes=2
  )
  monkeypatch.setattr(memory, 'find', lambda name, where: found)
  raises('1 or 3', open_set, options('any', stream=True))


def test_an_image_of_more_bits_is_refused():
  file = io.BytesIO()
  Image.fromarray(np.zeros((4, 4), np.uint16)).save(file, 'png')
  raises('8 bits', image.read, file.getvalue(), 'it')
