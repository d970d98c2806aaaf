"""Reading and preparing data sets. Nothing here uses a network."""

import functools
import hashlib
import io
import json
import os
import pathlib
import pickle
import struct
import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image
from sklearn import datasets

from train import checks
from train.data import builders, memory
from train.data import cifar as published
from train.tools import prepare

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


def test_one_class_is_no_data_set(tmp_path):
  one = write_npz(tmp_path, train_y=np.zeros(6, int), test_y=np.zeros(3, int))
  raises('all of one class', memory.load, one)


# -- npz ----------------------------------------------------------------------


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


def test_the_first_images_are_kept(tmp_path):
  path = write_npz(tmp_path)
  whole, few = memory.load(path), memory.load(path, first=(4, 1))
  for found, all_of_it, count in zip(
    flat(few), flat(whole), (4, 4, 1, 1), strict=True
  ):
    np.testing.assert_array_equal(found, all_of_it[:count])
  assert few.facts['num_classes'] == whole.facts['num_classes']
  for first in ((0, 1), (7, 1), (4, 4), (4,)):
    with pytest.raises(checks.DataError, match='It has 6 training and 3 test'):
      memory.load(path, first=first)


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


# -- Folders of images --------------------------------------------------------


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


# -- The digits ---------------------------------------------------------------


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


# -- TFDS ---------------------------------------------------------------------


class Tiles(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """A set of the tests: images of one shape with two labels."""

  VERSION = tfds.core.Version('1.0.0')
  SIZES = {'train': 12, 'test': 4}

  def _info(self):
    return tfds.core.DatasetInfo(
      builder=self,
      features=tfds.features.FeaturesDict(
        {
          'image': tfds.features.Image(shape=(4, 4, 3)),
          'label': tfds.features.ClassLabel(num_classes=2),
        }
      ),
      disable_shuffling=True,
    )

  def _split_generators(self, dl_manager):
    return {split: self._generate_examples(split) for split in self.SIZES}

  def _generate_examples(self, split):
    for number, image in enumerate(tiles(split)):
      example = {'image': builders._png(image), 'label': number % 2}
      yield number, example


def tiles(split):
  rng = np.random.default_rng(len(split))
  return rng.integers(0, 256, (Tiles.SIZES[split], 4, 4, 3), np.uint8)


@pytest.fixture
def prepared(tmp_path):
  tfds.disable_progress_bar()
  where = str(tmp_path / 'tfds')
  said = builders.prepare(Tiles(data_dir=where))
  assert '12 train, 4 test' in said
  return where


def test_a_prepared_set_is_read_by_its_name(prepared):
  read = memory.load('tiles', prepared)
  assert read.facts == {'num_classes': 2, 'class_names': ('0', '1')}
  np.testing.assert_array_equal(read.train['image'], tiles('train'))
  np.testing.assert_array_equal(read.test['image'], tiles('test'))
  assert read.train['label'].tolist() == [0, 1] * 6
  source = tfds.data_source('tiles', data_dir=prepared, download=False)
  np.testing.assert_array_equal(source['test'][3]['image'], tiles('test')[3])


def test_a_prepared_set_is_left_alone(prepared):
  assert 'prepared already' in builders.prepare(Tiles(data_dir=prepared))


def test_a_set_prepared_meanwhile_by_another_process(tmp_path, monkeypatch):
  where, split_generators = str(tmp_path), Tiles._split_generators

  def slow(self, dl_manager):
    monkeypatch.setattr(Tiles, '_split_generators', split_generators)
    builders.prepare(Tiles(data_dir=where))
    return split_generators(self, dl_manager)

  monkeypatch.setattr(Tiles, '_split_generators', slow)
  builders.prepare(Tiles(data_dir=where))
  assert len(memory.load('tiles', where).train['label']) == 12
  assert os.listdir(tmp_path / 'tiles') == ['1.0.0']


def test_where_nothing_can_be_written(tmp_path):
  (tmp_path / 'file').write_text('')
  builder = Tiles(data_dir=str(tmp_path / 'file'))
  raises('Cannot prepare', builders.prepare, builder)


def test_unknown_names(tmp_path):
  where = str(tmp_path)
  message = raises('TFDS has no such data set', memory.load, 'cifar11', where)
  assert 'cifar10' in message
  raises('Did you mean digits', memory.load, 'digit', where)
  raises('no such configuration', memory.load, 'cmaterdb/klingon', where)
  raises('no such configuration', memory.load, 'cifar10:9.9.9', where)
  for name in ('./absent', str(tmp_path / 'absent'), 'huggingface:mnist', ''):
    raises('No such path exists', memory.load, name, where)


def test_known_but_not_prepared(tmp_path):
  where = str(tmp_path)
  message = raises('not prepared in', memory.load, 'cmaterdb/bangla', where)
  assert "pip install 'sam_optax[tf]'" in message
  assert 'tfds build cmaterdb/bangla --file_format=array_record' in message
  assert f'--data_dir={where}' in message
  message = raises('not prepared in', memory.load, 'cifar10', where)
  assert 'python -m train.prepare cifar10 --from=FOLDER' in message
  assert not os.listdir(where)


def test_prepared_without_random_access(prepared):
  info = pathlib.Path(prepared) / 'tiles' / '1.0.0' / 'dataset_info.json'
  content = json.loads(info.read_text())
  content['fileFormat'] = 'tfrecord'
  for split in content['splits']:
    split['filepathTemplate'] = split['filepathTemplate'].replace(
      'array_record', 'tfrecord'
    )
  info.write_text(json.dumps(content))
  raises('no random access', memory.load, 'tiles', prepared)


def test_without_tfds_the_rest_works(tmp_path):
  image_folder(tmp_path)
  program = """
import sys
sys.modules[sys.argv[2]] = None
from train.checks import DataError
from train.data.memory import load
folder = load(sys.argv[1])
try:
  load('cifar10', sys.argv[1])
except DataError as error:
  print(len(folder.train['label']), error)
"""
  for absent in ('tensorflow_datasets', 'importlib_resources', 'array_record'):
    done = subprocess.run(
      [sys.executable, '-c', program, str(tmp_path), absent],
      capture_output=True,
      text=True,
      check=True,
    )
    assert done.stdout.startswith('4 Cannot load')
    assert "pip install 'sam_optax[train]'" in done.stdout
    assert absent in done.stdout


# -- CIFAR-10 -----------------------------------------------------------------

CIFAR10, CIFAR100 = published.CIFAR10, published.CIFAR100
FILES = [f'data_batch_{i}' for i in range(1, 6)] + ['test_batch']


class Python2Pickler(pickle._Pickler):
  """Writes `bytes` as Python 2 wrote `str`, as the published pickles have."""

  dispatch = dict(pickle._Pickler.dispatch)

  def save_bytes(self, value):
    self.write(pickle.BINSTRING + struct.pack('<i', len(value)) + value)
    self.memoize(value)

  dispatch[bytes] = save_bytes


def python2_pickle(value):
  file = io.BytesIO()
  Python2Pickler(file, protocol=2).dump(value)
  return file.getvalue().replace(b'numpy._core.', b'numpy.core.')


@pytest.fixture
def cifar(tmp_path):
  """Both layouts of the published files, of three records each."""
  rng = np.random.default_rng(2)
  bin_folder = tmp_path / 'binary' / 'cifar-10-batches-bin'
  py_folder = tmp_path / 'python' / 'cifar-10-batches-py'
  bin_folder.mkdir(parents=True)
  py_folder.mkdir(parents=True)
  records = {}
  for name in FILES:
    pixels = rng.integers(0, 256, (3, 3072), np.uint8)
    labels = rng.integers(0, 10, 3)
    records[name] = np.column_stack([labels.astype(np.uint8), pixels])
    (bin_folder / f'{name}.bin').write_bytes(records[name].tobytes())
    (py_folder / name).write_bytes(
      python2_pickle(
        {
          b'batch_label': name.encode(),
          b'labels': labels.tolist(),
          b'data': pixels,
          b'filenames': [b'a.png'] * 3,
        }
      )
    )
  return tmp_path, records


def official(monkeypatch, folder):
  """Lets the records in a folder pass for the published ones."""
  for split, records in published.read(CIFAR10, folder).items():
    digest = hashlib.sha256(records.tobytes()).hexdigest()
    monkeypatch.setitem(published.CIFAR10_SHA256, split, digest)


def test_both_layouts_hold_the_same_records(cifar):
  root, records = cifar
  for folder in (
    root / 'binary',
    root / 'binary' / 'cifar-10-batches-bin',
    root / 'python',
    root / 'python' / 'cifar-10-batches-py',
  ):
    read = published.read(CIFAR10, str(folder))
    assert read['train'].dtype == np.uint8
    np.testing.assert_array_equal(
      read['train'], np.concatenate([records[name] for name in FILES[:5]])
    )
    np.testing.assert_array_equal(read['test'], records['test_batch'])


def test_cifar10_is_read_by_its_name(cifar, monkeypatch, capsys):
  root, records = cifar
  where = str(root / 'tfds')
  official(monkeypatch, str(root / 'python'))
  command = ['cifar10', f'--from={root / "python"}', f'--data_dir={where}']
  assert prepare.main(command) == 0
  out = capsys.readouterr().out
  assert '15 train, 3 test' in out and where in out

  source = tfds.data_source('cifar10', data_dir=where, download=False)
  assert len(source['train']) == 15
  assert source['test'][2]['id'] == b'test_00002'
  names = source['test'].dataset_info.features['label'].names
  assert names == list(CIFAR10.labels[-1].classes)

  read = memory.load('cifar10', where)
  train = np.concatenate([records[name] for name in FILES[:5]])
  assert read.facts['num_classes'] == 10
  np.testing.assert_array_equal(read.train['label'], train[:, 0])
  # Red is first in a record, and a channel is written row by row.
  for y, x, channel in ((0, 0, 0), (0, 31, 1), (17, 3, 2)):
    np.testing.assert_array_equal(
      read.train['image'][:, y, x, channel],
      train[:, 1 + channel * 1024 + y * 32 + x],
    )

  before = os.stat(os.path.join(where, 'cifar10', '3.0.2')).st_mtime_ns
  assert prepare.main(command) == 0
  assert 'prepared already and is left alone' in capsys.readouterr().out
  after = os.stat(os.path.join(where, 'cifar10', '3.0.2')).st_mtime_ns
  assert before == after


def test_other_records_are_refused(cifar, capsys):
  root, _ = cifar
  where = root / 'tfds'
  command = ['cifar10', f'--from={root / "binary"}', f'--data_dir={where}']
  assert prepare.main(command) == 1
  error = capsys.readouterr().err
  assert 'Their 15 train records' in error and '50,000 train' in error
  assert not where.exists()


def test_cifar10_errors(cifar):
  root, _ = cifar
  read = functools.partial(published.read, CIFAR10)
  raises('Neither it nor', read, str(root / 'absent'))
  raises('Neither it nor', read, str(root))
  file = root / 'binary/cifar-10-batches-bin/data_batch_3.bin'
  content = file.read_bytes()
  file.write_bytes(content[:-1])
  raises('data_batch_3.bin.*9218 bytes', read, str(root / 'binary'))
  file.write_bytes(b'')
  raises('data_batch_3.bin.* 0 bytes', read, str(root / 'binary'))
  file.write_bytes(b'\x0a' + content[1:])
  raises('labels run from . to 10', read, str(root / 'binary'))
  file.unlink()
  raises('missing: .*data_batch_3.bin', read, str(root / 'binary'))


def test_pickle_errors(cifar):
  root, _ = cifar
  folder = str(root / 'python')
  file = root / 'python/cifar-10-batches-py/data_batch_2'
  content = file.read_bytes()
  pixels = np.zeros((2, 3072), np.uint8)
  for damaged, match in (
    (content[: len(content) // 2], 'not a whole pickle'),
    (b'', 'not a whole pickle'),
    (python2_pickle([1, 2]), 'A batch of CIFAR-10 is a dict'),
    (python2_pickle({b'data': pixels}), 'A batch of CIFAR-10 is a dict'),
    (
      python2_pickle({b'data': pixels, b'labels': [1]}),
      'A batch of CIFAR-10 is a dict',
    ),
    (
      python2_pickle({b'data': pixels[:, 1:], b'labels': [1, 2]}),
      'A batch of CIFAR-10 is a dict',
    ),
    (
      python2_pickle({b'data': pixels, b'labels': [1, -1]}),
      'labels run from -1 to 1',
    ),
  ):
    file.write_bytes(damaged)
    raises(f'data_batch_2.*{match}', published.read, CIFAR10, folder)


def test_a_pickle_cannot_run_code(cifar):
  root, _ = cifar
  trace = root / 'trace'

  class Attack:
    def __reduce__(self):
      return os.mkdir, (str(trace),)

  for protocol in (0, 3, 5):
    (root / 'python/cifar-10-batches-py/data_batch_1').write_bytes(
      pickle.dumps({'data': Attack(), 'labels': []}, protocol)
    )
    raises(
      f'names {os.mkdir.__module__}.mkdir',
      published.read,
      CIFAR10,
      str(root / 'python'),
    )
    assert not trace.exists()


def test_nothing_half_written_is_left(cifar, monkeypatch, capsys):
  root, _ = cifar
  where = root / 'tfds'
  official(monkeypatch, str(root / 'binary'))

  def full(image):
    raise OSError('No space left on device')

  monkeypatch.setattr(builders, '_png', full)
  command = ['cifar10', f'--from={root / "binary"}', f'--data_dir={where}']
  assert prepare.main(command) == 1
  assert 'No space left' in capsys.readouterr().err
  assert not (where / 'cifar10').exists()


@pytest.mark.parametrize(
  ('arguments', 'match'),
  [
    (['cifar10'], '--from=FOLDER'),
    (['cifar10', '--from=absent'], 'Neither it nor'),
    (['digits'], 'come with scikit-learn'),
    (['mnist'], 'tfds build mnist'),
  ],
)
def test_command_errors(arguments, match, tmp_path, capsys):
  assert prepare.main([*arguments, f'--data_dir={tmp_path}']) == 1
  assert match in capsys.readouterr().err
  assert not os.listdir(tmp_path)


# -- CIFAR-100 ----------------------------------------------------------------


@pytest.fixture
def cifar100(tmp_path, monkeypatch):
  """Both layouts of the published files, two and one of each class."""
  monkeypatch.setattr(published, 'CIFAR100_PER_CLASS', {'train': 2, 'test': 1})
  rng = np.random.default_rng(3)
  bin_folder = tmp_path / 'binary' / 'cifar-100-binary'
  py_folder = tmp_path / 'python' / 'cifar-100-python'
  bin_folder.mkdir(parents=True)
  py_folder.mkdir(parents=True)
  records = {}
  for name, count in (('train', 200), ('test', 100)):
    fine = rng.permutation(np.arange(count) % 100)
    coarse = fine // 5
    pixels = rng.integers(0, 256, (count, 3072), np.uint8)
    labels = np.stack([coarse, fine], axis=1).astype(np.uint8)
    records[name] = np.column_stack([labels, pixels])
    (bin_folder / f'{name}.bin').write_bytes(records[name].tobytes())
    batch = {
      b'batch_label': name.encode(),
      b'coarse_labels': coarse.tolist(),
      b'fine_labels': fine.tolist(),
      b'data': pixels,
      b'filenames': [b'a.png'] * count,
    }
    (py_folder / name).write_bytes(python2_pickle(batch))
  return tmp_path, records


@pytest.mark.parametrize('layout', ['binary', 'python'])
def test_cifar100_is_read_by_its_name(layout, cifar100, capsys):
  root, records = cifar100
  where = str(root / 'tfds')
  tfds.disable_progress_bar()
  command = ['cifar100', f'--from={root / layout}', f'--data_dir={where}']
  assert prepare.main(command) == 0
  said = capsys.readouterr().out
  assert '200 train, 100 test' in said
  # These are not the published records, and it says so.
  assert 'sorted sha256' in said
  source = tfds.data_source('cifar100', data_dir=where, download=False)
  features = source['test'].dataset_info.features
  assert features['label'].names[:2] == ['apple', 'aquarium_fish']
  assert features['coarse_label'].names[-1] == 'vehicles_2'
  assert source['train'][7]['coarse_label'] == records['train'][7, 0]
  read = memory.load('cifar100', where)
  assert read.facts['num_classes'] == 100
  np.testing.assert_array_equal(read.train['label'], records['train'][:, 1])
  np.testing.assert_array_equal(
    read.test['image'][:, 17, 3, 2],
    records['test'][:, 2 + 2 * 1024 + 17 * 32 + 3],
  )


def test_the_published_cifar100_is_known_in_any_order(cifar100, monkeypatch):
  _, records = cifar100
  for split, rows in records.items():
    content = b''.join(sorted(row.tobytes() for row in rows))
    digest = hashlib.sha256(content).hexdigest()
    monkeypatch.setitem(published.CIFAR100_SHA256, split, digest)
  turned = {split: rows[::-1] for split, rows in records.items()}
  assert CIFAR100.check(turned) == ''
  turned['test'] = turned['test'].copy()
  turned['test'][0, 99] ^= 1
  assert 'test records' in CIFAR100.check(turned)


def test_the_statistics_of_cifar100(cifar100):
  root, records = cifar100
  # Each channel of its own, so that no order of the bytes but one gives them.
  rows = records['train'].copy()
  for channel in range(3):
    begin = 2 + 1024 * channel
    rows[:, begin : begin + 1024] //= channel + 2
  file = root / 'binary/cifar-100-binary/train.bin'
  file.write_bytes(rows.tobytes())
  read = published.read(CIFAR100, str(root / 'binary'))
  mean, std = published.channel_statistics(read['train'])
  planes = rows[:, 2:].reshape(-1, 3, 32, 32).astype(np.float64)
  np.testing.assert_allclose(mean, planes.mean((0, 2, 3)), atol=6e-4)
  np.testing.assert_allclose(std, planes.std((0, 2, 3)), atol=6e-4)
  # Those of the published file, of which a reader is told where it differs.
  assert published.CIFAR100_MEANS == (129.304, 124.070, 112.434)
  assert published.CIFAR100_STDS == (68.170, 65.392, 70.418)
  note = CIFAR100.check({**read, 'train': rows})
  assert str(mean) in note and '(129.304, 124.07, 112.434)' in note


def test_the_published_cifar100_has_500_images_of_a_class():
  per_class = published.CIFAR100_PER_CLASS
  assert {k: 100 * v for k, v in per_class.items()} == {
    'train': 50_000,
    'test': 10_000,
  }


def test_cifar100_of_another_number_of_images_is_refused(cifar100):
  _, records = cifar100
  short = {**records, 'train': records['train'][1:]}
  raises('1 to 2 images of a class', CIFAR100.check, short)


def test_cifar100_errors(cifar100):
  root, _ = cifar100
  read = functools.partial(published.read, CIFAR100)
  raises('Neither it nor', read, str(root))
  file = root / 'binary/cifar-100-binary/test.bin'
  content = file.read_bytes()
  file.write_bytes(content[:-1])
  raises('records of 3074 bytes', read, str(root / 'binary'))
  file.write_bytes(b'\x14' + content[1:])
  raises('run from 0 to 20, where .* to 19', read, str(root / 'binary'))
  (root / 'python/cifar-100-python/test').write_bytes(
    python2_pickle({b'data': np.zeros((1, 3072), np.uint8), b'labels': [1]})
  )
  message = raises('is a dict', read, str(root / 'python'))
  assert '`coarse_labels` and `fine_labels`' in message
