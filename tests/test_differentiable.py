"""Derivatives through a step, where a norm, a kernel or a weight is zero."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests import driving
from tests.methods import METHODS, build

# The gradient of `bowl` is 0 at these parameters; a kernel of each is 0.
AT_REST = {'b': jnp.zeros(2), 'w': jnp.zeros([3, 2])}
ONE_KERNEL = {
  'b': jnp.array([0.0, 0.7]),
  'w': jnp.zeros([3, 2]).at[:, 1].set(0.4),
}


def bowl(params, batch):
  """Losses whose gradient is 0 at 0, and whose second derivative is not."""
  x, y = (part.astype(params['w'].dtype) for part in batch)
  rise = {name: jnp.sum(p**2 + p**3) for name, p in params.items()}
  return (1 + x[:, 0] ** 2) * rise['b'] + (1 + y**2) * rise['w'], None


def after_a_step(name, entry, params, **numbers):
  """A number that depends on the params, and the state, after one step."""
  tx = build(name, **numbers)
  losses = driving.losses_for(tx, bowl)
  batch, ids = driving.batch_at(0)
  given = driving.keywords(losses, batch, ids)
  state = tx.init(params)
  decided = {'perturb': True} if METHODS[name].perturbs else {}
  if entry == 'update':
    grads, state = tx.update(
      given['grad_fn'](params), state, params, **given, **decided
    )
  else:
    _, grads, state = tx.value_and_grad(
      losses,
      params,
      state,
      batch,
      ids,
      reference_grad_fn=given['reference_grad_fn'],
      **decided,
    )
  moved = jax.tree.map(lambda p, g: p - 0.1 * g, params, grads)
  floats = [
    x for x in jax.tree.leaves(state) if jnp.issubdtype(x.dtype, jnp.floating)
  ]
  height = driving.mean(losses(moved, batch)[0])
  wide = [x for x in floats if x.dtype == height.dtype]
  return height + 1e-3 * sum(jnp.sum(x) for x in wide)


# Compiled once for all params and radii.


@functools.cache
def by_params(name, entry):
  return jax.jit(jax.grad(lambda params: after_a_step(name, entry, params)))


@functools.cache
def by_rho(name):
  value = lambda rho, params: after_a_step(
    name, 'value_and_grad', params, rho=rho
  )
  return jax.jit(jax.grad(value))


@pytest.mark.parametrize('name', METHODS)
@pytest.mark.parametrize('entry', ['update', 'value_and_grad'])
@pytest.mark.parametrize('params', [AT_REST, ONE_KERNEL])
def test_a_step_has_a_derivative_by_the_params(name, entry, params):
  assert driving.is_finite(by_params(name, entry)(params))


@pytest.mark.parametrize(
  'name', [n for n, row in METHODS.items() if 'rho' in row.numbers]
)
@pytest.mark.parametrize('params', [AT_REST, ONE_KERNEL])
def test_a_step_has_a_derivative_by_rho(name, params):
  for rho in (0.0, 0.1):
    assert np.isfinite(by_rho(name)(rho, params))


@pytest.mark.usefixtures('x64')
@pytest.mark.parametrize('name', METHODS)
def test_the_derivatives_are_right(name):
  # The zero kernel stays: the norm of a kernel has a kink there, and the slope
  # at it is 0 by our choice.
  params = optax.tree.cast(ONE_KERNEL, jnp.float64)
  way = jax.tree.map(lambda p: jnp.where(p == 0, 0.0, 1.0), params)
  at = lambda size: jax.tree.map(lambda p, d: p + size * d, params, way)
  along = lambda size: after_a_step(name, 'value_and_grad', at(size))
  both = jax.jit(jax.value_and_grad(along))  # one program for all three
  width = 1e-5
  (right, _), (left, _), (_, slope) = map(both, (width, -width, 0.0))
  expected = (right - left) / (2 * width)
  np.testing.assert_allclose(slope, expected, rtol=1e-4)
