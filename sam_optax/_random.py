"""Keys and draws: each step's draw depends on the state's key and step only.

So the same seed gives the same run, and a run resumed from a checkpoint draws
what the run without a break would have drawn.
"""

import jax
import jax.numpy as jnp
import numpy as np

from sam_optax import _base, _check, _tree


def make_key(key: _base.Key) -> jax.Array:
  """A typed PRNG key of its own buffer, from an int seed or any key.

  The copy matters: a state that held the caller's key would delete it when
  the state is donated.
  """
  _check.key('key', key)
  if not isinstance(key, jax.Array | np.ndarray):
    return jax.random.key(key)
  if jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
    data, implementation = jax.random.key_data(key), jax.random.key_impl(key)
  elif key.ndim == 1:  # an old-style uint32 key
    data, implementation = key, None
  else:
    return jax.random.key(key)
  return jax.random.wrap_key_data(
    jnp.array(data, copy=True), impl=implementation
  )


def uniform(key: jax.Array, step: jax.Array) -> jax.Array:
  """This step's draw from U[0, 1)."""
  return jax.random.uniform(jax.random.fold_in(key, step))


def uniforms(key: jax.Array, step: jax.Array, size: int) -> jax.Array:
  """This step's draws from U[0, 1), [size]."""
  return jax.random.uniform(jax.random.fold_in(key, step), (size,))


def normal_like(
  key: jax.Array, step: jax.Array, tree: _base.PyTree
) -> _base.PyTree:
  """This step's standard normal draws, one key per leaf, float32 or wider."""
  leaves, structure = jax.tree.flatten(tree)
  keys = jax.random.split(jax.random.fold_in(key, step), len(leaves))
  draws = [
    jax.random.normal(k, x.shape, _tree.wide(x.dtype))
    for k, x in zip(keys, leaves, strict=True)
  ]
  return jax.tree.unflatten(structure, draws)


def gumbel(key: jax.Array, step: jax.Array, size: int) -> jax.Array:
  """This step's standard Gumbel draws, float32 [size]."""
  step_key = jax.random.fold_in(key, step)
  return jax.random.gumbel(step_key, (size,), jnp.float32)
