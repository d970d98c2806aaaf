"""Fault 8 of test_field: all ways to average must agree on four devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

from tests.field import START, THREE, loss

NUM_STEPS = 6


def example_loss(w, batch):
  return jnp.mean((batch @ w) ** 2) + jnp.mean(jnp.sin(batch)) * loss(w)


def batches():
  return jax.random.normal(jax.random.key(0), (NUM_STEPS, 8, 2))


def train(method, mean_gradient, params, state, batches):
  """A few steps, with `mean_gradient` making grad_fn from a batch."""

  def step(carry, batch):
    params, state = carry
    grad_fn = functools.partial(mean_gradient, batch)
    grads, state = method.update(
      grad_fn(params), state, params, grad_fn=grad_fn
    )
    return (params - 0.05 * grads, state), state.perturbed

  (params, state), perturbed = jax.lax.scan(step, (params, state), batches)
  return params, state.gradient_evaluations, perturbed


def mean_of_local(batch, w):
  # pmap, and shard_map with check_vma=False: a gradient is of one device.
  return jax.lax.pmean(jax.grad(example_loss)(w, batch), 'b')


def gradient_of_mean(batch, w):
  # shard_map by default: the gradient of a replicated parameter is already
  # summed over devices, so the loss is averaged instead.
  return jax.grad(lambda w: jax.lax.pmean(example_loss(w, batch), 'b'))(w)


def mean_of_cast(batch, w):
  # An alternative there: a parameter cast to varying has one gradient per
  # device.
  return mean_of_local(batch, jax.lax.pcast(w, 'b', to='varying'))


def in_shard_map(mean_gradient, check_vma):
  mesh = jax.make_mesh(
    (4,), ('b',), devices=jax.devices()[:4], axis_types=(AxisType.Auto,)
  )
  spec = PartitionSpec

  def run(method, params, state, batches):
    return jax.jit(
      jax.shard_map(
        functools.partial(train, method, mean_gradient),
        mesh=mesh,
        in_specs=(spec(), spec(), spec(None, 'b')),
        out_specs=spec(),
        check_vma=check_vma,
      )
    )(params, state, batches)

  return run


def in_pmap(method, params, state, batches):
  results = jax.pmap(
    functools.partial(train, method, mean_of_local),
    'b',
    in_axes=(None, None, 1),
    devices=jax.devices()[:4],
  )(params, state, batches.reshape(NUM_STEPS, 4, 2, 2))
  for leaf in jax.tree.leaves(results):
    for device in range(1, 4):
      np.testing.assert_array_equal(leaf[device], leaf[0])
  return jax.tree.map(lambda x: x[0], results)


ROUTES = {
  'shard_map': in_shard_map(gradient_of_mean, check_vma=True),
  'shard_map_pcast': in_shard_map(mean_of_cast, check_vma=True),
  'shard_map_unchecked': in_shard_map(mean_of_local, check_vma=False),
  'pmap': in_pmap,
}


@functools.cache
def on_one_device(name):
  method = THREE[name]()

  def gradient(batch, w):
    return jax.grad(example_loss)(w, batch)

  return jax.jit(functools.partial(train, method, gradient))(
    START, method.init(START), batches()
  )


@pytest.mark.parametrize('route', ROUTES)
@pytest.mark.parametrize('name', THREE)
def test_four_devices_agree_with_one(name, route):
  method = THREE[name]()
  params, evaluations, perturbed = ROUTES[route](
    method, START, method.init(START), batches()
  )
  expected, expected_evaluations, expected_perturbed = on_one_device(name)
  np.testing.assert_allclose(params, expected, rtol=1e-5)
  np.testing.assert_array_equal(perturbed, expected_perturbed)
  assert evaluations == expected_evaluations


def test_one_of_the_methods_takes_both_branches():
  fractions = [np.mean(on_one_device(name)[2]) for name in THREE]
  assert any(0 < fraction < 1 for fraction in fractions)
