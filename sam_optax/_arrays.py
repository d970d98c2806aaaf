"""A state as plain arrays, for formats that know no typed PRNG key."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sam_optax import _base, _given, _tree


def to_arrays(state: _base.PyTree) -> _base.PyTree:
  """The state with its PRNG keys as plain arrays.

  A method that draws keeps a typed key (`jax.random.key`) in its state. Orbax
  saves one; NumPy's npz, Flax's msgpack and Equinox's serialisation do not.
  All other leaves, and the structure, stay as they are, so this takes the state
  of a whole `optax.chain`, or a tuple of parameters and states.

  Args:
    state: any tree of arrays.

  Returns:
    The same tree, with uint32 arrays for keys.

  Example:
    >>> import io, jax, jax.numpy as jnp, numpy as np, optax, sam_optax
    >>> tx = optax.chain(sam_optax.ss_sam(key=7), optax.sgd(0.1, momentum=0.9))
    >>> params = {'w': jnp.ones(3)}
    >>> state, file = tx.init(params), io.BytesIO()
    >>> np.savez(file, *jax.tree.leaves(sam_optax.to_arrays(state)))

    To load it, begin with a new state, which has the structure:

    >>> like = tx.init(params)
    >>> loaded = np.load(io.BytesIO(file.getvalue()))
    >>> arrays = jax.tree.unflatten(jax.tree.structure(like), loaded.values())
    >>> restored = sam_optax.from_arrays(arrays, like)
    >>> bool(restored[0].cadence.key == state[0].cadence.key)
    True
  """

  def plain(leaf):
    return jax.random.key_data(leaf) if _tree.is_key(leaf) else leaf

  return jax.tree.map(plain, state)


def from_arrays(arrays: _base.PyTree, like: _base.PyTree) -> _base.PyTree:
  """The state that `to_arrays` made plain, with its keys typed again.

  Args:
    arrays: a tree with the structure of `like`, from `to_arrays` or restored
      from a file; of NumPy's arrays or JAX's.
    like: a state of the same method and parameters, such as `init(params)`, or
      its shapes from `jax.eval_shape`.

  Returns:
    A state, on the default device.

  Raises:
    ValueError: if the structure, a shape or a dtype differs.
  """
  if any(map(_tree.is_key, jax.tree.leaves(arrays))):
    raise ValueError(
      'Given arrays with typed keys. They come from a file that has none. '
      'Pass the plain arrays first, and second what they are like: '
      'from_arrays(arrays, init(params)).'
    )
  if jax.tree.structure(arrays) != jax.tree.structure(like):
    raise ValueError(
      f'Given arrays with the structure {_given.brief(arrays)}. The state '
      f'to restore has another: {_given.brief(like)}. Put the arrays '
      'in order with jax.tree.unflatten(jax.tree.structure(like), leaves), or '
      'build the method as it was.'
    )

  def restored(path, leaf, like):
    plain = (
      jax.eval_shape(jax.random.key_data, like) if _tree.is_key(like) else like
    )
    plain = jax.eval_shape(jnp.asarray, plain)
    leaf = _typed(leaf, plain.dtype)
    if np.shape(leaf) != plain.shape or leaf.dtype != plain.dtype:
      raise ValueError(
        f'Given {leaf.dtype}{list(np.shape(leaf))} as '
        f'{jax.tree_util.keystr(path)}, where {plain.dtype}'
        f'{list(plain.shape)} is needed. The arrays are of another method, '
        'other parameters or another kind of PRNG key. Build the method as it '
        'was.'
      )
    leaf = jnp.array(leaf)
    if not _tree.is_key(like):
      return leaf
    return jax.random.wrap_key_data(leaf, impl=_implementation(like))

  return jax.tree_util.tree_map_with_path(restored, arrays, like)


def _typed(leaf: Any, dtype: Any) -> Any:
  """An array, in the dtype where NumPy's files keep its bytes alone."""
  leaf = leaf if isinstance(leaf, jax.Array) else np.asarray(leaf)
  # They know no bfloat16 and no float8: such an array comes back as bytes.
  is_bytes = leaf.dtype == np.dtype(f'V{dtype.itemsize}')
  is_extension = dtype.kind == 'V'
  return leaf.view(dtype) if is_bytes and is_extension else leaf


def _implementation(key: Any) -> Any:
  """The implementation of a key, or of the shape of one."""
  found = []
  jax.eval_shape(lambda key: found.append(jax.random.key_impl(key)), key)
  return found[0]
