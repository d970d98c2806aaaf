"""Segmentation and pose through the program: folders, options, refusals.

`test_pictures.py` trains both.
"""

import pytest

from tests.dense_files import dense_config
from train import tasks
from train.checks import ConfigError
from train.data.open import open_set


@pytest.mark.parametrize(
  ('task', 'changes', 'message'),
  [
    ('segmentation', {'label_smoothing': 0.1}, 'Only classification uses it'),
    ('pose', {'augment.flip': True}, "see the section 'pose'"),
    ('segmentation', {'segmentation.croop': 9}, "Did you mean 'crop'"),
    ('segmentation', {'segmentation.over': 'pixels'}, 'there are two means'),
    ('pose', {'pose.sigma': -1.0}, 'Give a number above 0'),
    ('classification', {}, 'lack label'),
  ],
)
def test_what_cannot_be_trained(task, changes, message, request):
  data = 'people' if task == 'pose' else 'scenes'
  place = request.getfixturevalue(data)
  config = dense_config(task, place)
  with config.unlocked():
    for name, value in changes.items():
      config.update_from_flattened_dict({name: value})
  with pytest.raises(ConfigError, match=message):
    tasks.create(config, open_set(config.data))


def test_a_set_of_another_task(scenes, people):
  config = dense_config('pose', scenes)
  with pytest.raises(ConfigError, match='The task asks for joints'):
    tasks.create(config, open_set(config.data))
  config = dense_config('classification', people)
  with pytest.raises(ConfigError, match='The task asks for num_classes'):
    tasks.create(config, open_set(config.data))


def test_the_first_masks_are_kept_in_memory(scenes):
  config = dense_config('segmentation', scenes)
  config.data.first = (3, 1)
  dataset = open_set(config.data)
  assert dataset.num_examples == 3 and dataset.num_tested == 1
