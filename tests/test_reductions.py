"""Runs that must give the same results, and runs that must not.

If two methods reduce to each other, their eager runs compute the same
operations in the same order, so they are compared bit for bit.
"""

import functools
import inspect

import jax
import jax.numpy as jnp
import optax
import pytest

import sam_optax
from tests import driving
from tests.methods import (
  METHODS,
  PERTURBING,
  RANDOM,
  all_but_the_first,
  build,
  method,
)

every_method = pytest.mark.parametrize('name', METHODS)
both_entry_points = pytest.mark.parametrize(
  'entry', ['update', 'value_and_grad']
)


def numbers(is_schedule):
  return [
    (name, number)
    for name, row in METHODS.items()
    for number, traits in row.numbers.items()
    if traits.is_schedule == is_schedule
  ]


@functools.cache
def sam(rho):
  """Steps of SAM, which many methods are compared with."""
  return driving.trajectory(driving.drive(sam_optax.sam(rho)))


@functools.cache
def plain():
  """(gradients, updates, params) of six steps of the base optimizer."""
  params, state = driving.start(), driving.BASE.init(driving.start())
  steps = []
  for step in range(6):
    grads = driving.grad_fn_of(driving.fit, driving.batch_at(step)[0])(params)
    updates, state = driving.BASE.update(grads, state, params)
    params = optax.apply_updates(params, updates)
    steps.append((grads, updates, params))
  return steps


@functools.cache
def run(name, entry, dtype):
  """Some steps with parameters of a dtype; those in float32 are shared."""
  if dtype == jnp.float32:
    return driving.run(name, entry)
  return driving.drive(method(name), entry=entry, params=driving.start(dtype))


def assert_same(actual, expected, exact):
  if exact:
    assert driving.equal(actual, expected)
  else:
    driving.assert_close(actual, expected)


@every_method
def test_a_method_says_what_it_is(name):
  row = METHODS[name]
  assert method(name).reads_logits == row.another_loss
  assert method(name).is_optimizer == row.whole_step


@pytest.mark.parametrize(
  'name', [name for name in PERTURBING if METHODS[name].is_sam is not None]
)
def test_it_is_sam_where_the_table_says(name):
  row = METHODS[name]
  rho = (row.options | row.is_sam).get('rho', 0.0)
  steps = driving.trajectory(driving.drive(build(name, **row.is_sam)))
  assert_same(steps, sam(rho), row.exact)


@pytest.mark.parametrize(
  'name', [n for n, row in METHODS.items() if row.is_base is not None]
)
@both_entry_points
def test_it_is_the_base_optimizer_where_the_table_says(name, entry):
  row = METHODS[name]
  made = driving.drive(build(name, **row.is_base), entry=entry)
  steps = driving.trajectory(made)
  expected = [
    (jax.tree.map(jnp.negative, updates) if row.whole_step else grads, params)
    for grads, updates, params in plain()
  ]
  assert_same(steps, expected, row.exact_base)


@pytest.mark.parametrize(
  ('name', 'changes', 'other', 'other_changes'),
  [(n, *(r[1], r[0], r[2])) for n, row in METHODS.items() for r in row.also],
)
def test_it_is_another_method_where_the_table_says(
  name, changes, other, other_changes
):
  steps = driving.drive(build(name, **changes))
  others = driving.drive(build(other, **other_changes))
  exact = METHODS[name].exact or METHODS[name].exact == METHODS[other].exact
  assert_same(driving.trajectory(steps), driving.trajectory(others), exact)


@pytest.mark.parametrize(
  'name', [n for n, row in METHODS.items() if row.is_base != {}]
)
def test_with_the_test_options_it_is_not_the_base_optimizer(name):
  # Otherwise options that reach no branch would make the battery pointless.
  steps = driving.run(name)
  plain = driving.run('identity')
  assert not driving.equal(steps[-1].params, plain[-1].params)


@every_method
@both_entry_points
def test_jit_equals_no_jit(name, entry):
  eager = driving.results(driving.run(name, entry))
  driving.assert_close(
    driving.results(driving.run(name, entry, 'device')), eager
  )


@every_method
@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16])
def test_both_entry_points_agree(name, dtype):
  one, two = (run(name, entry, dtype) for entry in ('update', 'value_and_grad'))
  assert driving.equal(driving.results(one), driving.results(two))


@every_method
@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16])
def test_the_loss_and_the_aux_are_of_the_first_pass(name, dtype):
  params = driving.start(dtype)
  for step in run(name, 'value_and_grad', dtype):
    assert driving.equal(step.aux['point'], step.points[0])
    same_loss = driving.equal(step.aux['loss'], step.loss)
    assert same_loss or METHODS[name].another_loss
    assert step.loss >= step.aux['loss']  # a divergence is at least 0
    at_params = driving.equal(step.points[0], params)
    assert at_params == METHODS[name].first_at_params
    params = step.params


@pytest.mark.parametrize(('name', 'number'), numbers(is_schedule=True))
def test_a_constant_schedule_equals_the_constant(name, number):
  value = METHODS[name].value(number)
  scheduled = build(name, **{number: lambda step: jnp.asarray(value)})
  assert driving.equal(
    driving.results(driving.drive(scheduled)),
    driving.results(driving.run(name)[:6]),
  )


@functools.cache
def changed(name, number):
  """A run in which a number changes at step 2."""
  value, other = (
    METHODS[name].value(number),
    METHODS[name].numbers[number].other,
  )
  schedule = lambda step: jnp.where(step < 2, float(value), float(other))
  return driving.drive(build(name, **{number: schedule}))


def first_difference(steps, others):
  pairs = zip(driving.results(steps), driving.results(others), strict=True)
  same = [driving.equal(one, other) for one, other in pairs]
  return same.index(False)


@pytest.mark.parametrize(('name', 'number'), numbers(is_schedule=True))
def test_a_schedule_acts_from_the_step_at_which_it_changes(name, number):
  constant = driving.run(name)[:6]
  shows_at = METHODS[name].numbers[number].shows_at
  assert first_difference(changed(name, number), constant) == shows_at


def assert_differs(name, made):
  """Asserts that 12 steps of a method are not those of a row."""
  run = driving.results(driving.run(name))
  # Most differ early.
  assert any(
    not driving.equal(driving.results(driving.drive(made, count)), run[:count])
    for count in (3, 12)
  )


@pytest.mark.parametrize(('name', 'number'), numbers(is_schedule=False))
def test_another_number_gives_another_run(name, number):
  other = METHODS[name].numbers[number].other
  assert_differs(name, build(name, **{number: other}))


# The values of every argument that is neither a number nor a bool, and acts in
# a few steps on leaves of one axis.
CHOICES = {
  'variant': ('code', 'paper'),
  'minimize': ('perturbed', 'clean'),
  'history': ('mean', 'last'),
  'loss': ('perturbed', 'clean'),
  'norm_mask': (None, all_but_the_first),
  'adapted': (None, all_but_the_first),
}


def arguments(name):
  return inspect.signature(METHODS[name].make).parameters


def switches():
  """(method, argument, another value of it)."""
  for name, row in METHODS.items():
    for argument in arguments(name):
      value = row.value(argument)
      if isinstance(value, bool):
        yield name, argument, not value
      elif argument in CHOICES:
        yield from (
          (name, argument, other)
          for other in CHOICES[argument]
          if other != value
        )


@pytest.mark.parametrize(('name', 'argument', 'other'), list(switches()))
def test_another_choice_gives_another_run(name, argument, other):
  assert_differs(name, build(name, **{argument: other}))


@pytest.mark.parametrize('name', [n for n in METHODS if 'axis' in arguments(n)])
def test_another_axis_gives_another_point(name):
  # On a leaf of two axes, which the small problem does not have.
  params = {'kernel': jnp.asarray([[1.0, -2.0], [3.0, 0.5]])}
  one, other = (
    made.perturbed_params(lambda w: w, params, made.init(params))
    for made in (build(name, axis=0), build(name, axis=1))
  )
  assert not driving.equal(one, other)


def injected(name):
  row = METHODS[name]
  make = optax.inject_hyperparams(row.make, static_args=row.static_args)
  return make(**row.options)


@every_method
def test_injected_hyperparameters_change_without_a_retrace(name):
  row, tx = METHODS[name], injected(name)
  losses, base = driving.losses_for(method(name)), driving.base_of(method(name))
  traces = []

  @jax.jit
  def step_fn(params, state, base_state, batch, ids):
    traces.append(1)
    given = driving.keywords(losses, batch, ids)
    grads = given['grad_fn'](params)
    grads, state = tx.update(grads, state, params, **given)
    updates, base_state = base.update(grads, base_state, params)
    return grads, optax.apply_updates(params, updates), state, base_state

  def run(changes):
    params = driving.start()
    state, base_state = tx.init(params), base.init(params)
    for step in range(5):
      if step == 2:
        for number, value in changes.items():
          old = state.hyperparams[number]
          state.hyperparams[number] = jnp.full_like(old, value)
      grads, params, state, base_state = step_fn(
        params, state, base_state, *driving.batch_at(step)
      )
      yield grads, params, state.inner_state

  plain = driving.results(driving.run(name, how='device')[:5])
  driving.assert_close(list(run({})), plain)
  for number, traits in row.numbers.items():
    if traits.is_schedule:
      expected = driving.results(changed(name, number)[:5])
      driving.assert_close(list(run({number: traits.other})), expected)
  assert len(traces) == 1


@every_method
def test_narrow_params_narrow_the_injected_hyperparameters(name):
  # NumPy does not count a scalar of bfloat16 as a real number, nor does JAX
  # combine one with float32. The state is as a file of NumPy's gives it back.
  tx, params = injected(name), driving.start(jnp.bfloat16)
  gradient, keywords = driving.first_call(name, params)
  state = tx.init(params)
  state = state._replace(inner_state=driving.on_host(state.inner_state))
  updates, new = jax.eval_shape(
    lambda: tx.update(gradient, state, params, **keywords)
  )
  dtypes = lambda tree: jax.tree.map(lambda x: x.dtype, tree)
  assert dtypes(updates) == dtypes(gradient)
  assert dtypes(new.inner_state) == dtypes(state.inner_state)


@pytest.mark.parametrize('name', RANDOM)
def test_the_seed_determines_the_run(name):
  drawn = lambda key: driving.trajectory(driving.drive(build(name, key=key)))
  one = drawn(7)
  assert driving.equal(one, drawn(jax.random.key(7)))
  assert driving.equal(one, drawn(jax.random.PRNGKey(7)))
  assert not driving.equal(one, drawn(5))


@pytest.mark.parametrize('name', RANDOM)
def test_each_step_draws_anew(name):
  # From one state and on one batch, so that only the step's number differs.
  *_, last = driving.run(name)
  made, base = method(name), driving.base_of(method(name))
  step_fn, (batch, ids) = driving.stepper(made), driving.batch_at(0)
  found = []
  for number in (1, 2, 3):
    state = optax.tree.set(last.state, step=jnp.asarray(number))
    decided = made.decide(state, ids)
    grads, *_ = step_fn(
      last.params, state, base.init(last.params), batch, ids, **decided
    )
    found.append(grads)
  assert not all(driving.equal(grads, found[0]) for grads in found)
