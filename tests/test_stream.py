"""Streamed sets: the same batches as from memory, whoever reads them."""

import io
import itertools
import types

import jax
import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from tests import driving, test_checkpoint
from tests.test_program import records, tiny
from train import config as train_config
from train import run as one_run
from train.checks import DataError
from train.data import crop, folder, image, memory, stream
from train.data import open as data_open
from train.data import tfds as tfds_sets
from train.data.open import open_set
from train.engine import feed, loop
from train.parallel import devices
from train.tasks import Field

CLASSES = ('ant', 'bee', 'cat')
FIELDS = {'label': Field((), 'int32', 0)}


# Optax's cosine schedule divides an integer by a number.
@pytest.fixture(autouse=True)
def _standard_promotion(standard_promotion):
  yield


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


@pytest.fixture(scope='module')
def same(tmp_path_factory):
  """A folder of 24 and 12 images of one shape, stored without loss."""
  root = tmp_path_factory.mktemp('same')
  return write_folder(root, lambda number: (8, 8), 'png')


@pytest.fixture(scope='module')
def varied(tmp_path_factory):
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


ORDER = np.random.default_rng(0).permutation(24).reshape(4, 6).astype(np.int32)


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
  generator = np.random.default_rng((1, 1, 2, number))
  with Image.open(whole.train.paths[number]) as opened:
    shape = opened.height, opened.width
    box = crop.draw_box(generator, shape, (0.08, 1.0), (3 / 4, 4 / 3))
    np.testing.assert_array_equal(images[0, 0], crop.cut(opened, box, 6))


def test_test_images_are_the_middle(varied, tmp_path):
  pixels = noise(0, 16, 40)
  write(tmp_path / 'train' / 'ant' / 'a.png', pixels)
  write(tmp_path / 'test' / 'ant' / 'a.png', pixels)
  row = np.zeros((1, 1), np.int32)
  sides = {'none': 16, 'inception': 14}  # 224 of 256
  for kind, side in sides.items():
    opened = open_set(options(str(tmp_path), size=side, crop=kind, stream=True))
    found = next(opened.test_batches(row))['image']
    left, top = (40 - side) // 2, (16 - side) // 2
    np.testing.assert_array_equal(
      found[0], pixels[top : top + side, left : left + side]
    )
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


# -- Training -----------------------------------------------------------------


def run(config, folder):
  config.data.label_noise = 0.3
  config.checkpoint.every = 0
  one_run.run(config, folder)
  return records(folder)


@pytest.mark.parametrize(
  'method',
  [
    # Of these the first chooses from the batch, and the second needs a
    # gradient for its decision.
    pytest.param(('ausam', {'rho': 0.1}, 'device'), id='chosen'),
    pytest.param(('aesam', {'rho': 0.1}, 'host'), id='decided'),
  ],
)
def test_a_streamed_run_is_one_from_memory(method, same, tmp_path):
  name, arguments, branch = method
  config = tiny(steps=9, branch=branch)
  config.method = train_config.method(name, **arguments)
  runs = []
  for streams in (False, True):
    config.data.update({'name': same, 'stream': streams})
    runs.append(run(config, tmp_path / str(streams)))
  assert runs[0] == runs[1]


@pytest.mark.parametrize('route', devices.ROUTES)
def test_a_streamed_run_on_devices_is_one_from_memory_on_one(route, same):
  config = tiny(steps=5)
  config.data.update({'name': same, 'stream': False, 'label_noise': 0.3})
  alone = trained(config)
  config.data.stream = True
  config.update({'parallel': route, 'mesh': (2,)})
  config.perturbation = 'synced'
  driving.assert_close(trained(config), alone)


def trained(config):
  program = loop.Program(config, open_set(config.data))
  state, order = program.start_epoch(program.init(0), 0, 0)
  order = np.concatenate([order] * 5)[:5]
  *_, (state, record) = program.steps(state, order)
  scores = np.asarray(list(program.test(state).values()))
  return jax.device_get((state.params, record, scores))


def test_a_streamed_run_that_was_killed_ends_as_one_that_was_not(
  varied, tmp_path
):
  config = tiny(steps=test_checkpoint.STEPS, log_every=4)
  program = test_checkpoint.Program(config, cropped(varied))
  # Every epoch has crops of its own: 40 steps are 13 epochs of three and one.
  asked, train = [], program.feed.train
  with pytest.MonkeyPatch.context() as patch:
    ask = lambda order, *draw: asked.append((len(order), *draw))
    patch.setattr(
      program.feed, 'train', lambda *given: ask(*given) or train(*given)
    )
    program.run(seed=3)
  assert asked == [*((3, 3, epoch) for epoch in range(13)), (1, 3, 13)]
  whole, parts = tmp_path / 'whole', tmp_path / 'parts'
  test_checkpoint.go(program, whole)
  kill, terminate = test_checkpoint.kill, test_checkpoint.terminate
  # Epochs have three steps: in the first, within a later one, between two.
  test_checkpoint.interrupted(
    program, parts, {2: kill, 16: kill, 23: terminate}
  )
  one, two = test_checkpoint.final(whole), test_checkpoint.final(parts)
  test_checkpoint.assert_equal(one, two)


def test_a_reference_gradient_needs_a_set_in_memory(same):
  config = tiny()
  config.method = train_config.method('sam_db')
  config.reference.batch_size = 4
  streamed = open_set(options(same, stream=True))
  with pytest.raises(train_config.ConfigError, match='data.stream=False'):
    loop.Program(config, streamed)


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
  (tmp_path / 'val/val_annotations.txt').write_text('\n'.join(lines) + '\n')
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


# -- Errors -------------------------------------------------------------------


def raises(match, call, *args):
  with pytest.raises(DataError, match=match) as caught:
    call(*args)
  message = str(caught.value)
  assert message.startswith('Cannot ') and message.count('. ') >= 2, message
  return message


@pytest.mark.parametrize(
  ('changes', 'match'),
  [
    ({'crop': 'inception'}, 'no data.size'),
    ({'crop': 'inception', 'size': 6, 'stream': False}, 'data.stream=False'),
    ({'name': 'a.npz', 'stream': True}, 'An .npz file'),
    ({'name': 'a.npz', 'size': 6}, 'An .npz file'),
  ],
)
def test_what_cannot_be_asked(changes, match, varied):
  raises(match, open_set, options(**{'name': varied} | changes))


@pytest.mark.parametrize(
  ('changes', 'match'),
  [
    ({'crop': 'inceptoin', 'size': 6}, "Did you mean 'inception'"),
    ({'size': 0}, 'data.size=0'),
    ({'workers': -1}, 'data.workers=-1'),
  ],
)
def test_values_that_are_none(changes, match, varied):
  with pytest.raises(train_config.ConfigError, match=match):
    open_set(options(varied, **changes))


def test_many_shapes_need_a_size(blots, varied):
  raises('Give data.size', open_set, options('blots', dir=blots))
  asked = options('blots', dir=blots, stream=True)
  raises('None, None, 3', open_set, asked)
  raises('Give data.size', open_set, options(varied))
  streamed = open_set(options(varied, stream=True))
  message = raises('Give data.size', list, streamed.train_batches(ORDER, 0, 0))
  assert 'train/' in message


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


def test_a_damaged_layout_of_tiny_imagenet(tiny_imagenet):
  annotations = tiny_imagenet / 'val' / 'val_annotations.txt'
  for text, match in (
    ('val_1.JPEG\tn3\t0\t0\t3\t3\n', "class 'n3'"),
    ('val_9.JPEG\tn1\t0\t0\t3\t3\n', 'val_9.JPEG'),
    ('', 'It is empty'),
  ):
    annotations.write_text(text)
    raises(match, folder.find, str(tiny_imagenet))
  annotations.unlink()
  message = raises("classes .'images'", folder.find, str(tiny_imagenet))
  assert 'val_annotations.txt' in message


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
