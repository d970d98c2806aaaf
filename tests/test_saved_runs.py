"""A finished run in use: how its images are read, also with an older config."""

import json
import shutil

import jax
import numpy as np
import pytest
from PIL import Image

from tests.image_folders import write_folder
from tests.tiny_runs import tiny
from train import config as train_config
from train import predict, run
from train.data import tests
from train.data.open import open_set
from train.engine import export
from train.look import trained
from train.report import results

SIDE = 14
ORDER = np.arange(12, dtype=np.int32)[None]  # all test images


pytestmark = pytest.mark.usefixtures('standard_promotion')


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
  """A run that squashes images of unequal sides, and its config."""
  root = tmp_path_factory.mktemp('squashed')
  data = write_folder(root / 'data', lambda n: (16 + n, 60 - n), 'png', each=2)
  images = f'{data}/test'
  config = tiny('sgd', steps=1)
  config.batch_size = 4
  config.model.hidden = (2,)
  config.checkpoint.every = 0
  config.data.update(
    name=data,
    size=SIDE,
    crop='inception',
    test_crop='squash',
  )
  config.data.tests = {
    'same': {'name': images},
    'whole': {'name': images, 'whole': True},
  }
  with jax.numpy_dtype_promotion('standard'):
    run.run(config, root / 'run', bar=False)
  return root / 'run', config


def images_of(config, **changes):
  """The test images of a config, and their files."""
  options = config.data.copy_and_resolve_references()
  options.update(changes)
  opened = open_set(options)
  return next(opened.test_batches(ORDER))['image'], opened.test.paths


def test_images_are_read_as_the_test_of_the_run_read_them(finished):
  folder, config = finished
  expected, files = images_of(config)
  middle, _ = images_of(config, test_crop=None)
  assert all(
    np.any(one != two) for one, two in zip(expected, middle, strict=True)
  )
  predictor = predict.load(folder)
  for resize in (False, True):
    read = np.stack([predictor.read(file, resize) for file in files])
    np.testing.assert_array_equal(read, expected)
  same, whole = tests.open_tests(config.data, open_set(config.data))
  assert same.parts[0].rows.source.paths == files
  found = next(same.batches(same.parts[0], ORDER))['image']
  np.testing.assert_array_equal(found, expected)
  found = next(whole.batches(whole.parts[0], ORDER))['image']
  for pixels, file in zip(found, files, strict=True):
    with Image.open(file) as opened:
      all_of_it = opened.resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    difference = pixels.astype(int) - np.asarray(all_of_it).astype(int)
    assert np.abs(difference).max() <= 1


def test_a_run_from_before_some_keys_is_read_with_their_defaults(
  finished, tmp_path
):
  folder, config = finished
  old = tmp_path / 'old'
  shutil.copytree(folder, old)
  for path in (old / 'config.json', old / 'model' / export.FACTS):
    facts = json.loads(path.read_text())
    saved = facts.get('config', facts)
    for key in ('crop_area', 'test_crop'):
      del saved['data'][key]
    del saved['test_batch_size']
    path.write_text(json.dumps(facts))
  expected, files = images_of(config, test_crop=None)
  predictor = predict.load(old)
  read = np.stack([predictor.read(file, resize=True) for file in files])
  np.testing.assert_array_equal(read, expected)
  assert predictor(read).outputs.shape == (12, 3)
  # What was saved stays; and its method has no arguments of another one.
  as_saved = predictor.config.to_dict()
  for key in ('method', 'model', 'optimizer'):
    assert as_saved[key] == saved[key]
  assert as_saved['data'] == {
    **saved['data'],
    'crop_area': None,
    'test_crop': None,
  }
  (found,) = results.read(old)
  network = trained.load(found, 'old', 4)
  assert np.isfinite(network.loss_fn(network.params))


def test_a_section_that_is_no_mapping_is_refused():
  for saved in ([], {'data': None}):
    with pytest.raises(TypeError):
      train_config.from_saved(saved)
