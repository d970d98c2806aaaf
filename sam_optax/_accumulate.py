"""A loss in micro-batches: the memory of one, the gradient of the batch."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sam_optax import _base, _check, _given, _tree


def accumulate(loss_fn: _base.LossFn, micro_batch_size: int) -> _base.LossFn:
  r"""A loss function that takes its batch in parts, one after another.

  .. math::
    \nabla \frac1n \sum_i l_i = \frac1n \sum_k \sum_{i \in B_k} \nabla l_i

  Under `jax.grad`, the forward pass of one micro-batch at a time is held in
  memory, and run once more for the gradient. Both passes of a method then see
  the whole batch, at both entry points and inside `parallel`, and a method that
  chooses examples gets every loss.

  `optax.microbatch` around `jax.checkpoint(loss_fn)` does the same in float32,
  for equal parts and an aux whose leaves are declared. This function tells the
  leaves of aux apart by their shapes, and sums the gradients of narrower
  parameters in float32.

  It is for accelerators: on CPU, XLA runs the gradient of a convolution inside
  a loop many times slower than outside.

  Args:
    loss_fn: (params, batch) -> (losses of shape [batch], aux). Every leaf of
      the batch has the examples as its first axis.
    micro_batch_size: the most examples at a time, at least 1. The last
      micro-batch has what is left; a batch that is no larger goes in whole.

  Returns:
    (params, batch) -> (losses, aux), the losses in the batch's order. A leaf
    of aux whose first axis is the examples (logits) is that of the batch.
    Another that is a float (BatchNorm's running statistics, which every
    micro-batch moves from where the step found them) is the micro-batches'
    mean, by their sizes; the rest (the count of a random stream) is the last
    one's.

  Raises:
    ValueError: if micro_batch_size is no number of examples; at a call, if a
      leaf of the batch (a PRNG key, weights of classes) has no axis of them, or
      if one of aux has it elsewhere than first.

  Example:
    >>> import jax, jax.numpy as jnp, sam_optax
    >>> loss_fn = lambda w, x: (jnp.tanh(x @ w) ** 2, None)
    >>> in_parts = sam_optax.accumulate(loss_fn, micro_batch_size=2)
    >>> grad = lambda f: jax.grad(lambda w: jnp.mean(f(w, jnp.eye(5))[0]))
    >>> w = jnp.arange(5.0)
    >>> bool(jnp.allclose(grad(in_parts)(w), grad(loss_fn)(w)))
    True
  """
  _check.number(
    'micro_batch_size',
    micro_batch_size,
    1,
    static=True,
    why='it is a number of examples',
    whole=True,
  )

  def accumulated(params, batch):
    _given.function('loss_fn', loss_fn, _given.LOSS_FN)
    why = 'accumulate() takes the rows of a micro-batch from every leaf'
    size = int(micro_batch_size)
    if all(np.shape(x)[:1] <= (size,) for x in jax.tree.leaves(batch)):
      losses, aux = _given.losses_and_aux(loss_fn(params, batch))
      _given.rows(batch, losses.shape[0], why)
      return losses, aux
    whole = jax.eval_shape(loss_fn, params, batch)
    number = _given.losses_and_aux(whole)[0].shape[0]
    _given.rows(batch, number, why)
    count = number // size
    rest = number - count * size
    narrow, wide = params, _tree.promote(params)

    # Of float32 parameters, so that their gradients are summed in float32.
    def of_wide(wide, part):
      return loss_fn(optax.tree.cast_like(wide, narrow), part)

    # In a loop nothing could be merged with the first forward pass.
    of_wide = jax.checkpoint(of_wide, prevent_cse=rest > 0)
    _, parts = jax.lax.scan(
      lambda _, part: (None, of_wide(wide, part)),
      None,
      jax.tree.map(lambda x: _split(x[: number - rest], count), batch),
    )
    left = None
    if rest:
      left = of_wide(wide, jax.tree.map(lambda x: x[-rest:], batch))
    return jax.tree_util.tree_map_with_path(
      functools.partial(_joined, number, rest),
      whole,
      parts,
      *(() if left is None else (left,)),
    )

  return accumulated


def _split(x: Any, count: int) -> Any:
  """Rows as [count, size]: every count-th row is in the same micro-batch.

  Of rows that are spread over devices, each micro-batch then has its share on
  every device.
  """
  return x.reshape(-1, count, *x.shape[1:]).swapaxes(0, 1)


def _joined(
  number: int,
  rest: int,
  path: Any,
  like: jax.ShapeDtypeStruct,
  parts: jax.Array,
  left: jax.Array | None = None,
) -> jax.Array:
  """One leaf of the batch, from its micro-batches [count, ...] and the rest."""
  if parts.shape[1:] != like.shape:  # it has an axis of examples
    if like.shape != (number, *parts.shape[2:]):
      # The path is in (losses, aux), and the losses are [batch].
      raise ValueError(
        f'Given a loss_fn whose aux {jax.tree_util.keystr(path[1:])} has the '
        f'shape {like.shape} for {number} examples and {parts.shape[1:]} for '
        'those of a micro-batch. accumulate() joins the examples along the '
        'first axis, and another one depends on their number. Return it as '
        '[batch, ...], and change it after the step.'
      )
    rows = parts.swapaxes(0, 1).reshape(number - rest, *parts.shape[2:])
    return rows if left is None else jnp.concatenate([rows, left])
  if not jnp.issubdtype(like.dtype, jnp.inexact):
    return parts[-1] if left is None else left
  mean = jnp.mean(_tree.promote(parts), axis=0)
  if left is not None:
    share = jnp.asarray(rest / number, mean.dtype)
    mean = mean + share * (_tree.promote(left) - mean)
  return mean.astype(like.dtype)
