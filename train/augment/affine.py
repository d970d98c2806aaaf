"""Affine moves: one draw moves an image, its mask and its keypoints alike.

A move is a matrix that says where in the source each pixel of the result comes
from. Pixels have their centres at whole numbers, x to the right and y down.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

# An accelerator's lower precision would miss by up to a pixel.
_einsum = functools.partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)


class Move(NamedTuple):
  """Moves of a batch, from the result to the source.

  Attributes:
    matrix: float32 ``[batch, 2, 3]``: ``source = matrix @ (x, y, 1)``.
    mirrored: bool ``[batch]``: whether left and right change places, so that
      the left and right joints do too.
  """

  matrix: jax.Array
  mirrored: jax.Array


def crop_box(
  center: jax.Array,
  side: jax.Array,
  size: Sequence[int],
  rotation: jax.Array | None = None,
  mirrored: jax.Array | None = None,
) -> Move:
  """Crops a box around a point, turned and mirrored around its centre.

  As in HRNet's code the centre goes to ``(width / 2, height / 2)`` and the side
  to ``width``, which is half a pixel from the middle of the pixels. A box that
  is mirrored is cut out of the mirrored image around the mirrored centre.

  Args:
    center: float ``[batch, 2]``, x and y in the source.
    side: float ``[batch]``, the width of the box in pixels of the source.
    size: width and height of the result.
    rotation: float ``[batch]`` in radians, from x towards y (``None``: none).
    mirrored: bool ``[batch]`` (``None``: none).

  Returns:
    The moves.
  """
  batch = len(center)
  rotation = jnp.zeros(batch) if rotation is None else rotation
  if mirrored is None:
    mirrored = jnp.zeros(batch, bool)
  turn = _rotation(rotation) * (side / size[0])[:, None, None]
  sign = jnp.where(mirrored, -1.0, 1.0)
  turn = turn.at[:, 0].multiply(sign[:, None])
  # The mirror image of a centre x is the centre width - 1 - x of the mirrored
  # source, and the pixels are mirrored back: the centre stays.
  middle = jnp.array([size[0] / 2, size[1] / 2])
  return Move(_around(turn, middle, center), mirrored)


def crop_scaled(
  scale: jax.Array,
  offset: jax.Array,
  source: jax.Array,
  rotation: jax.Array,
  mirrored: jax.Array,
) -> Move:
  """Scales an image, turns it around its middle, mirrors it, and crops it.

  Args:
    scale: float ``[batch]``; 2 doubles the sides.
    offset: float ``[batch, 2]``, x and y of the crop in the scaled image.
    source: float ``[batch, 2]``, width and height of the source.
    rotation: float ``[batch]`` in radians, from x towards y.
    mirrored: bool ``[batch]``.

  Returns:
    The moves.
  """
  turn = _rotation(rotation) / scale[:, None, None]
  sign = jnp.where(mirrored, -1.0, 1.0)
  turn = turn.at[:, :, 0].multiply(sign[:, None])
  # The middles of the scaled image and of the source, in each one's pixels.
  scaled_middle = (source * scale[:, None] - 1) / 2 - offset
  return Move(_around(turn, scaled_middle, (source - 1) / 2), mirrored)


def draw_boxes(
  key: jax.Array,
  center: jax.Array,
  side: jax.Array,
  size: Sequence[int],
  *,
  scale: float = 0.25,
  rotation: float = 30.0,
  rotation_probability: float = 0.6,
  flip: float = 0.5,
) -> Move:
  """Draws a crop of each person, as HRNet's and SimCC's codes do for MPII.

  Args:
    key: of this batch; the same key gives the same moves.
    center: float ``[batch, 2]``, x and y in the source.
    side: float ``[batch]``, side of the box in pixels of the source.
    size: width and height of the result.
    scale: standard deviation of the side's factor around 1, which is clipped at
      one of it on either side.
    rotation: standard deviation of the angle in degrees, clipped at two.
    rotation_probability: probability that a person is turned.
    flip: probability that a person is mirrored.

  Returns:
    The moves.
  """
  scale_key, angle_key, turn_key, flip_key = jax.random.split(key, 4)
  batch = (len(center),)
  factor = jax.random.normal(scale_key, batch) * scale
  factor = 1 + jnp.clip(factor, -scale, scale)
  angle = jax.random.normal(angle_key, batch) * rotation
  angle = jnp.clip(angle, -2 * rotation, 2 * rotation)
  turned = jax.random.bernoulli(turn_key, rotation_probability, batch)
  return crop_box(
    center,
    side * factor,
    size,
    jnp.deg2rad(jnp.where(turned, angle, 0.0)),
    jax.random.bernoulli(flip_key, flip, batch),
  )


def draw_crops(
  key: jax.Array,
  source: jax.Array,
  size: Sequence[int],
  *,
  scale: Sequence[float] = (0.5, 2.0),
  rotation: float = 0.0,
  rotation_probability: float = 0.5,
  flip: float = 0.5,
) -> Move:
  """Draws a crop of each scaled image, as the codes for segmentation do.

  Where the scaled image is smaller than the crop on an axis it is in the middle
  of it, and where it is larger the place is uniform over the whole pixels.

  Args:
    key: of this batch; the same key gives the same moves.
    source: ``[batch, 2]``, width and height of each image.
    size: width and height of the result.
    scale: least and greatest factor on the sides, uniform between them.
    rotation: greatest angle in degrees, uniform on either side.
    rotation_probability: probability that an image is turned.
    flip: probability that an image is mirrored.

  Returns:
    The moves.
  """
  keys = jax.random.split(key, 5)
  batch = (len(source),)
  source = source.astype(jnp.float32)
  factor = jax.random.uniform(keys[0], batch, minval=scale[0], maxval=scale[1])
  spare = jnp.round(source * factor[:, None]) - jnp.array([size], jnp.float32)
  place = jnp.floor(jax.random.uniform(keys[1], (*batch, 2)) * (spare + 1))
  offset = jnp.where(spare > 0, place, jnp.floor(spare / 2))
  angle = jax.random.uniform(keys[2], batch, minval=-rotation, maxval=rotation)
  turned = jax.random.bernoulli(keys[3], rotation_probability, batch)
  return crop_scaled(
    factor,
    offset,
    source,
    jnp.deg2rad(jnp.where(turned, angle, 0.0)),
    jax.random.bernoulli(keys[4], flip, batch),
  )


def move_images(
  move: Move,
  images: jax.Array,
  size: Sequence[int],
  fill: Sequence[float] | float = 0.0,
) -> jax.Array:
  """Moves images, bilinear between the pixels.

  Args:
    move: the moves.
    images: uint8 or float ``[batch, h, w, c]``.
    size: width and height of the result.
    fill: value outside the source, one number or one for each channel.

  Returns:
    float32 ``[batch, height, width, c]``.
  """
  fills = jnp.broadcast_to(jnp.asarray(fill, jnp.float32), images.shape[-1:])
  fills = fills[None, None, None]
  # The value outside is one for all channels, and no array.
  x = images.astype(jnp.float32) - fills
  return _sample(move, x, size, order=1, outside=0.0) + fills


def move_masks(
  move: Move, masks: jax.Array, size: Sequence[int], fill: int = 255
) -> jax.Array:
  """Moves masks: each pixel takes the value of the nearest one.

  Args:
    move: the moves.
    masks: integers ``[batch, h, w]``.
    size: width and height of the result.
    fill: value outside the source.

  Returns:
    ``[batch, height, width]``, of the masks' dtype.
  """
  values = masks[..., None].astype(jnp.float32)  # Exact below 2 ** 24.
  moved = _sample(move, values, size, order=0, outside=fill)
  return moved[..., 0].astype(masks.dtype)


def move_points(move: Move, points: jax.Array) -> jax.Array:
  """Moves points from the source to the result.

  Args:
    move: the moves.
    points: float ``[batch, points, 2]``, x and y.

  Returns:
    float ``[batch, points, 2]``; points that leave the image have coordinates
    outside of it. Left and right are not exchanged: see :func:`swap`.
  """
  turn, shift = move.matrix[..., :2], move.matrix[..., 2]
  back = jnp.linalg.inv(turn)
  return _einsum('bij,bpj->bpi', back, points - shift[:, None])


def restore_points(move: Move, points: jax.Array) -> jax.Array:
  """Moves points of the result back to the source.

  Args:
    move: the moves.
    points: float ``[batch, points, 2]``, x and y.

  Returns:
    float ``[batch, points, 2]``.
  """
  turn, shift = move.matrix[..., :2], move.matrix[..., 2]
  return _einsum('bij,bpj->bpi', turn, points) + shift[:, None]


def swap(move: Move, values: jax.Array, order: jax.Array) -> jax.Array:
  """Reorders the joints of those examples that are mirrored.

  Args:
    move: the moves.
    values: ``[batch, joints, ...]``, such as points or visibilities.
    order: int ``[joints]``: which joint each one becomes.

  Returns:
    The values, of their shape.
  """
  mirrored = move.mirrored.reshape((-1,) + (1,) * (values.ndim - 1))
  return jnp.where(mirrored, values[:, order], values)


def _rotation(angle: jax.Array) -> jax.Array:
  cos, sin = jnp.cos(angle), jnp.sin(angle)
  return jnp.stack([jnp.stack([cos, -sin], -1), jnp.stack([sin, cos], -1)], -2)


def _around(turn: jax.Array, middle: jax.Array, center: jax.Array) -> jax.Array:
  """Turns around a point of the result, which comes from one of the source."""
  middle = jnp.broadcast_to(middle, center.shape)
  shift = center - _einsum('bij,bj->bi', turn, middle)
  return jnp.concatenate([turn, shift[..., None]], axis=-1)


def _sample(
  move: Move,
  images: jax.Array,
  size: Sequence[int],
  order: int,
  outside: float,
) -> jax.Array:
  width, height = size
  y, x = jnp.meshgrid(jnp.arange(height), jnp.arange(width), indexing='ij')
  grid = jnp.stack([x, y, jnp.ones_like(x)]).astype(jnp.float32)

  def one(matrix: jax.Array, image: jax.Array) -> jax.Array:
    source = _einsum('ij,jhw->ihw', matrix, grid)
    channel = lambda plane: jax.scipy.ndimage.map_coordinates(
      plane, [source[1], source[0]], order, mode='constant', cval=outside
    )
    return jax.vmap(channel, -1, -1)(image)

  return jax.vmap(one)(move.matrix, images)
