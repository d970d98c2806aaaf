"""The cost of a step, its record in the state, and the decision to perturb."""

import jax
import numpy as np
import optax
import pytest

from tests import driving, probe
from tests.methods import BATCH_SIZE, METHODS, method

every_method = pytest.mark.parametrize('name', METHODS)
both_entry_points = pytest.mark.parametrize(
  'entry', ['update', 'value_and_grad']
)


def read(state, *names):
  return [np.asarray(optax.tree.get(state, name)).item() for name in names]


@every_method
@both_entry_points
def test_the_state_counts_the_gradients_that_execute(name, entry):
  evaluations, sam_steps = 0, 0
  for number, step in enumerate(driving.run(name, entry, 'device'), 1):
    counted, perturbed, share = read(
      step.state, 'gradient_evaluations', 'perturbed', 'sam_fraction'
    )
    evaluations += step.executed
    sam_steps += perturbed
    assert step.executed == (METHODS[name].per_sam_step if perturbed else 1)
    assert counted == evaluations
    assert share == pytest.approx(sam_steps / number, abs=1e-6)
    assert driving.inner(step.state).step == number


@every_method
@both_entry_points
@pytest.mark.parametrize('how', ['device', 'host'])
def test_a_step_evaluates_as_many_examples_as_the_table_says(name, entry, how):
  row, examples = METHODS[name], 0
  for number, step in enumerate(driving.run(name, entry, how)):
    gradients, forward = [1] * row.per_sam_step, 0
    if number >= row.settles:
      gradients, forward = row.batches or gradients, row.forward
    if not read(step.state, 'perturbed')[0]:
      gradients = gradients[:1]
    forward += row.loss_costs and entry == 'value_and_grad'
    assert step.gradients == [share * BATCH_SIZE for share in gradients]
    assert step.forward == [BATCH_SIZE] * forward
    # The method cannot know how much data a reference gradient is of.
    examples += sum(min(size, BATCH_SIZE) for size in step.gradients)
    assert read(step.state, 'batch_gradients') == [examples / BATCH_SIZE]


def test_the_probe_records_only_what_executes():
  def loss(params, batch):
    return driving.mean(driving.fit(params, batch)[0])

  both = jax.value_and_grad(loss)
  for used, gradients, forward in [
    (both, 1, 0),
    (lambda *at: both(*at)[1], 1, 0),
    (lambda *at: both(*at)[0], 0, 1),  # without a gradient it is a forward pass
    (loss, 0, 1),
    (lambda *at: loss(*at) + loss(*at), 0, 2),
    (lambda *at: (both(*at), loss(*at), at)[2], 0, 0),
  ]:
    probe.reset()
    jax.block_until_ready(
      jax.jit(used)(driving.start(), driving.batch_at(0)[0])
    )
    _, *seen = probe.seen()
    assert seen == [[BATCH_SIZE] * gradients, [BATCH_SIZE] * forward]


@every_method
def test_the_first_steps_cost_what_the_table_says(name):
  steps = driving.run(name, how='device')
  expected = METHODS[name].evaluations
  evaluations = sum(step.executed for step in steps[:4])
  if expected is None:  # random: some steps are SAM steps and some are plain
    assert len(steps) < sum(step.executed for step in steps) < 2 * len(steps)
  else:
    assert evaluations == expected


@every_method
def test_the_state_can_be_read_inside_a_chain(name):
  base = driving.base_of(method(name))
  tx = optax.chain(method(name), optax.clip_by_global_norm(1.0), base)
  params = driving.start()
  state = tx.init(params)
  batch, ids = driving.batch_at(0)
  losses = driving.losses_for(method(name))
  given = driving.keywords(losses, batch, ids)
  grads = given['grad_fn'](params)
  given |= method(name).decide(state[0], ids)
  _, state = tx.update(grads, state, params, **given)
  step = driving.run(name)[0]
  names = 'gradient_evaluations', 'perturbed', 'sam_fraction'
  assert read(state, *names) == read(step.state, *names)


@pytest.mark.parametrize(
  'name', [n for n, r in METHODS.items() if not r.decided]
)
@both_entry_points
def test_the_host_decides_as_the_device_does(name, entry):
  hosted = driving.run(name, entry, 'host')
  on_device = driving.run(name, entry, 'device')
  driving.assert_close(driving.results(hosted), driving.results(on_device))
  assert [step.executed for step in hosted] == [
    step.executed for step in on_device
  ]


@pytest.mark.parametrize(
  'name', [n for n, r in METHODS.items() if method(n).plan is not None]
)
def test_a_plan_equals_the_decisions_step_by_step(name):
  # A plan is made from the state at one step, for steps still to come.
  steps = driving.drive(method(name), 12)
  states = [method(name).init(driving.start())]
  states += [step.state for step in steps]
  order = np.stack([driving.batch_at(step)[1] for step in range(12)])
  planned = 0
  while planned < 12:
    plan = method(name).plan(states[planned], order[planned:])
    assert 1 <= len(plan) <= 12 - planned
    for decisions in plan:
      ids = order[planned]
      assert decisions == method(name).decide(states[planned], ids)
      planned += 1


@every_method
def test_decide_gives_python_bools(name):
  params = driving.start()
  state = method(name).init(params)
  batch, ids = driving.batch_at(0)
  first_pass = method(name).first_pass
  first = first_pass(driving.fit, params, batch) if first_pass else None
  decided = method(name).decide(state, ids, first)
  assert decided and all(type(answer) is bool for answer in decided.values())


@pytest.mark.parametrize('name', [n for n, r in METHODS.items() if r.decided])
def test_a_decided_method_needs_no_state_to_decide(name):
  # Reading an array would wait for the device.
  state = method(name).init(driving.start())
  for leaf in jax.tree.leaves(state):
    leaf.delete()
  assert method(name).decide(state) == {'perturb': METHODS[name].perturbs}


@pytest.mark.parametrize(
  'name', [n for n, row in METHODS.items() if not row.another_loss]
)
def test_perturbed_params_are_where_a_step_takes_its_second_gradient(name):
  made = method(name)
  # Two steps on, where averages and counts are no longer as they begin.
  last = driving.run(name)[1]
  params, state = last.params, last.state
  batch, ids = driving.batch_at(2)
  given = driving.keywords(driving.losses_for(made), batch, ids)
  found = made.perturbed_params(
    given['grad_fn'], params, state, given['reference_grad_fn']
  )
  probe.reset()
  made.update(
    given['grad_fn'](params),
    state,
    params,
    **given,
    perturb=True,
    full_batch=True,
  )
  points, *_ = probe.seen()
  assert any(driving.equal(found, point) for point in points)
  assert driving.equal(found, params) != METHODS[name].perturbs


@every_method
@both_entry_points
def test_a_second_call_does_not_trace_again(name, entry):
  base = driving.base_of(method(name))
  stepper = driving.stepper(method(name), entry, driving.fit, base)
  params = driving.start()
  arguments = params, method(name).init(params), base.init(params)
  _, *arguments, _, _ = stepper.jitted(*arguments, *driving.batch_at(0))
  before = stepper.traces
  for step in range(1, 4):
    batch, ids = driving.batch_at(step)
    _, *arguments, _, _ = stepper.jitted(*arguments, batch, ids)
  assert stepper.traces == before >= 1
  # One program if the device decides, and one for each decision of the host.
  assert before <= 1 + 2 + METHODS[name].needs_examples


@every_method
@pytest.mark.parametrize('perturb', [False, True])
def test_the_caller_may_decide(name, perturb):
  # In both directions: against the decision of the method, too.
  whole = {'perturb': perturb, 'full_batch': True}
  steps = driving.drive(method(name), 3, entry='value_and_grad', **whole)
  assert [read(step.state, 'perturbed') for step in steps] == [[perturb]] * 3
  assert jax.tree.structure(steps[0].grads) == jax.tree.structure(
    steps[0].params
  )


@pytest.mark.parametrize(
  'name',
  [n for n, r in METHODS.items() if r.needs_ids and not r.decided],
)
def test_the_caller_may_ask_for_the_full_batch(name):
  whole, part = (
    driving.drive(method(name), 1, full_batch=full_batch)[0]
    for full_batch in (True, False)
  )
  assert not driving.equal(whole.grads, part.grads)


@pytest.mark.parametrize(
  'name', [n for n, row in METHODS.items() if not row.needs_examples]
)
def test_the_given_gradient_is_used(name):
  # It may have been clipped or averaged, so it must not be computed again.
  params = driving.start()
  given = driving.keywords(driving.fit, *driving.batch_at(0))
  incoming = jax.tree.map(lambda x: 0 * x + 7, params)
  grads, _ = method(name).update(
    incoming, method(name).init(params), params, **given, perturb=False
  )
  if METHODS[name].whole_step:
    no_sources = given | {'grad_fn': None, 'loss_fn': None}
    incoming, _ = method(name).update(
      incoming, method(name).init(params), params, **no_sources, perturb=False
    )
    assert not driving.equal(incoming, driving.run(name)[0].grads)
  assert driving.equal(grads, incoming)
