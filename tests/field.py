"""Shared by the tests of faults that other implementations have."""

import jax
import jax.numpy as jnp
import numpy as np

import sam_optax

START = jnp.array([1.0, -2.0])
RHO = 0.1


def loss(w):
  return jnp.sum(w**4) / 4


THREE = {
  'sam': lambda: sam_optax.sam(RHO),
  'fsam': lambda: sam_optax.fsam(RHO, decay=0.6),
  # From the second step on the branch is random: all devices must draw the
  # same.
  'arsam': lambda: sam_optax.arsam(
    RHO, segment=2, warmup_steps=1, horizon=1, key=3
  ),
}


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
