"""GCSAM and its part, compared with NumPy in the layout of PyTorch."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import sam_optax
from sam_optax import ascent
from tests import driving

# From the layout of Flax to that of PyTorch, where a kernel comes first.
TO_TORCH = {'conv': (3, 2, 0, 1), 'dense': (1, 0)}
SHAPES = {'conv': (2, 2, 3, 4), 'dense': (3, 4)}


def drawn(seed):
  """A network: two layers, the bias of one of them, and a normalisation."""
  rng = np.random.default_rng(seed)
  draw = lambda *shape: rng.normal(size=shape).astype(np.float32)
  layers = {name: {'kernel': draw(*SHAPES[name])} for name in SHAPES}
  layers['dense']['bias'] = draw(4)
  return {**layers, 'norm': {'scale': draw(4)}}


def centered(gradient):
  """The published rule: each kernel without its mean, and all else as it is."""
  result = jax.tree.map(np.copy, gradient)
  for name, order in TO_TORCH.items():
    kernels = gradient[name]['kernel'].transpose(order)
    means = kernels.mean(tuple(range(1, kernels.ndim)), keepdims=True)
    back = np.argsort(order)
    result[name]['kernel'] = (kernels - means).transpose(back)
  return result


def test_a_step_equals_numpy():
  # The gradient of sum(a w + w^2 / 2) is a + w.
  slopes, params = drawn(0), drawn(1)
  grad_fn = lambda w: jax.tree.map(jnp.add, slopes, w)
  gradient = jax.tree.map(np.add, slopes, params)
  direction = centered(gradient)
  leaves = jax.tree.leaves(direction)
  norm = np.sqrt(sum(np.sum(np.square(leaf)) for leaf in leaves))
  expected = jax.tree.map(lambda g, d: g + 0.3 * d / norm, gradient, direction)
  method = sam_optax.gcsam(rho=0.3)
  found, state = method.update(
    grad_fn(params), method.init(params), params, grad_fn=grad_fn
  )
  driving.assert_close(found, expected, 1e-5, 1e-6)
  assert optax.tree.get(state, 'direction_norm') == pytest.approx(norm)


def test_the_axis_and_the_mask_may_be_given():
  gradient = drawn(0)
  every = lambda tree: jax.tree.map(lambda leaf: True, tree)
  part = ascent.centralized(axis=0)
  found, _ = part.update(gradient, part.init(gradient))
  # As Optax numbers the kernels, which leaves vectors alone.
  expected, _ = optax.centralize().update(gradient, optax.EmptyState())
  driving.assert_close(found, expected)
  part = ascent.centralized(every)
  found, _ = part.update(gradient, part.init(gradient))
  bias = gradient['dense']['bias']
  np.testing.assert_allclose(
    found['dense']['bias'], bias - bias.mean(), rtol=1e-5, atol=1e-6
  )


def test_rounding_noise_is_no_direction():
  method = sam_optax.gcsam(rho=1.0)
  params = {'kernel': jnp.full((7, 3), 0.1)}
  grad_fn = lambda w: jax.tree.map(lambda leaf: leaf / 3, w)
  found, _ = method.update(
    grad_fn(params), method.init(params), params, grad_fn=grad_fn
  )
  assert driving.equal(found, grad_fn(params))


def test_a_mask_of_another_tree_is_refused():
  params = {'kernel': jnp.ones((2, 3))}
  part = ascent.centralized({'weight': True})
  with pytest.raises(ValueError, match='Given mask with the structure'):
    part.update(params, part.init(params))
