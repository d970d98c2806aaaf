"""Dtypes, extreme gradients, gradients that are not finite, convergence."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sam_optax import _tree, ascent
from sam_optax._ascent import Context
from tests import driving
from tests.methods import METHODS, PERTURBING, build, method
from tests.probe import probe

every_method = pytest.mark.parametrize('name', METHODS)
WITH_RADIUS = [n for n, r in METHODS.items() if r.plain_radius is not None]

both_entry_points = pytest.mark.parametrize(
  'entry', ['update', 'value_and_grad']
)


def avals(tree):
  return jax.tree.map(lambda x: (x.shape, x.dtype, x.weak_type), tree)


@every_method
@both_entry_points
@pytest.mark.parametrize(
  'dtype', [jnp.float16, jnp.bfloat16, jnp.float32, jnp.float64]
)
def test_shapes_and_dtypes_do_not_change_over_steps(name, entry, dtype):
  # Traced only. A dtype that changes would retrace each step and fail in scan.
  with jax.enable_x64(dtype == jnp.float64):
    params = driving.start(dtype)
    stepper = driving.Stepper(method(name), entry, base=optax.identity())
    state = jax.eval_shape(method(name).init, params)
    batch_and_ids = driving.batch_at(0)

    def step_or_not(carry, take):
      def taken():
        grads, params, state, *_ = stepper(
          *carry, optax.EmptyState(), *batch_and_ids
        )
        assert avals(grads) == avals(carry[0])
        assert avals((params, state)) == avals(carry)
        return params, state

      return jax.lax.cond(take, taken, lambda: carry), None

    takes = jnp.asarray([True, False])
    scan = lambda carry: jax.lax.scan(step_or_not, carry, takes)
    carry, _ = jax.eval_shape(scan, (params, state))
    assert avals(carry) == avals((jax.eval_shape(lambda x: x, params), state))


@every_method
def test_a_state_maps_over_its_params(name):
  params = driving.start()
  state = method(name).init(params)
  shapes = []
  mapped = optax.tree.map_params(
    method(name),
    lambda leaf: shapes.append(leaf.shape) or leaf.astype(jnp.bfloat16),
    state,
  )
  assert jax.tree.structure(mapped) == jax.tree.structure(state)
  assert set(shapes) <= {leaf.shape for leaf in jax.tree.leaves(params)}
  # Exactly the leaves shaped like the params count as params.
  shaped = [x for x in jax.tree.leaves(state) if x.shape in {(2,), (3,)}]
  assert len(shapes) == len(shaped)


@every_method
def test_a_zero_gradient_moves_nothing(name):
  steps = driving.drive(
    build(name, **METHODS[name].no_decay),
    entry='value_and_grad',
    losses=driving.linear(0.0),
  )
  for step in steps:
    assert driving.equal(step.params, driving.start())
    assert all(np.all(x == 0) for x in driving.values(step.grads))
    assert driving.is_finite(step.state)


@every_method
def test_a_constant_gradient_is_returned_unchanged(name):
  expected = jax.tree.map(jnp.ones_like, driving.start())
  for step in driving.drive(
    method(name), entry='value_and_grad', losses=driving.linear(1.0)
  ):
    assert driving.is_finite(step.state)
    if METHODS[name].whole_step:  # the gradient, times one rate per entry
      assert all(np.all(x > 0) for x in driving.values(step.grads))
    else:
      driving.assert_close(step.grads, expected)


@every_method
@pytest.mark.parametrize('slope', [1e-30, 1e30])
def test_one_tiny_or_huge_gradient_leaves_no_nan(name, slope):
  # Neither square is a float32 number. A norm in the state may be infinite.
  steps = driving.drive(
    method(name),
    entry='value_and_grad',
    losses=driving.linear(1.0, slope),
    base=optax.set_to_zero(),
  )
  for step in steps:
    assert driving.is_finite(step.grads)
    assert driving.is_finite(step.points)
    assert not driving.has_nan(step.state)


@pytest.mark.parametrize('name', WITH_RADIUS)
@both_entry_points
@pytest.mark.parametrize('dtype', [jnp.float16, jnp.bfloat16])
def test_narrow_params_are_perturbed_by_rho(name, entry, dtype):
  # 64 entries near 1, each moved by about 0.02 / 8: half of the spacing of
  # bfloat16 numbers there.
  rho = 0.02
  key = jax.random.key(1)
  params = {'w': 1 + 0.01 * jax.random.normal(key, [64])}
  params = optax.tree.cast(params, dtype)

  def losses(params, batch):
    w = probe(params)['w']
    slope = jnp.asarray(np.sin(np.arange(64.0)) + 1.5, w.dtype)
    return jnp.ones(batch[0].shape[0], w.dtype) * jnp.sum(slope * w), None

  (step,) = driving.drive(
    build(name, rho=rho, **METHODS[name].plain_radius),
    1,
    entry=entry,
    losses=losses,
    params=params,
    perturb=True,
  )
  assert step.grads['w'].dtype == dtype
  point = step.points[-1]['w']
  assert point.dtype == jnp.float32
  offset = np.asarray(point) - np.asarray(params['w'], np.float32)
  # With params near 1, an adaptive radius equals a plain one to a few percent.
  assert np.linalg.norm(offset) == pytest.approx(rho, rel=0.05)
  assert np.mean(offset != 0) > 0.95


@pytest.mark.parametrize(
  'name', [n for n in PERTURBING if n not in WITH_RADIUS]
)
@pytest.mark.parametrize('dtype', [jnp.float16, jnp.bfloat16])
def test_a_perturbation_of_any_length_is_not_rounded(name, dtype):
  (step,) = driving.drive(
    method(name), 1, entry='value_and_grad', params=driving.start(dtype)
  )
  point = jax.tree.map(np.asarray, step.points[-1])
  for leaf in jax.tree.leaves(point):
    assert leaf.dtype == np.float32
    assert np.all(leaf != leaf.astype(dtype).astype(np.float32))


@pytest.mark.parametrize('name', WITH_RADIUS)
@both_entry_points
@pytest.mark.parametrize('slope', [300.0, 1e-4])
def test_a_float16_gradient_has_its_norm_in_float32(name, entry, slope):
  # In float16 the square of 300 is infinite and that of 1e-4 is 0.
  params = {'w': jnp.ones([10], jnp.float16)}
  (step,) = driving.drive(
    build(name, **METHODS[name].plain_radius),
    1,
    entry=entry,
    losses=driving.linear(slope),
    params=params,
    perturb=True,
  )
  assert driving.is_finite((step.grads, step.state))
  offset = np.asarray(step.points[-1]['w']) - 1
  rho = METHODS[name].options['rho']
  assert np.linalg.norm(offset) == pytest.approx(rho, rel=0.05)


def both_losses(params, batch):
  x, y = params['rosenbrock']
  valley = (1 - x) ** 2 + 10 * (y - x**2) ** 2
  bowl = jnp.sum((params['parabola'] - 0.5) ** 2)
  return jnp.ones(batch[0].shape[0]) * (valley + bowl), None


@every_method
def test_it_converges_on_a_parabola_and_on_rosenbrock(name):
  # The radius goes to 0, so that the run converges to the minimum of the loss.
  numbers = METHODS[name].numbers.items()
  added = {n for n, traits in numbers if traits.is_schedule} & {'rho', 'gamma'}
  schedule = optax.exponential_decay(0.02, 100, 0.5)
  row = METHODS[name]
  tx = build(name, **row.trains, **dict.fromkeys(added, schedule))
  base = driving.WHOLE if row.whole_step else optax.sgd(2e-3, momentum=0.9)
  params = {'parabola': jnp.asarray([3.0, -2.0]), 'rosenbrock': jnp.zeros(2)}
  stepper = driving.Stepper(tx, losses=both_losses, base=base)
  batch_and_ids = driving.batch_at(0)

  @jax.jit
  def train(params):
    def body(carry, _):
      _, *carry, _, _ = stepper(*carry, *batch_and_ids)
      return tuple(carry), None

    carry = params, tx.init(params), base.init(params)
    return jax.lax.scan(body, carry, length=8000)[0][0]

  expected = {'parabola': jnp.full(2, 0.5), 'rosenbrock': jnp.ones(2)}
  driving.assert_close(train(params), expected, atol=1e-2)


@every_method
def test_apply_if_finite_skips_a_broken_step(name):
  inner = optax.chain(method(name), driving.base_of(method(name)))
  losses = driving.losses_for(method(name))
  tx = optax.apply_if_finite(inner, max_consecutive_errors=2)

  @jax.jit
  def step_fn(params, state, batch, ids):
    given = driving.keywords(losses, batch, ids)
    grads = given['grad_fn'](params)
    updates, state = tx.update(grads, state, params, **given)
    return optax.apply_updates(params, updates), state

  params = driving.start()
  state = tx.init(params)
  for step in range(4):
    (x, y), ids = driving.batch_at(step)
    broken = step == 1
    batch = (x, jnp.full_like(y, jnp.nan)) if broken else (x, y)
    old = params, state.inner_state
    params, state = step_fn(params, state, batch, ids)
    assert driving.equal((params, state.inner_state), old) == broken
    assert driving.is_finite((params, state))
    assert state.last_finite == (not broken)


def test_norms_that_overflow_leave_a_direction_finite():
  # Finite numbers, the square of whose norm is not.
  gradient = {'w': jnp.asarray([3e19, -1e19])}
  context = Context(jnp.int32(1), reference=lambda params: gradient)
  parts = {
    'along': ascent.reference('along', variant='paper'),
    'across': ascent.reference('across', variant='paper'),
    'friendly': ascent.friendly('cos'),
  }
  for name, part in parts.items():
    state = part.init(gradient)
    found = part.perturb(gradient, state, gradient, context).value
    assert driving.is_finite(found), name
  assert _tree.cosine(gradient, gradient) == 0
  # A NaN is no overflow, and shows.
  assert jnp.isnan(_tree.cosine(gradient, {'w': jnp.full(2, jnp.nan)}))
