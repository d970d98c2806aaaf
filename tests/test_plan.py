"""The host decides ahead as far as the state determines the steps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sam_optax
from sam_optax import ascent, cadence, selection
from tests import compilations, driving, tiny_config
from tests.methods import METHODS, method
from tests.tiny_runs import make_dataset
from train import config as train_config
from train.engine import loop
from train.engine.decisions import Decisions

ORDER = np.stack([driving.batch_at(step)[1] for step in range(12)])
ARSAM = {'segment': 5, 'warmup_steps': 0}
# For how many of the next 12 steps: from step 0, and from step 3.
WHEN = {
  'a period': (lambda: cadence.every(3), 12, 12),
  'a draw': (lambda: cadence.bernoulli(0.5), 12, 12),
  'a span': (lambda: cadence.between(cadence.every(3), 2, 7), 12, 12),
  # The probability is constant until the end of the segment.
  'a probability': (lambda: cadence.autoregressive(**ARSAM), 5, 2),
  'a span of it': (
    lambda: cadence.between(cadence.autoregressive(**ARSAM)),
    5,
    2,
  ),
  # A warm-up does not ask for it.
  'a warm-up': (
    lambda: cadence.autoregressive(segment=5, warmup_steps=7),
    7,
    4,
  ),
  'a warm-up within a segment': (
    lambda: cadence.autoregressive(segment=5, warmup_steps=4),
    5,
    2,
  ),
  # A segment is drawn when it begins. The warm-up is one step here.
  'a quota': (
    lambda: cadence.quota(segment=5, blocks=2, warmup_steps=1),
    5,
    2,
  ),
  'a scheduled warm-up': (
    lambda: cadence.quota(segment=5, blocks=2, warmup_steps=lambda step: 1),
    1,
    1,
  ),
  'a scheduled segment': (
    lambda: cadence.autoregressive(segment=lambda step: 5, warmup_steps=0),
    1,
    1,
  ),
}


@pytest.mark.parametrize('when', WHEN)
def test_a_cadence_is_known_for_so_many_steps(when):
  make, at_first, later = WHEN[when]
  method = sam_optax.sharpness_aware(ascent.gradient(0.1), make())
  state = method.init(driving.start())
  assert len(method.plan(state, ORDER)) == at_first
  assert len(method.plan(state, ORDER[:3])) == min(at_first, 3)
  # No ids are read where no examples are chosen.
  assert method.plan(state)[:at_first] == method.plan(state, ORDER)
  state = state._replace(step=jnp.asarray(3, jnp.int32))
  assert len(method.plan(state, ORDER)) == later


def decided(method, epochs):
  """The decisions of epochs of three steps, and how many plans they take."""
  plans = []

  def plan(*arguments):
    plans.append(method.plan(*arguments))
    return plans[-1]

  decisions = Decisions(method._replace(plan=plan))
  state, found = method.init(driving.start()), []
  for epoch in np.split(ORDER[: 3 * epochs], epochs):
    for position, ids in enumerate(epoch):
      found.append(decisions.next(state, epoch[position:]))
      assert found[-1] == method.decide(state, ids)
      state = state._replace(step=state.step + 1)
  return len(plans)


def test_a_plan_lasts_beyond_an_epoch_unless_examples_are_chosen():
  method = sam_optax.sharpness_aware(
    ascent.gradient(0.1), cadence.autoregressive(**ARSAM)
  )
  assert decided(method, epochs=4) == 3
  method = sam_optax.sharpness_aware(
    ascent.gradient(0.1),
    cadence.bernoulli(0.5),
    selection=selection.uniformly(0.5),
  )
  assert decided(method, epochs=4) == 4


def test_nothing_is_decided_ahead_by_the_device_or_without_a_plan():
  random = sam_optax.sharpness_aware(
    ascent.gradient(0.1), cadence.bernoulli(0.5)
  )
  state = random.init(driving.start())
  assert Decisions(random, on_host=False).next(state, ORDER) is None
  always = sam_optax.sharpness_aware(ascent.gradient(0.1))
  assert Decisions(always).next(always.init(driving.start()), ORDER) is None


BRANCHES = {
  'identity': ({'perturb': False},),
  'sam': ({'perturb': True},),
  'aesam': ({'perturb': True}, {'perturb': False}),
  'sam_random': ({'perturb': True, 'full_batch': False},),
  'ausam': (
    {'perturb': True, 'full_batch': True},
    {'perturb': True, 'full_batch': False},
  ),
}


@pytest.mark.parametrize('name', METHODS)
def test_the_host_decides_for_one_of_the_branches(name):
  made = method(name)
  assert made.branches == BRANCHES.get(name, made.branches)
  assert len(made.branches) == len({str(one) for one in made.branches})
  if made.first_pass is None:
    state = made.init(driving.start())
    assert made.decide(state, example_ids=ORDER[0]) in made.branches


def test_no_plan_without_a_state_or_if_the_gradient_decides():
  for when in (cadence.every(1), cadence.never(), cadence.gradient_surge(9)):
    assert sam_optax.sharpness_aware(ascent.gradient(0.1), when).plan is None


def test_a_plan_ends_at_an_example_that_was_not_seen():
  part = selection.by_loss_rise(driving.NUM_EXAMPLES)
  method = sam_optax.sharpness_aware(ascent.gradient(0.1), selection=part)
  state = method.init(driving.start())

  def plan(unseen, order=ORDER):
    count = jnp.ones(driving.NUM_EXAMPLES).at[jnp.asarray(unseen, int)].set(0)
    selected = state.selection._replace(rise_count=count)
    return [
      decisions['full_batch']
      for decisions in method.plan(state._replace(selection=selected), order)
    ]

  assert plan([]) == [False] * 12
  # Three batches to an epoch, each of eight.
  assert plan([20]) == [False, False]
  assert plan([0]) == [True, False, False]
  assert plan([0, 8]) == [True]
  # In the steps of one epoch, no step sees an example of another.
  assert plan([0, 8], ORDER[:3]) == [True, True, False]
  assert plan([0, 8], ORDER[[0, 1, 1]]) == [True]


@pytest.mark.parametrize('name', [n for n in METHODS if method(n).plan])
def test_a_plan_is_compiled_once(name):
  made = method(name)
  state = made.init(driving.start())
  made.plan(state, ORDER)
  with compilations.counted() as compiled:
    for rows in (11, 5, 1):
      made.plan(state, ORDER[:rows])
    assert not compiled
    jax.jit(lambda x: x + len(name))(jnp.ones(3)).block_until_ready()
  assert compiled  # it counts


# By where a step's branches come from.
RUNS = {
  'a plan': 'arsam',
  'a plan by the examples': 'ausam',
  'a plan of both': 'arsam_ausam',
  'the gradient': 'aesam',
  'an epoch of its own': 'infobatch',
}


@pytest.mark.parametrize('decided_by', RUNS)
@pytest.mark.usefixtures('standard_promotion')
def test_a_run_compiles_nothing_after_its_first_epoch(decided_by):
  # What an earlier test compiled would not be seen to compile here.
  jax.clear_caches()
  config = tiny_config.get_config()
  config.update({'batch_size': 8, 'epochs': 3, 'branch': 'host'})
  config.method = train_config.method(RUNS[decided_by])
  program = loop.Program(config, make_dataset(train=160))
  state = program.init(seed=0)
  decisions = Decisions(program.method)
  for epoch in range(3):
    with compilations.counted() as compiled:
      state, order = program.start_epoch(state, 0, epoch)
      if program.method.start_epoch is not None:
        decisions = Decisions(program.method)
      for after, _ in program.steps(state, order, 0, epoch, 0, decisions):
        state = after
    assert program.compiled  # waits for the kinds that the epoch did not need
    assert bool(compiled) == (epoch == 0)


def test_selection_and_cadence_are_planned_together():
  method = sam_optax.sharpness_aware(
    ascent.gradient(0.1),
    cadence.autoregressive(**ARSAM),
    selection=selection.uniformly(0.5),
  )
  plan = method.plan(method.init(driving.start()), ORDER)
  assert len(plan) == 5
  assert all(set(decisions) == {'perturb', 'full_batch'} for decisions in plan)
