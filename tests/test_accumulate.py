"""Losses in micro-batches; `test_matrix` compares all methods on them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sam_optax
from tests import routes
from tests.given import refused
from tests.methods import method

X = jnp.asarray(np.random.default_rng(0).normal(size=(8, 3)), jnp.float32)


def mean_of(loss_fn):
  return lambda params, batch: jnp.mean(loss_fn(params, batch)[0])


def everything(w, x):
  """Every kind of aux, for three examples and three classes."""
  outputs = jnp.tanh(x @ w)
  aux = {
    'rows': x * w[None],
    'three': jnp.mean(x, axis=0),  # not per example, though of the same length
    'count': jnp.asarray(x.shape[0]),
    'key': jax.random.key(7),
    'half': jnp.max(outputs).astype(jnp.bfloat16),
    'none': None,
  }
  return outputs**2, aux


@pytest.mark.parametrize('size', [3, 4])
def test_losses_and_aux_are_as_of_the_whole_batch(size):
  w = jnp.asarray([0.3, -0.2, 0.5])
  expected, whole = everything(w, X)
  values, aux = sam_optax.accumulate(everything, size)(w, X)
  np.testing.assert_allclose(values, expected, rtol=1e-6)
  np.testing.assert_allclose(aux['rows'], whole['rows'], rtol=1e-6)
  # Weighted by size: the mean over parts of 3, 3 and 2 is the mean over 8.
  np.testing.assert_allclose(aux['three'], whole['three'], rtol=1e-5)
  assert aux['count'] == (8 % size or size)  # of the last part
  assert aux['key'] == whole['key'] and aux['none'] is None
  assert aux['half'].dtype == jnp.bfloat16


@pytest.mark.parametrize('size', [3, 4])
@pytest.mark.parametrize(
  'aux',
  [
    lambda outputs: outputs.T,
    lambda outputs: outputs @ outputs.T,  # first and second
    lambda outputs: outputs.ravel(),
  ],
)
def test_examples_along_another_axis_of_aux_are_refused(size, aux):
  loss_fn = lambda w, x: (jnp.sum(x @ w, axis=1), {'z': aux(x @ w)})
  with refused("aux ['z']", '[batch, ...]'):
    sam_optax.accumulate(loss_fn, size)(jnp.ones([3, 2]), X)


def test_a_batch_that_fits_is_not_split():
  seen = []
  loss_fn = lambda w, x: (seen.append(x.shape) or x @ w, None)
  sam_optax.accumulate(loss_fn, 8)(jnp.ones(3), X)
  assert seen == [X.shape]


def test_only_one_micro_batch_is_in_memory():
  w, x = jnp.ones((8, 256)), jnp.ones((4096, 8))

  def loss_fn(w, x):
    return jnp.sum(jnp.tanh(jnp.tanh(x @ w) @ w.T @ w), axis=-1), None

  def memory(loss_fn):
    grad = jax.jit(jax.grad(mean_of(loss_fn)))
    analysis = grad.lower(w, x).compile().memory_analysis()
    return analysis.temp_size_in_bytes

  # The activations are 4 MiB each, and a sixteenth for one micro-batch.
  parts = memory(sam_optax.accumulate(loss_fn, 256))
  assert parts < 0.2 * memory(loss_fn)


def test_narrow_gradients_are_summed_in_float32():
  # 256 equal gradients: in bfloat16 a sum of ones stops growing at 256.
  w, x = jnp.ones([], jnp.bfloat16), jnp.ones(512)
  loss_fn = lambda w, x: (x * w.astype(jnp.float32), None)
  summed = lambda w: jnp.sum(sam_optax.accumulate(loss_fn, 1)(w, x)[0])
  assert jax.grad(summed)(w) == 512


# Methods that keep an average or logits, or that choose examples.
SOME = ('fsam', 'ausam', 'esam', 'saf')


@functools.cache
def on_route(route, size):
  made = {name: method(name) for name in SOME}
  if route is routes.in_shard_map:
    made = routes.wrapped(made, perturbation='synced')

  def wrap(name, loss_fn, setting):
    del name, setting
    return sam_optax.accumulate(loss_fn, size) if size else loss_fn

  return route('update', made, wrap=wrap)()


@pytest.mark.parametrize('name', SOME)
@pytest.mark.parametrize(
  ('route', 'size'), [(routes.in_shard_map, 1), (routes.in_jit, 3)]
)
def test_devices_may_each_accumulate(name, route, size):
  routes.assert_agree(
    on_route(route, size)[name], on_route(routes.on_one, None)[name]
  )


@pytest.mark.parametrize('size', [0, 'two', lambda step: 2])
def test_an_invalid_micro_batch_size_is_an_error(size):
  with pytest.raises(ValueError, match='micro_batch_size.* [Uu]se|Pass'):
    sam_optax.accumulate(everything, size)
