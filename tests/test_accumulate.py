"""The loss in micro-batches; that every method agrees is in `test_matrix`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sam_optax

X = jnp.asarray(np.random.default_rng(0).normal(size=(8, 3)), jnp.float32)


def mean_of(loss_fn):
  return lambda params, batch: jnp.mean(loss_fn(params, batch)[0])


def everything(w, x):
  """Every kind of aux; three examples go in, and there are three classes."""
  outputs = jnp.tanh(x @ w)
  aux = {
    'rows': x * w[None],
    'three': jnp.mean(x, axis=0),  # no rows, though as many as examples
    'count': jnp.asarray(x.shape[0]),
    'key': jax.random.key(7),
    'half': jnp.max(outputs).astype(jnp.bfloat16),
    'none': None,
  }
  return outputs**2, aux


@pytest.mark.parametrize('size', [3, 4])
def test_losses_and_aux_are_those_of_the_batch(size):
  w = jnp.asarray([0.3, -0.2, 0.5])
  expected, whole = everything(w, X)
  values, aux = sam_optax.accumulate(everything, size)(w, X)
  np.testing.assert_allclose(values, expected, rtol=1e-6)
  np.testing.assert_allclose(aux['rows'], whole['rows'], rtol=1e-6)
  # By their sizes, so that the mean over 3, 3 and 2 is the mean over 8.
  np.testing.assert_allclose(aux['three'], whole['three'], rtol=1e-5)
  assert aux['count'] == (8 % size or size)  # the last one's
  assert aux['key'] == whole['key'] and aux['none'] is None
  assert aux['half'].dtype == jnp.bfloat16


def test_a_batch_that_is_no_larger_goes_in_whole():
  seen = []
  loss_fn = lambda w, x: (seen.append(x.shape) or x @ w, None)
  sam_optax.accumulate(loss_fn, 8)(jnp.ones(3), X)
  assert seen == [X.shape]


def test_it_holds_one_micro_batch_in_memory():
  w, x = jnp.ones((8, 256)), jnp.ones((4096, 8))

  def loss_fn(w, x):
    return jnp.sum(jnp.tanh(jnp.tanh(x @ w) @ w.T @ w), axis=-1), None

  def memory(loss_fn):
    grad = jax.jit(jax.grad(mean_of(loss_fn)))
    analysis = grad.lower(w, x).compile().memory_analysis()
    return analysis.temp_size_in_bytes

  # The activations are 4 MiB each; one micro-batch's are a sixteenth.
  parts = memory(sam_optax.accumulate(loss_fn, 256))
  assert parts < 0.2 * memory(loss_fn)


def test_narrow_gradients_are_summed_in_float32():
  # 256 times the same: in bfloat16 a sum of ones stops growing at 256.
  w, x = jnp.ones([], jnp.bfloat16), jnp.ones(512)
  loss_fn = lambda w, x: (x * w.astype(jnp.float32), None)
  summed = lambda w: jnp.sum(sam_optax.accumulate(loss_fn, 1)(w, x)[0])
  assert jax.grad(summed)(w) == 512


@pytest.mark.parametrize('size', [0, 'two', lambda step: 2])
def test_a_size_that_is_no_number_of_examples(size):
  with pytest.raises(ValueError, match='micro_batch_size.* [Uu]se|Pass'):
    sam_optax.accumulate(everything, size)
