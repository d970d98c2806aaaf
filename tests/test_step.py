"""A step of the program: its statistics, its dtypes and its micro-batches."""

import functools
import json

import flax.linen as nn
import jax
import numpy as np
import pytest

import sam_optax
from tests import tiny_config
from tests.tiny_runs import make_dataset, run_to, tiny
from train import config as train_config
from train.engine import feed, loop
from train.engine.step import Step

# Optax's cosine schedule divides an integer by a number.
pytestmark = pytest.mark.usefixtures('standard_promotion')


def stem_statistics(program, state, ids):
  """The mean and variance of the first convolution's outputs on a batch."""
  rows = feed.Batch(ids, program.feed.full_set).rows(ids)
  images = program.step.prepare(state, rows)['image']
  convolution = nn.Conv(4, (3, 3), padding=1, use_bias=False)
  outputs = convolution.apply({'params': state.params['stem_conv']}, images)
  return {'mean': outputs.mean((0, 1, 2)), 'var': outputs.var((0, 1, 2))}


def test_statistics_come_from_one_pass_per_step():
  # With one pass counted twice BatchNorm's mean would have moved further.
  config = tiny('arsam', steps=2)
  config.model = {'name': 'resnet', 'widths': (4,), 'blocks': (1,)}
  stepped = []
  for variant in tiny_config.VARIANTS:
    config.method = tiny(variant).method
    program = loop.Program(config, make_dataset())
    state, order = program.start_epoch(program.init(seed=0), 0, 0)
    expected, kept = {'mean': np.zeros(4), 'var': np.ones(4)}, []
    for ids in order[:2]:
      batch = stem_statistics(program, state, ids)
      expected = {k: 0.9 * expected[k] + 0.1 * batch[k] for k in batch}
      state, _ = program.train_step(state, ids)
      kept.append(jax.device_get(state.statistics))
      for name, values in expected.items():
        found = kept[-1]['stem_norm'][name]
        np.testing.assert_allclose(found, values, rtol=1e-4, atol=1e-6)
    stepped.append(kept[0])
  for one, two in zip(*map(jax.tree.leaves, stepped), strict=True):
    np.testing.assert_allclose(one, two, rtol=1e-5)


def test_each_step_of_each_seed_augments_anew():
  config = tiny('sgd')
  config.augment.pad = 2
  step, rows = Step(config, make_dataset()), make_dataset().train
  rows = {**{name: x[:8] for name, x in rows.items()}, 'id': np.arange(8)}
  model = step.model(seed=0)

  def images(number, seed):
    state = step.init(model.params, model.statistics, seed)
    state = state._replace(step=np.int32(number))
    return np.asarray(step.prepare(state, rows)['image'])

  first = images(0, 0)
  np.testing.assert_array_equal(images(0, 0), first)
  assert np.any(images(1, 0) != first)
  assert np.any(images(0, 1) != first)


@pytest.mark.parametrize('contains', [True, False])
def test_the_second_gradient_source_is_drawn_for_each_batch(contains):
  config = tiny('sgd')
  config.reference = {'batch_size': 12, 'contains_batch': contains}
  program = loop.Program(config, make_dataset())
  batches = np.random.default_rng(0).permutation(70)[:16].reshape(2, 8)
  drawn = [program._batch(ids, None).reference_ids for ids in batches]
  for ids, found in zip(batches, drawn, strict=True):
    assert len(np.unique(found)) == len(found) == 12
    assert found.max() < 70
    assert set(ids) <= set(found) or not contains
    again = program._batch(ids, None).reference_ids
    np.testing.assert_array_equal(again, found)
  assert set(drawn[0]) != set(drawn[1])


def test_a_method_is_told_what_the_program_knows(monkeypatch):
  told = {}

  def asking(
    num_examples=None,
    num_classes=None,
    steps_per_epoch=None,
    total_steps=None,
    learning_rate=None,
    base=None,
    rho=0.1,
  ):
    return sam_optax.sam(rho)

  @functools.wraps(asking)
  def recorded(**given):
    told.update(given)
    return asking(**given)

  config = tiny('sgd')
  monkeypatch.setattr(sam_optax, 'METHODS', {'asking': recorded})
  config.method = train_config.method('asking', rho=0.2)
  config.optimizer.update({'momentum': 0.0, 'weight_decay': 0.0})
  Step(config, make_dataset())
  rate, base = told.pop('learning_rate'), told.pop('base')
  # 70 examples in batches of 8, for 12 steps.
  assert told == {
    'num_examples': 70,
    'num_classes': 10,
    'steps_per_epoch': 8,
    'total_steps': 12,
    'rho': 0.2,
  }
  half = config.optimizer.learning_rate / 2  # of a cosine
  assert rate(6) == pytest.approx(half)
  params = np.ones(2, np.float32)
  updates, _ = base.update(params, base.init(params), params)
  np.testing.assert_allclose(updates, -2 * half * params, rtol=1e-6)


@pytest.mark.parametrize(
  ('backend', 'dtype', 'expected'),
  [
    ('cpu', 'auto', 'float32'),
    ('gpu', 'auto', 'bfloat16'),
    ('tpu', 'auto', 'bfloat16'),
    ('gpu', 'float32', 'float32'),
    ('cpu', 'bfloat16', 'bfloat16'),
  ],
)
def test_the_device_decides_what_is_computed_in(
  backend, dtype, expected, monkeypatch
):
  monkeypatch.setattr(jax, 'default_backend', lambda: backend)
  step = Step(tiny('sgd', dtype=dtype), make_dataset())
  model = step.model(seed=0)
  images = jax.ShapeDtypeStruct((8, 8, 8, 1), np.float32)
  program = jax.make_jaxpr(step.apply, static_argnums=3)(
    model.params, model.statistics, images, True
  )
  hidden, head = (
    {str(var.aval.dtype) for var in eqn.invars}
    for eqn in program.eqns
    if eqn.primitive.name == 'dot_general'
  )
  assert hidden == {expected}
  assert head == {'float32'}  # of any network, so that logits keep their digits
  assert {str(x.dtype) for x in jax.tree.leaves(model.params)} == {'float32'}


def test_a_dtype_of_the_models_own_goes_first(monkeypatch):
  monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
  config = tiny('sgd')
  config.model.dtype = 'float32'
  step = Step(config, make_dataset())
  program = jax.make_jaxpr(step.apply, static_argnums=3)(
    *step.model(seed=0)[:2], np.zeros((8, 8, 8, 1), np.float32), True
  )
  assert 'bf16' not in str(program)


def test_micro_batches_give_the_same_run(tmp_path):
  # ESAM passes half of the batch of eight, so 3, 3, 2 and then 3, 1.
  runs = [tiny('sgd', micro_batch=size) for size in (None, 3)]
  lines = []
  for number, config in enumerate(runs):
    config.method = train_config.method('esam')
    program = loop.Program(config, make_dataset())
    lines.append(run_to(tmp_path / str(number), program, 0).splitlines())
  for a, b in zip(*lines, strict=True):
    assert json.loads(a) == pytest.approx(json.loads(b), rel=1e-4, abs=1e-6)


def test_each_micro_batch_draws_its_own_dropout(monkeypatch):
  config = tiny('sgd')
  step = Step(config, make_dataset())

  def apply(params, statistics, images, train):
    """A network of nothing but what Flax's dropout draws."""
    del params, train
    key = jax.random.fold_in(statistics['key'], statistics['count'])
    outputs = jax.random.normal(key, (len(images), 10))
    return outputs, {**statistics, 'count': statistics['count'] + 1}

  monkeypatch.setattr(step, 'apply', apply)
  start = {'key': jax.random.key(7), 'count': np.int32(3)}
  state = step.init(step.model(seed=0).params, start, 0)
  batch = {
    'image': np.ones((8, 8, 8, 1), np.float32),
    'target': np.tile(np.eye(10, dtype=np.float32)[3], (8, 1)),
  }
  losses = {}
  for size in (None, 8, 3, 2):  # the 3: in parts of 3, 3 and 2
    config.micro_batch = size
    loss_fn = step.loss_fn(state)
    losses[size], aux = loss_fn(state.params, batch)
    # Equal images, so that only what is drawn tells them apart.
    assert len(np.unique(losses[size])) == 8, size
    # Both passes of a step draw the same.
    again, _ = loss_fn(state.params, batch)
    np.testing.assert_array_equal(again, losses[size])
    # The key stays that of the run, and the count is that of one pass.
    assert aux['statistics']['key'] == start['key'], size
    assert aux['statistics']['count'] == 4, size
  np.testing.assert_array_equal(losses[8], losses[None])


def test_statistics_are_the_mean_of_those_of_the_micro_batches():
  found = {}
  for size in (None, 2):
    config = tiny('sgd', micro_batch=size)
    config.model = {'name': 'resnet', 'widths': (2,), 'blocks': (0,)}
    step = Step(config, make_dataset())
    model = step.model(seed=0)
    state = step.init(model.params, model.statistics, 0)
    images = np.random.default_rng(0).normal(size=(4, 8, 8, 1))
    batch = {
      'image': images.astype(np.float32),
      'target': np.eye(10, dtype=np.float32)[:4],
    }
    forward = jax.jit(step.loss_fn(state))
    found[size] = forward(state.params, batch)[1]['statistics']
    if size is None:  # what accumulate calls the micro-batches: 0 2 and 1 3
      parts = [
        forward(state.params, {name: x[k::2] for name, x in batch.items()})
        for k in range(2)
      ]
  parts = [aux['statistics'] for _, aux in parts]
  mean = jax.tree.map(lambda x, y: (x + y) / 2, *parts)
  for one, two in zip(*map(jax.tree.leaves, (found[2], mean)), strict=True):
    np.testing.assert_allclose(one, two, rtol=1e-5)
