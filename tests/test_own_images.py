"""The page on own images: its commands in order, and what it says is said."""

import json
import pathlib
import re
import shutil

import numpy as np
import optax
import pytest
from PIL import Image

import sam_optax
from configs import own_images
from tests.test_documents import OF_OWN_IMAGES as PAGE
from tests.test_documents import as_a_user, blocks, call, commands, run_command
from tests.words import in_three_beats
from train import config as train_config
from train import variants, workdir
from train.checks import ConfigError, DataError
from train.data.open import open_set

TRAIN = [
  '--config=configs/own_images.py',
  '--config.data.name=photos',
  '--config.steps=2',
  '--config.model={"name": "mlp", "hidden": (8,)}',
  '--workdir=runs/photos',
]

LYING, ORIENTATION = 'photos/train/cat/7.jpg', 0x0112


def save(path, shape=(16, 16, 3), seed=0):
  path.parent.mkdir(parents=True, exist_ok=True)
  pixels = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
  Image.fromarray(pixels).save(path)


@pytest.fixture
def place(tmp_path, monkeypatch):
  """A folder with the configs, and the images that the page speaks of."""
  (tmp_path / 'configs').symlink_to(PAGE.parent.parent / 'configs')
  monkeypatch.chdir(tmp_path)
  for split, count in (('train', 40), ('test', 10)):
    for name in ('cat', 'dog', 'fox'):
      for number in range(count):
        shape = (16 + number, 20, 3)
        save(tmp_path / 'photos' / split / name / f'{number}.jpg', shape)
  exif = Image.Exif()
  exif[ORIENTATION] = 6  # as a phone stores a photo that was taken upright
  path = tmp_path / LYING
  with Image.open(path) as photo:
    photo.save(path, exif=exif)
  return tmp_path


def test_the_page_from_beginning_to_end(place):
  with as_a_user():
    for block in blocks(PAGE.read_text(), 'python'):
      exec(compile(block, PAGE.name, 'exec'), {})
  with Image.open(LYING) as photo:  # 20 wide and 23 high before
    assert photo.size == (23, 20) and ORIENTATION not in photo.getexif()
  for block in blocks(PAGE.read_text(), 'sh'):
    for line in commands(block):
      run_command(line)
  with Image.open('runs/sheet/contact_sheet.png') as sheet:
    # Six columns, beside the names of the classes.
    assert 0 < sheet.width - 6 * (128 + 4) <= 160 + 8
  assert pathlib.Path('runs/arrays/result.json').exists()
  saved = json.loads(pathlib.Path('runs/photos-asam/config.json').read_text())
  assert saved['method']['name'] == 'asam' and saved['data']['size'] == 96
  # What is printed first, as the page shows it.
  shutil.rmtree('runs/photos')
  status, said, errors = call(
    'train.__main__', [*TRAIN, '--config.checkpoint.every=1']
  )
  assert status == 0, errors
  (promised,) = re.findall(r'^data: .*$', PAGE.read_text(), re.M)
  assert said.startswith(promised + '\n')
  # Killed before its end, and run again; then with other images.
  before = pathlib.Path('runs/photos/metrics.jsonl').read_text()
  pathlib.Path('runs/photos/result.json').unlink()
  status, said, errors = call('train.__main__', TRAIN)
  assert status == 0, errors
  assert pathlib.Path('runs/photos/metrics.jsonl').read_text() == before
  pathlib.Path('runs/photos/result.json').unlink()
  save(place / 'photos' / 'train' / 'cat' / '0.jpg', (9, 9, 3))
  status, _, errors = call('train.__main__', TRAIN)
  assert status == 1 and 'a run on other data' in errors


@pytest.mark.parametrize('variant', own_images.VARIANTS)
def test_every_variant_is_a_config(variant):
  config = own_images.get_config(variant)
  assert config.data.size == 64 and config.augment.mean is None
  train_config.check(config, num_examples=32)


@pytest.mark.parametrize('name', sam_optax.METHODS.keys())
def test_any_method_trains_with_the_file(name):
  file = 'configs/own_images.py'
  if name not in own_images.VARIANTS:
    with pytest.raises(ConfigError) as error:
      variants.load(f'{file}:{name}')
    flags = f'Give --config=FILE --config.method.name={name}, '
    in_three_beats(str(error.value), flags)
  settings = [f'--config.method.name={name}', '--config.method.rho=0.1']
  asked = settings[: 1 + ('rho' in train_config.method(name))]
  config = variants.load(file, asked)
  assert config.method.name == name and config.method.get('rho', 0.1) == 0.1
  known = {'num_examples': 96, 'total_steps': 90, 'learning_rate': lambda t: t}
  known |= {'num_classes': 3, 'steps_per_epoch': 3, 'base': optax.sgd(0.1)}
  train_config.build_method(config, key=0, **known)


LABELS = np.arange(12) % 3
IMAGES = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3), np.uint8)


def arrays(**changes):
  values = {
    'train_x': IMAGES,
    'train_y': LABELS,
    'test_x': IMAGES[::-1][:6],
    'test_y': LABELS[:6],
  }
  np.savez('set.npz', **{**values, **changes})
  return 'set.npz', None


def photos(change):
  """The folder of the page with a change, where images keep their size."""
  top = pathlib.Path('photos')
  change(top)
  return 'photos', 64


def both(images):
  return arrays(train_x=images, test_x=images[:6])


# What is done to the data, in the order of the table: (name, size) to be read.
TOLD = (
  lambda: photos(lambda top: shutil.move(top / 'train', top / 'training')),
  lambda: photos(lambda top: save(top / 'train/cat/more/0.jpg')),
  lambda: ('photos', None),
  lambda: photos(lambda top: (top / 'train/cat/0.jpg').write_text('no')),
  lambda: photos(lambda top: save(top / 'test/cow/0.jpg')),
  lambda: arrays(train_y=LABELS + 1, test_y=LABELS[:6] + 1),
  lambda: both(IMAGES / 255),
  lambda: both(np.moveaxis(IMAGES, -1, 1)),
  lambda: (arrays()[0], 64),
)
NOTED = (
  lambda: both(np.where(np.arange(12)[:, None, None, None] < 2, 9, IMAGES)),
  lambda: photos(lambda top: save(top / 'train/cat/x.png')),
  lambda: photos(lambda top: shutil.rmtree(top / 'test/fox')),
  lambda: arrays(test_x=IMAGES, test_y=LABELS),
)


def rows():
  """The messages of the page."""
  table = PAGE.read_text().partition('| message |')[2].splitlines()
  return [line.split('|')[1].strip() for line in table if line.startswith('| ')]


def has(said, message):
  """Whether what is said has the parts of a message, in their order."""
  parts = message.removeprefix('warning: ').split('...')
  pattern = '.*'.join(re.escape(part.strip()) for part in parts)
  return re.search(pattern, said) is not None


def read(name, size):
  config = own_images.get_config()
  config.data.name, config.data.size = name, size
  return open_set(config.data)


def test_the_messages_of_the_page_are_those_of_the_program(place):
  messages = rows()
  noted = [row for row in messages if row.startswith('warning: ')]
  copy = place / 'copy'
  shutil.copytree(place / 'photos', copy)

  def again():
    shutil.rmtree(place / 'photos')
    shutil.copytree(copy, place / 'photos')

  for message, change in zip(messages, TOLD, strict=False):
    with pytest.raises(DataError) as error:
      read(*change())
    assert has(str(error.value), message), message
    again()
  for message, change in zip(noted, NOTED, strict=True):
    notes = read(*change()).notes
    assert any(has(note, message) for note in notes), (message, notes)
    again()
  # The others are of the run, and not of the data.
  assert len(messages) == len(TOLD) + len(NOTED) + 3
  small, finished, other = messages[len(TOLD) : -len(NOTED)]
  config = own_images.get_config()
  with pytest.raises(ConfigError) as error:
    train_config.check(config, num_examples=9)
  assert has(str(error.value), small)
  with workdir.locked(place / 'run', config):
    (place / 'run' / 'metrics.jsonl').write_text('{}\n')
  config.epochs = 3
  with pytest.raises(ConfigError) as error:
    workdir.check(place / 'run', config)
  assert has(str(error.value), other)
  (place / 'run' / 'result.json').write_text('{}')
  with pytest.raises(ConfigError) as error:
    workdir.check(place / 'run', config)
  assert has(str(error.value), finished)
