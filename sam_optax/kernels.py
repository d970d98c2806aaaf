"""Which parameters are kernels, and which of their axes number them.

One rule for all that asks: `asam` adapts kernels, `rsam` and `lpfsgd` size
their noise by each kernel, `diagnostics.filter_normalized` draws directions
kernel by kernel, and `mask` serves `optax.add_decayed_weights`. The number of
axes alone does not tell: the biases of Flax's attention have two, and those of
layers that are stacked by `nn.scan` have one more than each layer. So the rule
is by path and shape:

- A leaf called bias, scale, offset, beta or gamma, or in a module called after
  a normalisation, is no kernel. Nor is a position embedding or a class token.
- Another leaf is a kernel if it has at least two axes, besides those over which
  Linen stacks layers (a module called `Scan...` or `Vmap...`).
- The kernels of a leaf are numbered by its last axis, its output channels; by
  the last two for the queries, keys and values of Flax's attention; by the
  first for the attribute `weight` of a module (Equinox). Stacked axes number
  them too.

Layers stacked in another way, such as by `nnx.vmap`, have no mark in their
paths: pass a mask, or a function to axes, of your own.
"""

import re
from collections.abc import Callable
from typing import Any

import jax

from sam_optax import _base

# As `jax.tree_util.tree_map_with_path` passes it.
_Path = tuple[Any, ...]

# (path, leaf) -> the axes that number the kernels of the leaf; () for one.
Axes = (
  int | tuple[int, ...] | Callable[[_Path, jax.Array], int | tuple[int, ...]]
)

_BIASES = {'bias', 'b', 'beta', 'offset'}
_OTHERS = {'scale', 'gamma', 'pos', 'cls', 'posembed', 'positions'}
_TOKENS = re.compile(r'(pos(ition(al)?)?_?emb|(cls|class)_?(token|emb)|^posit)')
_NORM = re.compile(r'(^|_|batch|layer|group|rms|instance)norm|^bn(_?\d|$)')
_HEADS = {'query', 'key', 'value'}


def names(path: _Path) -> list[str]:
  """The names on a path of JAX, in order; without the `.value` of a Variable.

  Args:
    path: as `jax.tree_util.tree_map_with_path` passes it.

  Returns:
    Keys, attributes and positions, as strings.
  """
  found: list[str] = []
  for entry in path:
    for attribute in ('key', 'name', 'idx'):
      if hasattr(entry, attribute):
        found.append(str(getattr(entry, attribute)))
        break
  is_attribute = path and isinstance(path[-1], jax.tree_util.GetAttrKey)
  if is_attribute and len(found) > 1 and found[-1] in ('value', 'raw_value'):
    found.pop()
  return found


def is_kernel(path: _Path, leaf: jax.Array) -> bool:
  """Whether a leaf holds kernels: the rule of this module.

  Args:
    path: of the leaf, as `jax.tree_util.tree_map_with_path` passes it.
    leaf: anything with a shape.
  """
  on_path = names(path)
  name = on_path[-1].lower() if on_path else ''
  if name in _BIASES | _OTHERS or _TOKENS.search(name):
    return False
  if any(_NORM.search(module.lower()) for module in on_path[:-1]):
    return False
  return leaf.ndim - _stacked(on_path) > 1


def mask(params: _base.PyTree) -> _base.PyTree:
  """A mask of the kernels: True for the leaves that hold any.

  Args:
    params: a tree of named parameters.

  Returns:
    A tree of bools, for `optax.masked` or `optax.add_decayed_weights`.

  Example:
    >>> import jax.numpy as jnp
    >>> from sam_optax import kernels
    >>> query = {'kernel': jnp.ones((8, 2, 4)), 'bias': jnp.ones((2, 4))}
    >>> kernels.mask({'query': query, 'position_embedding': jnp.ones((1, 8))})
    {'position_embedding': False, 'query': {'bias': False, 'kernel': True}}
  """
  return jax.tree_util.tree_map_with_path(is_kernel, params)


def weights(params: _base.PyTree) -> _base.PyTree:
  """A mask of all that PyTorch calls a weight: everything but biases.

  The authors of ASAM adapt each parameter whose name has 'weight' in it. Those
  are kernels, embeddings and the scales of normalisations, which have the names
  kernel, embedding and scale in Flax.

  Args:
    params: a tree of named parameters.

  Returns:
    A tree of bools, for `asam(adapted=kernels.weights)`.

  Example:
    >>> import jax.numpy as jnp
    >>> from sam_optax import kernels
    >>> kernels.weights({'norm': {'bias': jnp.ones(3), 'scale': jnp.ones(3)}})
    {'norm': {'bias': False, 'scale': True}}
  """

  def is_weight(path: _Path, leaf: jax.Array) -> bool:
    del leaf
    on_path = names(path)
    return not on_path or on_path[-1].lower() not in _BIASES

  return jax.tree_util.tree_map_with_path(is_weight, params)


def axes(path: _Path, leaf: jax.Array) -> tuple[int, ...]:
  """The axes that number the kernels of a leaf: the rule of this module.

  Args:
    path: of the leaf, as `jax.tree_util.tree_map_with_path` passes it.
    leaf: anything with a shape.

  Returns:
    Axes; () for a leaf that is one kernel, as any bias is.
  """
  on_path = names(path)
  stacked = min(_stacked(on_path), max(leaf.ndim - 1, 0))
  over = tuple(range(stacked))
  if not is_kernel(path, leaf):
    return over
  in_attention = len(on_path) > 1 and on_path[-2] in _HEADS
  if in_attention and leaf.ndim - stacked == 3:
    return (*over, leaf.ndim - 2, leaf.ndim - 1)
  if path and path[-1] == jax.tree_util.GetAttrKey('weight'):
    return (*over, stacked)
  return (*over, leaf.ndim - 1)


def axes_of(
  given: Axes | None, path: _Path, leaf: jax.Array
) -> tuple[int, ...]:
  """The axes that number the kernels of a leaf, by an argument `axis`.

  Args:
    given: an axis or axes, for each leaf of two axes or more; a function
      (path, leaf) -> axes; None for `axes`.
    path: of the leaf.
    leaf: anything with a shape.

  Returns:
    Axes from 0, of which a leaf of at most one axis has none.
  """
  if given is None:
    return axes(path, leaf)
  if callable(given):
    given = given(path, leaf)
  elif leaf.ndim <= 1:
    return ()
  kept: Any = given if isinstance(given, tuple) else (given,)
  if not all(-leaf.ndim <= axis < leaf.ndim for axis in kept):
    raise ValueError(
      f'Given axis={given} for the leaf {jax.tree_util.keystr(path)}, of shape '
      f'{leaf.shape}. It has no such axis to number its kernels. Pass a '
      'function (path, leaf) -> axes if the leaves differ, or None for the '
      'rule of sam_optax.kernels.'
    )
  return tuple(axis % leaf.ndim for axis in kept)


def _stacked(on_path: list[str]) -> int:
  """The axes over which Linen's lifted transforms stack layers, by names."""
  return sum(name.startswith(('Scan', 'Vmap')) for name in on_path)
