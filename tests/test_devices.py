"""Many devices in the program: routes, averages, and what cannot be."""

import functools
import re
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import driving
from tests.tiny_runs import make_dataset, tiny
from train import config as train_config
from train.engine import checkpoint, feed, loop
from train.engine.log import Log
from train.engine.records import Records
from train.engine.step import Step, TrainState
from train.parallel import devices
from train.parallel import mesh as train_mesh

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
pytestmark = pytest.mark.usefixtures('standard_promotion')


def make_config(variant='arsam', model=None, **changes):
  given = {'steps': STEPS, 'mesh': (4,), **changes}
  config = tiny(variant, **given)
  if model is not None:
    config.model = model
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
  assert {bool(record['perturbed']) for record in results[0]} == {True, False}
  driving.assert_close(results, on_one())


def test_a_local_perturbation_is_that_of_a_group():
  local = train(make_config())
  groups = make_config(parallel='jit', examples_per_perturbation=2)
  driving.assert_close(train(groups), local)
  synced = on_one()[0][-1]['loss']
  assert local[0][-1]['loss'] != pytest.approx(synced, rel=1e-4)


def test_a_second_source_of_gradients_is_spread_too():
  results = []
  for mesh in (None, (4,)):
    config = make_config(
      mesh=mesh,
      perturbation='synced',
      reference={'batch_size': 12, 'contains_batch': True},
    )
    config.method = train_config.method('sam_full', rho=0.05)
    results.append(train(config))
  driving.assert_close(*results)


def test_the_batches_are_drawn_from_the_examples_that_stay():
  config = make_config(steps=40)
  config.method = train_config.method('sam_infobatch', rho=0.05)
  program = loop.Program(config, make_dataset())
  state, order = program.start_epoch(program.init(0), 0, 0)
  for ids in order:
    state, _ = program.train_step(state, ids)
  state, order = program.start_epoch(state, 0, 1)
  weight = np.asarray(state.method.selection.weight)
  assert np.any(weight == 0) and np.all(weight[order] > 0)
  program.train_step(state, order[0])


@pytest.mark.parametrize(('route', 'differ'), [('pmap', True), ('jit', False)])
def test_the_devices_draw_their_own_augmentation_but_by_jit(route, differ):
  augment = {**make_config().augment.to_dict(), 'pad': 3}
  dataset = make_dataset()
  image = dataset.train['image'][:1].repeat(70, 0)
  alike = dataset._replace(train={**dataset.train, 'image': image})
  zero, key = np.zeros([], np.int32), jax.random.key(0)
  state = TrainState(zero, key, *[None] * 5)

  def images(**given):
    step = Step(make_config(augment=augment, **given), alike)
    fields = step.task.fields

    def draw(state, batch):
      return step.prepare(state, batch.rows(batch.candidates))['image']

    if step.devices.route == 'pmap':
      own = draw
      draw = lambda *given: jax.lax.all_gather(own(*given), 'data', tiled=True)
    batch = feed.Batch(
      step.devices.batch(np.arange(8, dtype=np.int32)),
      feed.InMemoryFeed(alike, fields, step.devices).full_set,
    )
    arguments = step.devices.place(state), batch
    split = (False, feed.Batch(True, False))
    return step.devices.compile(draw, arguments, split)(*arguments)

  many, one = np.asarray(images(parallel=route)), images(mesh=None)
  assert np.any(many != one) == differ
  # No two devices have the same draws for their examples.
  assert len(np.unique(many.reshape(4, -1), axis=0)) == 4


def test_what_devices_share_is_the_mean_and_the_keys_that_were():
  chosen = train_mesh.choose(make_config(parallel='pmap'))
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
  noises, after = chosen.compile(step, (before, x), (False, True))(before, x)
  assert len(np.unique(noises)) == 4
  np.testing.assert_array_equal(after['mean'], [3, 4])
  assert after['count'] == 6
  assert driving.equal(after['key'], before['key'])


def test_devices_drop_by_draws_of_their_own():
  step = Step(make_config('sgd', parallel='pmap'), make_dataset())
  # A network whose outputs are a draw from its random stream.
  step.apply = lambda params, statistics, images, train: (
    jax.random.normal(statistics['dropout'], (len(images), 10)),
    statistics,
  )
  state = TrainState(np.int32(0), jax.random.key(0), *[None] * 5)
  state = state._replace(statistics={'dropout': jax.random.key(1)})
  batch = {
    'image': np.zeros((8, 8, 8, 1), np.float32),
    'target': np.eye(10, dtype=np.float32)[:1].repeat(8, 0),
  }

  def draw(state, batch):
    losses, _ = step.loss_fn(state)(None, batch)
    return jax.lax.all_gather(losses, 'data', tiled=True)

  arguments = step.devices.place(state), step.devices.batch(batch)
  run = step.devices.compile(draw, arguments, (False, True))
  assert len(np.unique(run(*arguments))) == 8


def test_of_groups_the_statistics_are_the_means_too():
  key = jax.random.key(3)
  before = {'key': key, 'count': np.int32(5), 'mean': np.zeros(2)}
  after = {
    'key': jnp.stack([key, key]),
    'count': np.array([6, 6]),
    'mean': np.array([[1.0, 2.0], [3.0, 4.0]]),
  }
  common = devices.Devices(group=4).common(after, before)
  assert driving.equal(common['key'], key)
  assert common['count'] == 6
  np.testing.assert_array_equal(common['mean'], [2, 3])


def test_batch_norm_is_of_a_device_and_its_statistics_are_the_means():
  dataset, ids = make_dataset(), np.arange(8, dtype=np.int32)
  config = make_config('sgd', RESNET, mesh=(2,), parallel='shard_map')
  program = loop.Program(config, dataset)
  state, record = program.train_step(program.init(0), ids)
  step = Step(make_config('sgd', RESNET, mesh=None), dataset)
  one = loop.Program(step.config, dataset, step)
  before = one.init(0)

  @jax.jit
  def of_own(ids):
    batch = feed.Batch(ids, one.feed.full_set)
    examples = step.prepare(before, batch.rows(ids))
    aux = step.loss_fn(before)(before.params, examples)[1]
    return aux['statistics'], aux['scalars']['accuracy']

  halves = [of_own(ids[:4]), of_own(ids[4:])]
  expected = jax.tree.map(lambda *x: sum(x) / 2, *halves)
  driving.assert_close((state.statistics, record['accuracy']), expected)


def test_a_state_comes_back_to_where_it_was(tmp_path):
  config = make_config(parallel='jit', mesh=(2, 2))
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
  assert not any(x.is_fully_replicated for x in kernels)
  # The step was compiled for arrays that lie where these do.
  program.train_step(restored, order[1])


def test_another_number_of_devices_goes_on_with_a_warning(tmp_path, capsys):
  program = loop.Program(make_config(mesh=(2,)), make_dataset())
  state, order = program.start_epoch(program.init(0), 0, 0)
  progress = checkpoint.Progress(step=1, order=order)

  def opened(num_devices):
    return checkpoint.Checkpoints(
      tmp_path, every=1, total_steps=1, num_devices=num_devices
    )

  with opened(2) as saving:
    saving.after_step(state, progress, Records(Log.nowhere(), 1, lambda: 1.0))
  for num_devices, warned in ((2, False), (4, True)):
    with opened(num_devices) as saved:
      assert saved.restore(state, logged=1) is not None
    said = capsys.readouterr().err
    assert ('saved on 2 devices and resumed on 4' in said) == warned


def test_without_a_word_a_cpu_is_one_device_and_accelerators_are_all():
  config = tiny()
  assert Step(config, make_dataset()).devices.mesh is None
  there = [types.SimpleNamespace(platform='gpu')] * 4
  assert train_mesh._shape(config, there) == (4,)


def test_a_mesh_of_one_device_is_refused_in_several_processes(monkeypatch):
  monkeypatch.setattr(jax, 'process_count', lambda: 2)
  with pytest.raises(train_config.ConfigError, match='or mesh=None for all'):
    train_mesh.choose(make_config(mesh=(1,)))


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
  config = make_config(perturbation='synced')
  config.method = train_config.method('sam_random', keep=0.3)
  with pytest.raises(train_config.ConfigError, match='on 4 devices'):
    loop.Program(config, make_dataset())
