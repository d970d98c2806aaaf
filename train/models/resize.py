"""Resizing of features, between the conventions of the published codes."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np


def bilinear(
  x: jax.Array, shape: Sequence[int], align_corners: bool = False
) -> jax.Array:
  """Resizes features, bilinear and without antialiasing, as PyTorch does.

  Args:
    x: float ``[batch, h, w, c]``.
    shape: height and width of the result.
    align_corners: whether the centres of the corner pixels meet, as in PSPNet's
      code; if not, the edges of the images do.

  Returns:
    ``[batch, *shape, c]``, of ``x``'s dtype.
  """
  full = (x.shape[0], *shape, x.shape[-1])
  if not align_corners:
    return jax.image.resize(x, full, 'bilinear', antialias=False)
  pairs = list(zip(x.shape[1:3], shape, strict=True))
  # A single pixel is repeated.
  scale = [(new - 1) / (old - 1) if old > 1 else new for old, new in pairs]
  shift = [
    (1 - factor) / 2 if old > 1 else 0.0
    for factor, (old, _) in zip(scale, pairs, strict=True)
  ]
  return jax.image.scale_and_translate(
    x,
    full,
    (1, 2),
    jnp.array(scale, jnp.float32),
    jnp.array(shift, jnp.float32),
    'bilinear',
    antialias=False,
  )


def average_pool(x: jax.Array, bins: int) -> jax.Array:
  """Averages features to ``bins`` by ``bins``, as PyTorch's adaptive pool.

  The windows of an axis reach from ``floor(i n / bins)`` to
  ``ceil((i + 1) n / bins)``, so that they overlap where ``bins`` does not
  divide its size ``n``.

  Args:
    x: float ``[batch, h, w, c]``.
    bins: windows on each axis.

  Returns:
    ``[batch, bins, bins, c]``, of ``x``'s dtype.
  """
  rows, columns = (
    jnp.asarray(_windows(size, bins), x.dtype) for size in x.shape[1:3]
  )
  return jnp.einsum('bhwc,ih,jw->bijc', x, rows, columns)


def _windows(size: int, bins: int) -> np.ndarray:
  """The weight of each place in each bin, ``[bins, size]``."""
  low = np.arange(bins) * size // bins
  high = -(-(np.arange(bins) + 1) * size // bins)
  places = np.arange(size)
  inside = (places >= low[:, None]) & (places < high[:, None])
  return inside / inside.sum(axis=1, keepdims=True)
