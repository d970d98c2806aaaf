"""Cadences that follow the step count or a draw."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from sam_optax import _base, _check, _random


def _constant(init, decide) -> _base.Cadence:
  """A cadence whose state does not change."""

  def update(gradient, perturbed_gradient, state, step):
    del gradient, perturbed_gradient, step
    return state

  def foresight(state, step):
    del state
    return jnp.full_like(step, jnp.iinfo(step.dtype).max)

  return _base.Cadence(init, decide, update, foresight=foresight)


def never() -> _base.Cadence:
  """Never perturb: the base optimizer alone."""
  return _constant(optax.EmptyState, decide=False)


def every(k: _base.ScalarOrSchedule = 1) -> _base.Cadence:
  """Perturb on every k-th step, the first included (SAM at 1, SAM-k).

  Args:
    k: period in steps, at least 1. With the Python int 1 the branch is gone
      from the compiled step.

  Returns:
    A `Cadence`.
  """
  _check.number('k', k, 1, why='k is a period in steps', whole=True)

  if isinstance(k, int) and k == 1:
    return _constant(optax.EmptyState, decide=True)

  def decide(state, step):
    del state
    return step % jnp.asarray(_base.value_at(k, step), step.dtype) == 0

  return _constant(optax.EmptyState, decide)


class BernoulliState(NamedTuple):
  """State of `bernoulli`: a typed PRNG key."""

  key: jax.Array


def bernoulli(
  p: _base.ScalarOrSchedule = 0.5, key: _base.Key = 0
) -> _base.Cadence:
  """Perturb with probability p, drawn anew on each step (SS-SAM).

  Args:
    p: probability in [0, 1].
    key: PRNG key or int seed, the same on every device.

  Returns:
    A `Cadence`.
  """
  _check.number('p', p, 0, 1, why='p is a probability')
  _check.key('key', key)

  def decide(state, step):
    draw = _random.uniform(state.key, step)
    return draw < jnp.asarray(_base.value_at(p, step), draw.dtype)

  return _constant(lambda: BernoulliState(_random.make_key(key)), decide)


def between(
  cadence: _base.Cadence,
  start: _base.Number = 0,
  stop: _base.Number | None = None,
) -> _base.Cadence:
  """Another cadence within a span of steps, and no SAM step outside of it.

  Args:
    cadence: what decides within the span.
    start: the first step of the span, from 0 (a late start).
    stop: the first step after it (an early stop), at least start; None for no
      end, 0 for no span at all.

  Returns:
    A `Cadence`.
  """
  _check.number(
    'start', start, why='start is a step', schedule=False, whole=True
  )
  if stop is not None:
    _check.number(
      'stop', stop, why='stop is a step', schedule=False, whole=True
    )
    _check.span(('start', 'stop'), start, stop, never=True)

  def decide(state, step, *gradient):
    inner = cadence.decide
    perturb = (
      inner if isinstance(inner, bool) else inner(state, step, *gradient)
    )
    inside = step >= jnp.asarray(start, step.dtype)
    if stop is not None:
      inside &= step < jnp.asarray(stop, step.dtype)
    return inside & perturb

  return cadence._replace(decide=decide)
