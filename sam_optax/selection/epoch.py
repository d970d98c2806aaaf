"""Selections for a whole epoch: some examples are left out of it."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from sam_optax import _base, _check, _random

# Above the loss of a network that knows nothing of ten classes: an example
# that was never seen is kept. The released code's value.
_UNSEEN = 3.0


class LossState(NamedTuple):
  """State of `by_loss`; the tables have one row per example of the set.

  Attributes:
    key: typed PRNG key.
    last_loss: float32 [num_examples], the last recorded loss; 3 for an example
      never seen.
    weight: float32 [num_examples], what its loss is multiplied by in this
      epoch; 0 for one that is left out.
  """

  key: jax.Array
  last_loss: jax.Array
  weight: jax.Array


def prune(
  losses: jax.Array, noise: jax.Array, share: _base.Number
) -> jax.Array:
  """Weights that leave out a share of the examples below the mean loss.

  Args:
    losses: float [num_examples].
    noise: float [num_examples]; of the examples below the mean
      those with the least of it stay.
    share: of the examples below the mean, those left out, in [0, 1).

  Returns:
    float32 [num_examples]: 1 for the examples at or above the mean loss, 1 /
    (1 - share) for those below it that stay, 0 for the others.
  """
  keep = 1 - jnp.asarray(share, jnp.float32)
  # Taken from the least loss, so that equal losses are exactly their mean.
  least = jnp.min(losses)
  low = losses - least < jnp.mean(losses - least)
  order = jnp.argsort(jnp.where(low, noise, jnp.inf))
  place = jnp.zeros_like(order).at[order].set(jnp.arange(order.size))
  # The margin keeps 0.7 * 10 = 6.999... at 7.
  count = jnp.sum(low).astype(jnp.float32) * keep * (1 + 1e-6)
  kept = jnp.where(place < count.astype(place.dtype), 1 / keep, 0)
  return jnp.where(low, kept, 1).astype(jnp.float32)


def by_loss(
  num_examples: int,
  share: _base.Number = 0.5,
  stop: _base.Number | None = None,
  loss: str = 'perturbed',
  key: _base.Key = 0,
) -> _base.Selection:
  r"""Epochs without a part of the examples that are learned (InfoBatch).

  An example's score is its last recorded loss. An epoch leaves out a random
  `share` of the examples whose score is below the mean score, and multiplies
  the losses of those below it that stay by :math:`1 / (1 - share)`, so that
  the epoch's gradient has the expectation of the whole set's.

  The caller draws the batches: before each epoch, call
  `SharpnessAware.start_epoch` for the weights, and leave out the examples
  whose weight is 0. Without that call no example is left out.

  Args:
    num_examples: rows of the table; every example id is below it.
    share: in [0, 1) (the released code: 0.5).
    stop: epochs that begin at this step or later are whole; None for no end.
    loss: `'perturbed'` or `'clean'`, which of the two passes' losses is the
      score. A plain step has only the latter.
    key: PRNG key or int seed.

  Returns:
    A `Selection`.
  """
  _check.number(
    'num_examples',
    num_examples,
    1,
    static=True,
    why='it sizes a table',
    whole=True,
  )
  _check.key('key', key)
  _check.number(
    'share', share, 0, 0.99, why='some examples must stay', schedule=False
  )
  if stop is not None:
    _check.number('stop', stop, why='stop is a step', schedule=False)
  _check.one_of('loss', loss, ('perturbed', 'clean'))

  def init():
    return LossState(
      _random.make_key(key),
      jnp.full([num_examples], _UNSEEN, jnp.float32),
      jnp.ones([num_examples], jnp.float32),
    )

  def start_epoch(state, step):
    noise = _random.uniforms(state.key, step, num_examples)
    weight = prune(state.last_loss, noise, share)
    if stop is not None:
      before = step.astype(jnp.float32) < stop
      weight = jnp.where(before, weight, 1)
    return state._replace(weight=weight)

  def record(losses, state, example_ids):
    table = state.last_loss.at[example_ids]
    return state._replace(
      last_loss=table.set(losses.astype(jnp.float32), mode='drop')
    )

  def update(losses, perturbed_losses, state, example_ids):
    if loss == 'clean':
      return record(losses, state, example_ids)
    if perturbed_losses is None:
      return state
    return record(perturbed_losses, state, example_ids)

  return _base.Selection(
    init,
    pruning=_base.Pruning(start_epoch, lambda state: state.weight),
    update=update,
    num_examples=int(num_examples),
  )
