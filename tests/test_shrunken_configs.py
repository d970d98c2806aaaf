"""One row of each kind in the config files trains, with a tiny network."""

import jax
import numpy as np
import pytest

from tests import dense_sets
from tests.config_files import TABLES, configs_of
from train.data import memory
from train.engine import loop

# Optax's schedules divide an integer by a number.
pytestmark = pytest.mark.usefixtures('standard_promotion')


# What stands in for a network's sizes, by the program's name of the model.
SMALL = {
  'resnet': {'widths': (8,), 'blocks': (1,)},
  'vgg': {'widths': (8,), 'blocks': (1,)},
  'mobilenet': {'widths': (8,), 'blocks': (1,)},
  'wrn': {'depth': 10, 'width': 1},
  'pyramidnet': {'depth': 8, 'alpha': 6},
  'vit': {'patch': 4, 'width': 8, 'depth': 1, 'heads': 2},
  'pspnet': {
    'widths': (4, 6),
    'blocks': (1, 1),
    'bins': (1, 2),
    'head_width': 6,
    'auxiliary_width': 4,
  },
  'deeplabv3plus': {
    'widths': (4, 6),
    'blocks': (1, 1),
    'output_stride': 8,
    'rates': (1, 2),
    'head_width': 6,
  },
  'simcc_hrnet': {
    'width': 4,
    'modules': (1,),
    'blocks': 1,
    'stem_width': 4,
    'stem_blocks': 1,
  },
}


def traits(name, config):
  """What a step is made of: the network's family, and each of the recipe.

  A table with results beyond classification in float has a trait of its own.
  """
  model, optimizer, augment = config.model, config.optimizer, config.augment
  varies = any(isinstance(x, dict) for x in config.method.to_dict().values())
  beyond = config.task != 'classification' or 'quantize' in model
  scores = [row.accuracy for row in TABLES[name].PUBLISHED.values()]
  beyond = beyond and any(score is not None for score in scores)
  return set(
    {
      'network': (model.name, model.get('block')),
      'quantised': 'quantize' in model and model.name,
      'file': beyond and name,
      'optimizer': optimizer.name,
      'schedule': optimizer.schedule,
      'loss': config.loss,
      'smoothing': bool(config.label_smoothing) and config.smoothing_over,
      'noise': bool(config.data.label_noise),
      'varies': varies,
      **{key: bool(augment[key]) for key in ('pad', 'cutout', 'mixup')},
      'randaugment': bool(augment.randaugment_layers),
      'groups': config.examples_per_perturbation is not None,
    }.items()
  )


def cover(rows):
  """Rows among whose traits are those of all rows: the next has most new."""
  left = set().union(*rows.values())
  while left:
    best = max(rows, key=lambda row: len(rows[row] & left))
    yield best
    left -= rows[best]


SHRUNKEN = list(
  cover(
    {
      (name, variant): traits(name, config)
      for name in TABLES
      if 'table' in name
      for variant, config in configs_of(name).items()
    }
  )
)


def shrink(config, path):
  """The same run with a tiny network on the images of a file, for two steps."""
  config = config.copy_and_resolve_references()
  if 'segmentation' in config:
    config.segmentation.crop = 16
    if 'window' in config.segmentation:
      config.segmentation.window = 12
  options = config.model.to_dict()
  options.pop('pretrained', None)
  if 'representation' in options:
    options['representation'] = 8
  config.model = {**options, **SMALL[options['name']]}
  config.data.name = str(path)
  for key, value in {'stream': False, 'size': None, 'crop': 'none'}.items():
    if key in config.data:
      config.data[key] = value
  config.update({'batch_size': 8, 'steps': 2})
  if config.examples_per_perturbation is not None:
    config.examples_per_perturbation = 4
  config.optimizer.warmup_steps = min(config.optimizer.warmup_steps, 1)
  config.checkpoint.every = 0
  return config


@pytest.fixture(scope='module')
def images(tmp_path_factory):
  path = tmp_path_factory.mktemp('data') / 'images.npz'
  rng = np.random.default_rng(0)
  arrays = {}
  for split in ('train', 'test'):
    arrays[f'{split}_x'] = rng.integers(0, 256, (32, 8, 8, 3)).astype(np.uint8)
    arrays[f'{split}_y'] = np.arange(32) % 4
  np.savez(path, **arrays)
  return path


@pytest.mark.parametrize(('name', 'variant'), SHRUNKEN)
def test_a_shrunken_row_trains(name, variant, images):
  config = shrink(configs_of(name)[variant], images)
  dataset = {
    'classification': lambda: memory.load(config.data.name),
    'segmentation': lambda: dense_sets.scenes(16),
    'pose': lambda: dense_sets.people(16),
  }[config.task]()
  program = loop.Program(config, dataset)
  state, order = program.start_epoch(program.init(0), 0, 0)
  before = jax.tree.map(np.array, state.params)
  for ids in order[:2]:
    state, record = program.train_step(state, ids)
    assert np.isfinite(record['loss'])
  assert int(state.step) == 2
  moved = jax.tree.map(lambda a, b: np.any(a != b), before, state.params)
  assert any(jax.tree.leaves(moved))
