"""Which steps take the full batch because AUSAM never saw an example of it."""

import jax.numpy as jnp
import numpy as np
import pytest

import sam_optax
from sam_optax import ascent, cadence, selection
from tests import driving

INF = float('inf')
# By the cadence: gradients of a batch, step by step. An epoch is three batches;
# a SAM step takes two gradients and a plain step one, of half of a batch if all
# of its examples have a score, or if it will record none.
COSTS = {
  'always': (cadence.every(1), [2, 2, 2, 1, 1, 1, 1]),
  'never': (cadence.never(), [0.5] * 7),
  'every other step': (cadence.every(2), [2, 0.5, 2, 0.5, 2, 0.5, 1]),
  'after an epoch': (
    cadence.between(cadence.every(1), start=3),
    [0.5, 0.5, 0.5, 2, 2, 2, 1],
  ),
  # These decide by a gradient, so they have chosen the examples before.
  'never by a surge': (cadence.gradient_surge(9, INF, INF), [1] * 7),
  'always by a surge': (
    cadence.gradient_surge(9, -INF, -INF),
    [2, 2, 2, 1, 1, 1, 1],
  ),
}


def made_of(name):
  part = selection.by_loss_rise(driving.NUM_EXAMPLES)
  return sam_optax.sharpness_aware(
    ascent.gradient(0.1), COSTS[name][0], selection=part
  )


@pytest.mark.parametrize('how', ['eager', 'host', 'device'])
@pytest.mark.parametrize('entry', ['update', 'value_and_grad'])
@pytest.mark.parametrize('name', COSTS)
def test_only_a_step_that_records_takes_unseen_examples_in_full(
  name, entry, how
):
  steps = driving.drive(made_of(name), 7, entry=entry, how=how)
  total = [float(step.state.batch_gradients) for step in steps]
  np.testing.assert_allclose(np.diff([0, *total]), COSTS[name][1])


@pytest.mark.parametrize('name', COSTS)
def test_the_host_can_only_choose_what_a_step_may_take(name):
  method = made_of(name)
  kinds = {
    (decided['perturb'], decided['full_batch']) for decided in method.branches
  }
  when, expected = COSTS[name][0], set()
  if when.decide is not False:
    expected |= {(True, True), (True, False)}
  if when.decide is not True:
    expected |= {(False, False)}
  if when.by_gradient:
    expected |= {(False, True)}
  assert kinds == expected


def test_a_plain_step_ends_no_plan():
  state = made_of('every other step').init(driving.start())
  order = np.stack([driving.batch_at(step)[1] for step in range(6)])
  planned = made_of('every other step').plan(state, order)
  # Steps 3 and 5 see examples of steps 0 and 2; the third step may no longer
  # need what it needs now.
  assert planned == [
    {'perturb': True, 'full_batch': True},
    {'perturb': False, 'full_batch': False},
  ]


def test_whoever_decides_to_perturb_the_full_batch_follows():
  method, params = made_of('every other step'), driving.start()
  batch, ids = driving.batch_at(0)

  def cost(**decided):
    _, _, state = method.value_and_grad(
      driving.fit, params, method.init(params), batch, ids, **decided
    )
    return float(state.batch_gradients)

  assert cost() == cost(perturb=True) == 2
  assert cost(perturb=False) == cost(perturb=np.False_) == 0.5
  assert cost(perturb=jnp.asarray(False)) == 0.5
  assert cost(perturb=False, full_batch=True) == 1
  assert cost(perturb=True, full_batch=False) == 1
  assert cost(perturb=True, full_batch=np.False_) == 1


def test_on_a_plain_step_an_unseen_example_has_the_score_zero():
  part = selection.by_loss_rise(8, keep=0.25, s_min=1e-6, ramp_epochs=0)
  method = sam_optax.sharpness_aware(
    ascent.gradient(0.1), cadence.never(), selection=part
  )
  state = method.init(jnp.zeros([]))
  # Two with a rise of 0.5, five of 0.1 and one that was never seen, which is
  # the least of them; with the score 1 it would be drawn more than any other.
  seen = jnp.ones(8).at[3].set(0)
  rise = jnp.full(8, 0.1).at[jnp.array([1, 6])].set(0.5) * seen
  table = state.selection._replace(rise_sum=rise, rise_count=seen)
  state, drawn = state._replace(selection=table), []
  for _ in range(20):
    (_, aux), _, state = method.value_and_grad(
      lambda w, x: (w * x, x), jnp.zeros([]), state, jnp.arange(8.0), range(8)
    )
    drawn += aux.tolist()
  assert len(drawn) == 40 and set(drawn) == set(range(8)) - {3}


def test_nothing_is_asked_where_no_step_takes_the_full_batch():
  for method in (made_of('never'), sam_optax.sam_random(0.1)):
    state = method.init(driving.start())
    assert method.plan is None
    assert method.decide(state) == {
      'perturb': method.branches[0]['perturb'],
      'full_batch': False,
    }


def test_examples_may_have_results_of_their_own_where_none_is_taken_in_full():
  def losses(params, batch):
    found = driving.fit(params, batch)[0]
    return found, found

  batch, ids = driving.batch_at(0)
  for method in (made_of('never'), sam_optax.sam_random(0.1)):
    params = driving.start()
    (_, aux), *_ = method.value_and_grad(
      losses, params, method.init(params), batch, ids
    )
    assert aux.shape == (driving.BATCH_SIZE // 2,)
