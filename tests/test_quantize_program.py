"""Quantised runs of the program, from the folder of a float run to a result."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from tests import driving, runs
from tests.runs import Program
from tests.tiny_runs import make_dataset, records, tiny
from train import config as train_config
from train import models, predict
from train.checks import ConfigError
from train.data.open import open_set
from train.engine import loop, network
from train.models import quantize
from train.models.quantize.network import step_mask
from train.report import results
from train.run import run
from train.tools.demos import DEMOS

STEPS = 8


# Optax's cosine schedule divides an integer by a number.
pytestmark = pytest.mark.usefixtures('standard_promotion')


def make_config(method='sam', **changes):
  """A convolution of 8 channels and a block of two, on part of the digits."""
  config = train_config.default()
  config.update({'batch_size': 16, 'steps': STEPS, 'log_every': 4})
  config.data.first = (64, 40)
  config.model = {'name': 'resnet', 'widths': (8,), 'blocks': (1,)}
  config.mesh = (1,)
  config.optimizer.learning_rate = 0.02
  config.method = train_config.method(method)
  config.update(changes)
  return config


def quantised(folder, method='sam', **changes):
  config = make_config(method, **changes)
  config.model.quantize = quantize.section(2, 4)
  config.model.pretrained = str(folder)
  return config


def make_mlp(settings=None, **changes):
  config = tiny('sgd', **changes)
  config.method = train_config.method('sam', rho=0.1)
  config.model.quantize = {'weights': 2, 'activations': 4, **(settings or {})}
  return config


@pytest.fixture(scope='module')
def started(tmp_path_factory):
  """The folder of a float run."""
  with jax.numpy_dtype_promotion('standard'):
    folder = tmp_path_factory.mktemp('float') / 'run'
    run(make_config('identity'), folder, bar=False)
    return folder


@pytest.fixture(scope='module')
def trained(started, tmp_path_factory):
  """A quantised run: its program, its folder and its result."""
  with jax.numpy_dtype_promotion('standard'):
    config = quantised(started)
    program = Program(config, open_set(config.data))
    folder = tmp_path_factory.mktemp('quantised') / 'run'
    return program, folder, run(config, folder, program, bar=False)


def test_it_starts_from_the_float_run(started, trained):
  program, *_ = trained
  arrays = predict.load(started)._arrays
  state = program.init(0)
  kept = lambda tree: {
    jax.tree_util.keystr(path): leaf
    for path, leaf in jax.tree.leaves_with_path(tree)
    if 'promote_dtype' not in jax.tree_util.keystr(path)
  }
  for found, expected in zip(
    (state.params, state.statistics), arrays, strict=True
  ):
    driving.assert_close(kept(found), kept(expected))
  # Two layers within, after ReLU; the stem sees what is normalised.
  steps = state.params['blocks'][0]['conv2']['promote_dtype']
  kernel = state.params['blocks'][0]['conv2']['kernel']
  np.testing.assert_allclose(
    steps['weight_step'], quantize.initial_step(kernel, 1), rtol=1e-6
  )
  assert 0 < steps['input_step'] != 1
  signed = lambda layer: int(layer['promote_dtype']['signed'])
  assert signed(state.statistics['stem_conv']) == 1
  assert signed(state.statistics['blocks'][0]['conv2']) == 0


def test_an_interrupted_run_ends_as_one_that_was_not(trained, tmp_path):
  runs.assert_resumes(*trained, tmp_path / 'run', stops=(3, 5))


def test_the_share_of_flipped_codes_is_logged_with_each_test(trained):
  _, folder, result = trained
  tested = [line for line in records(folder) if 'test_loss' in line]
  assert len(tested) == 2  # epochs of 4 steps
  assert all(0 < line['test_flipped_codes'] < 0.5 for line in tested)
  assert result.scores['flipped_codes'] == tested[-1]['test_flipped_codes']


def test_a_quantised_model_predicts_what_was_tested(trained):
  program, folder, result = trained
  test = open_set(program.config.data).test
  found = predict.load(folder)(test['image']).probabilities.argmax(1)
  assert np.mean(found == test['label']) == pytest.approx(
    result.scores['accuracy']
  )


def test_a_sweep_of_two_seeds_compiles_once(started, tmp_path):
  config = quantised(started, 'identity')
  config.checkpoint.every = 0
  _, results = runs.of_two_seeds(config, tmp_path)
  assert results[0]['test_flipped_codes'] == 0  # it never perturbs


def _steps_of(config, count=2):
  program = loop.Program(config, make_dataset())
  state, order = program.start_epoch(program.init(0), 0, 0)
  begun = jax.device_get((state.params, state.statistics))
  losses = []
  for after, record in program.steps(state, order[:count]):
    losses.append(np.asarray(record['loss']))
    state = after
  return begun, losses, np.asarray(program.test(state)['flipped_codes'])


@pytest.mark.parametrize('route', ['pmap', 'shard_map', 'jit'])
def test_many_devices_start_and_step_as_one(route):
  synced = {'perturbation': 'synced', 'parallel': route, 'mesh': (4,)}
  driving.assert_close(
    _steps_of(make_mlp(**synced)), _steps_of(make_mlp(mesh=(1,)))
  )


def test_bfloat16_is_of_the_products_and_not_of_the_steps():
  (params, statistics), losses, share = _steps_of(make_mlp(dtype='bfloat16'))
  del statistics
  assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(params))
  assert np.isfinite(losses).all() and 0 < share < 1


def test_the_share_is_of_the_codes_that_the_perturbation_changes():
  program = loop.Program(make_mlp(mesh=(1,)), make_dataset())
  state, step = program.init(0), program.step
  batch = program._batch(np.arange(8, dtype=np.int32), program.feed.full_set)
  rows = step.prepare(state, batch.rows(batch.candidates))
  grads = jax.grad(lambda p: jnp.mean(step.loss_fn(state)(p, rows)[0]))(
    state.params
  )
  radius = 0.1 / optax.tree.norm(grads)
  point = jax.tree.map(lambda p, g: p + radius * g, state.params, grads)
  assert step.network.compare is not None
  expected = step.network.compare(state.params, point)
  driving.assert_close(step.compare(state, batch), expected)
  assert 0 < expected['flipped_codes'] < 0.5


def test_steps_that_are_not_perturbed_keep_their_value_and_their_gradient():
  program = loop.Program(make_mlp({'perturb_steps': False}), make_dataset())
  state, step = program.init(0), program.step
  moved = jax.tree.map(lambda leaf: 1.3 * leaf, state.params)
  mixed = jax.tree.map(
    lambda is_step, at, other: at if is_step else other,
    step_mask(state.params),
    state.params,
    moved,
  )
  batch = program._batch(np.arange(8, dtype=np.int32), program.feed.full_set)
  rows = step.prepare(state, batch.rows(batch.candidates))
  loss = lambda params: jnp.mean(step.loss_fn(state)(params, rows)[0])
  driving.assert_close(
    jax.value_and_grad(loss)(moved), jax.value_and_grad(loss)(mixed)
  )
  steps = jax.grad(loss)(moved)['hidden'][0]['promote_dtype']
  assert steps['weight_step'] != 0


@pytest.mark.parametrize('decayed', ['all', 'kernels'])
def test_steps_decay_with_the_weights_unless_they_are_left_out(decayed):
  changes = {}
  for decay_steps in (True, False):
    config = make_mlp({'decay_steps': decay_steps})
    config.optimizer.decayed = decayed
    view = network.build(config, {'num_classes': 10}, (8, 8, 1), seed=0)
    optimizer = train_config.build_optimizer(config, 10, view.undecayed)
    zeros = jax.tree.map(jnp.zeros_like, view.params)
    state = optimizer.init(view.params)
    updates, _ = optimizer.update(zeros, state, view.params)
    assert np.any(updates['hidden'][0]['kernel'] != 0)
    changes[decay_steps] = updates['hidden'][0]['promote_dtype']['input_step']
  assert (changes[True] != 0) == (decayed == 'all')
  assert changes[False] == 0


@pytest.mark.parametrize(
  ('given', 'expected'),
  [
    ({'weights': 0}, 'In quantize.weights: Cannot quantise to 0 bits'),
    ({'activations': 1.5}, 'Give a whole number of bits'),
    ({'ends': 33}, 'float32 holds no more than 16'),
    ({'weights': True}, 'Cannot quantise to True bits'),
    ({'wieghts': 4}, "there is no such key. Did you mean 'weights'"),
    ({'perturb_steps': 'no'}, 'Give True or False'),
    ({'activations': None}, 'Cannot quantise to None bits'),
    (4, "Give {'weights': 4, 'activations': 4}"),
  ],
)
def test_a_section_that_cannot_be_used_is_refused(given, expected):
  config = make_config()
  if isinstance(given, dict):
    given = {'weights': 4, 'activations': 4, **given}
  config.model.quantize = given
  with pytest.raises(ConfigError) as error:
    network.build(config, {'num_classes': 10}, (8, 8, 1), seed=0)
  assert str(error.value).startswith('In model: ')
  assert expected in str(error.value)


def test_bits_have_no_default():
  config = make_config()
  config.model.quantize = {'weights': 4}
  with pytest.raises(ConfigError, match='without quantize.activations'):
    network.build(config, {'num_classes': 10}, (8, 8, 1), seed=0)


def test_a_network_without_layers_is_refused(monkeypatch):
  def plain(*, image_shape, num_classes, rngs):
    del image_shape, num_classes
    return nnx.BatchNorm(1, rngs=rngs)

  monkeypatch.setattr(models, '_MODELS', {'plain': plain})
  config = make_config()
  config.model = {'name': 'plain', 'quantize': quantize.section(4, 4)}
  with pytest.raises(ConfigError, match='no convolution and no dense layer'):
    network.build(config, {'num_classes': 10}, (8, 8, 1), seed=0)


@pytest.mark.parametrize(
  ('place', 'changes', 'expected'),
  [
    ('nowhere', {}, 'There is no such folder'),
    ('', {}, 'which a run writes when it is finished'),
    ('run', {'widths': (6,)}, 'are not those of its network'),
  ],
)
def test_a_float_run_that_cannot_be_the_start(
  place, changes, expected, started
):
  config = quantised(started.parent / place)
  config.model.update(changes)
  with pytest.raises(ConfigError, match=expected):
    network.build(config, {'num_classes': 10}, (8, 8, 1), seed=0)


def test_the_picture_of_the_demonstration(trained, tmp_path):
  found = results.read(trained[1])
  DEMOS['quantisation'].picture(
    {'SAM': found}, results.main_of(found), 'a title', tmp_path / 'demo.png'
  )
  assert (tmp_path / 'demo.png').read_bytes().startswith(b'\x89PNG')
