"""CIFAR-10 and CIFAR-100, in both layouts."""

import functools
import hashlib
import io
import os
import pickle
import struct

import numpy as np
import pytest
import tensorflow_datasets as tfds

from tests.own_sets import (
  no_network,  # noqa: F401
  raises,
)
from train.data import builders, memory
from train.data import cifar as published
from train.tools import prepare

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
