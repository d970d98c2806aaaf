"""A cadence with a quota of SAM steps, which follows the PSF's variation."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from sam_optax import _base, _check, _random
from sam_optax.cadence import _psf


class QuotaState(NamedTuple):
  r"""State of `quota`; its arrays have one entry per step of a segment.

  Attributes:
    key: typed PRNG key.
    ratios: float [segment], :math:`c` of the last SAM steps, the oldest first;
      0 where none was taken yet.
    psf_norms: float [segment], :math:`\|h\|` of the same steps.
    psf_variances: float [segment], :math:`v` after each of them; 0 where it
      was not known yet.
    samples: :math:`s`, float, whose floor is the quota of the segment.
    probability: :math:`p = s / M`, float, of the draws of the segment.
    chosen: bool [segment], which steps of the segment perturb.
  """

  key: jax.Array
  ratios: jax.Array
  psf_norms: jax.Array
  psf_variances: jax.Array
  samples: jax.Array
  probability: jax.Array
  chosen: jax.Array


def quota(
  alpha: _base.ScalarOrSchedule = 0.13,
  alpha_variance: _base.ScalarOrSchedule = 0.13,
  segment: int = 50,
  warmup_steps: _base.ScalarOrSchedule = 100,
  key: _base.Key = 0,
  *,
  blocks: int = 5,
  p_max: _base.ScalarOrSchedule = 0.8,
  norm_mask: _base.Mask | None = None,
) -> _base.Cadence:
  r"""Perturb on a fixed number of steps per segment (vSAM).

  With the PSF :math:`h = g_p - g` of a SAM step, each SAM step records
  :math:`c = \|h\| / \|g\|` and, from the last M values of :math:`\|h\|`, a
  variance :math:`v`: they are sorted and cut into blocks of equal size, and v
  is the mean of the (unbiased) variances within the blocks, in which a trend of
  the norm counts little. With :math:`\bar r(x)` the mean of
  :math:`(x_{j+1} - x_j) / x_j` over the last M recorded values of x, clipped to
  [-1, 1], a segment begins with

  .. math::
    s \leftarrow \text{clip}(s\, (1 + \alpha\, \bar r(c) +
    \alpha_v\, \bar r(v)), 1, \lfloor p_{max} M \rfloor), \qquad p = s / M

  and the draw of exactly :math:`\lfloor s \rfloor` of its M steps. Each step
  perturbs with probability p until the quota is filled; when only as many
  steps are left as are missing, all of them perturb. All steps of a segment
  are drawn when it begins, so a host can plan them (`SharpnessAware.plan`).

  Steps that a caller decides with `perturb=` do not count towards the quota of
  the segment. The last step of the warm-up counts as the sample of the
  first segment, which is one step shorter, and plain.

  These rules are read from the released code, whose warm-up of three epochs
  fills the records. Our choice, where they are not full: a change that is not
  known is left out of the mean (0 if none is known), and v is not known before
  the M-th SAM step. Our choice, too: a SAM step with a ratio of 0, or one that
  is not finite, is not recorded.

  Args:
    alpha: how strongly the quota follows the ratio, at least 0 (the released
      program: 0.13).
    alpha_variance: :math:`\alpha_v`, how strongly it follows the variance, at
      least 0 (0.13).
    segment: :math:`M`, steps per segment, and how many SAM steps are
      remembered (50); at least twice `blocks`.
    warmup_steps: the first steps, which all perturb (the released program:
      three epochs).
    key: PRNG key or int seed, the same on every device.
    blocks: into how many blocks the norms are cut, at least 1 (5). Where they
      do not divide the segment, the greatest norms are left over.
    p_max: cap of the probability, in (0, 1] (0.8).
    norm_mask: a tree of bools with the params' structure, or a function from
      a tree to it: the leaves that both norms are measured on (the released
      program: the last 10 tensors). None for all, which is our choice.

  Returns:
    A `Cadence`.

  Raises:
    ValueError: if a number is out of its range, or the segment too short for
      its blocks.
  """
  _check.number('alpha', alpha, why='alpha scales the growth of a quota')
  _check.number(
    'alpha_variance', alpha_variance, why='it scales the growth of a quota'
  )
  for name, size in (('segment', segment), ('blocks', blocks)):
    _check.number(name, size, 1, static=True, whole=True, why='it sizes arrays')
  _check.number(
    'warmup_steps', warmup_steps, why='it is a number of steps', whole=True
  )
  _check.key('key', key)
  _check.number('p_max', p_max, 0, 1, above=True, why='p_max is a probability')
  if segment < 2 * blocks:
    raise ValueError(
      f'Given segment={segment} and blocks={blocks}. A block of less than two '
      f'norms has no variance. Use a segment of at least {2 * blocks} steps, '
      'or fewer blocks.'
    )

  def init():
    empty = jnp.zeros([segment])
    return QuotaState(
      key=_random.make_key(key),
      ratios=empty,
      psf_norms=jnp.copy(empty),
      psf_variances=jnp.copy(empty),
      samples=jnp.ones([]),
      probability=jnp.ones([]) / segment,
      chosen=jnp.zeros([segment], jnp.bool_),
    )

  def count(step):
    # Of the steps after the warm-up, from 1, as in the released code.
    return step + 1 - _base.value_at(warmup_steps, step, step.dtype)

  def decide(state, step):
    number = count(step)
    return (number <= 0) | state.chosen[number % segment]

  def measured(gradient, perturbed_gradient, state):
    dtype = state.ratios.dtype
    norms = _psf.norms(gradient, perturbed_gradient, norm_mask)
    length, gradient_length = (norm.astype(dtype) for norm in norms)
    ratio = length / gradient_length
    psf_norms = _append(state.psf_norms, length)
    variance = _variance_in_blocks(psf_norms, blocks)
    ratios = _append(state.ratios, ratio)
    variances = _append(state.psf_variances, variance)
    usable = (ratio > 0) & jnp.isfinite(ratio) & jnp.isfinite(length)
    return state._replace(
      ratios=jnp.where(usable, ratios, state.ratios),
      psf_norms=jnp.where(usable, psf_norms, state.psf_norms),
      psf_variances=jnp.where(usable, variances, state.psf_variances),
    )

  def begin_segment(state, step):
    dtype = state.samples.dtype
    rise = _base.value_at(alpha, step, dtype) * _mean_change(state.ratios)
    weight = _base.value_at(alpha_variance, step, dtype)
    rise += weight * _mean_change(state.psf_variances)
    # The margin keeps 0.29 * 100 = 28.999... at 29.
    most = _base.value_at(p_max, step, dtype) * segment * (1 + 1e-6)
    most = jnp.maximum(jnp.floor(most), 1)
    samples = jnp.clip(state.samples * (1 + rise), 1, most)
    probability = samples / segment
    draws = _random.uniforms(state.key, step, segment)
    chosen = draw_quota(draws, probability, samples.astype(jnp.int32))
    number = count(step) + 1  # of the next step
    due = (number > 0) & (number % segment == 0)
    return state._replace(
      samples=jnp.where(due, samples, state.samples),
      probability=jnp.where(due, probability, state.probability),
      chosen=jnp.where(due, chosen, state.chosen),
    )

  def update(gradient, perturbed_gradient, state, step):
    if perturbed_gradient is not None:
      state = measured(gradient, perturbed_gradient, state)
    return begin_segment(state, step)

  def foresight(state, step):
    # What is drawn stands until the next segment. The one after the warm-up
    # is known from the beginning.
    del state
    number = count(step)
    return segment - jnp.where(number > 0, number % segment, number)

  return _base.Cadence(
    init,
    decide,
    update,
    foresight=None if callable(warmup_steps) else foresight,
  )


def draw_quota(
  draws: jax.Array, probability: jax.Array, quota: jax.Array
) -> jax.Array:
  """Which steps of a segment perturb: exactly `quota` of them.

  One step after another perturbs if its draw is below the probability and the
  quota is not filled yet, or if no more steps are left than are missing.

  Args:
    draws: float [segment], from U[0, 1).
    probability: float scalar.
    quota: int32 scalar, at most the length of the segment.

  Returns:
    bool [segment].
  """
  hits = jnp.cumsum(draws < probability, dtype=quota.dtype)
  left = jnp.arange(draws.size, dtype=quota.dtype)[::-1]
  # SAM steps up to and with each step. Once the rest is forced, all of it is.
  taken = jnp.maximum(jnp.minimum(hits, quota), quota - left)
  return jnp.diff(taken, prepend=jnp.zeros([1], quota.dtype)) > 0


def _append(values: jax.Array, value: jax.Array) -> jax.Array:
  """The values without the oldest, and with a new one at the end."""
  return jnp.concatenate([values[1:], value[None].astype(values.dtype)])


def _mean_change(values: jax.Array) -> jax.Array:
  """The mean relative change from one known value to the next, in [-1, 1]."""
  last, value = values[:-1], values[1:]
  change = (value - last) / jnp.where(last > 0, last, 1)
  known = (last > 0) & jnp.isfinite(change)
  total = jnp.sum(jnp.where(known, change, 0))
  times = jnp.maximum(jnp.sum(known), 1).astype(values.dtype)
  return jnp.clip(total / times, -1, 1)


def _variance_in_blocks(norms: jax.Array, blocks: int) -> jax.Array:
  """The mean variance within blocks of sorted norms; 0 where some are missing.

  An overflow counts as missing, too.
  """
  size = norms.size // blocks
  sorted_norms = jnp.sort(norms)[: size * blocks].reshape(blocks, size)
  variance = jnp.mean(jnp.var(sorted_norms, axis=1, ddof=1))
  known = (norms[0] > 0) & jnp.isfinite(variance)
  return jnp.where(known, variance, 0)
