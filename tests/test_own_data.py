"""Own data: odd sets are refused with the remedy, or noted in words.

Each table has inputs that users bring, and what they are told.
"""

import json

import numpy as np
import pytest
from PIL import Image

from tests import tiny_config
from tests.dense_files import dense_config
from train import run, tasks, workdir
from train.checks import ConfigError, DataError
from train.data import memory
from train.data.open import open_set
from train.engine.seen import see
from train.sweep import __main__ as sweep
from train.sweep import execute

LABELS = np.arange(12) % 3
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (12, 8, 8, 3), np.uint8)


# Optax's cosine schedule divides an integer by a number.
pytestmark = pytest.mark.usefixtures('standard_promotion')


def write(path, **changes):
  """An `.npz` file of three classes; None leaves an array out."""
  values = {
    'train_x': IMAGES,
    'train_y': LABELS,
    'test_x': IMAGES[::-1][:6],
    'test_y': LABELS[:6],
    **changes,
  }
  np.savez(path, **{k: v for k, v in values.items() if v is not None})
  return str(path)


def both(images):
  return {'train_x': images, 'test_x': images[:6]}


def labels(values):
  return {'train_y': values, 'test_y': values[:6]}


REFUSED = {
  'labels from 1': (labels(LABELS + 1), 'return_inverse=True'),
  'labels with a gap': (labels(LABELS * 2), '3 numbers, 0, 2, 4'),
  'huge labels': (labels(LABELS + 2**62), 'Number the classes from 0'),
  'huge unsigned labels': (
    labels(LABELS.astype(np.uint64) + np.uint64(2**63)),
    'Number the classes from 0',
  ),
  'negative labels': (labels(LABELS - 1), 'leave out images of no class'),
  'one-hot labels': (labels(np.eye(3)[LABELS]), 'argmax'),
  'labels in a column': (labels(LABELS[:, None]), r'labels.ravel\(\)'),
  'labels as floats': (labels(LABELS * 1.0), r'labels.astype\(int\)'),
  'labels to regress': (labels(LABELS + 0.5), 'number of its class'),
  'labels of two kinds': (labels(LABELS == 1), r'labels.astype\(int\)'),
  'labels as words': (
    labels(np.array(['a', 'b', 'c'])[LABELS]),
    'class_names, labels = numpy.unique',
  ),
  'object labels': (labels(LABELS.astype(object)), 'without object arrays'),
  'one class': (labels(LABELS * 0), 'all of one class'),
  'a test class that is not trained': (
    {'test_y': np.full(6, 3)},
    'Number the classes of both splits',
  ),
  'channels first': (both(np.moveaxis(IMAGES, -1, 1)), r'moveaxis\(images, 1'),
  'many channels first': (
    both(np.zeros((12, 13, 16, 16), np.uint8)),
    r'moveaxis\(images, 1',
  ),
  'images last': (
    both(np.moveaxis(IMAGES, 0, -1)),
    r'moveaxis\(images, 3, 0\)',
  ),
  'flat images': (both(IMAGES[..., 0].reshape(12, 64)), r'reshape\(-1, 8, 8\)'),
  'flat colour images': (both(IMAGES.reshape(12, 64, 3)), 'flattened'),
  'images in [0, 1]': (both(IMAGES / 255), r'round\(255 \* images\)'),
  'images in [-1, 1]': (both(IMAGES / 127.5 - 1), r'127.5 \* \(images \+ 1\)'),
  'floats to 255': (both(IMAGES * 1.0), r'round\(images\).astype'),
  'normalised images': (both((IMAGES - 99.0) / 50), 'raw pixels'),
  'images with NaN': (both(np.full((12, 8, 8), np.nan)), 'not finite'),
  'integers to 255': (both(IMAGES.astype(np.int64)), 'images.astype'),
  '16 bits': (both(IMAGES.astype(np.uint16) * 257), r'\(255 / 65535\)'),
  'black and white': (both(IMAGES > 99), r'255 \* images.astype'),
  'images of no height': (both(IMAGES[:, :0]), 'there must be an image'),
  'all images alike': (both(IMAGES[:1].repeat(12, 0)), 'are all the same'),
  'constant images': (both(np.full_like(IMAGES, 7)), 'pixels from 7 to 7'),
  'splits of two sizes': ({'test_x': IMAGES[:6, :4]}, 'Resize them'),
  'fewer labels': ({'train_y': LABELS[:9]}, '12 images and 9 labels'),
  "Keras's names": (
    {
      **dict.fromkeys(('train_x', 'train_y', 'test_x', 'test_y')),
      **{'x_train': IMAGES, 'y_train': LABELS, 'x_test': IMAGES, 'y_test': 0},
    },
    r"train_x=file\['x_train'\]",
  ),
  'other words': (
    {'train_x': None, 'train_images': IMAGES},
    r"train_x=file\['train_images'\]",
  ),
  'no test labels': ({'test_y': None}, 'It lacks test_y'),
  'too few names': ({'class_names': np.array(['a', 'b'])}, 'has 2 class_names'),
  'a name twice': ({'names': np.array(['a', 'b', 'a'])}, "'a' several times"),
  'an empty name': ({'names': np.array(['a', '', 'b'])}, 'an empty name'),
  'numbers as names': ({'class_names': np.arange(3)}, 'needs a text'),
}


@pytest.mark.parametrize('case', REFUSED)
def test_arrays_that_cannot_be_trained_on_are_refused(case, tmp_path):
  changes, expected = REFUSED[case]
  with pytest.raises(DataError, match=expected) as error:
    memory.load(write(tmp_path / 'set.npz', **changes))
  assert str(error.value).count('. ') >= 2


def blank():
  images = IMAGES.copy()
  images[[2, 7]] = 9
  return images


NOTED = {
  'blank images': (both(blank()), '2 of 12 training images are of one colour'),
  'dark images': (both(IMAGES // 255 + IMAGES % 2), 'run from 0 to 2, of 255'),
  'a dark test': ({'test_x': IMAGES[:6] // 64}, 'Scale both splits alike'),
  'the test trained on': (
    {'test_x': IMAGES, 'test_y': LABELS},
    'says nothing of new images',
  ),
  'a class that is not tested': (
    {'test_y': LABELS[:6] % 2},
    'no test images: 2',
  ),
  'a named class without images': (
    {'class_names': np.array(['a', 'b', 'c', 'eel'])},
    'no training images: eel',
  ),
  'labels that are ids': (
    {'train_y': np.arange(12)},
    'a class of its own',
  ),
  'names misspelt': (
    {'classnames': np.array(['a', 'b', 'c'])},
    "mean 'class_names' by 'classnames'",
  ),
  'arrays not used': ({'val_x': IMAGES}, 'val_x are not used'),
}


@pytest.mark.parametrize('case', NOTED)
def test_arrays_that_are_rarely_meant_are_noted(case, tmp_path):
  changes, expected = NOTED[case]
  dataset = memory.load(write(tmp_path / 'set.npz', **changes))
  assert sum(expected in note for note in dataset.notes) == 1
  assert not memory.load(write(tmp_path / 'right.npz')).notes


def test_names_come_from_the_file(tmp_path):
  for values in (['ant', 'bee', 'cow'], [b'ant', b'bee', b'cow']):
    path = write(tmp_path / 'set.npz', class_names=np.array(values))
    assert memory.load(path).facts['class_names'] == ('ant', 'bee', 'cow')


# -- Folders ------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
  """Two classes, three training images and a test image of each."""
  for split, count in (('train', 3), ('test', 1)):
    for name in ('ant', 'bee'):
      for number in range(count):
        save(tmp_path / split / name / f'{number}.png')
  return tmp_path


def save(path, shape=(6, 6, 3)):
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.fromarray(RNG.integers(0, 256, shape, np.uint8)).save(path)


FOLDERS_REFUSED = {
  'nested images': (lambda x: save(x / 'train/ant/deep/x.png'), 'Move them up'),
  'nested alone': (lambda x: save(x / 'train/cow/in/x.png'), 'Move them up'),
  'images of no class': (lambda x: save(x / 'train/x.png'), 'of no class'),
  'test images of no class': (lambda x: save(x / 'test/x.png'), 'of no class'),
  'two places': (lambda x: save(x / 'train/ant/images/x.png'), 'into one fol'),
  'an empty class': (lambda x: (x / 'train/cow').mkdir(), 'Add images or rem'),
  'mixed sizes': (lambda x: save(x / 'train/ant/x.png', (5, 7, 3)), 'data.siz'),
  'grey and colour': (
    lambda x: save(x / 'train/ant/x.png', (6, 6)),
    'to grey',
  ),
  'an empty file': (
    lambda x: (x / 'train/ant/x.png').write_bytes(b''),
    'Replace or remove it',
  ),
  'another test class': (lambda x: save(x / 'test/Ant/x.png'), "'Ant'"),
  'classes at the top': (
    lambda x: [
      (x / 'train' / name).rename(x / name) for name in ('ant', 'bee')
    ],
    'Move ant, bee into',
  ),
}


@pytest.mark.parametrize('case', FOLDERS_REFUSED)
def test_folders_that_are_not_read_whole_are_refused(case, folder):
  change, expected = FOLDERS_REFUSED[case]
  change(folder)
  with pytest.raises(DataError, match=expected) as error:
    memory.load(str(folder))
  assert str(error.value).count('. ') >= 2


FOLDERS_NOTED = {
  'two formats': (lambda x: save(x / 'train/ant/x.jpg'), '6 .png, 1 .jpg'),
  'an image twice': (lambda x: save(x / 'train/ant/1.bmp'), 'Keep one format'),
  'files not read': (
    lambda x: (x / 'train/bee/x.TIF').write_bytes(b''),
    'not read: 1 .tif',
  ),
  'a class not tested': (
    lambda x: [save(x / f'train/cow/{n}.png') for n in '01'],
    'no test images: cow',
  ),
}


@pytest.mark.parametrize('case', FOLDERS_NOTED)
@pytest.mark.parametrize('stream', [True, False])
def test_folders_that_are_rarely_meant_are_noted(case, stream, folder):
  change, expected = FOLDERS_NOTED[case]
  change(folder)
  config = tiny_config.get_config()
  config.data.update({'name': str(folder), 'size': 6, 'stream': stream})
  assert sum(expected in note for note in open_set(config.data).notes) == 1


def test_hidden_files_are_no_images(folder):
  (folder / 'train/ant/._0.png').write_bytes(b'of macOS')
  dataset = memory.load(str(folder))
  assert dataset.num_examples == 6 and not dataset.notes


def test_a_file_of_another_kind_is_called_one(tmp_path):
  (tmp_path / 'set.csv').write_text('1,2')
  with pytest.raises(DataError, match='It is a file, and of files only .npz'):
    memory.load(str(tmp_path / 'set.csv'))


# -- What was seen ------------------------------------------------------------


def test_a_line_says_what_was_seen(folder, tmp_path):
  config = tiny_config.get_config()
  config.data.name = str(folder)
  expected = '6 training and 2 test images of 6x6x3, 2 classes (ant: 3, bee: 3)'
  for stream in (False, True):
    config.data.stream = stream
    dataset = open_set(config.data)
    assert see(tasks.create(config, dataset), dataset).line == expected
  many = np.repeat(np.arange(12), np.arange(2, 14))
  images = RNG.integers(0, 256, (len(many), 2, 2), np.uint8)
  path = write(tmp_path / 'set.npz', **both(images), **labels(many))
  dataset = memory.load(path)
  assert see(tasks.create(config, dataset), dataset).line == (
    '90 training and 6 test images of 2x2x1, 12 classes (0: 2, 1: 3, 2: 4,'
    ' 3: 5, 4: 6 and 7 more, least 0: 2, most 11: 13)'
  )


@pytest.mark.parametrize(
  ('task', 'data', 'expected'),
  [
    ('segmentation', 'scenes', '21 classes, by images that show them (back'),
    ('pose', 'people', '16 joints, 100% of which count'),
  ],
)
def test_every_task_says_what_it_sees(task, data, expected, request):
  config = dense_config(task, request.getfixturevalue(data))
  dataset = open_set(config.data)
  assert expected in see(tasks.create(config, dataset), dataset).line


def a_run(data, **changes):
  config = tiny_config.get_config()
  config.update({'batch_size': 4, 'steps': 6, 'log_every': 2, **changes})
  config.data.name = data
  config.checkpoint.every = 2
  return config


def test_it_is_said_once_before_training(tmp_path, capsys):
  config = a_run(write(tmp_path / 'set.npz', **both(blank())))
  run.run(config, tmp_path / 'run', bar=False)
  out, err = capsys.readouterr()
  assert out.count('data: 12 training and 6 test images of 8x8x3, 3 cl') == 1
  assert err.count('warning: 2 of 12 training images are of one colour') == 1


# -- Other data under the same name -------------------------------------------


def shifted(path):
  write(path, train_x=IMAGES ^ np.uint8(1))


def relabelled(path):
  write(path, train_y=LABELS[::-1])


def retested(path):
  write(path, test_y=LABELS[:6][::-1])


def renamed(path):
  write(path, class_names=np.array(['ant', 'bee', 'cow']))


def shortened(path):
  write(path, train_x=IMAGES[:9], train_y=LABELS[:9])


@pytest.mark.parametrize(
  'change',
  [shifted, relabelled, retested, renamed, shortened],
  ids=lambda x: x.__name__,
)
def test_a_run_is_not_resumed_on_other_data(change, tmp_path):
  path, folder = tmp_path / 'set.npz', tmp_path / 'run'
  config = a_run(write(path))
  run.run(config, folder, bar=False)
  # Of a run that was killed before its end.
  (folder / 'result.json').unlink()
  before = {x: x.read_bytes() for x in folder.rglob('*') if x.is_file()}
  change(path)
  with pytest.raises(ConfigError, match='a run on other data') as error:
    run.run(config, folder, bar=False)
  assert str(error.value).count('. ') >= 2
  after = {x: x.read_bytes() for x in folder.rglob('*') if x.is_file()}
  assert after == before
  write(path)
  run.run(config, folder, bar=False)
  assert (folder / 'result.json').exists()


def test_a_sweep_is_not_finished_on_other_data(tmp_path, capsys):
  path = tmp_path / 'set.npz'
  arguments = [
    '--config=tests/tiny_config.py',
    '--methods=sgd',
    f'--workdir={tmp_path / "runs"}',
    f'--config.data.name={write(path)}',
    '--config.batch_size=4',
    '--config.steps=2',
  ]
  assert sweep.main([*arguments, '--seeds=1']) == 0
  shifted(path)
  execute._open.cache_clear()  # as in a process of its own
  assert sweep.main([*arguments, '--seeds=2']) == 1
  assert 'a run on other data' in capsys.readouterr().err
  assert len(list((tmp_path / 'runs').rglob('result.json'))) == 1


def test_a_damaged_digest_is_explained(tmp_path):
  config, folder = a_run(write(tmp_path / 'set.npz')), tmp_path / 'run'
  run.run(config, folder, bar=False)
  (folder / 'result.json').unlink()
  for text in ('{', '[]', '{}'):
    (folder / workdir.DATA).write_text(text)
    with pytest.raises(ConfigError, match='is not whole'):
      run.run(config, folder, bar=False)


def test_the_digest_of_a_folder_on_disk(folder):
  config = tiny_config.get_config()
  config.data.update({'name': str(folder), 'stream': True})
  digest = lambda: open_set(config.data).digest()
  first = digest()
  assert first == digest()
  save(folder / 'train/ant/9.png')
  assert digest() != first
  (folder / 'train/ant/9.png').rename(folder / 'train/bee/9.png')
  moved = digest()
  (folder / 'train/bee/9.png').unlink()
  assert moved != first == digest()
  copied = folder / 'copy'
  for split in ('train', 'test'):
    (copied / split).mkdir(parents=True)
    for name in ('ant', 'bee'):
      (folder / split / name).rename(copied / split / name)
  config.data.name = str(copied)
  assert digest() == first


def test_the_digest_is_left_with_the_run(tmp_path):
  config = a_run(write(tmp_path / 'set.npz'))
  run.run(config, tmp_path / 'run', bar=False)
  left = json.loads((tmp_path / 'run' / workdir.DATA).read_text())
  assert left['digest'] == open_set(config.data).digest()
  assert left['seen'].startswith('12 training and 6 test images')
