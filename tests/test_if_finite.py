"""Gradients that are not finite, and the scaling of a float16 loss."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import sam_optax
from tests import driving, routes
from tests.given import refused
from tests.methods import METHODS, method

# Where a gradient has an infinite entry, at the parameters or elsewhere, and in
# which step.
NONE, HOME, ELSEWHERE = 0, 1, 2
TRAPPED, NUM_STEPS = 2, 4


def with_trap(loss_fn, home, trap):
  """A loss of the same value, with an infinite slope in one entry.

  Where the entry is infinite is given by the trap. `sam_on` does not perturb
  its leaf, and some steps of `esam` do not either.
  """

  def trapped(params, batch):
    values, aux = loss_fn(params, batch)
    moved = jax.tree.map(lambda x, y: jnp.any(x != y), params, home)
    elsewhere = functools.reduce(jnp.logical_or, jax.tree.leaves(moved))
    sprung = trap == jnp.where(elsewhere, ELSEWHERE, HOME)
    # The root has an infinite slope at 0.
    start = jnp.where(sprung, 0.0, 1.0)
    change = params['b'][0] - jax.lax.stop_gradient(params['b'][0])
    return values + jnp.sqrt(start + change) - jnp.sqrt(start), aux

  return trapped


@functools.cache
def program(entry):
  """trap -> {name: [(params, state, base state) of each step]}."""
  made = {name: sam_optax.if_finite(method(name)) for name in METHODS}
  bases = {
    name: optax.apply_if_finite(driving.base_of(made[name]), NUM_STEPS)
    for name in made
  }

  def train(name, trap):
    method, base = made[name], bases[name]
    loss_fn = routes.losses if method.reads_logits else routes.plain_losses

    def step(carry, inputs):
      params, state, base_state = carry
      batch, ids, trap = inputs
      given = driving.keywords(with_trap(loss_fn, params, trap), batch, ids)
      if entry == 'update':
        grads, state = method.update(
          given['grad_fn'](params), state, params, **given
        )
      else:
        _, grads, state = method.value_and_grad(
          given['loss_fn'],
          params,
          state,
          batch,
          ids,
          reference_grad_fn=given['reference_grad_fn'],
        )
      updates, base_state = base.update(grads, base_state, params)
      carry = optax.apply_updates(params, updates), state, base_state
      return carry, carry

    params = driving.start()
    traps = jnp.zeros(NUM_STEPS, jnp.int32).at[TRAPPED].set(trap)
    carry = params, method.init(params), base.init(params)
    return jax.lax.scan(step, carry, (*routes.steps(), traps))[1]

  compiled = jax.jit(lambda trap: {name: train(name, trap) for name in made})
  # NumPy takes a step without a program for each array.
  return functools.cache(
    lambda trap: driving.on_host(compiled(jnp.int32(trap)))
  )


@pytest.mark.slow
@pytest.mark.parametrize('name', METHODS)
@pytest.mark.parametrize('trap', [HOME, ELSEWHERE])
@pytest.mark.parametrize('entry', ['update', 'value_and_grad'])
def test_a_step_with_a_broken_gradient_is_skipped_whole(name, trap, entry):
  at = lambda trap, step: jax.tree.map(
    lambda x: x[step], program(entry)(trap)[name]
  )
  before, after, clean = at(trap, 1), at(trap, TRAPPED), at(NONE, TRAPPED)
  _, state, base_state = after
  assert clean[1].skipped == 0 and clean[1].finite
  perturbed = driving.inner(clean[1]).perturbed
  row = METHODS[name]
  at_home = not perturbed or (row.first_at_params and row.per_sam_step > 1)
  if at_home if trap == HOME else perturbed:
    kept = lambda carry: (carry[0], carry[1].method, carry[2].inner_state)
    assert driving.equal(kept(after), kept(before))
    assert state.skipped == 1 and not state.finite
    assert base_state.total_notfinite == 1
  else:  # no gradient was taken there
    assert driving.equal(after, clean)
  params, state, _ = at(trap, NUM_STEPS - 1)
  assert driving.is_finite(params) and state.finite
  assert not driving.equal(params, after[0])


def test_the_other_functions_of_a_method_are_kept():
  for name in METHODS:
    made = sam_optax.if_finite(method(name))
    assert made.reads_logits == method(name).reads_logits
    assert made.reads_losses == method(name).reads_losses
    assert made.is_optimizer == method(name).is_optimizer
    assert made.plan is None  # a skipped step is taken again
    for function in ('first_pass', 'start_epoch'):
      has = getattr(method(name), function) is not None
      assert (getattr(made, function) is not None) == has


def test_an_epoch_is_pruned_through_it():
  made = sam_optax.if_finite(method('sam_infobatch'))
  state, weights = made.start_epoch(made.init(driving.start()))
  assert isinstance(state, sam_optax.IfFiniteState)
  assert weights.shape == (driving.NUM_EXAMPLES,)


def test_a_host_decides_through_it():
  # The decision is by the first gradient, which is checked like the others.
  made = sam_optax.if_finite(method('aesam'))
  params, (batch, ids) = driving.start(), driving.batch_at(0)
  state = made.init(params)
  loss_fn = with_trap(routes.plain_losses, params, HOME)
  first = made.first_pass(loss_fn, params, batch)
  decided = made.decide(state, ids, first)
  _, _, after = made.value_and_grad(
    loss_fn, params, state, batch, first=first, **decided
  )
  assert after.skipped == 1
  assert driving.equal(after.method, state.method)


def test_a_gradient_is_checked_as_the_method_checks_it():
  tx, alone = sam_optax.if_finite(sam_optax.sam(0.5)), sam_optax.sam(0.5)
  step = lambda tx, grad_fn, updates=3.0: tx.update(
    updates, tx.init(1.0), 1.0, grad_fn=grad_fn
  )
  square = lambda w: 3.0 if float(w) > 1 else 2.0  # of Python, as updates are
  assert driving.equal(step(tx, square)[0], step(alone, square)[0])
  for grad_fn, updates, words in (
    ('w', 3.0, ('a grad_fn of type str',)),
    (lambda w: {'w': w}, 3.0, ('a gradient by grad_fn', 'structure')),
    (lambda w: 3, 3.0, ('a gradient by grad_fn', 'int32')),
    (lambda w: 'w', 3.0, ('a gradient by grad_fn',)),
    (square, 3, ('`updates`', 'int32')),
    (square, 'w', ('`updates`',)),
  ):
    for made in (alone, tx):
      with refused(*words):
        step(made, grad_fn, updates)


def test_numbers_of_python_are_an_aux_of_a_scaled_loss():
  aux = {'n': 3, 'share': 0.5, 'known': True, 'none': None}
  loss_fn = lambda params, x: (params * x, aux)
  scaled = sam_optax.scale_loss(loss_fn, 2.0)
  assert scaled(1.5, jnp.ones(2))[1] == aux
  method = sam_optax.sam()
  (_, found), *_ = method.value_and_grad(
    scaled, 1.5, method.init(1.5), jnp.ones(2)
  )
  assert found == aux


def test_the_scale_of_a_loss_has_no_effect():
  # In float32, scaling by a power of two is exact, also for uses of the aux.
  def gradient(loss_fn):
    def objective(params):
      values, aux = loss_fn(params, driving.batch_at(0)[0])
      return jnp.sum(values) + jnp.sum(aux['logits'] ** 2)

    return jax.value_and_grad(objective)(driving.start())

  scaled = sam_optax.scale_loss(routes.losses, 2.0**12)
  assert driving.equal(gradient(scaled), gradient(routes.losses))


def test_a_scale_saves_what_float16_would_round_to_zero():
  def losses(params, batch):
    values, _ = routes.losses(params, batch, jnp.float16)
    return 1e-7 * values, None

  params, (batch, _) = driving.start(), driving.batch_at(0)
  mean = lambda f: jax.grad(lambda p: jnp.mean(f(p, batch)[0]))(params)
  expected = jax.tree.map(lambda g: 1e-7 * g, mean(routes.plain_losses))
  scaled = mean(sam_optax.scale_loss(losses, 2.0**20))
  driving.assert_close(scaled, expected, rtol=0.05, atol=0)
  lost = mean(losses)
  assert not np.allclose(lost['w'], expected['w'], rtol=0.3, atol=0)
