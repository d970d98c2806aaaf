"""Selections within a batch: both passes, or one, use a part of it."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from sam_optax import _base, _check, _random, _tree


def full_batch() -> _base.Selection:
  """The full batch: every example, in both passes."""
  return _base.Selection(optax.EmptyState)


class LossRiseState(NamedTuple):
  """State of `by_loss_rise`; the tables have one row per example of the set.

  Attributes:
    key: typed PRNG key.
    rise_sum: float32 [num_examples], the sum of the recorded loss rises (the
      last one alone for `history='last'`).
    rise_count: float32 [num_examples], how many are in the sum; 0 for an
      example never seen.
  """

  key: jax.Array
  rise_sum: jax.Array
  rise_count: jax.Array


def draw_weights(
  scores: jax.Array, s_min: _base.Number, s_max: _base.Number
) -> jax.Array:
  """Scores scaled to [s_min, s_max] over the batch, then to sum 1.

  Args:
    scores: float [batch].
    s_min: weight of the least score, above 0.
    s_max: weight of the greatest score, at least s_min.

  Returns:
    float [batch], the draw probabilities; uniform where all scores are equal.
  """
  least, greatest = jnp.min(scores), jnp.max(scores)
  span = greatest - least
  share = (scores - least) / jnp.where(span > 0, span, 1)
  low = jnp.asarray(s_min, scores.dtype)
  weights = low + share * (jnp.asarray(s_max, scores.dtype) - low)
  return weights / jnp.sum(weights)


def ramp(
  epoch: jax.Array,
  ramp_epochs: _base.Number,
  s_min: _base.Number,
  s_max: _base.Number,
) -> jax.Array:
  """The greatest weight at an epoch: linear from s_min to s_max, then flat."""
  low = jnp.asarray(s_min, epoch.dtype)
  length = jnp.asarray(ramp_epochs, epoch.dtype)
  progress = jnp.clip(epoch / jnp.where(length > 0, length, 1), 0, 1)
  progress = jnp.where(length > 0, progress, 1)
  return low + progress * (jnp.asarray(s_max, epoch.dtype) - low)


def by_loss_rise(
  num_examples: int,
  keep: float = 0.5,
  s_min: _base.ScalarOrSchedule = 0.1,
  s_max: _base.ScalarOrSchedule = 0.5,
  ramp_epochs: _base.ScalarOrSchedule = 30,
  history: str = 'mean',
  key: _base.Key = 0,
) -> _base.Selection:
  r"""The examples whose loss rises most under the perturbation (AUSAM).

  An example's score is the mean of :math:`|l(w + \epsilon) - l(w)|` over the
  SAM steps that it was in. Of a batch of K, :math:`\lfloor keep\, K
  \rfloor` (at least 1) are drawn without replacement, in proportion to the
  scores scaled over the batch to [s_min, s_cur], where s_cur grows linearly
  from s_min to s_max over the first `ramp_epochs` epochs of num_examples // K
  steps, with K of the batch at hand: a smaller last batch is drawn as in an
  earlier epoch. A SAM step takes a batch with an example never seen in full, in
  any epoch (our choice: the released code uses full batches in the first epoch,
  and gives an example that it missed there the score 1). On a plain step, which
  records nothing, such an example has the score 0; where a cadence decides by
  the gradient, that comes after the choice, and both kinds take the full batch.

  Args:
    num_examples: rows of the table; every example id is below it.
    keep: share of the batch that is kept, in (0, 1].
    s_min: weight of the least score, above 0.
    s_max: weight of the greatest score once the ramp is over.
    ramp_epochs: length of the ramp, at least 0.
    history: `'mean'` over all recorded rises, `'last'` for AUSAM-1.
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
    'keep',
    keep,
    0,
    1,
    above=True,
    static=True,
    why='keep is a share of a batch',
  )
  _check.number('s_min', s_min, 0, above=True, why='s_min is a draw weight')
  _check.number('s_max', s_max, 0, above=True, why='s_max is a draw weight')
  _check.number('ramp_epochs', ramp_epochs, why='it is a number of epochs')
  _check.one_of('history', history, ('mean', 'last'))

  def init():
    empty = jnp.zeros([num_examples], jnp.float32)
    return LossRiseState(_random.make_key(key), empty, jnp.copy(empty))

  def seen(state, example_ids):
    rows = state.rise_count.at[example_ids]
    return rows.get(mode='fill', fill_value=0)

  def any_unseen(state, example_ids):
    return jnp.any(seen(state, example_ids) == 0)

  def draw(state, example_ids, step, batch_size):
    sums = state.rise_sum.at[example_ids].get(mode='fill', fill_value=0)
    times = seen(state, example_ids)
    scores = sums / jnp.maximum(times, 1)
    epoch = step // max(1, num_examples // batch_size)
    low = _base.value_at(s_min, step)
    high = _base.value_at(s_max, step)
    length = _base.value_at(ramp_epochs, step)
    high = ramp(epoch.astype(scores.dtype), length, low, high)
    weights = draw_weights(scores, low, high)
    # Top-k of log p + Gumbel is a draw without replacement.
    size = example_ids.shape[0]
    noisy = jnp.log(weights) + _random.gumbel(state.key, step, size)
    _, positions = jax.lax.top_k(noisy, _kept(keep, size))
    return positions

  def update(losses, perturbed_losses, state, example_ids):
    if perturbed_losses is None:
      return state
    rise = _tree.subtract(perturbed_losses, losses)
    rise = jnp.abs(rise).astype(jnp.float32)
    if history == 'mean':
      rise_sum = state.rise_sum.at[example_ids].add(rise, mode='drop')
      rise_count = state.rise_count.at[example_ids].add(1, mode='drop')
    else:
      rise_sum = state.rise_sum.at[example_ids].set(rise, mode='drop')
      rise_count = state.rise_count.at[example_ids].set(1, mode='drop')
    return LossRiseState(state.key, rise_sum, rise_count)

  choice = _base.Choice(full_batch=any_unseen, positions=draw)
  return _base.Selection(
    init, choice, update=update, num_examples=int(num_examples)
  )


class UniformState(NamedTuple):
  """State of `uniformly`: a typed PRNG key."""

  key: jax.Array


def uniformly(keep: float = 0.5, key: _base.Key = 0) -> _base.Selection:
  """A part of the batch, drawn without regard to its losses (SAM+Random).

  Args:
    keep: share of the batch that is kept, in (0, 1].
    key: PRNG key or int seed.

  Returns:
    A `Selection`.
  """
  _check.number(
    'keep',
    keep,
    0,
    1,
    above=True,
    static=True,
    why='keep is a share of a batch',
  )
  _check.key('key', key)

  def draw(state, example_ids, step, batch_size):
    del batch_size
    size = example_ids.shape[0]
    noise = _random.gumbel(state.key, step, size)
    return jax.lax.top_k(noise, _kept(keep, size))[1]

  choice = _base.Choice(
    full_batch=lambda state, example_ids: jnp.asarray(False),
    positions=draw,
    may_be_full=False,
  )
  return _base.Selection(lambda: UniformState(_random.make_key(key)), choice)


def most_sensitive(
  gamma: float = 0.5, variant: str = 'paper'
) -> _base.Selection:
  r"""The examples whose loss rises most in this step (SDS of ESAM).

  Between the passes the whole batch is passed forward at
  :math:`w + \epsilon`; the second gradient is the plain mean over the
  :math:`\lfloor \gamma K \rfloor` (at least 1) of K examples with the
  greatest :math:`l_i(w + \epsilon) - l_i(w)`, signed.

  Args:
    gamma: share of the batch in the second pass, in (0, 1].
    variant: `'paper'` for exactly that many; `'code'` for one fewer, as the
      released code's strict comparison with the last of them leaves, and for
      all from gamma = 0.99, where that code makes no choice.

  Returns:
    A `Selection`.
  """
  _check.number(
    'gamma', gamma, 0, 1, above=True, static=True, why='gamma is a share'
  )
  _check.one_of('variant', variant, ('code', 'paper'))

  def between(losses, perturbed_losses):
    rise = _tree.subtract(perturbed_losses, losses)
    kept = _kept(gamma, rise.shape[0])
    if variant == 'code':
      kept = rise.shape[0] if gamma >= 0.99 else max(1, kept - 1)
    return jax.lax.top_k(rise, kept)[1]

  return _base.Selection(optax.EmptyState, between=between)


def _kept(share: float, batch_size: int) -> int:
  """How many examples a share of a batch is."""
  # The margin keeps 0.29 * 100 = 28.999... at 29.
  return max(1, int(share * batch_size + 1e-6))
