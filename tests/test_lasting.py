"""A number that is not finite, seen once, and what outlives its step."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import sam_optax
from sam_optax import _tree
from tests import driving
from tests.methods import BATCH_SIZE, METHODS, NUM_EXAMPLES, build, method

POISONED, NUM_STEPS = 4, 9
# What the targets of the poisoned step are: the losses and gradients are NaN,
# infinite, infinite with finite gradients, or NaN for one example.
POISONS = {
  'nan': np.full(BATCH_SIZE, np.nan, np.float32),
  'infinite': np.full(BATCH_SIZE, np.inf, np.float32),
  'overflow': np.full(BATCH_SIZE, 1e30, np.float32),
  'one example': np.r_[np.nan, np.zeros(BATCH_SIZE - 1)].astype(np.float32),
}
SHOWS = 'nan', 'infinite'


@pytest.mark.parametrize('name', METHODS)
@pytest.mark.parametrize('entry', ['update', 'value_and_grad'])
def test_no_state_keeps_what_is_not_finite(name, entry):
  tx = method(name)
  base = optax.apply_if_finite(driving.base_of(tx), 100)
  stepper = driving.Stepper(tx, entry, driving.fit, base)
  for poison, targets in POISONS.items():
    params = driving.start()
    state, base_state = tx.init(params), base.init(params)
    for step in range(NUM_STEPS):
      (x, y), ids = driving.batch_at(step)
      y = jnp.asarray(targets) if step == POISONED else y
      before = params, base_state.inner_state
      grads, params, state, base_state, *_ = stepper.jitted(
        params, state, base_state, (x, y), ids
      )
      assert driving.is_finite(state)
      if step != POISONED:
        assert driving.is_finite((grads, params))
        continue
      # The caller sees it in the direction, and skips the step.
      if poison in SHOWS:
        assert not driving.is_finite(grads)
        assert driving.equal((params, base_state.inner_state), before)
      params, base_state = before[0], base_state._replace(inner_state=before[1])


@pytest.mark.parametrize('name', ['fsam', 'looksam', 'bsam', 'mesa'])
def test_a_state_is_left_as_it_was(name):
  tx = build(name)
  losses = driving.losses_for(tx)
  params, (batch, ids) = driving.start(), driving.batch_at(0)
  state = tx.init(params)
  _, _, state = tx.value_and_grad(losses, params, state, batch, ids)
  broken = batch[0], jnp.full_like(batch[1], jnp.nan)
  _, grads, after = tx.value_and_grad(losses, params, state, broken, ids)
  assert driving.has_nan(grads)
  inner, inner_after = driving.inner(state), driving.inner(after)
  assert inner_after.step == inner.step + 1
  for part in ('ascent', 'cadence', 'descent'):
    assert driving.equal(getattr(inner_after, part), getattr(inner, part))


AVERAGING = [
  name for name in METHODS if driving.has_field(method(name), 'begun')
]


@pytest.mark.parametrize('name', AVERAGING)
def test_an_average_begins_with_the_first_finite_gradient(name):
  tx, params = method(name), driving.start()
  state = tx.init(params)
  broken = jax.tree.map(lambda p: jnp.full_like(p, jnp.nan), params)
  step = lambda gradient, state: tx.update(
    gradient, state, params, grad_fn=lambda p: gradient
  )[1]
  state = step(params, step(broken, state))
  assert driving.equal(optax.tree.get(state, 'ema'), params)
  # From then on it is an average.
  twice = jax.tree.map(lambda p: 2 * p, params)
  state = step(twice, state)
  assert not driving.equal(optax.tree.get(state, 'ema'), twice)


def test_the_row_of_a_broken_example_alone_is_left_out():
  tx = sam_optax.ausam(num_examples=NUM_EXAMPLES)
  params, ((x, y), ids) = driving.start(), driving.batch_at(0)
  _, _, state = tx.value_and_grad(
    driving.fit, params, tx.init(params), (x, y.at[2].set(jnp.nan)), ids
  )
  counts = np.zeros(NUM_EXAMPLES)
  # The second gradient is NaN everywhere, and with it each perturbed loss.
  np.testing.assert_array_equal(state.selection.rise_count, counts)
  tx = sam_optax.sam_infobatch(num_examples=NUM_EXAMPLES, total_steps=5)
  losses = lambda p, batch: (batch[1] * p['b'][0], None)
  _, _, state = tx.value_and_grad(
    losses, params, tx.init(params), (x, jnp.ones(8).at[2].set(jnp.inf)), ids
  )
  assert driving.is_finite(state)


def test_an_infinity_from_the_start_does_not_stop_a_state():
  old = {'best': jnp.asarray(jnp.inf), 'count': jnp.asarray(1.0)}
  new = {'best': jnp.asarray(jnp.inf), 'count': jnp.asarray(2.0)}
  assert driving.equal(_tree.kept(new, old), new)
  better = new | {'best': jnp.asarray(3.0)}
  assert driving.equal(_tree.kept(better, old), better)
  worse = better | {'best': jnp.asarray(jnp.nan)}
  assert driving.equal(_tree.kept(worse, better), better)


@pytest.mark.parametrize('name', ['sam', 'gsam', 'asam', 'sam_k'])
def test_a_method_without_memory_pays_nothing(name):
  # One comparison, with the norm that the state shows.
  tx, params = method(name), driving.start()
  losses = driving.fit
  (batch, ids), state = driving.batch_at(0), tx.init(params)
  step = lambda state: tx.value_and_grad(
    losses, params, state, batch, ids, perturb=True
  )
  text = str(jax.make_jaxpr(step)(state))
  assert text.count('is_finite') - (name == 'gsam') == 1
