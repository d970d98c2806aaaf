"""RandAugment on the device: each image draws its own operations.

The 14 operations are the paper's. Ranges, signs and fill follow torchvision's
``RandAugment``, pixels follow Pillow. An operation moves
pixels, replaces values or blends the image with a duller one. A layer does all
three to every image, where two of them change nothing, so that no image
branches and the shapes stay static.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

OPERATIONS = (
  'identity',
  'shear_x',
  'shear_y',
  'translate_x',
  'translate_y',
  'rotate',
  'brightness',
  'color',
  'contrast',
  'sharpness',
  'posterize',
  'solarize',
  'autocontrast',
  'equalize',
)
MAX_MAGNITUDE = 30

_INDEX = {name: index for index, name in enumerate(OPERATIONS)}


def randaugment(
  key: jax.Array, images: jax.Array, num_layers: int = 2, magnitude: int = 9
) -> jax.Array:
  """Applies random operations to each image, one after the other.

  Args:
    key: PRNG key of this batch; the same key gives the same result.
    images: uint8 ``[batch, h, w, c]``, ``c`` 1 (grey) or 3 (RGB).
    num_layers: operations that an image gets, 0 or more; 0 is off.
    magnitude: strength of all operations, 0 to 30. At 30 a shear is 0.3, a
      translation 45 % of the side, a rotation 30 degrees and a blend's factor
      0.1 or 1.9; posterising keeps 4 bits and solarising inverts everything.
      At 0 only solarising, autocontrast and equalising change an image.

  Returns:
    uint8 ``[batch, h, w, c]``. What comes from outside the image is 0.

  References:
    Cubuk et al., `RandAugment: Practical automated data augmentation with a
    reduced search space <https://arxiv.org/abs/1909.13719>`_, 2019
  """
  _check(images, num_layers, magnitude)
  if not num_layers:
    return images
  operation_key, sign_key = jax.random.split(key)
  shape = (num_layers, images.shape[0])
  operations = jax.random.randint(operation_key, shape, 0, len(OPERATIONS))
  negative = jax.random.bernoulli(sign_key, shape=shape)
  # A scan, so that a layer is compiled once.
  return jax.lax.scan(
    lambda images, drawn: (apply(images, *drawn, magnitude), None),
    images,
    (operations, negative),
  )[0]


def apply(
  images: jax.Array,
  operations: jax.Array,
  negative: jax.Array,
  magnitude: int,
) -> jax.Array:
  """Applies one given operation to each image.

  Args:
    images: uint8 ``[batch, h, w, c]``.
    operations: positions in ``OPERATIONS``, int32 ``[batch]``.
    negative: whether a signed operation goes the other way, bool ``[batch]``.
    magnitude: as in :func:`randaugment`.

  Returns:
    uint8 ``[batch, h, w, c]``.
  """
  height, width = images.shape[1:3]
  sign = negative.astype(jnp.int32)
  matrices = _matrices(magnitude, height, width)
  factors = _factors(magnitude)
  x = images.astype(jnp.int32)
  x = _warp(x, jnp.asarray(matrices)[sign, operations])
  x = _look_up(x, _tables(x, operations, magnitude))
  x = _blend(_dull(x, operations), x, jnp.asarray(factors)[sign, operations])
  return x.astype(jnp.uint8)


def _matrices(magnitude: int, height: int, width: int) -> np.ndarray:
  """Where a pixel comes from: float32 [sign, operation, 2, 3]."""
  share = magnitude / MAX_MAGNITUDE
  result = np.tile(np.eye(2, 3), (2, len(OPERATIONS), 1, 1))
  for negative, sign in enumerate((1, -1)):
    result[negative, _INDEX['shear_x'], 0, 1] = sign * 0.3 * share
    result[negative, _INDEX['shear_y'], 1, 0] = sign * 0.3 * share
    # Whole pixels, rounded towards 0.
    shift = [int(150 / 331 * side * share) for side in (width, height)]
    result[negative, _INDEX['translate_x'], 0, 2] = sign * shift[0]
    result[negative, _INDEX['translate_y'], 1, 2] = sign * shift[1]
    angle = sign * np.deg2rad(30 * share)
    turn = np.array(
      [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    )
    center = np.array([width / 2, height / 2])
    turn = np.column_stack([turn, center - turn @ center])
    result[negative, _INDEX['rotate']] = turn
  return result.astype(np.float32)


def _warp(x: jax.Array, matrices: jax.Array) -> jax.Array:
  batch, height, width, _ = x.shape
  # The centre of a pixel lies half a pixel from its corner.
  columns, rows = np.meshgrid(np.arange(width), np.arange(height))
  points = np.stack([columns + 0.5, rows + 0.5, np.ones_like(rows)])
  # An accelerator's lower precision would miss by a pixel.
  source = jnp.einsum(
    'bij,jhw->ibhw',
    matrices,
    jnp.asarray(points, jnp.float32),
    precision=jax.lax.Precision.HIGHEST,
  )
  column, row = jnp.floor(source).astype(jnp.int32)
  inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
  which = jnp.arange(batch)[:, None, None]
  moved = x[which, row.clip(0, height - 1), column.clip(0, width - 1)]
  return jnp.where(inside[..., None], moved, 0)


def _tables(x: jax.Array, operations: jax.Array, magnitude: int) -> jax.Array:
  """The new value of each value: int32 [batch, 256, c]."""
  share = magnitude / MAX_MAGNITUDE
  values = np.arange(256)
  fixed = np.tile(values, (len(OPERATIONS), 1))
  fixed[_INDEX['posterize']] = values & -(2 ** round(4 * share))
  fixed[_INDEX['solarize']] = np.where(
    values < 255 * (1 - share), values, 255 - values
  )
  result = jnp.asarray(fixed, jnp.int32)[operations][:, :, None]
  chosen = lambda name: (operations == _INDEX[name])[:, None, None]
  result = jnp.where(chosen('autocontrast'), _stretched(x), result)
  return jnp.where(chosen('equalize'), _equalized(x), result)


def _stretched(x: jax.Array) -> jax.Array:
  """The tables that bring the darkest pixel to 0 and the lightest to 255."""
  low = x.min(axis=(1, 2))[:, None]
  high = x.max(axis=(1, 2))[:, None]
  values = jnp.arange(256)[None, :, None]
  stretched = (values - low) * 255 // jnp.maximum(high - low, 1)
  return jnp.where(high > low, stretched.clip(0, 255), values)


def _equalized(x: jax.Array) -> jax.Array:
  """The tables that make each channel's values equally frequent."""
  batch, height, width, channels = x.shape
  which = jnp.arange(batch)[:, None, None, None]
  channel = jnp.arange(channels)[None, None, None]
  counts = jnp.zeros((batch, 256, channels), jnp.int32)
  counts = counts.at[which, x, channel].add(1)
  # Pillow's rule: the lightest value's pixels do not count, and an image that
  # has too few others stays as it is.
  lightest = x.max(axis=(1, 2))[:, None]
  last = jnp.take_along_axis(counts, lightest, axis=1)
  step = (height * width - last) // 255
  before = jnp.cumsum(counts, axis=1) - counts
  level = (step // 2 + before) // jnp.maximum(step, 1)
  values = jnp.arange(256)[None, :, None]
  return jnp.where(step > 0, jnp.minimum(level, 255), values)


def _look_up(x: jax.Array, tables: jax.Array) -> jax.Array:
  batch, _, _, channels = x.shape
  flat = x.reshape(batch, -1, channels)
  tables = jnp.broadcast_to(tables, (batch, 256, channels))
  return jnp.take_along_axis(tables, flat, axis=1).reshape(x.shape)


def _factors(magnitude: int) -> np.ndarray:
  """The weight of the image in its blend: float32 [sign, operation]."""
  result = np.ones((2, len(OPERATIONS)), np.float32)
  blended = ('brightness', 'color', 'contrast', 'sharpness')
  indices = [_INDEX[name] for name in blended]
  result[0, indices] += 0.9 * magnitude / MAX_MAGNITUDE
  result[1, indices] -= 0.9 * magnitude / MAX_MAGNITUDE
  return result


def _dull(x: jax.Array, operations: jax.Array) -> jax.Array:
  """The duller image that each image is blended with, or the image itself."""
  grey = x
  if x.shape[-1] == 3:
    # Pillow's weights of red, green and blue, in 1 / 65536.
    weights = jnp.array([19595, 38470, 7471])[None, None, None]
    grey = jnp.sum(x * weights, axis=-1, keepdims=True) + 2**15 >> 16
  pixels = x.shape[1] * x.shape[2]
  mean = (grey.sum(axis=(1, 2), keepdims=True) + pixels // 2) // pixels
  result = x
  for name, dull in (
    ('brightness', jnp.zeros_like(x)),
    ('color', grey),
    ('contrast', mean),
    ('sharpness', _smooth(x)),
  ):
    chosen = (operations == _INDEX[name])[:, None, None, None]
    result = jnp.where(chosen, dull, result)
  return result


def _smooth(x: jax.Array) -> jax.Array:
  """Pillow's SMOOTH: a 3x3 mean, centre five times; the border stays."""
  height, width = x.shape[1:3]
  if min(height, width) < 3:
    return x
  nine = sum(
    x[:, row : height - 2 + row, column : width - 2 + column]
    for row in range(3)
    for column in range(3)
  )
  total = nine + 4 * x[:, 1:-1, 1:-1]
  return x.at[:, 1:-1, 1:-1].set((2 * total + 13) // 26)


def _blend(dull: jax.Array, x: jax.Array, factors: jax.Array) -> jax.Array:
  dull, x = dull.astype(jnp.float32), x.astype(jnp.float32)
  blended = dull + factors[:, None, None, None] * (x - dull)
  return blended.clip(0.0, 255.0).astype(jnp.int32)


def _check(
  images: jax.Array | np.ndarray, num_layers: int, magnitude: int
) -> None:
  shape: Sequence[int] = images.shape
  if images.dtype != jnp.uint8 or len(shape) != 4 or shape[-1] not in (1, 3):
    raise ValueError(
      f'Cannot apply RandAugment to {images.dtype} images of shape {shape}: '
      'its operations are for grey and RGB pixels from 0 to 255. Give '
      'uint8 [batch, h, w, 1 or 3].'
    )
  if num_layers < 0:
    raise ValueError(
      f'Cannot apply {num_layers} layers of RandAugment: it is a number of '
      'operations. Give 0 or more; 0 turns it off.'
    )
  if not 0 <= magnitude <= MAX_MAGNITUDE or magnitude != int(magnitude):
    raise ValueError(
      f'Cannot apply RandAugment with magnitude={magnitude}: the scale has the '
      f'whole numbers from 0 to {MAX_MAGNITUDE}. Give 9 for a mild one, or 15.'
    )
