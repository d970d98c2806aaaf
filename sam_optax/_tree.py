"""The few tree operations Optax lacks: all accumulate in float32 or wider."""

from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sam_optax import _base

# Keeps a zero gradient at a zero perturbation; invisible in float32 for norms
# above about 1e-5.
EPS = 1e-12

_NUMBERS = bool | int | float | complex | np.ndarray | np.generic


def wide(dtype: Any) -> Any:
  """float32 for a narrower float, else the dtype itself."""
  narrow = jnp.issubdtype(dtype, jnp.floating) and jnp.finfo(dtype).bits < 32
  return jnp.float32 if narrow else dtype


def is_key(leaf: Any) -> bool:
  """Whether a leaf is a typed PRNG key, or an array of such."""
  dtype = getattr(leaf, 'dtype', None)
  return dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)


def arrays(tree: _base.PyTree) -> _base.PyTree:
  """The tree with Python's and NumPy's numbers as arrays; others stay."""

  def array(x):
    if isinstance(x, jax.Array) or not isinstance(x, _NUMBERS):
      return x
    if np.asarray(x).dtype.kind in 'OUSMm':  # texts, dates and objects
      return x
    return jnp.asarray(x, jnp.result_type(x))  # of no weak type

  return jax.tree.map(array, tree)


def promote(tree: _base.PyTree) -> _base.PyTree:
  """Casts float16 and bfloat16 leaves to float32; the others stay."""
  return jax.tree.map(lambda x: x.astype(wide(x.dtype)), tree)


def zeros_like(tree: _base.PyTree) -> _base.PyTree:
  """Zeros that are sharded as the tree is.

  Under `jax.jit` zeros that do not depend on the tree would lie on one device.
  """

  def zeros(x):
    zero = jnp.zeros_like(x)
    return jnp.where(x == x, zero, zero)

  return jax.tree.map(zeros, tree)


def scale(scalar: _base.Number, tree: _base.PyTree) -> _base.PyTree:
  """Scalar * tree, in the dtype of each leaf."""
  return jax.tree.map(lambda x: jnp.asarray(scalar, x.dtype) * x, tree)


def add(x: _base.PyTree, y: _base.PyTree) -> _base.PyTree:
  """X + y in float32 or wider."""
  return jax.tree.map(jnp.add, promote(x), promote(y))


def subtract(x: _base.PyTree, y: _base.PyTree) -> _base.PyTree:
  """X - y in float32 or wider."""
  return jax.tree.map(jnp.subtract, promote(x), promote(y))


def _one_dtype(tree: _base.PyTree) -> _base.PyTree:
  """All leaves in the widest of their dtypes, so that they can be summed."""
  dtypes = [wide(leaf.dtype) for leaf in jax.tree.leaves(tree)]
  return optax.tree.cast(tree, np.result_type(np.float32, *dtypes))


def sqrt(squared: jax.Array) -> jax.Array:
  """The roots, with slope 0 at 0: else a gradient through it would be NaN."""
  zero = squared == 0
  return jnp.where(zero, 0, jnp.sqrt(jnp.where(zero, 1, squared)))


def norm(tree: _base.PyTree) -> jax.Array:
  """The Euclidean norm of the whole tree, accumulated in float32 or wider."""
  return sqrt(jnp.asarray(optax.tree.norm(_one_dtype(tree), squared=True)))


def vdot(x: _base.PyTree, y: _base.PyTree) -> jax.Array:
  """The real inner product of two trees, accumulated in float32 or wider."""
  product = optax.tree.vdot(_one_dtype(x), _one_dtype(y))
  return jnp.real(jnp.asarray(product))


def unit(tree: _base.PyTree) -> _base.PyTree:
  """Tree / ‖tree‖; zero where the tree is zero."""
  tree = promote(tree)
  return scale(1 / (norm(tree) + EPS), tree)


def cosine(x: _base.PyTree, y: _base.PyTree) -> jax.Array:
  """<x, y> / (‖x‖ ‖y‖); 0 where one of them is 0 or overflows; NaN stays."""
  length, other = norm(x), norm(y)
  share = vdot(x, y) / (length + EPS) / (other + EPS)
  overflows = jnp.isinf(jnp.maximum(length, other))  # NaN if one is
  return jnp.where(overflows, 0, share)


def component(tree: _base.PyTree, along: _base.PyTree) -> _base.PyTree:
  """<tree, u> u with u = along / ‖along‖; 0 where along is 0."""
  length = norm(along) + EPS
  # Two divisions: the square of a small norm would be 0. No unit vector: it
  # would be a copy of the tree that lives as long as both gradients.
  share = vdot(tree, along) / length / length
  share = jnp.where(jnp.isfinite(share), share, 0)  # not of overflowed norms
  return scale(share, along)


def remove_component(tree: _base.PyTree, along: _base.PyTree) -> _base.PyTree:
  """Tree - <tree, u> u with u = along / ‖along‖; `tree` where along is 0."""
  return subtract(tree, component(tree, along))


def above_rounding(
  difference: _base.PyTree, of: _base.PyTree, share: float
) -> tuple[_base.PyTree, jax.Array]:
  """A difference; zero where its norm is at most `share` of ‖of‖.

  There it is the rounding error of what was subtracted. NaN stays: as a zero it
  would pass for one.

  Returns:
    (the difference or zeros, its norm). Take the norm from here: to compute it
    anew, XLA would write all of the zeros or differences first.
  """
  # A quotient, not a product: XLA repeats a scalar without a division or a
  # root, sums over all leaves included, in the update of every leaf, and what
  # it compiles would grow with the square of their number.
  length = norm(difference)
  # Two norms beyond the dtype would give NaN too.
  known = jnp.minimum(length, jnp.finfo(length.dtype).max)
  kept = ~(known / (norm(of) + EPS) <= share)
  zeros = optax.tree.zeros_like(difference)
  return optax.tree.where(kept, difference, zeros), jnp.where(kept, length, 0)


def is_finite(tree: _base.PyTree) -> jax.Array:
  """Whether every number in the tree is finite."""
  return _none_lost(
    ~jnp.isfinite(x)
    for x in jax.tree.leaves(tree)
    if jnp.issubdtype(x.dtype, jnp.inexact)
  )


def _none_lost(lost: Iterable[jax.Array]) -> jax.Array:
  """Whether all of the arrays of bools are False everywhere."""
  total = sum(jnp.sum(x, dtype=jnp.float32) for x in lost)
  # The root is for XLA, as the quotient in `above_rounding` is.
  return jnp.sqrt(jnp.asarray(total, jnp.float32)) == 0


def _is_narrow(leaf: jax.Array) -> bool:
  """Whether a leaf is one number, or may overflow where a gradient does not."""
  largest = jnp.finfo(leaf.dtype).max
  return leaf.ndim == 0 or bool(largest < jnp.finfo(jnp.bfloat16).max)


def kept(
  new: _base.PyTree, old: _base.PyTree, *gradients: _base.PyTree
) -> _base.PyTree:
  """The new state; the old one if an entry of the new is no longer finite.

  Any average would keep such a number for ever. An entry that was not finite
  before does not count: some states of Optax begin with an infinity. Leaves
  that are the old ones cost nothing.

  Args:
    new: the new state.
    old: the old one, which has the same structure.
    *gradients: the trees that the new one is made from, where no entry of it
      can overflow unless the square of one of their norms does. Then the norms
      decide, which a step has mostly computed already. To look at an array and
      then choose it or another, XLA writes it, reads it, and writes it again;
      with a condition known beforehand it writes it once, in the place of the
      old one. Single numbers and leaves of a narrow dtype are looked at anyway.
  """
  pairs = zip(jax.tree.leaves(new), jax.tree.leaves(old), strict=True)
  pairs = [
    (x, y)
    for x, y in pairs
    if x is not y and jnp.issubdtype(x.dtype, jnp.inexact)
  ]
  if not pairs:
    return new
  looked_at = [xy for xy in pairs if not gradients or _is_narrow(xy[0])]
  lost = [~jnp.isfinite(x) & jnp.isfinite(y) for x, y in looked_at]
  if len(looked_at) < len(pairs):
    lost += [~jnp.isfinite(norm(tree)) for tree in gradients]
  finite = _none_lost(lost)
  return jax.tree.map(
    lambda x, y: x if x is y else jnp.where(finite, x, y), new, old
  )


def mean(trees: Sequence[_base.PyTree]) -> _base.PyTree:
  """The mean of trees; one tree comes back as it is."""
  if len(trees) == 1:
    return trees[0]
  total = jax.tree.map(lambda *leaves: sum(leaves), *trees)
  return scale(1 / len(trees), total)
