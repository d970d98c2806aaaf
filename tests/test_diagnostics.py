"""Sharpness, curvature and landscape, compared with dense computations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from sam_optax import ascent, diagnostics
from tests import driving

RHO = 0.1


def network(params):
  """A loss whose Hessian has eigenvalues of both signs."""
  outputs = jnp.tanh(jnp.asarray(driving.X, params['w'].dtype) @ params['w'])
  outputs = outputs @ params['v'] + params['b']
  return jnp.mean((outputs - jnp.asarray(driving.Y, outputs.dtype)) ** 2)


def start(dtype=jnp.float32):
  draw = np.random.default_rng(0).normal
  shapes = {'w': (3, 4), 'v': (4,), 'b': ()}
  return {name: jnp.asarray(draw(size=s), dtype) for name, s in shapes.items()}


def dense(loss_fn, params):
  flat, unravel = ravel_pytree(params)
  return jax.jit(jax.hessian(lambda w: loss_fn(unravel(w))))(flat)


def diagonal(*entries):
  """A quadratic loss whose Hessian has these diagonal entries."""
  entries = jnp.asarray(entries)
  return jax.grad(lambda w: jnp.sum(entries * w**2) / 2), jnp.ones(len(entries))


def test_the_iteration_finds_every_eigenvalue(x64):
  params = start(jnp.float64)
  found = jax.jit(
    lambda params: diagnostics.top_eigenvalues(
      jax.grad(network), params, 17, iterations=99, key=3
    )
  )(params)
  expected = jnp.linalg.eigvalsh(dense(network, params))[::-1]
  assert expected[-1] < 0 < expected[0]
  np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


def test_the_largest_come_first():
  params = start()
  few = diagnostics.top_eigenvalues(jax.grad(network), params, 2, iterations=10)
  expected = jnp.linalg.eigvalsh(dense(network, params))[::-1]
  np.testing.assert_allclose(few, expected[:2], rtol=1e-4)


@pytest.mark.parametrize(
  'entries',
  [
    [2.0] * 6,  # one vector spans its own Krylov space
    [-3.0, -3.0, -1.0, -1.0, -1.0],  # 0 is not among the largest
    [0.0] * 5,
    # In float32, without reorthogonalisation, 1e4 would appear many times.
    [1e4, *range(1, 30)],
  ],
)
def test_no_eigenvalue_appears_or_is_lost(entries):
  grad_fn, params = diagonal(*entries)
  found = diagnostics.top_eigenvalues(
    grad_fn, params, len(entries), iterations=40
  )
  expected = sorted(entries, reverse=True)
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=2e-3)


def test_narrow_params_have_a_hessian_in_float32():
  grad_fn, params = diagonal(2.0, 1.0)
  narrow = params.astype(jnp.bfloat16)
  found = diagnostics.top_eigenvalues(
    lambda w: grad_fn(w.astype(jnp.float32)).astype(w.dtype), narrow
  )
  assert found.dtype == jnp.float32
  np.testing.assert_allclose(found, [2.0], rtol=2e-2)


def test_the_trace_is_unbiased():
  params = start()
  hessian = np.asarray(dense(network, params))
  draws = 2000
  found = diagnostics.hessian_trace(jax.grad(network), params, draws=draws)
  # The variance of the Hutchinson estimator with random signs.
  spread = np.sqrt(2 * (np.sum(hessian**2) - np.sum(np.diag(hessian) ** 2)))
  assert abs(found - np.trace(hessian)) < 4 * spread / np.sqrt(draws)


def test_the_spectrum_has_the_moments_of_the_hessian():
  params = start()
  hessian = np.asarray(dense(network, params))
  values, weights = diagnostics.spectrum(
    jax.grad(network), params, draws=400, iterations=6
  )
  assert values.shape == weights.shape == (400, 6)
  np.testing.assert_allclose(jnp.sum(weights, 1), 1, rtol=1e-4)
  for power in (1, 2):
    moments = np.sum(weights * values**power, 1)
    expected = np.trace(np.linalg.matrix_power(hessian, power)) / 17
    assert abs(np.mean(moments) - expected) < 4 * np.std(moments) / 20


def equal_sizes(params):
  return {k: 1 for k in params}


def sizes_by_weight(params):
  return {k: jnp.abs(w) + 0.01 if w.ndim > 1 else 1 for k, w in params.items()}


@pytest.mark.parametrize(
  ('make', 'sizes'),
  [(ascent.gradient, equal_sizes), (ascent.adaptive, sizes_by_weight)],
)
def test_sharpness_is_the_rise_at_the_perturbed_parameters(make, sizes):
  params = start()
  rise = jax.jit(lambda w: diagnostics.sharpness(network, w, make(RHO)))(params)
  g, size = jax.grad(network)(params), sizes(params)
  g = {k: size[k] * g[k] for k in g}
  norm = jnp.linalg.norm(ravel_pytree(g)[0])
  perturbed = {k: params[k] + RHO * size[k] * g[k] / norm for k in g}
  expected = network(perturbed) - network(params)
  np.testing.assert_allclose(rise, expected, rtol=1e-4)


def test_more_ascent_steps_rise_further():
  # Starts beside a ridge, where the gradient points past the highest point.
  bowl = lambda w: 5 * w[0] ** 2 + w[1] ** 2 / 2
  params = jnp.array([0.001, 1.0])
  one, many = (
    diagnostics.sharpness(bowl, params, part)
    for part in (ascent.gradient(1.0), ascent.multi_step(1.0, 20))
  )
  assert one < many
  angles = jnp.linspace(0, 2 * jnp.pi, 721)
  around = jnp.stack([jnp.cos(angles), jnp.sin(angles)], 1) + params[None]
  worst = jnp.max(jax.vmap(bowl)(around)) - bowl(params)
  np.testing.assert_allclose(many, worst, rtol=1e-3)


def test_average_sharpness_is_over_the_draws():
  # One kernel of norm 1: E[n'n] gamma^2 / 2 for a quadratic loss.
  bowl = lambda w: jnp.sum(w**2) / 2
  params = jnp.full((100, 1), 0.1)
  rise = diagnostics.sharpness(
    bowl, params, ascent.gaussian(0.1, draws=40, key=1)
  )
  np.testing.assert_allclose(rise, 100 * 0.1**2 / 2, rtol=0.15)
  # An ascent that starts with noise takes its gradient there.
  noisy = ascent.random(ascent.gradient(RHO), gamma=0.1, key=1)
  rise = diagnostics.sharpness(bowl, params, noisy)
  assert 0 < rise < RHO * 1 + RHO**2 / 2


def test_agreement_of_parallel_opposite_and_absent_gradients():
  g = {'a': jnp.array([3.0, 0.0]), 'b': jnp.array([[4.0]])}
  for factor, cosine in [(2.0, 1.0), (-1.0, -1.0), (0.0, 0.0)]:
    other = jax.tree.map(lambda x, f=factor: f * x, g)
    seen = diagnostics.agreement(g, other)
    np.testing.assert_allclose(seen, [cosine, 5, 5 * abs(factor)], rtol=1e-6)


def test_a_direction_is_normalised_per_kernel():
  params = {**start(), 'conv': jnp.arange(72.0).reshape(3, 3, 2, 4)}
  one, same, other = (
    diagnostics.filter_normalized(params, key) for key in (0, 0, 1)
  )
  assert driving.equal(one, same) and not driving.equal(one, other)
  for name, axes in [('w', 0), ('conv', (0, 1, 2))]:
    length = lambda tree, name=name, axes=axes: np.sqrt(
      np.sum(np.square(tree[name]), axes)
    )
    np.testing.assert_allclose(length(one), length(params), rtol=1e-5)
  assert not np.any(one['v']) and not np.any(one['b'])


def test_the_loss_on_a_plane():
  params = start()
  directions = [diagnostics.filter_normalized(params, key) for key in (0, 1)]
  line = np.linspace(-1, 1, 3, dtype=np.float32)
  plane = np.stack(np.meshgrid(line, line, indexing='ij'), -1)
  losses = jax.jit(lambda w: diagnostics.along(network, w, directions, plane))(
    params
  )
  assert losses.shape == (3, 3)
  moved = {k: params[k] - directions[0][k] + directions[1][k] for k in params}
  np.testing.assert_allclose(losses[1, 1], network(params), rtol=1e-5)
  np.testing.assert_allclose(losses[0, 2], network(moved), rtol=1e-5)


def test_narrow_params_are_moved_by_less_than_their_precision():
  narrow = jnp.ones(4, jnp.bfloat16)
  losses = diagnostics.along(
    jnp.sum, narrow, [jnp.ones(4)], jnp.array([[0.0], [1e-3]])
  )
  np.testing.assert_allclose(losses, [4, 4.004], rtol=1e-6)


@pytest.mark.parametrize(
  ('call', 'named'),
  [
    (lambda g, w: diagnostics.top_eigenvalues(g, w, 0), 'count=0'),
    (lambda g, w: diagnostics.top_eigenvalues(g, w, 3), 'count=3'),
    (
      lambda g, w: diagnostics.top_eigenvalues(g, w, 2, iterations=1),
      'iterations=1',
    ),
    (lambda g, w: diagnostics.hessian_trace(g, w, draws=0), 'draws=0'),
    (lambda g, w: diagnostics.spectrum(g, w, iterations=0), 'iterations=0'),
    (
      lambda g, w: diagnostics.along(jnp.sum, w, [w], jnp.zeros((4, 2))),
      r'coordinates of shape \(4, 2\) and 1',
    ),
  ],
)
def test_errors_name_the_invalid_argument(call, named):
  with pytest.raises(ValueError, match=named):
    call(*diagonal(1.0, 2.0))
