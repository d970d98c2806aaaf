"""A quantiser with a learned step size (LSQ), as a function."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

# A step below this is this one: with a step of zero nothing is left to learn.
_SMALLEST_STEP = 1e-8


class Codes(NamedTuple):
  """The least and the greatest integer that a value is rounded to."""

  low: Any
  high: Any


def codes(bits: int, signed: bool) -> Codes:
  """The integers of a quantiser.

  Args:
    bits: 2 to 16 if signed, else 1 to 16.
    signed: ``-2 ** (bits - 1)`` to ``2 ** (bits - 1) - 1``, as for weights; or
      0 to ``2 ** bits - 1``, as for what ReLU gives.

  Returns:
    The least and the greatest one.

  Raises:
    ValueError: if the bits are out of range.
  """
  least = 2 if signed else 1
  if type(bits) is not int or not least <= bits <= 16:
    kind = 'signed' if signed else 'unsigned'
    raise ValueError(
      f'Cannot quantise to {bits} bits: {kind} codes need at least {least}, '
      'and float32 holds no more than 16 exactly enough. Give a whole number '
      f'of bits from {least} to 16, such as 4.'
    )
  if signed:
    return Codes(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
  return Codes(0, 2**bits - 1)


def gradient_scale(count: int, high: Any) -> Any:
  """The factor ``1 / sqrt(count * high)`` on the gradient of a step.

  With it a step changes, relative to its size, about as much as the tensor
  that it quantises.

  Args:
    count: number of weights for the step of weights; for the step of inputs
      the number of features of one example, or with the batch's.
    high: the greatest code.

  Returns:
    The factor.
  """
  return (count * high) ** -0.5


def initial_step(v: jax.Array, high: Any) -> jax.Array:
  """The step to start from, ``2 mean(|v|) / sqrt(high)``.

  Args:
    v: the weights, or the inputs of a first batch.
    high: the greatest code.

  Returns:
    A scalar of ``v``'s dtype, above 0.
  """
  step = 2 * jnp.mean(jnp.abs(v)) / jnp.sqrt(jnp.asarray(high, v.dtype))
  return positive(step)


def positive(s: jax.Array) -> jax.Array:
  """The step as it is used: ``max(|s|, 1e-8)``."""
  return jnp.maximum(jnp.abs(s), _SMALLEST_STEP)


def encode(v: jax.Array, s: jax.Array, low: Any, high: Any) -> jax.Array:
  """The codes of values: whole numbers from low to high, of ``v``'s dtype."""
  return jnp.round(jnp.clip(v / positive(s), low, high))


@jax.custom_vjp
def _lsq(
  v: jax.Array,
  s: jax.Array,
  low: jax.Array,
  high: jax.Array,
  scale: jax.Array,
) -> jax.Array:
  del scale
  return encode(v, s, low, high) * positive(s)


def _forward(v, s, low, high, scale):
  return _lsq(v, s, low, high, scale), (v, s, low, high, scale)


def _backward(saved, upstream):
  v, s, low, high, scale = saved
  relative = v / positive(s)
  # Written out: the gradient of jnp.clip at a tie is one half, and ties are
  # common, such as every zero that ReLU gives.
  inside = (low < relative) & (relative < high)
  by_step = jnp.where(
    inside,
    jnp.round(relative) - relative,
    jnp.where(relative <= low, low, high),
  )
  total = jnp.sum(upstream * by_step)
  # Of max(|s|, smallest), which a perturbation may have made of s.
  total = jnp.where(s < 0, -total, total)
  fixed = map(jnp.zeros_like, (low, high, scale))
  return jnp.where(inside, upstream, 0.0), scale * total, *fixed


_lsq.defvjp(_forward, _backward)


def lsq(
  v: jax.Array, s: jax.Array, *, low: Any, high: Any, scale: Any
) -> jax.Array:
  r"""Quantises values to multiples of a learned step.

  .. math::
    \hat v = s \, \mathrm{round}(\mathrm{clip}(v / s, low, high))

  Halves round to even. The gradient of ``v`` is the upstream one where
  ``low < v / s < high`` and 0 elsewhere. The gradient of ``s`` is the upstream
  one times ``round(v / s) - v / s`` there, times ``low`` below and ``high``
  above, summed, and multiplied by ``scale``.

  The step is used as ``max(|s|, 1e-8)``, so that it is positive wherever an
  optimizer or a perturbation moves it; the gradient of a negative ``s`` is that
  of its absolute value.

  Args:
    v: float, any shape.
    s: the step, a float scalar, in whose dtype the codes are computed: float32
      or more.
    low: least code, 0 or below; a number or a scalar array.
    high: greatest code, 1 or above; likewise.
    scale: factor on the gradient of ``s``, see :func:`gradient_scale`.

  Returns:
    The quantised values, of ``v``'s shape and dtype.

  References:
    Esser et al., `Learned Step Size Quantization
    <https://arxiv.org/abs/1902.08153>`_, 2020
  """
  if jnp.ndim(s):
    raise ValueError(
      f'Cannot quantise with steps of shape {jnp.shape(s)}: a tensor has one '
      'step. Give a scalar.'
    )
  # In bfloat16 the codes of 8 bits are no longer apart.
  fixed = (jnp.asarray(x, s.dtype) for x in (low, high, scale))
  quantised: Any = _lsq(v.astype(s.dtype), s, *fixed)
  return quantised.astype(v.dtype)
