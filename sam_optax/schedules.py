"""Schedules that the papers tie to the learning rate or to the step."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import optax

from sam_optax import _base, _check


def rho_schedule(
  learning_rate: _base.ScalarOrSchedule,
  rho_max: float,
  rho_min: float,
  lr_max: float,
  lr_min: float,
) -> optax.Schedule:
  r"""A radius affine in the learning rate (GSAM, and R-SAM's code).

  .. math::
    \rho_t = \rho_{min} + (\rho_{max} - \rho_{min})
    \frac{lr_t - lr_{min}}{lr_{max} - lr_{min}}

  clamped to [0, rho_max] (our choice: the authors' code lets it turn negative
  while the learning rate warms up), and rho_max where lr_max = lr_min.

  Args:
    learning_rate: the base optimizer's, a float or a schedule.
    rho_max: radius at lr_max, at least rho_min.
    rho_min: radius at lr_min, at least 0.
    lr_max: the greatest learning rate, at least lr_min.
    lr_min: the least learning rate, at least 0.

  Returns:
    A schedule from step to radius.

  Example:
    >>> import sam_optax
    >>> rho = sam_optax.rho_schedule(
    ...   lambda step: 0.1 / (1 + step), 0.2, 0.1, lr_max=0.1, lr_min=0.0
    ... )
    >>> [round(float(rho(step)), 3) for step in (0, 1)]
    [0.2, 0.15]

  References:
    Zhuang et al., `Surrogate Gap Minimization Improves Sharpness-Aware
    Training <https://arxiv.org/abs/2203.08065>`_, 2022, Algorithm 1.
  """
  number = functools.partial(_check.number, schedule=False)
  number('rho_min', rho_min, why='rho_min is a radius')
  number('rho_max', rho_max, why='rho_max is a radius')
  number('lr_min', lr_min, why='lr_min is a learning rate')
  number('lr_max', lr_max, why='lr_max is a learning rate')
  _check.interval(('rho_min', 'rho_max'), rho_min, rho_max)
  _check.interval(('lr_min', 'lr_max'), lr_min, lr_max)

  def schedule(step: jax.typing.ArrayLike) -> jax.Array:
    rate = jnp.asarray(_base.value_at(learning_rate, step))
    if not jnp.issubdtype(rate.dtype, jnp.floating):
      rate = rate.astype(float)  # in whole numbers the span would be truncated
    span = jnp.asarray(lr_max - lr_min, rate.dtype)
    share = (rate - lr_min) / jnp.where(span > 0, span, 1)
    share = jnp.where(span > 0, share, 1)
    return jnp.clip(rho_min + (rho_max - rho_min) * share, 0, rho_max)

  return schedule


def noise_schedule(
  total_steps: int, initial: float = 5e-4, factor: float = 5.0
) -> optax.Schedule:
  r"""R-SAM's scale of the noise: a half cosine that grows `factor`-fold.

  .. math::
    \gamma_t = \gamma_0 (1 + (f - 1) (1 - \cos(\pi t / T)) / 2)

  Args:
    total_steps: :math:`T`, at least 1; the scale is constant after it.
    initial: :math:`\gamma_0`, at least 0.
    factor: :math:`f`, at least 0.

  Returns:
    A schedule from step to gamma.

  Example:
    >>> import sam_optax
    >>> gamma = sam_optax.noise_schedule(100)
    >>> [round(float(gamma(step)), 5) for step in (0, 50, 100)]
    [0.0005, 0.0015, 0.0025]

  References:
    The code released with Liu et al., `Random Sharpness-Aware Minimization
    <https://openreview.net/forum?id=htUvh7xPoa>`_, 2022.
  """
  number = functools.partial(_check.number, schedule=False)
  number('total_steps', total_steps, 1, why='it is a number of steps')
  number('initial', initial, why='initial is where the scale starts')
  number('factor', factor, why='factor is by how much it grows')

  def schedule(step: jax.typing.ArrayLike) -> jax.Array:
    progress = jnp.clip(jnp.asarray(step) / total_steps, 0, 1)
    rise = (1 - jnp.cos(jnp.pi * progress)) / 2
    return initial * (1 + (factor - 1) * rise)

  return schedule
