"""Finds a chain that changes the gradient before a method gets it."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sam_optax import _base, _given, _tree

_ORDER = (
  'Put the method first and everything else after it: optax.chain('
  'sam_optax.sam(rho=0.05), optax.clip_by_global_norm(1.0), optax.adam(1e-3))'
)


# A decay shows where the gradient is small, a clipping where it is large, and
# an average where one gradient follows another.
_SIZES = (1.0, 1e-6, 0.0, -1.0)


class Probe:
  """Stands for a grad_fn, and notes which gradient reached the method.

  Attributes:
    reached: the gradient; None before a method was reached.
  """

  reached: _base.PyTree | None = None

  def answer(self, updates: _base.PyTree) -> _base.PyTree:
    """What a method calls instead of a step; gives the updates back."""
    if self.reached is None:
      self.reached = updates
    return updates


def check_chain(
  tx: optax.GradientTransformation, params: _base.PyTree
) -> optax.GradientTransformation:
  """Raises if something stands before the method in a chain, and changes it.

  A method compares the gradient that it is given with gradients of `grad_fn`.
  Where a clipping, a scaling or an optimizer stands before it, the first is no
  gradient any more, and nothing in the call shows it: after
  `optax.clip_by_global_norm` the clipping is lost, since the method descends
  along its own second gradient, and after `optax.adam` the method climbs, since
  the updates of an optimizer point downhill.

  It sends four gradients through the chain, one after another: a large one, a
  small one, zero, and a large one of the other sign, outside of `jit` and
  without any evaluation of the loss. So it finds a weight decay and an average
  too, but not a schedule that begins to differ from 1 at a later step. Call it
  once, where the chain is made.

  Args:
    tx: a chain, or anything else around a method.
    params: the parameters, or any tree of their shapes.

  Returns:
    `tx`.

  Raises:
    ValueError: if the gradient that reaches the method is another than the one
      that was sent, or if no method is reached.

  Example:
    >>> import jax.numpy as jnp, optax, sam_optax
    >>> params = {'w': jnp.ones(3)}
    >>> clip, sam, sgd = (
    ...   optax.clip_by_global_norm(1.0),
    ...   sam_optax.sam(),
    ...   optax.sgd(0.1),
    ... )
    >>> tx = sam_optax.check_chain(optax.chain(sam, clip, sgd), params)
    >>> try:
    ...   sam_optax.check_chain(optax.chain(clip, sam, sgd), params)
    ... except ValueError as error:
    ...   print(str(error)[:57])
    Given a chain that changes the gradient before the method
  """
  if not isinstance(tx, optax.GradientTransformation):
    raise ValueError(
      f'Given a {type(tx).__name__} to check. It is no transformation. Call '
      'check_chain(tx, params), with tx = optax.chain(sam_optax.sam(rho=0.05), '
      'optax.sgd(0.1)).'
    )
  params = _given.params(jax.tree.map(_array, params))
  # A decay of a parameter that is zero would not show.
  params = jax.tree.map(
    lambda x: jnp.where(x == 0, jnp.ones_like(x), x), params
  )
  extra = optax.with_extra_args_support(tx)
  state = extra.init(params)
  for size in _SIZES:
    sent = jax.tree.map(functools.partial(_gradient, size), params)
    came, state = _reached(extra, sent, state, params)
    if not _are_alike(came, sent):
      raise ValueError(
        'Given a chain that changes the gradient before the method gets it: '
        f'one of norm {_tree.norm(sent):.3g} came as {_tree.norm(came):.3g}, '
        f'at an angle of {_angle(sent, came):.0f} degrees. The second '
        'gradient, by grad_fn, would not be changed, and the two would not '
        f'fit. {_ORDER}.'
      )
  return tx


def _reached(
  tx: optax.GradientTransformationExtraArgs,
  sent: _base.PyTree,
  state: _base.State,
  params: _base.PyTree,
) -> tuple[_base.PyTree, _base.State]:
  """The gradient that reaches the method, and the next state of the chain."""
  probe = Probe()
  try:
    # Without jit, a condition around the method shows it the numbers too.
    with jax.disable_jit():
      _, state = tx.update(sent, state, params, grad_fn=probe)
  except Exception:
    # A later member may need arguments that are not known here.
    if probe.reached is None:
      raise
  if probe.reached is None:
    raise ValueError(
      'Given a chain without a method. Nothing in it takes a second gradient. '
      f'{_ORDER}.'
    )
  return probe.reached, state


def _are_alike(came: _base.PyTree, sent: _base.PyTree) -> bool:
  """Whether two trees are the same but for the rounding of their dtypes."""

  def alike(x, y):
    rounding = max(float(jnp.finfo(leaf.dtype).eps) for leaf in (x, y))
    x, y = (np.asarray(_tree.promote(leaf)) for leaf in (x, y))
    return x.shape == y.shape and np.allclose(x, y, rtol=8 * rounding, atol=0)

  return jax.tree.structure(came) == jax.tree.structure(sent) and all(
    map(alike, jax.tree.leaves(came), jax.tree.leaves(sent))
  )


def _array(leaf: Any) -> Any:
  """Zeros for a shape; the leaf itself for anything else."""
  if isinstance(leaf, jax.ShapeDtypeStruct):
    return jnp.zeros(leaf.shape, leaf.dtype)
  return leaf


def _gradient(size: float, leaf: jax.Array) -> jax.Array:
  """A gradient with entries of many sizes and both signs."""
  # Beyond any bound of a clipping, and within float16.
  most = 1e9 if jnp.finfo(leaf.dtype).max > 1e9 else 1e3
  entries = size * most * (np.cos(np.arange(leaf.size) * 2.4) + 0.1)
  return jnp.asarray(entries.reshape(leaf.shape), leaf.dtype)


def _angle(x: _base.PyTree, y: _base.PyTree) -> float:
  cosine = float(_tree.cosine(_tree.promote(x), _tree.promote(y)))
  return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))
