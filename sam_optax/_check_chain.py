"""Finds a chain that changes the gradient before a method gets it."""

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


class Probe:
  """Stands for a grad_fn, and asks the method which gradient reached it."""

  def __call__(self, point: _base.PyTree, /) -> _base.PyTree:
    return point


class Reached(Exception):
  """Raised by a method that is given a `Probe`.

  Attributes:
    updates: the gradient that reached it.
  """

  def __init__(self, updates: _base.PyTree):
    super().__init__()
    self.updates = updates


def answer(grad_fn: Any, updates: _base.PyTree) -> None:
  """What a method does first: it answers a `Probe`."""
  if isinstance(grad_fn, Probe):
    raise Reached(updates)


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

  It sends one large gradient through the chain, outside of `jit` and without
  any evaluation of the loss. Call it once, where the chain is made.

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
  sent = jax.tree.map(_large, params)
  extra = optax.with_extra_args_support(tx)
  try:
    extra.update(sent, extra.init(params), params, grad_fn=Probe())
  except Reached as reached:
    came = reached.updates
  else:
    raise ValueError(
      'Given a chain without a method. Nothing in it takes a second gradient. '
      f'{_ORDER}.'
    )
  same = jax.tree.structure(came) == jax.tree.structure(sent) and all(
    x.shape == y.shape and np.allclose(x, y, rtol=1e-3)
    for x, y in zip(jax.tree.leaves(came), jax.tree.leaves(sent), strict=True)
  )
  if not same:
    raise ValueError(
      'Given a chain that changes the gradient before the method gets it: one '
      f'of norm {_tree.norm(sent):.3g} came as {_tree.norm(came):.3g}, at an '
      f'angle of {_angle(sent, came):.0f} degrees. The second gradient, by '
      'grad_fn, would not be changed, and the two would not fit. '
      f'{_ORDER}.'
    )
  return tx


def _array(leaf: Any) -> Any:
  """Zeros for a shape; the leaf itself for anything else."""
  if isinstance(leaf, jax.ShapeDtypeStruct):
    return jnp.zeros(leaf.shape, leaf.dtype)
  return leaf


def _large(leaf: jax.Array) -> jax.Array:
  """A gradient with large entries of many sizes and both signs."""
  entries = np.cos(np.arange(leaf.size) * 2.4) * 1e3 + 1e2
  return jnp.asarray(entries.reshape(leaf.shape), leaf.dtype)


def _angle(x: _base.PyTree, y: _base.PyTree) -> float:
  cosine = float(_tree.cosine(_tree.promote(x), _tree.promote(y)))
  return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))
