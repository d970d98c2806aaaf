"""Pose as two classifications for each joint, of its column and of its row.

SimCC cuts each axis into ``split`` bins for a pixel and predicts the bin of the
joint. The target is one bin with label smoothing, or, in SA-SimCC, a Gaussian
around the joint.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

# Joints of MPII that change places in a mirrored image.
MPII_PAIRS = ((0, 5), (1, 4), (2, 3), (10, 15), (11, 14), (12, 13))


class Axes(NamedTuple):
  """A value for each bin of both axes, such as the logits of a network.

  Attributes:
    x: float ``[batch, joints, width * split]``.
    y: float ``[batch, joints, height * split]``.
  """

  x: jax.Array
  y: jax.Array


def simcc_targets(
  coordinates: jax.Array,
  size: int,
  split: int,
  sigma: float,
  rounded: bool = False,
) -> jax.Array:
  r"""Builds the targets of SA-SimCC for one axis.

  .. math::
    t_i = \exp(-(i - k c)^2 / (2 \sigma^2)) / (\sigma \sqrt{2 \pi})

  with :math:`c` the coordinate and :math:`k` the split. They sum to 1 inside
  the image and to less at its borders, as in the authors' code.

  Args:
    coordinates: float ``[...]``, in pixels.
    size: pixels of the axis.
    split: bins for a pixel.
    sigma: standard deviation in bins, above 0.
    rounded: whether the centre is rounded to a bin first, as in mmpose.

  Returns:
    ``[..., size * split]``, of the coordinates' dtype.

  References:
    Li et al., `SimCC: a Simple Coordinate Classification Perspective for Human
    Pose Estimation <https://arxiv.org/abs/2107.03332>`_, 2022
  """
  check_sigma(sigma)
  center = coordinates * split
  center = jnp.round(center) if rounded else center
  bins = _bins(size, split, coordinates)
  density = jnp.exp(-0.5 * jnp.square((bins - center[..., None]) / sigma))
  return density / (sigma * (2 * jnp.pi) ** 0.5)


def smoothed_bins(
  coordinates: jax.Array, size: int, split: int, smoothing: float
) -> jax.Array:
  """Builds the targets of plain SimCC for one axis.

  The bin that is nearest to the coordinate has ``1 - smoothing``; the others
  share the rest alike.

  Args:
    coordinates: float ``[...]``, in pixels. Outside the image no bin has more
      than the others have: see :func:`bins_inside`.
    size: pixels of the axis.
    split: bins for a pixel.
    smoothing: the share of the others, in [0, 1); 0.2 for MPII.

  Returns:
    ``[..., size * split]``, of the coordinates' dtype.
  """
  bins = _bins(size, split, coordinates)
  at = bins == jnp.round(coordinates * split)[..., None]
  others = smoothing / (size * split - 1)
  return jnp.where(at, 1 - smoothing, others).astype(coordinates.dtype)


def bins_inside(
  coordinates: jax.Array, sizes: Sequence[int], split: int
) -> jax.Array:
  """Tells which joints have a bin on both axes, for plain SimCC.

  Args:
    coordinates: float ``[..., 2]``, x and y in pixels.
    sizes: width and height in pixels.
    split: bins for a pixel.

  Returns:
    bool ``[...]``.
  """
  place = jnp.round(coordinates * split)
  bins = jnp.array(sizes, coordinates.dtype) * split
  bins = bins.reshape((1,) * (coordinates.ndim - 1) + (2,))
  return jnp.all((place >= 0) & (place < bins), axis=-1)


def window_reaches(
  coordinates: jax.Array, sizes: Sequence[int], sigma: float
) -> jax.Array:
  """Tells which joints are near enough to the image, for SA-SimCC.

  A joint counts while the window of three sigma around it meets the image. The
  authors' code, which this follows, takes sigma for pixels here, while the
  targets take it for bins.

  Args:
    coordinates: float ``[..., 2]``, x and y in pixels.
    sizes: width and height in pixels.
    sigma: as :func:`simcc_targets` takes it.

  Returns:
    bool ``[...]``.
  """
  low = jnp.trunc(coordinates - 3 * sigma)
  high = jnp.trunc(coordinates + 3 * sigma + 1)
  sides = jnp.array(sizes, coordinates.dtype)
  sides = sides.reshape((1,) * (coordinates.ndim - 1) + (2,))
  return jnp.all((low < sides) & (high >= 0), axis=-1)


def simcc_losses(logits: Axes, targets: Axes, weights: jax.Array) -> jax.Array:
  """Computes the loss of each person.

  The Kullback-Leibler divergence from the softmax of the logits to the targets,
  averaged over the bins, summed over both axes, and averaged over all joints,
  those without weight included. The mean over a batch is the loss of the
  authors' code for MPII.

  Args:
    logits: of the network.
    targets: of the same shapes, each 0 or more.
    weights: float ``[batch, joints]``, 0 for a joint that does not count.

  Returns:
    float ``[batch]``.
  """

  def divergence(logits: jax.Array, targets: jax.Array) -> jax.Array:
    total = optax.kl_divergence(jax.nn.log_softmax(logits), targets)
    return total / logits.shape[-1]

  each = divergence(logits.x, targets.x) + divergence(logits.y, targets.y)
  return jnp.mean(each * weights, axis=-1)


def decode(scores: Axes, split: int) -> jax.Array:
  """Reads the coordinates off: the best bin of each axis.

  Args:
    scores: logits or probabilities.
    split: bins for a pixel.

  Returns:
    float32 ``[batch, joints, 2]``, x and y in pixels of the crop.
  """
  best = jnp.stack(
    [jnp.argmax(scores.x, axis=-1), jnp.argmax(scores.y, axis=-1)], axis=-1
  )
  return best.astype(jnp.float32) / split


def highest(sigma: float | None, smoothing: float) -> float:
  """The greatest probability of a bin in the targets.

  Args:
    sigma: of SA-SimCC, in bins; ``None`` for plain SimCC.
    smoothing: of plain SimCC.

  Returns:
    The probability, above 0.
  """
  return 1 - smoothing if sigma is None else 1 / (sigma * math.tau**0.5)


def confidences(probabilities: Axes, highest: float) -> jax.Array:
  """How sure a network is of each joint.

  Args:
    probabilities: of the bins.
    highest: the greatest probability of a bin in the targets, above 0.

  Returns:
    float32 ``[batch, joints]`` in [0, 1]: the greatest probability of an axis
    relative to that of a target, of the axis that is less sure; 1 where it is
    as high or higher.
  """
  best = jnp.minimum(
    jnp.max(probabilities.x, axis=-1), jnp.max(probabilities.y, axis=-1)
  )
  return jnp.minimum(best / highest, 1.0)


def flip_average(
  logits: Axes,
  mirrored: Axes,
  pairs: Sequence[Sequence[int]] = MPII_PAIRS,
  average: str = 'logits',
  shift: bool = True,
) -> Axes:
  """Averages what a network says of an image and of its mirror image.

  Args:
    logits: of the image.
    mirrored: logits of the mirror image.
    pairs: joints that change places.
    average: ``'logits'`` as for SA-SimCC, or ``'probabilities'`` as for plain
      SimCC.
    shift: whether the mirrored bins move down by one, which lines them up where
      a pixel has two bins: the mirror image of bin ``b`` is ``bins - 2 - b``
      there.

  Returns:
    Probabilities.
  """
  if average not in ('logits', 'probabilities'):
    raise ValueError(
      f'Cannot average with average={average!r}: there are two ways. Give '
      "'logits' or 'probabilities'."
    )
  order = swapped(mirrored.x.shape[1], pairs)
  x, y = mirrored.x[:, order, ::-1], mirrored.y[:, order]
  if shift:
    # The last bin has nobody to take from.
    x = jnp.concatenate([x[..., 1:], x[..., -1:]], axis=-1)
  if average == 'logits':
    return Axes(
      jax.nn.softmax((logits.x + x) / 2), jax.nn.softmax((logits.y + y) / 2)
    )
  soft = jax.nn.softmax
  return Axes((soft(logits.x) + soft(x)) / 2, (soft(logits.y) + soft(y)) / 2)


def swapped(joints: int, pairs: Sequence[Sequence[int]]) -> jax.Array:
  """The order of the joints after those of each pair change places."""
  order = list(range(joints))
  for left, right in pairs:
    order[left], order[right] = right, left
  return jnp.array(order)


def _bins(size: int, split: int, coordinates: jax.Array) -> jax.Array:
  bins = jnp.arange(size * split, dtype=coordinates.dtype)
  return bins.reshape((1,) * coordinates.ndim + (-1,))


def check_sigma(sigma: float) -> None:
  """Refuses a standard deviation that is not above 0."""
  if not sigma > 0:
    raise ValueError(
      f'Cannot spread a joint with sigma={sigma}: it is the standard deviation '
      'of a Gaussian in bins. Give a number above 0, such as 6 for 512 bins.'
    )
