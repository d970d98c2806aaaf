"""The lengths that a cadence measures on a SAM step."""

from __future__ import annotations

import jax

from sam_optax import _base, _given, _tree


def norms(
  gradient: _base.PyTree,
  perturbed_gradient: _base.PyTree,
  norm_mask: _base.Mask | None,
) -> tuple[jax.Array, jax.Array]:
  """The norms of the PSF, perturbed gradient - gradient, and of the gradient.

  Args:
    gradient: shaped as the params.
    perturbed_gradient: likewise.
    norm_mask: a tree of bools with the params' structure, or a function from a
      tree to it: the leaves that are measured. None for all.

  Returns:
    Two scalars in float32 or wider.
  """

  def norm(tree: _base.PyTree) -> jax.Array:
    if norm_mask is None:
      return _tree.norm(tree)
    mask = _given.mask('norm_mask', norm_mask, tree)
    pairs = zip(jax.tree.leaves(tree), jax.tree.leaves(mask), strict=True)
    return _tree.norm([leaf for leaf, keep in pairs if keep])

  # Of the other sign than the PSF that a descent stores: XLA would write a
  # difference that two others read to memory, and read it again.
  difference = _tree.subtract(gradient, perturbed_gradient)
  return norm(difference), norm(gradient)
