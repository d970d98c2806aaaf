"""Sets that TFDS prepares. Nothing here uses a network."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds

from tests.own_sets import (
  image_folder,
  no_network,  # noqa: F401
  raises,
)
from train.data import builders, memory


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
