"""Many devices in the program: routes, averages, and what cannot be."""

import functools
import re
import types

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest

from tests import driving
from tests.test_program import make_dataset, tiny
from train import checkpoint, devices, feed, loop
from train import config as train_config
from train.log import Log
from train.records import Records
from train.step import Step

STEPS = 7
ROUTES = {
  'pmap': {'parallel': 'pmap'},
  'pmap, host': {'parallel': 'pmap', 'branch': 'host'},
  'shard_map': {'parallel': 'shard_map'},
  'jit': {'parallel': 'jit'},
  'jit, split parameters': {'parallel': 'jit', 'mesh': (2, 2)},
}
RESNET = {'name': 'resnet', 'widths': (2,), 'blocks': (0,)}


# Optax's cosine schedule divides an integer by a number.
@pytest.fixture(autouse=True)
def _standard_promotion(standard_promotion):
  yield


def make_config(variant='arsam', model=None, **changes):
  given = {'steps': STEPS, 'mesh': (4,), **changes}
  config = tiny(variant, **given)
  if model is not None:
    config.model = model
  return config


def method_config(name, arguments=(), **changes):
  config = make_config(**changes)
  config.method = train_config.method(name, **dict(arguments))
  return config


def train(config):
  """(records, scores, parameters) of some steps."""
  program = loop.Program(config, make_dataset())
  state, order = program.start_epoch(program.init(0), 0, 0)
  records = []
  for after, record in program.steps(state, order[:STEPS]):
    records.append(jax.device_get(record))
    state = after
  scores = np.asarray(list(program.test(state).values()))
  return records, scores, jax.device_get(state.params)


@functools.cache
def on_one():
  return train(make_config(mesh=None))


@pytest.mark.parametrize('route', ROUTES)
def test_a_synced_run_is_that_of_one_device(route):
  results = train(make_config(perturbation='synced', **ROUTES[route]))
  assert {bool(record['looked']) for record in results[0]} == {True, False}
  driving.assert_close(results, on_one())


def test_a_local_perturbation_is_that_of_a_group():
  groups = {'examples_per_perturbation': 2}
  local = train(make_config())
  driving.assert_close(train(make_config(mesh=None, **groups)), local)
  driving.assert_close(train(make_config(parallel='jit', **groups)), local)
  assert local[0][-1]['loss'] != pytest.approx(
    on_one()[0][-1]['loss'], rel=1e-4
  )


class Lines(Log):
  """A log that keeps the records."""

  def __init__(self):
    super().__init__(None)
    self.kept = []

  def steps(self, first, records, images_per_second):
    self.kept += records


def test_the_epochs_of_a_method_that_leaves_out_examples_are_those_of_one():
  kept = []
  for mesh in (None, (4,)):
    config = method_config(
      'sam_infobatch', mesh=mesh, steps=14, perturbation='synced'
    )
    lines = Lines()
    loop.Program(config, make_dataset()).run(0, lines)
    kept.append(lines.kept)
  driving.assert_close(*kept)


def gathered(step, function, state, *arguments):
  """What a function makes of its own rows, from all devices."""
  if step.devices.route != 'jit':
    own = function
    function = lambda *arguments: jax.lax.all_gather(
      own(*arguments), 'data', tiled=True
    )
  compiled = step.devices.compile(function, (state, *arguments), rows=(1,))
  return np.asarray(compiled(state, *arguments))


@pytest.mark.parametrize(('route', 'differ'), [('pmap', True), ('jit', False)])
def test_the_devices_draw_their_own_augmentation_but_by_jit(route, differ):
  changes = {'augment': {**make_config().augment.to_dict(), 'pad': 3}}
  dataset = make_dataset()
  alike = dataset._replace(train_images=dataset.train_images[:1].repeat(70, 0))

  def images(**given):
    step = Step(make_config(**changes, **given), alike)
    data = feed.Resident(alike, step.devices).whole
    ids = step.devices.batch(np.arange(8, dtype=np.int32))
    draw = lambda state, ids, data: step.examples(state, ids, data)[0]
    return gathered(step, draw, program.init(0), ids, data)

  program = loop.Program(make_config(mesh=None), dataset)
  one = images(mesh=None)
  program = loop.Program(make_config(parallel=route), dataset)
  many = images(parallel=route)
  assert np.any(many != one) == differ
  # No two devices have the same draws for their first and second example.
  pairs = many.reshape(4, -1)
  assert len(np.unique(pairs, axis=0)) == 4


def test_what_devices_share_is_the_mean_and_the_keys_that_were():
  chosen = devices.choose(make_config(parallel='pmap'))
  before = {
    'key': jax.random.key(3),
    'count': jnp.asarray(5, jnp.int32),
    'mean': jnp.zeros(2),
  }
  before = chosen.place(before)

  def step(before, x):
    own = chosen.own(before)
    noise = jax.random.uniform(own['key'], (1,))
    noises = jax.lax.all_gather(noise, 'data', tiled=True)
    count = own['count'] + 1
    after = {'key': own['key'], 'count': count, 'mean': x[0]}
    return noises, chosen.common(after, before)

  x = chosen.batch(np.arange(8, dtype=np.float32).reshape(4, 2))
  noises, after = chosen.compile(step, (before, x), rows=(1,))(before, x)
  assert len(np.unique(noises)) == 4
  np.testing.assert_array_equal(after['mean'], [3, 4])
  assert after['count'] == 6
  assert driving.equal(after['key'], before['key'])


def test_running_statistics_are_the_means_over_devices_or_groups():
  dataset = make_dataset()
  ids = np.arange(8, dtype=np.int32)

  def after(**changes):
    config = make_config('sgd', RESNET, **changes)
    program = loop.Program(config, dataset)
    state, record = program.train_step(program.init(0), ids)
    return jax.device_get((state.statistics, record['accuracy']))

  step = Step(make_config('sgd', RESNET, mesh=None), dataset)
  program = loop.Program(make_config(mesh=None), dataset, step)
  state = program.init(0)

  @jax.jit
  def of_own(ids):
    examples = step.examples(state, ids, program.feed.whole)
    aux = step.loss_fn(state)(state.params, examples)[1]
    return aux['statistics'], aux['accuracy']

  halves = [of_own(ids[:4]), of_own(ids[4:])]
  expected = jax.tree.map(lambda *x: sum(x) / 2, *halves)
  driving.assert_close(after(mesh=(2,), parallel='shard_map'), expected)
  driving.assert_close(after(mesh=None, examples_per_perturbation=4), expected)
  # By jit it is one batch.
  whole = after(mesh=(2,), parallel='jit')
  driving.assert_close(whole, of_own(ids))
  flat = lambda tree: jax.flatten_util.ravel_pytree(tree)[0]
  assert not np.allclose(flat(whole), flat(expected))


@pytest.mark.parametrize('mesh', [(4,), (2, 2)])
def test_a_state_comes_back_to_where_it_was(mesh, tmp_path):
  config = make_config(parallel='jit', mesh=mesh)
  program = loop.Program(config, make_dataset())
  state, order = program.start_epoch(program.init(3), 3, 0)
  state, _ = program.train_step(state, order[0])
  expected = driving.values(state)
  progress = checkpoint.Progress(1, 1, order, 1)
  records = Records(Log.nowhere(), 8, lambda: 1.0, logged=1)
  with checkpoint.Checkpoints(tmp_path, 1, total_steps=1) as checkpoints:
    checkpoints.after_step(state, progress, records)
    restored, _ = checkpoints.restore(program.init(0), logged=1)
  for a, b in zip(driving.values(restored), expected, strict=True):
    np.testing.assert_array_equal(a, b)
  kernels = [x for x in jax.tree.leaves(restored.params) if x.ndim > 1]
  assert {x.is_fully_replicated for x in kernels} == {len(mesh) == 1}
  # The step was compiled for arrays that lie where these do.
  program.train_step(restored, order[1])


def test_without_a_word_a_cpu_is_one_device_and_accelerators_are_all():
  config = tiny()
  assert Step(config, make_dataset()).devices.mesh is None
  there = [types.SimpleNamespace(platform='gpu')] * 4
  assert devices._shape(config, there) == (4,)


BAD = {
  'rows': ({'mesh': (3,)}, 'a multiple of 3, such as 9'),
  'too many': ({'mesh': (4, 4), 'parallel': 'jit'}, 'DEVICES=16'),
  'no device': ({'mesh': (0,)}, 'such as 8'),
  'three axes': ({'mesh': (2, 2, 2)}, 'one or two numbers'),
  'route': ({'parallel': 'pamp'}, "Did you mean 'pmap'"),
  'perturbation': ({'perturbation': 'lokal'}, "Did you mean 'local'"),
  'split by pmap': ({'mesh': (2, 2), 'parallel': 'pmap'}, "parallel='jit'"),
  'local by jit': (
    {'parallel': 'jit', 'perturbation': 'local'},
    'examples_per_perturbation=2',
  ),
  'groups': ({'examples_per_perturbation': 3}, 'a divisor of 2'),
  'no group': ({'examples_per_perturbation': 0}, 'Use 1 or more'),
  'synced groups': (
    {'examples_per_perturbation': 2, 'perturbation': 'synced'},
    'Leave one',
  ),
  'reference': (
    {'reference': {'batch_size': 9, 'contains_batch': False}},
    'reference.batch_size=9',
  ),
}


@pytest.mark.parametrize('name', BAD)
def test_what_cannot_be_is_refused(name):
  changes, expected = BAD[name]
  with pytest.raises(train_config.ConfigError) as error:
    loop.Program(make_config(**changes), make_dataset())
  assert expected in str(error.value)
  # Given, why not, what would work.
  assert len(re.findall(r'[.:] ', str(error.value))) >= 2


def test_a_method_that_cannot_share_its_examples_is_refused():
  config = method_config('sam_random', {'keep': 0.3}, perturbation='synced')
  with pytest.raises(train_config.ConfigError, match='on 4 devices'):
    loop.Program(config, make_dataset())
