"""Faults found in other implementations, which ours must not have.

One test per fault of `optax.contrib.sam` and of others, named after the fault.
"""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest

import sam_optax
from sam_optax import _chain
from tests.field import RHO, START, THREE, loss


def sam_gradient(grad_fn, w, rho=RHO):
  """The gradient of SAM, by hand."""
  g = grad_fn(w)
  return grad_fn(w + rho * g / jnp.linalg.norm(g))


def two_leaves():
  params = {'a': jnp.array([1.0, -2.0]), 'b': jnp.array([[3.0]])}

  def fn(p):
    return loss(p['a']) + jnp.sum(p['b'] ** 2) * jnp.sum(p['a'])

  return params, fn


def assert_finite(tree):
  for leaf in jax.tree.leaves(tree):
    if not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
      assert np.isfinite(np.asarray(leaf, np.float32)).all()


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


# Fault 8: test_field_devices.py.

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
