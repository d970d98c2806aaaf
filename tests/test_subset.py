"""Parts of a data set: the first examples, and a validation part."""

import numpy as np
import pytest

from tests.own_sets import flat, write_npz
from train import checks
from train import config as train_config
from train.data import memory, subset
from train.data.open import open_set


@pytest.fixture(scope='module')
def whole():
  return memory.load('digits')


def test_the_first_images_are_kept(tmp_path):
  path = write_npz(tmp_path)
  whole = memory.load(path)
  few = subset.first_of(path, whole, (4, 1))
  for found, all_of_it, count in zip(
    flat(few), flat(whole), (4, 4, 1, 1), strict=True
  ):
    np.testing.assert_array_equal(found, all_of_it[:count])
  assert few.facts['num_classes'] == whole.facts['num_classes']
  for first in ((0, 1), (7, 1), (4, 4), (4,)):
    with pytest.raises(checks.DataError, match='has 6 training and 3 test'):
      subset.first_of(path, whole, first)


def test_a_validation_part_is_of_the_training_images_alone(whole):
  part = subset.held_out('digits', whole, 437)
  ids = np.arange(whole.num_examples)
  # The label of each image is its id, so that rows can be told apart.
  marked = whole._replace(train={**whole.train, 'label': ids})
  left = subset.held_out('digits', marked, 437)
  trained, tested = left.train['label'], left.test['label']
  np.testing.assert_array_equal(np.sort([*trained, *tested]), ids)
  assert (np.diff(trained) > 0).all()
  # Drawn at random: its classes are not those of one end of the set.
  assert (tested < 700).any() and (tested > 1000).any()
  np.testing.assert_array_equal(
    part.test['image'], whole.train['image'][tested]
  )
  np.testing.assert_array_equal(
    part.test['label'], whole.train['label'][tested]
  )
  assert 'not used' in part.notes[-1] and '437' in part.notes[-1]


@pytest.mark.parametrize('count', [0, -1, 1437])
def test_some_images_are_left_to_train_on(whole, count):
  with pytest.raises(checks.DataError, match='from 1 to 1436'):
    subset.held_out('digits', whole, count)


def test_a_config_names_the_part():
  config = train_config.default()
  config.data.first = (100, 50)
  config.data.validation = 30
  dataset = open_set(config.data)
  assert (dataset.num_examples, dataset.num_tested) == (70, 30)
  config.seed = 1  # another seed has the same part
  np.testing.assert_array_equal(
    open_set(config.data).test['image'], dataset.test['image']
  )
