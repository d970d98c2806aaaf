"""Faults of `optax.contrib.sam` among other transformations; see test_field."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest

import sam_optax
from sam_optax import _chain, ascent, cadence, descent, selection
from tests import driving
from tests.field import RHO, START, loss, sam_gradient, two_leaves

# Faults 3 and 4.


def test_unknown_keywords_are_accepted():
  method = sam_optax.sam(RHO)
  grad_fn = jax.grad(loss)
  args = grad_fn(START), method.init(START), START
  plain, _ = method.update(*args, grad_fn=grad_fn)
  more, _ = method.update(*args, grad_fn=grad_fn, value=1.0, anything='else')
  np.testing.assert_array_equal(plain, more)


@pytest.mark.parametrize('chain', [optax.chain, sam_optax.chain])
def test_a_base_optimizer_gets_its_extra_arguments(chain, standard_promotion):
  # polyak_sgd needs value=: its step is value / ||G||^2, where G is of SAM.
  tx = chain(sam_optax.sam(RHO), optax.polyak_sgd(max_learning_rate=1.0))
  grad_fn = jax.grad(loss)
  updates, _ = tx.update(
    grad_fn(START), tx.init(START), START, grad_fn=grad_fn, value=loss(START)
  )
  g = sam_gradient(grad_fn, START)
  expected = -loss(START) / jnp.sum(g**2) * g
  np.testing.assert_allclose(updates, expected, rtol=1e-6)


@pytest.mark.parametrize('chain', [optax.chain, sam_optax.chain])
def test_reduce_on_plateau_follows_the_value(chain, standard_promotion):
  tx = chain(
    sam_optax.sam(RHO),
    optax.sgd(0.1),
    optax.contrib.reduce_on_plateau(factor=0.5, patience=1, rtol=1e-4),
  )
  grad_fn = jax.grad(loss)
  state = tx.init(START)
  full = -0.1 * sam_gradient(grad_fn, START)
  steps = []
  for _ in range(4):  # the value is constant, so the scale is halved
    updates, state = tx.update(
      grad_fn(START), state, START, grad_fn=grad_fn, value=3.0
    )
    steps.append(updates)
  np.testing.assert_allclose(steps[0], full, rtol=1e-6)
  assert float(steps[-1][0] / full[0]) <= 0.5


# Fault 5.


@pytest.mark.parametrize(
  'wrap',
  [
    lambda sam: optax.masked(sam, {'a': True, 'b': False}),
    lambda sam: optax.partition(
      {'sam': sam, 'sgd': optax.sgd(0.1)}, {'a': 'sam', 'b': 'sgd'}
    ),
  ],
  ids=['masked', 'partition'],
)
def test_inside_masked_and_partition_the_error_names_an_alternative(wrap):
  params, fn = two_leaves()
  with pytest.raises(ValueError, match='Put it first, optax.chain') as error:
    tx = wrap(sam_optax.sam(RHO))
    state = tx.init(params)
    tx.update(jax.grad(fn)(params), state, params, grad_fn=jax.grad(fn))
  assert 'mask the ascent' in str(error.value)


def test_the_alternative_to_masked_perturbs_some_leaves():
  # The second alternative that the message names.
  params, fn = two_leaves()
  grad_fn = jax.grad(fn)
  method = sam_optax.sharpness_aware(
    optax.chain(
      optax.masked(optax.set_to_zero(), {'a': False, 'b': True}),
      sam_optax.ascent.gradient(RHO),
    )
  )
  grads, _ = method.update(
    grad_fn(params), method.init(params), params, grad_fn=grad_fn
  )
  g = grad_fn(params)['a']
  there = {**params, 'a': params['a'] + RHO * g / jnp.linalg.norm(g)}
  for name, expected in grad_fn(there).items():
    np.testing.assert_allclose(grads[name], expected, rtol=1e-6)


# Fault 6.


@pytest.mark.parametrize('chain', [optax.chain, sam_optax.chain])
def test_inside_multi_steps_it_raises(chain):
  tx = optax.MultiSteps(chain(sam_optax.sam(RHO), optax.sgd(0.1)), 4)
  with pytest.raises(ValueError, match='Accumulate inside grad_fn'):
    tx.init(START)


# Fault 7.


def test_a_rho_schedule_advances_in_a_chain():
  rho = optax.linear_schedule(0.1, 0.5, 4)
  tx = optax.chain(
    sam_optax.sam(rho), optax.add_decayed_weights(0.0), optax.scale(1.0)
  )
  grad_fn = jax.grad(loss)
  state = tx.init(START)
  step = jax.jit(lambda s: tx.update(grad_fn(START), s, START, grad_fn=grad_fn))
  for t in range(4):
    updates, state = step(state)
    expected = sam_gradient(grad_fn, START, 0.1 * (1 + t))
    np.testing.assert_allclose(updates, expected, rtol=1e-6)


# Fault 13.

LINE_SEARCHES = {
  'backtracking': (
    optax.sgd(1.0),
    optax.scale_by_backtracking_linesearch(15, store_grad=True),
  ),
  'lbfgs': (optax.lbfgs(),),
}


@pytest.mark.parametrize('name', LINE_SEARCHES)
def test_a_line_search_may_follow(name, standard_promotion):
  search = optax.chain(*LINE_SEARCHES[name])
  # Compiled once, for the chain and for the reference.
  search = optax.GradientTransformationExtraArgs(
    search.init, jax.jit(search.update, static_argnames='value_fn')
  )
  tx = sam_optax.chain(sam_optax.sam(0.01), search)
  grad_fn = jax.grad(loss)
  params, state = START, tx.init(START)
  for _ in range(4):
    value, grads = jax.value_and_grad(loss)(params)
    searched = {'value': value, 'grad': grads, 'value_fn': loss}
    updates, next_state = tx.update(
      grads, state, params, grad_fn=grad_fn, **searched
    )
    # The search alone, on gradients of SAM by hand.
    expected, _ = search.update(
      sam_gradient(grad_fn, params, 0.01), state[1], params, **searched
    )
    np.testing.assert_allclose(updates, expected, rtol=1e-4)
    params, state = optax.apply_updates(params, updates), next_state
    assert loss(params) < value


def test_chain_passes_keywords_of_the_method_to_the_method_only():
  heard = []

  def update(updates, state, params=None, **extra_args):
    heard.append(extra_args)
    return updates, state

  listener = optax.GradientTransformationExtraArgs(
    lambda params: optax.EmptyState(), update
  )
  method = sam_optax.sam(RHO)
  tx = sam_optax.chain(method, listener, optax.scale(1.0), listener)
  tx.update(
    START,
    tx.init(START),
    START,
    grad_fn=jax.grad(loss),
    perturb=True,
    value=1.0,
  )
  assert heard == [{'value': 1.0}] * 2
  own = {
    parameter.name
    for parameter in inspect.signature(method.update).parameters.values()
    if parameter.kind is inspect.Parameter.KEYWORD_ONLY
  }
  assert own == _chain._OWN


def test_chain_has_the_state_of_the_one_of_optax():
  members = sam_optax.sam(RHO), optax.adam(0.1), optax.scale(2.0)
  ours = sam_optax.chain(*members).init(START)
  assert jax.tree.structure(ours) == jax.tree.structure(
    optax.chain(*members).init(START)
  )


# Fault 14.


def test_inject_hyperparams_under_jit():
  rho_at = optax.linear_schedule(0.1, 0.2, 2)

  def build(rho, learning_rate):
    return sam_optax.chain(sam_optax.sam(rho), optax.sgd(learning_rate))

  tx = optax.inject_hyperparams(build)(rho=rho_at, learning_rate=0.1)
  grad_fn = jax.grad(loss)
  step = jax.jit(lambda p, s: tx.update(grad_fn(p), s, p, grad_fn=grad_fn))
  state = tx.init(START)
  for t in range(3):
    updates, state = step(START, state)
    expected = -0.1 * sam_gradient(grad_fn, START, rho_at(t))
    np.testing.assert_allclose(updates, expected, rtol=1e-6)
  # A number set between two steps takes effect.
  state.hyperparams['learning_rate'] = jnp.asarray(0.3)
  updates, _ = step(START, state)
  np.testing.assert_allclose(updates, 3 * expected, rtol=1e-5)


def test_no_default_is_a_function():
  # `inject_hyperparams` takes every function for a schedule.
  modules = ascent, cadence, descent, selection
  made = [getattr(module, name) for module in modules for name in dir(module)]
  made += [getattr(sam_optax, name) for name in sam_optax.METHODS]
  for make in filter(inspect.isfunction, made):
    for name, parameter in inspect.signature(make).parameters.items():
      is_given = parameter.default is not parameter.empty
      assert not (is_given and callable(parameter.default)), (make, name)


@pytest.mark.parametrize('make', [sam_optax.gcsam, sam_optax.sam_on])
def test_a_default_mask_is_injected_as_it_is(make):
  params = {'layer': jnp.asarray([[1.0], [-2.0]]), 'norm': jnp.ones(2)}
  grad_fn = jax.grad(lambda w: jnp.sum((w['layer'][:, 0] * w['norm']) ** 4))
  found = [
    tx.update(grad_fn(params), tx.init(params), params, grad_fn=grad_fn)[0]
    for tx in (make(rho=0.5), optax.inject_hyperparams(make)(rho=0.5))
  ]
  assert driving.equal(*found)


@pytest.mark.parametrize(
  ('make', 'numbers', 'static'),
  [
    (sam_optax.sam_k, {'rho': 0.1, 'k': 2}, ()),
    (
      sam_optax.arsam,
      {'rho': 0.1, 'segment': 2, 'warmup_steps': 1, 'horizon': 1},
      ('key',),  # a seed is not a hyperparameter to change during a run
    ),
  ],
)
def test_an_injected_period_is_in_no_python_branch(make, numbers, static):
  grad_fn = jax.grad(loss)

  def run(method):
    step = jax.jit(
      lambda s: method.update(grad_fn(START), s, START, grad_fn=grad_fn)
    )
    state, grads = method.init(START), []
    for _ in range(4):
      direction, state = step(state)
      grads.append(direction)
    return jnp.stack(grads)

  injected = optax.inject_hyperparams(make, static_args=static)(**numbers)
  np.testing.assert_allclose(run(injected), run(make(**numbers)), rtol=1e-6)
