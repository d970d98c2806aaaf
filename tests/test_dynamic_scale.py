"""Loss scaling in float16 with `DynamicScale` of Flax."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.training import dynamic_scale

import sam_optax
from tests.pipelines import (
  RATE,
  RHO,
  assert_close,
  comparable,
  data,
  plain_grad_fn,
  plain_losses,
  plain_params,
  plain_step,
)


def half_losses(params, batch):
  """The losses computed in float16, of float32 parameters."""
  losses, aux = plain_losses(*optax.tree.cast((params, batch), jnp.float16))
  return losses.astype(jnp.float32), aux


def scaled_step(method, base, losses, params, states, scale, batch):
  """One step under DynamicScale; a step that overflows changes nothing."""
  state, base_state = states
  loss_fn = sam_optax.scale_loss(losses, scale.scale)
  (loss, _), grads, state = method.value_and_grad(loss_fn, params, state, batch)
  updates, base_state = base.update(grads, base_state, params)
  one = lambda x: x * jnp.where(state.finite, 1.0, jnp.nan)
  scale = scale.value_and_grad(one)(1.0).dynamic_scale
  return optax.apply_updates(params, updates), (state, base_state), scale, loss


def train_scaled(start, losses=half_losses):
  method = sam_optax.if_finite(sam_optax.fsam(RHO, decay=0.6))
  base = optax.apply_if_finite(optax.sgd(RATE, momentum=0.9), 8)
  step = jax.jit(functools.partial(scaled_step, method, base, losses))
  params = plain_params()
  states = method.init(params), base.init(params)
  scale = dynamic_scale.DynamicScale(scale=start)
  history = []
  for _ in range(8):
    params, states, scale, loss = step(params, states, scale, data())
    history.append(float(loss))
  return params, states, scale, history


def test_dynamic_scale_in_float16(standard_promotion):
  params, _, _, history = train_scaled(2.0**8)
  assert history[-1] < history[0]
  # Scaling by a power of two is exact, so ascent and step are the same.
  assert_close(train_scaled(2.0**4)[0], params, rtol=1e-2, atol=1e-3)
  # They equal those of float32 to the precision of float16.
  tx = optax.chain(
    sam_optax.fsam(RHO, decay=0.6), optax.sgd(RATE, momentum=0.9)
  )
  expected = plain_params()
  state = tx.init(expected)
  for _ in range(8):
    expected, state = plain_step(tx, expected, state, data())
  assert_close(params, expected, rtol=5e-2, atol=5e-3)


def test_a_scale_that_overflows_falls_and_its_steps_are_skipped(
  standard_promotion,
):
  _, (state, base_state), scale, _ = train_scaled(2.0**20)
  skipped = 20 - int(np.log2(scale.scale))
  assert 0 < skipped < 8
  assert int(state.skipped) == int(base_state.total_notfinite) == skipped
  assert int(state.method.step) == 8 - skipped
  assert all(np.isfinite(comparable(x)).all() for x in jax.tree.leaves(state))


def test_the_second_gradient_can_lower_the_scale_too(
  standard_promotion,
):
  start = plain_params()

  def steeper_elsewhere(params, batch):
    # In float16, the factor of 1000 makes the same scale overflow.
    losses, aux = plain_losses(params, batch)
    moved = jnp.any(params['head']['kernel'] != start['head']['kernel'])
    steep = (1e-3 * losses).astype(jnp.float16) * jnp.float16(1e3)
    return jnp.where(moved, steep.astype(jnp.float32), losses), aux

  _, (state, _), scale, _ = train_scaled(2.0**12, steeper_elsewhere)
  assert int(state.skipped) > 0
  assert scale.scale == 2.0 ** (12 - int(state.skipped))


def test_the_ascent_does_not_see_the_scale_of_the_loss():
  method = sam_optax.sam(RHO)
  params, batch = plain_params(), data()
  grad_fn = plain_grad_fn(batch)

  def scaled(params):
    return jax.tree.map(lambda g: g * 1024.0, grad_fn(params))

  state = method.init(params)
  plain, _ = method.update(grad_fn(params), state, params, grad_fn=grad_fn)
  large, _ = method.update(scaled(params), state, params, grad_fn=scaled)
  assert_close(jax.tree.map(lambda g: g / 1024.0, large), plain, rtol=1e-6)
