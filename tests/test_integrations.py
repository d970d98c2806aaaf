"""Optax pipelines: each takes the same steps as SAM by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest

import sam_optax
from tests.pipelines import (
  RATE,
  RHO,
  assert_close,
  assert_same,
  data,
  plain_grad_fn,
  plain_loss,
  plain_losses,
  plain_params,
  plain_step,
  run,
  run_by_hand,
  sam_gradient,
  stacked_data,
)


def kernel_mask(params):
  return jax.tree.map(lambda w: w.shape[0] == 4, params)


BASES = {
  'clip, decay, momentum': lambda: optax.chain(
    optax.clip_by_global_norm(0.5),
    optax.add_decayed_weights(1e-2),
    optax.sgd(RATE, momentum=0.9, nesterov=True),
  ),
  'masked': lambda: optax.chain(
    optax.masked(optax.add_decayed_weights(0.1), kernel_mask), optax.sgd(RATE)
  ),
  'partition': lambda: optax.partition(
    {'hidden': optax.sgd(RATE, momentum=0.9), 'head': optax.set_to_zero()},
    {'hidden': 'hidden', 'head': 'head'},
  ),
}


@pytest.mark.parametrize('name', BASES)
def test_a_base_optimizer_gets_the_gradient_of_sam(name):
  tx = optax.chain(sam_optax.sam(RHO), BASES[name]())
  assert_close(run(tx), run_by_hand(BASES[name]()))


def test_weights_decay_from_the_unperturbed_parameters():
  tx = optax.chain(
    sam_optax.sam(RHO), optax.add_decayed_weights(0.1), optax.sgd(RATE)
  )
  params = plain_params()
  grads = sam_gradient(plain_grad_fn(data()), params)
  expected = jax.tree.map(
    lambda w, g: w - np.float32(RATE) * (g + np.float32(0.1) * w),
    params,
    grads,
  )
  assert_close(run(tx, 1), expected)


def test_schedule_free_as_the_base_and_around_all(standard_promotion):
  # Both gradients are taken at its y, which are the params.
  base = functools.partial(
    optax.contrib.schedule_free, learning_rate=RATE, b1=0.9
  )
  expected = run_by_hand(base(optax.sgd(RATE)))
  inside = optax.chain(sam_optax.sam(RHO), base(optax.sgd(RATE)))
  around = base(optax.chain(sam_optax.sam(RHO), optax.sgd(RATE)))
  assert_close(run(inside), expected)
  assert_close(run(around), expected)


def test_lookahead_works_with_value_and_grad(
  standard_promotion,
):
  # Its params are a pair, and it forwards no keywords, so `value_and_grad`
  # takes the gradient at the fast ones.
  method = sam_optax.sam(RHO)
  base = optax.lookahead(optax.sgd(RATE), sync_period=2, slow_step_size=0.5)

  def train(gradient):
    params = optax.LookaheadParams.init_synced(plain_params())
    state, method_state = base.init(params), method.init(params.fast)
    for t in range(4):
      grads, method_state = gradient(params.fast, method_state, data(t))
      updates, state = base.update(grads, state, params)
      params = optax.apply_updates(params, updates)
    return params

  def by_the_method(params, state, batch):
    _, grads, state = method.value_and_grad(plain_losses, params, state, batch)
    return grads, state

  def by_hand(params, state, batch):
    return sam_gradient(plain_grad_fn(batch), params), state

  assert_close(train(by_the_method), train(by_hand))


def test_apply_if_finite_keeps_the_state_at_a_nan(
  standard_promotion,
):
  tx = optax.apply_if_finite(
    optax.chain(sam_optax.fsam(RHO), optax.sgd(RATE, momentum=0.9)), 3
  )
  params = plain_params()
  state = tx.init(params)
  params, state = plain_step(tx, params, state, data())
  x, y = data(1)
  same, after = plain_step(tx, params, state, (x * jnp.nan, y))
  assert_same(same, params)
  assert_same(after.inner_state, state.inner_state)
  assert int(after.notfinite_count) == 1
  # With a finite gradient again, it takes the step that was due.
  assert_same(
    plain_step(tx, params, after, data(2))[0],
    plain_step(tx, params, state, data(2))[0],
  )


@pytest.mark.parametrize(
  'make',
  [
    lambda: sam_optax.sam(RHO),
    lambda: sam_optax.fsam(RHO, sigma='cos'),
    lambda: sam_optax.arsam(RHO, segment=2, warmup_steps=1),
  ],
  ids=['sam', 'fsam', 'arsam'],
)
def test_the_gradient_through_updates_is_finite(make):
  # The loss after two steps, as a function of the initial parameters.
  tx = optax.chain(make(), optax.sgd(RATE))

  def loss_after(params):
    def step(carry, batch):
      return plain_step(tx, *carry, batch), None

    carry = params, tx.init(params)
    (params, _), _ = jax.lax.scan(step, carry, stacked_data(2))
    return plain_loss(params, data(2))

  params = plain_params()
  hypergradient = jax.jit(jax.grad(loss_after))(params)
  # Against the slope of the loss along the gradient itself.
  length = optax.tree.norm(hypergradient)
  assert np.isfinite(length) and length > 0

  @jax.jit
  def loss_along(distance):
    return loss_after(
      jax.tree.map(
        lambda w, g: w + distance / length * g, params, hypergradient
      )
    )

  slope = (loss_along(1e-2) - loss_along(-1e-2)) / 2e-2
  np.testing.assert_allclose(slope, length, rtol=1e-2)


@pytest.mark.parametrize(
  'make',
  [
    lambda: sam_optax.sam(RHO),
    lambda: sam_optax.arsam(RHO, segment=2, warmup_steps=1, horizon=1),
  ],
  ids=['sam', 'arsam'],
)
def test_ten_donated_steps_in_one_scan_are_ten_steps(make):
  tx = optax.chain(make(), optax.sgd(RATE, momentum=0.9))

  @functools.partial(jax.jit, donate_argnums=(0, 1))
  def train(params, state, batches):
    def step(carry, batch):
      return plain_step(tx, *carry, batch), None

    return jax.lax.scan(step, (params, state), batches)[0]

  params = plain_params()
  state = tx.init(params)
  donated = jax.tree.leaves((params, state))
  params, state = train(params, state, stacked_data(10))
  assert all(leaf.is_deleted() for leaf in donated)
  assert_close(params, run(tx, 10))
  assert int(state[0].step) == 10
