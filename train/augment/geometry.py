"""Crops and flips of images by whole pixels, for classification.

The draw is apart from the move, so that the same draw can move anything else
that has a value for each pixel. Scaled and turned images, with their masks and
keypoints: `train/augment/affine.py`.
"""

from typing import Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

Fill: TypeAlias = Literal['zero', 'reflect']
PAD_MODES = {'zero': 'constant', 'reflect': 'reflect'}


class Motion(NamedTuple):
  """A drawn crop and flip of each image of a batch.

  Attributes:
    rows: the padded image's row of each row of the result, int
      ``[batch, height]``.
    columns: likewise, int ``[batch, width]``.
    pad: pixels added on each side before.
  """

  rows: jax.Array
  columns: jax.Array
  pad: int


def draw(
  crop_key: jax.Array,
  flip_key: jax.Array,
  shape: tuple[int, ...],
  pad: int,
  flip: bool,
) -> Motion:
  """Draws a crop of the padded image, and whether it is mirrored.

  Args:
    crop_key: of the crop's place.
    flip_key: of the flip.
    shape: of the images, ``[batch, height, width, ...]``.
    pad: pixels added on each side; 0 for no crop.
    flip: mirrors an image left to right with probability 1/2.

  Returns:
    The motion.
  """
  batch, height, width = shape[:3]
  rows = jnp.broadcast_to(jnp.arange(height), (batch, height))
  columns = jnp.broadcast_to(jnp.arange(width), (batch, width))
  if flip:
    mirrored = jax.random.bernoulli(flip_key, shape=(batch, 1))
    columns = jnp.where(mirrored, width - 1 - columns, columns)
  if pad:
    offsets = jax.random.randint(crop_key, (batch, 2, 1), 0, 2 * pad + 1)
    rows = rows + offsets[:, 0]
    columns = columns + offsets[:, 1]
  return Motion(rows, columns, pad)


def move(motion: Motion, images: jax.Array, fill: Fill = 'zero') -> jax.Array:
  """Moves images, or anything else that has a value for each pixel.

  Args:
    motion: the draw.
    images: ``[batch, height, width, channels]``.
    fill: what is outside: ``'zero'`` or ``'reflect'``.

  Returns:
    The images, of their shape and dtype.
  """
  if motion.pad:
    side = (motion.pad, motion.pad)
    images = jnp.pad(images, ((0, 0), side, side, (0, 0)), mode=PAD_MODES[fill])
  # One gather for both: 1.3 times faster on CPU than vmapped dynamic slices and
  # a select.
  which = jnp.arange(len(images))[:, None, None]
  return images[which, motion.rows[:, :, None], motion.columns[:, None, :]]
