"""Parts without a worked example in the specification, computed by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import sam_optax
from sam_optax import _random, ascent, descent, selection
from tests import driving
from tests.routes import plain_losses

HESSIAN = np.float32([[2.0, 0.5], [0.5, 1.0]])
PARAMS = np.float32([1.0, -2.0])
RHO = 0.1


def slope(w):
  """The gradient of a quadratic loss."""
  return HESSIAN @ w


def unit(x):
  return x / np.linalg.norm(x)


def in_steps(w, sizes, radius):
  """Projected gradient ascent, with steps of given sizes."""
  total = np.zeros_like(w)
  for size in sizes:
    total = total + size * unit(slope(w + total))
    total = total * min(1, radius / np.linalg.norm(total))
  return total


def unified(share):
  length = np.linalg.norm(slope(PARAMS))
  return RHO * (1 - share + share / length) * slope(PARAMS)


PERTURBATIONS = {
  'unified, none': (lambda: ascent.unified(RHO, 0.0), unified(0.0)),
  'unified, part': (lambda: ascent.unified(RHO, 0.25), unified(0.25)),
  'multi_step, within': (
    lambda: ascent.multi_step(RHO, 2, 0.03),
    in_steps(PARAMS, (0.03, 0.03), RHO),
  ),
  'multi_step, projected': (
    lambda: ascent.multi_step(RHO, 3, 0.08),
    in_steps(PARAMS, (0.08, 0.08, 0.08), RHO),
  ),
  'multi_step, as long as the radius': (
    lambda: ascent.multi_step(RHO, 2),
    in_steps(PARAMS, (RHO, RHO), RHO),
  ),
}


@pytest.mark.parametrize('name', PERTURBATIONS)
def test_a_perturbation(name):
  make, expected = PERTURBATIONS[name]
  method, params = sam_optax.sharpness_aware(make()), jnp.asarray(PARAMS)
  point = method.perturbed_params(slope, params, method.init(params))
  np.testing.assert_allclose(point - params, expected, rtol=1e-4, atol=1e-6)


def test_rsam_weighs_noise_against_a_gradient_of_length_one(monkeypatch):
  draws = np.float32([1.5, -0.5])
  monkeypatch.setattr(_random, 'normal_like', lambda key, step, like: draws)
  method = sam_optax.rsam(RHO, gamma=0.2, lam=0.7, normalize=True)
  params = jnp.asarray(PARAMS)
  point = method.perturbed_params(slope, params, method.init(params))
  noise = 0.2 * draws * np.linalg.norm(PARAMS)
  direction = noise + 0.7 * unit(slope(PARAMS + noise))
  np.testing.assert_allclose(
    point - params, RHO * unit(direction), rtol=1e-4, atol=1e-6
  )


def test_friendly_removes_the_share_that_the_cosine_is():
  gradient, average = np.float32([0.7, -1.3]), np.float32([0.2, 0.4])
  share = unit(gradient) @ unit(average)
  part = ascent.friendly('cos', decay=0.6)
  state = ascent.AverageState(jnp.asarray(average), jnp.asarray(True))
  found, _ = part.update(jnp.asarray(gradient), state, step=jnp.asarray(3))
  np.testing.assert_allclose(found, gradient - share * average, rtol=1e-5)


def test_the_direction_of_stable_sam_has_the_length_of_the_gradient():
  method, params = sam_optax.stable_sam(RHO), jnp.asarray(PARAMS)
  found, _ = method.update(
    slope(params), method.init(params), params, grad_fn=slope
  )
  gradient = slope(PARAMS)
  perturbed = slope(PARAMS + RHO * unit(gradient))
  expected = np.linalg.norm(gradient) * unit(perturbed)
  np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_looksam_takes_the_norms_of_each_tensor_where_it_is_told_to():
  draw = np.random.default_rng(0).normal
  gradient, perturbed, later = (
    {'a': draw(size=3).astype(np.float32), 'b': draw(size=2).astype('f')}
    for _ in range(3)
  )
  look = descent.look_direction(0.7, per_tensor=True)
  state = look.update(gradient, perturbed, look.init(gradient), jnp.asarray(0))
  found = look.on_plain(later, state, jnp.asarray(1))
  for name, g in gradient.items():
    across = perturbed[name] - perturbed[name] @ unit(g) * unit(g)
    expected = later[name] + 0.7 * np.linalg.norm(later[name]) * unit(across)
    np.testing.assert_allclose(found[name], expected, rtol=1e-4)


def test_lpfsgd_descends_along_the_mean_over_its_draws():
  method, points = sam_optax.lpfsgd(0.1, draws=3, key=0), []
  params = {'kernel': jnp.asarray([[1.0, -2.0], [0.5, 3.0]])}

  def grad_fn(w):
    points.append(w)
    return jax.tree.map(lambda x: x**3, w)

  found, _ = method.update(
    grad_fn(params), method.init(params), params, grad_fn=grad_fn
  )
  drawn = np.stack([point['kernel'] for point in points[-3:]])
  assert len(np.unique(drawn)) == 12
  np.testing.assert_allclose(found['kernel'], np.mean(drawn**3, 0), rtol=1e-5)


def test_the_first_step_of_a_random_mask_keeps_every_tensor():
  # At this chance, no other step keeps any.
  part, tree = ascent.random_mask(1e-6), {'a': jnp.ones(2), 'b': jnp.ones(3)}
  for step in range(4):
    found, _ = part.update(tree, part.init(tree), step=jnp.asarray(step))
    for leaf in jax.tree.leaves(found):
      np.testing.assert_array_equal(leaf, step == 0)


def test_normalisation_is_told_by_the_names_on_the_path():
  leaf = jnp.ones(2)
  params = {
    'BatchNorm_0': {'scale': leaf, 'bias': leaf},
    'block': {'norm1': {'scale': leaf}, 'bn2': leaf, 'Conv_0': leaf},
    'stem': {'kernel': leaf, 'bias': leaf},
  }
  assert ascent.normalization(params) == {
    'BatchNorm_0': {'scale': True, 'bias': True},
    'block': {'norm1': {'scale': True}, 'bn2': True, 'Conv_0': False},
    'stem': {'kernel': False, 'bias': False},
  }


def test_a_radius_tied_to_the_rate_is_clamped():
  rates = jnp.asarray([0.0, 0.02, 0.05, 0.075, 0.1, 0.2])
  rho = sam_optax.rho_schedule(
    lambda step: rates[step], 0.2, 0.05, lr_max=0.1, lr_min=0.05
  )
  found = [rho(step) for step in range(6)]
  np.testing.assert_allclose(found, [0, 0, 0.05, 0.125, 0.2, 0.2], atol=1e-7)


def test_a_loss_that_falls_scores_as_one_that_rises():
  part, ids = selection.by_loss_rise(3), jnp.asarray([2, 0])
  losses, perturbed = jnp.asarray([1.0, 2.0]), jnp.asarray([0.5, 2.25])
  state = part.update(losses, perturbed, part.init(), ids)
  np.testing.assert_array_equal(state.rise_sum, [0.25, 0, 0.5])


def test_the_scale_of_the_noise_stays_once_it_has_grown():
  gamma = sam_optax.noise_schedule(10, 0.1, factor=5.0)
  found = [gamma(step) for step in (0, 5, 10, 15, 30)]
  np.testing.assert_allclose(found, [0.1, 0.3, 0.5, 0.5, 0.5], rtol=1e-6)


@pytest.mark.parametrize(
  ('share', 'size', 'kept'),
  [(0.35, 8, 2), (0.29, 100, 29), (0.01, 8, 1), (1.0, 8, 8)],
)
def test_a_share_of_a_batch_is_rounded_down_and_at_least_one(share, size, kept):
  drawing = selection.uniformly(share)
  ids = jnp.arange(size)
  positions = drawing.choice.positions(drawing.init(), ids, jnp.array(0), size)
  assert len(np.unique(positions)) == len(positions) == kept
  rise = jnp.arange(float(size))
  positions = selection.most_sensitive(share).between(jnp.zeros(size), rise)
  assert sorted(positions.tolist()) == list(range(size - kept, size))


def test_ausam_records_the_rise_of_the_examples_that_it_takes():
  method, params = sam_optax.ausam(RHO, 24, key=0), driving.start()
  (x, y), ids = driving.batch_at(1)
  state = method.init(params)
  before = jnp.linspace(0.1, 0.5, 24), jnp.ones(24)
  chosen = state.selection._replace(rise_sum=before[0], rise_count=before[1])
  step = jax.jit(functools.partial(method.value_and_grad, plain_losses))
  _, direction, after = step(
    params, state._replace(selection=chosen), (x, y), ids
  )
  found = after.selection
  taken = np.flatnonzero(np.asarray(found.rise_count) != 1)
  assert len(taken) == 4 and set(taken) <= set(np.asarray(ids))

  @jax.jit
  def by_hand(rows):
    batch = x[rows], y[rows]
    grad_fn = driving.grad_fn_of(plain_losses, batch)
    pull = RHO / optax.tree.norm(grad_fn(params))
    point = jax.tree.map(lambda w, g: w + pull * g, params, grad_fn(params))
    rise = plain_losses(point, batch)[0] - plain_losses(params, batch)[0]
    return rise, grad_fn(point)

  rise, along = by_hand(taken - ids[0])
  expected = np.array(before[0])
  expected[taken] += np.abs(rise)
  np.testing.assert_allclose(found.rise_sum, expected, rtol=1e-4)
  np.testing.assert_array_equal(found.rise_count[taken], 2)
  driving.assert_close(direction, along)


def test_the_norm_in_the_state_is_of_the_last_sam_step():
  method, params = sam_optax.sam_k(RHO, k=2), jnp.asarray(PARAMS)
  state, norms = method.init(params), []
  for size in (5.0, 10.0, np.inf, 1.0, 20.0):
    gradient = jnp.asarray([0.6, -0.8]) * size
    _, state = method.update(
      gradient, state, params, grad_fn=lambda w, g=gradient: g
    )
    norms.append(float(state.direction_norm))
  # A plain step computes none, and one that is not finite is left out.
  np.testing.assert_allclose(norms, [5, 5, 5, 5, 20], rtol=1e-6)


def test_the_norm_in_the_state_is_the_mean_over_groups():
  method = sam_optax.parallel(
    sam_optax.sam(RHO), None, examples_per_perturbation=4
  )
  params, ((x, y), ids) = driving.start(), driving.batch_at(0)
  step = jax.jit(functools.partial(method.value_and_grad, plain_losses))
  _, _, state = step(params, method.init(params), (x, y), ids)
  gradients = [
    driving.grad_fn_of(plain_losses, (x[part], y[part]))(params)
    for part in (slice(4), slice(4, 8))
  ]
  expected = np.mean([optax.tree.norm(gradient) for gradient in gradients])
  assert state.direction_norm == pytest.approx(expected, rel=1e-5)
