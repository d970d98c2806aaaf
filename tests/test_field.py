"""Faults found in other implementations, which ours must not have.

One test per fault of `optax.contrib.sam` and of others, named after the fault.
Faults 3 to 7, 13 and 14 are in test_field_chain.py, fault 8 in
test_field_devices.py.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest

import sam_optax
from tests.field import (
  RHO,
  START,
  THREE,
  assert_finite,
  loss,
  sam_gradient,
  two_leaves,
)

# Fault 1.


@pytest.mark.parametrize('make', [sam_optax.sam, sam_optax.asam])
def test_zero_gradient_in_update(make):
  method = make(RHO)
  grad_fn = jax.grad(lambda w: 0.0 * loss(w))
  state = method.init(START)
  grads, state = jax.jit(
    lambda s: method.update(grad_fn(START), s, START, grad_fn=grad_fn)
  )(state)
  np.testing.assert_array_equal(grads, [0.0, 0.0])
  assert_finite(state)


@pytest.mark.parametrize('make', [sam_optax.sam, sam_optax.asam])
def test_zero_gradient_in_value_and_grad(make):
  method = make(RHO)

  def losses(w, batch):
    return 0.0 * batch * loss(w), None

  (value, _), grads, state = method.value_and_grad(
    losses, START, method.init(START), jnp.ones(4)
  )
  assert value == 0.0
  np.testing.assert_array_equal(grads, [0.0, 0.0])
  assert_finite(state)


def test_a_gradient_through_a_zero_gradient_is_finite():
  method = sam_optax.sam(RHO)
  grad_fn = jax.grad(loss)

  def after(w):
    grads, _ = method.update(grad_fn(w), method.init(w), w, grad_fn=grad_fn)
    return jnp.sum(w - grads)

  # The curvature is zero at 0 too, so that only w itself counts.
  np.testing.assert_allclose(jax.grad(after)(jnp.zeros(2)), [1.0, 1.0])


def test_zero_gradient_of_one_device_affects_no_other_in_local_mode():
  # m-SAM by hand: each device perturbs along its own gradient, and the
  # directions are averaged. The gradient of the first device is zero.
  method = sam_optax.sam(RHO)
  weights = jnp.arange(4.0)

  def step(weight, state):
    grad_fn = jax.grad(lambda w: weight * loss(w))
    direction, state = method.update(
      grad_fn(START), state, START, grad_fn=grad_fn
    )
    return jax.lax.pmean(direction, 'b'), state

  directions, states = jax.pmap(
    step, 'b', in_axes=(0, None), devices=jax.devices()[:4]
  )(weights, method.init(START))
  by_hand = [
    sam_gradient(jax.grad(lambda w, weight=weight: weight * loss(w)), START)
    for weight in weights[1:]
  ]
  expected = sum(by_hand) / 4
  for direction in directions:
    np.testing.assert_allclose(direction, expected, rtol=1e-6)
  assert_finite(states)


# Fault 2.


def test_every_call_is_a_whole_step_and_the_loss_falls():
  tx = optax.chain(sam_optax.sam(0.05), optax.sgd(0.05))
  params, state, by_hand = START, tx.init(START), START
  grad_fn = jax.grad(loss)
  values = []
  for _ in range(6):
    values.append(float(loss(params)))
    updates, state = tx.update(grad_fn(params), state, params, grad_fn=grad_fn)
    params = optax.apply_updates(params, updates)
    by_hand = by_hand - 0.05 * sam_gradient(grad_fn, by_hand, 0.05)
    np.testing.assert_allclose(params, by_hand, rtol=1e-6)
  assert values == sorted(values, reverse=True)


# Fault 9.


@pytest.mark.parametrize('name', THREE)
def test_params_and_state_may_be_donated_together(name):
  tx = optax.chain(THREE[name](), optax.sgd(0.1, momentum=0.9))
  grad_fn = jax.grad(loss)

  @functools.partial(jax.jit, donate_argnums=(0, 1))
  def step(params, state):
    updates, state = tx.update(grad_fn(params), state, params, grad_fn=grad_fn)
    return optax.apply_updates(params, updates), state

  params = jnp.copy(START)
  state = tx.init(params)
  for _ in range(3):
    params, state = step(params, state)
  assert_finite((params, state))


# Fault 10.


def test_a_typed_key_in_an_inner_state(standard_promotion):
  # In our own state, and in the state of a transformation in the ascent.
  noisy = optax.chain(
    optax.add_noise(0.01, 0.5, jax.random.key(1)),
    sam_optax.ascent.gradient(RHO),
  )
  method = sam_optax.sharpness_aware(
    noisy, sam_optax.cadence.bernoulli(0.5, key=jax.random.key(2))
  )
  tx = optax.chain(method, optax.sgd(0.1))
  grad_fn = jax.grad(loss)
  step = jax.jit(
    lambda p, s: tx.update(grad_fn(p), s, p, grad_fn=grad_fn), donate_argnums=1
  )
  state = tx.init(START)
  keys = [
    leaf
    for leaf in jax.tree.leaves(state)
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
  ]
  assert len(keys) == 2
  perturbed = []
  for _ in range(6):
    updates, state = step(START, state)
    perturbed.append(bool(state[0].perturbed))
    assert_finite((updates, state))
  assert len(set(perturbed)) == 2


# Faults 11 and 12.


@pytest.mark.parametrize('size', [300.0, 1e-4])
def test_float16_norms_neither_overflow_nor_vanish(size):
  gradient = jnp.full(10, size, jnp.float16)
  ascent = sam_optax.ascent.gradient(RHO)
  context = sam_optax.ascent.Context()
  perturbation, norm = ascent.perturb(gradient, (), gradient, context)
  stored = np.asarray(gradient, np.float32)
  np.testing.assert_allclose(norm, np.linalg.norm(stored), rtol=1e-6)
  np.testing.assert_allclose(
    perturbation, np.full(10, RHO / np.sqrt(10)), rtol=1e-5
  )


def test_bfloat16_parameters_are_perturbed():
  params = jnp.ones(1_000_000, jnp.bfloat16)
  seen = []

  def grad_fn(point):
    seen.append(point)
    return params

  method = sam_optax.sam(0.05)
  grads, _ = method.update(params, method.init(params), params, grad_fn=grad_fn)
  (point,) = seen
  assert point.dtype == jnp.float32 and grads.dtype == jnp.bfloat16
  # rho / sqrt(1e6) = 5e-5: lost in bfloat16, 420 rounding units in float32.
  np.testing.assert_allclose(point - 1, 5e-5, rtol=2e-3)


# Other implementations.


@pytest.mark.parametrize(
  ('order', 'expected'),
  [
    # decay 0.6, gradients (1, 0) then (0, 1).
    ('code', [[1.0, 0.0], [0.6, 0.4]]),
    ('paper', [[0.4, 0.0], [0.24, 0.4]]),
  ],
)
@pytest.mark.parametrize('sigma', [0.0, 1.0, 'cos'])
def test_fsam_averages_the_gradient_and_not_the_residual(
  order, expected, sigma
):
  # The average of the residual would depend on sigma; (0.2, 0.4) at sigma 1.
  method = sam_optax.fsam(RHO, sigma, 0.6, order)
  state = method.init(START)
  for gradient, average in zip(jnp.eye(2), expected, strict=True):
    _, state = method.update(gradient, state, START, grad_fn=lambda w: w)
    ema = optax.tree.get(state, 'ema')
    np.testing.assert_allclose(ema, average, rtol=1e-6)


@pytest.mark.parametrize('name', THREE)
def test_a_learning_rate_of_zero_moves_nothing(name):
  # The perturbation must not remain in the parameters.
  tx = optax.chain(THREE[name](), optax.sgd(0.0))
  grad_fn = jax.grad(loss)
  params, state = START, tx.init(START)
  for _ in range(4):
    updates, state = tx.update(grad_fn(params), state, params, grad_fn=grad_fn)
    params = optax.apply_updates(params, updates)
  np.testing.assert_array_equal(params, START)


def test_a_learning_rate_schedule_reaches_the_update():
  rate = optax.linear_schedule(0.0, 0.3, 3)
  tx = optax.chain(sam_optax.sam(RHO), optax.sgd(rate))
  grad_fn = jax.grad(loss)
  state = tx.init(START)
  for t in range(3):
    updates, state = tx.update(grad_fn(START), state, START, grad_fn=grad_fn)
    expected = -0.1 * t * sam_gradient(grad_fn, START)
    np.testing.assert_allclose(updates, expected, rtol=1e-6)


def test_the_norm_is_over_the_whole_tree_and_not_per_leaf():
  params, fn = two_leaves()
  grad_fn = jax.grad(fn)
  method = sam_optax.sam(RHO)
  grads, _ = method.update(
    grad_fn(params), method.init(params), params, grad_fn=grad_fn
  )
  g = grad_fn(params)
  norm = jnp.sqrt(jnp.sum(g['a'] ** 2) + jnp.sum(g['b'] ** 2))
  there = jax.tree.map(lambda w, d: w + RHO * d / norm, params, g)
  for name, expected in grad_fn(there).items():
    np.testing.assert_allclose(grads[name], expected, rtol=1e-6)
