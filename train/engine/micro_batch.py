"""The loss of a step in micro-batches, which draw their dropout masks apart."""

from typing import Any

import jax
import jax.numpy as jnp

import sam_optax
from train.parallel.devices import is_key


def in_parts(loss_fn: Any, before: Any, size: int) -> Any:
  """A loss in parts of the batch, each of which draws its own dropout masks.

  Args:
    loss_fn: (params, batch, statistics) -> (losses, aux).
    before: the statistics that the step found.
    size: the most examples of a part.

  Returns:
    (params, batch) -> (losses, aux). In both passes of a step, the same batch
    draws the same masks.
  """

  def of_part(params, numbered):
    numbers, batch = numbered
    first = numbers[0].astype(jnp.uint32)
    fold = lambda x: jax.random.fold_in(x, first) if is_key(x) else x
    losses, aux = loss_fn(params, batch, jax.tree.map(fold, before))
    # The next step starts from the same keys as this one.
    kept = lambda old, new: old if is_key(old) else new
    statistics = jax.tree.map(kept, before, aux['statistics'])
    return losses, {**aux, 'statistics': statistics}

  accumulated = sam_optax.accumulate(of_part, size)

  def whole(params, batch):
    number = jax.tree.leaves(batch)[0].shape[0]
    if number <= size:
      return loss_fn(params, batch, before)
    return accumulated(params, (jnp.arange(number), batch))

  return whole
