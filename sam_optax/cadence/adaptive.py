"""Cadences that follow what training does."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from sam_optax import _base, _check, _random, _tree
from sam_optax.cadence import _psf


class AutoregressiveState(NamedTuple):
  r"""State of `autoregressive`; all but the key are float scalars.

  Attributes:
    key: typed PRNG key.
    ratio: :math:`c`, the norm of the last computed PSF over the norm of its
      gradient; 0 before the first.
    ratio_change: :math:`\hat r`, the moving average of the ratio's relative
      change from one SAM step to the next.
    samples: :math:`s`, the expected SAM steps per segment.
    probability: :math:`p = s / M`, the chance that the next step perturbs, once
      the warm-up is over.
  """

  key: jax.Array
  ratio: jax.Array
  ratio_change: jax.Array
  samples: jax.Array
  probability: jax.Array


def autoregressive(
  alpha: _base.ScalarOrSchedule = 0.2,
  beta: _base.ScalarOrSchedule = 0.9,
  segment: _base.ScalarOrSchedule = 50,
  warmup_steps: _base.ScalarOrSchedule = 100,
  key: _base.Key = 0,
  *,
  p_min: _base.ScalarOrSchedule = 0.0,
  p_max: _base.ScalarOrSchedule = 1.0,
  norm_mask: _base.Mask | None = None,
) -> _base.Cadence:
  r"""Perturb with a probability that follows the PSF's growth (ARSAM).

  With the PSF :math:`h = g_p - g` of a SAM step and
  :math:`c = \|h\| / \|g\|`, on SAM steps only:

  .. math::
    r = (c - c_{\text{last}}) / c_{\text{last}}, \qquad
    \hat r \leftarrow \beta \hat r + (1 - \beta) r

  and at the end of each step :math:`i` (from 1) with :math:`i > I` and
  :math:`i \bmod M = 0`:

  .. math::
    s \leftarrow \text{clip}(s (1 + \alpha\, \text{clip}(\hat r, -1, 1)),
    \max(1, p_{min} M), p_{max} M), \qquad p = s / M,

  from :math:`s = \max(1, p_{min} M)` on.

  Args:
    alpha: how strongly the probability follows, at least 0 (the paper: 0.2 on
      CIFAR-10, 0.4 on CIFAR-100, 0.8 on Tiny-ImageNet).
    beta: decay of the moving average in [0, 1] (the paper: 0.9).
    segment: :math:`M`, steps between two updates of p, at least 1 (50).
    warmup_steps: :math:`I`, the first steps, which all perturb.
    key: PRNG key or int seed, the same on every device.
    p_min: floor of the probability in [0, 1] (our choice: 0, so that one SAM
      step per segment is the least).
    p_max: cap of the probability in (0, 1] (our choice: 1). Where schedules of
      the two cross, the cap wins.
    norm_mask: a tree of bools with the params' structure, or a function from
      a tree to it: the leaves that c is measured on (the paper's "last
      layers"). None for all.

  Returns:
    A `Cadence`.
  """
  _check.number('alpha', alpha, why='alpha scales the growth of a probability')
  _check.number('beta', beta, 0, 1, why='beta weighs a moving average')
  _check.number(
    'segment', segment, 1, why='segment is a number of steps', whole=True
  )
  _check.key('key', key)
  _check.number(
    'warmup_steps',
    warmup_steps,
    why='warmup_steps is a number of steps',
    whole=True,
  )
  _check.number('p_max', p_max, 0, 1, above=True, why='p_max is a probability')
  _check.number('p_min', p_min, 0, 1, why='p_min is a probability')
  _check.interval(('p_min', 'p_max'), p_min, p_max)

  def bounded(samples, length, step):
    dtype = samples.dtype
    least = jnp.maximum(_base.value_at(p_min, step, dtype) * length, 1)
    most = jnp.maximum(_base.value_at(p_max, step, dtype) * length, 1)
    return jnp.clip(samples, least, most)

  def init():
    step, one = jnp.zeros([], jnp.int32), jnp.ones([])
    length = _base.value_at(segment, step, one.dtype)
    samples = bounded(one, length, step)
    return AutoregressiveState(
      key=_random.make_key(key),
      ratio=jnp.zeros([]),
      ratio_change=jnp.zeros([]),
      samples=samples,
      probability=samples / length,
    )

  def decide(state, step):
    drawn = _random.uniform(state.key, step) < state.probability
    return (step < _base.value_at(warmup_steps, step, step.dtype)) | drawn

  def end_segment(state, step):
    dtype = state.samples.dtype
    length = _base.value_at(segment, step, step.dtype)
    warm = step >= _base.value_at(warmup_steps, step, step.dtype)
    due = warm & ((step + 1) % length == 0)
    growth = _base.value_at(alpha, step, dtype)
    change = jnp.clip(state.ratio_change, -1, 1)
    length = length.astype(dtype)
    samples = bounded(state.samples * (1 + growth * change), length, step)
    samples = jnp.where(due, samples, state.samples)
    return state._replace(samples=samples, probability=samples / length)

  def measured(gradient, perturbed_gradient, state, step):
    dtype = state.ratio.dtype
    norms = _psf.norms(gradient, perturbed_gradient, norm_mask)
    psf_length, length = (norm.astype(dtype) for norm in norms)
    # Divided by a number that is not 0, or a gradient through it is NaN.
    ratio = psf_length / jnp.where(length > 0, length, 1)
    usable = (length > 0) & jnp.isfinite(ratio)
    comparable = usable & (state.ratio > _tree.EPS)
    last = jnp.where(comparable, state.ratio, 1)
    change = (ratio - last) / last
    weight = _base.value_at(beta, step, dtype)
    change = weight * state.ratio_change + (1 - weight) * change
    return state._replace(
      ratio=jnp.where(usable, ratio, state.ratio),
      ratio_change=jnp.where(comparable, change, state.ratio_change),
    )

  def update(gradient, perturbed_gradient, state, step):
    if perturbed_gradient is not None:
      state = measured(gradient, perturbed_gradient, state, step)
    return end_segment(state, step)

  def foresight(state, step):
    # The probability stands until the end of the segment, and the warm-up does
    # not ask for it.
    del state
    length = jnp.asarray(segment, step.dtype)
    left = length - step % length
    if callable(warmup_steps):
      return left
    return jnp.maximum(left, jnp.asarray(warmup_steps, step.dtype) - step)

  return _base.Cadence(
    init,
    decide,
    update,
    foresight=None if callable(segment) else foresight,
  )


class GradientSurgeState(NamedTuple):
  """State of `gradient_surge`.

  Attributes:
    surge_mean: moving average of the squared norm of the gradient.
    surge_variance: moving average of its squared deviation.
  """

  surge_mean: jax.Array
  surge_variance: jax.Array


def gradient_surge(
  total_steps: _base.ScalarOrSchedule,
  lambda1: _base.ScalarOrSchedule = -1.0,
  lambda2: _base.ScalarOrSchedule = 1.0,
  decay: _base.ScalarOrSchedule = 0.9,
) -> _base.Cadence:
  r"""Perturb when the gradient's squared norm is high for its time (AE-SAM).

  With :math:`q_t = \|g_t\|^2`, before the decision:

  .. math::
    \mu \leftarrow \delta \mu + (1 - \delta) q, \quad
    \sigma^2 \leftarrow \delta \sigma^2 + (1 - \delta) (q - \mu)^2, \quad
    c_t = \lambda_2 + (\lambda_1 - \lambda_2)\, t / T

  and a step perturbs iff :math:`q \ge \mu + c_t \sigma`. The threshold falls
  from lambda2 to lambda1, so that SAM steps become more frequent.

  Args:
    total_steps: :math:`T`, length of training, at least 1.
    lambda1: threshold at the end, in standard deviations.
    lambda2: threshold at the start.
    decay: :math:`\delta` of both averages, in [0, 1].

  Returns:
    A `Cadence` that decides by the gradient of the first pass, which must be
    averaged over devices.
  """
  _check.number('total_steps', total_steps, 1, why='it is a number of steps')
  _check.number('decay', decay, 0, 1, why='decay weighs moving averages')
  for name, value in (('lambda1', lambda1), ('lambda2', lambda2)):
    _check.number(name, value, -float('inf'), why='it is a threshold')

  def init():
    zero = jnp.zeros([])
    return GradientSurgeState(zero, jnp.full_like(zero, 1e-10))

  def observe(state, gradient, step):
    dtype = state.surge_mean.dtype
    squared = _tree.norm(gradient).astype(dtype) ** 2
    weight = 1 - _base.value_at(decay, step, dtype)
    mean = state.surge_mean + weight * (squared - state.surge_mean)
    deviation = (squared - mean) ** 2
    variance = state.surge_variance + weight * (
      deviation - state.surge_variance
    )
    # One squared norm beyond the dtype would stay in the averages for ever.
    usable = jnp.isfinite(variance)
    return squared, GradientSurgeState(
      jnp.where(usable, mean, state.surge_mean),
      jnp.where(usable, variance, state.surge_variance),
    )

  def decide(state, step, gradient):
    squared, state = observe(state, gradient, step)
    dtype = squared.dtype
    progress = step.astype(dtype) / _base.value_at(total_steps, step, dtype)
    low = _base.value_at(lambda1, step, dtype)
    high = _base.value_at(lambda2, step, dtype)
    # Infinities say always or never; sums and products of them would be NaN.
    far = jnp.where(jnp.isinf(low) & (progress > 0), low, high)
    finite = jnp.isfinite(low) & jnp.isfinite(high)
    threshold = jnp.where(finite, high + (low - high) * progress, far)
    deviation = jnp.sqrt(state.surge_variance)
    margin = jnp.where(finite, threshold * deviation, threshold)
    return squared >= state.surge_mean + margin

  def update(gradient, perturbed_gradient, state, step):
    del perturbed_gradient
    return observe(state, gradient, step)[1]

  return _base.Cadence(init, decide, update, by_gradient=True)
