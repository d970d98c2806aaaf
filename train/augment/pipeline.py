"""Batched augmentation on the device, from uint8 images to model inputs.

The order is the usual one of PyTorch programs: pad and crop, flip, RandAugment,
normalise, cut out. Every image has its own draw.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from train.augment import geometry
from train.augment.geometry import PAD_MODES, Fill
from train.augment.randaugment import randaugment
from train.checks import ConfigError

# Of each channel, as torchvision normalises for networks of ImageNet.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@functools.partial(
  jax.jit,
  static_argnames=(
    'pad',
    'fill',
    'flip',
    'randaugment_layers',
    'randaugment_magnitude',
    'cutout',
    'cutout_probability',
  ),
)
def augment(
  key: jax.Array,
  images: jax.Array,
  *,
  pad: int = 0,
  fill: Fill = 'zero',
  flip: bool = False,
  randaugment_layers: int = 0,
  randaugment_magnitude: int = 9,
  cutout: int = 0,
  cutout_probability: float = 1.0,
  mean: Sequence[float] | np.ndarray | jax.Array,
  std: Sequence[float] | np.ndarray | jax.Array,
) -> jax.Array:
  """Augments and normalises a batch of images.

  An option that is off compiles to nothing, and turning one on leaves the draws
  of the others as they were.

  Args:
    key: PRNG key of this batch; the same key gives the same result.
    images: uint8 ``[batch, h, w, c]``.
    pad: pixels added on each side before a crop of the old size at an offset
      uniform over the ``(2 * pad + 1) ** 2`` positions; 0 is off.
    fill: what the padding holds: ``'zero'`` (a raw pixel of 0, as PyTorch's
      ``RandomCrop``) or ``'reflect'`` (as google-research/sam), which needs
      ``pad`` below the image's sides.
    flip: mirrors an image left to right with probability 1/2.
    randaugment_layers: random operations on an image; 0 is off.
    randaugment_magnitude: their strength, 0 to 30, see
      `train/augment/randaugment.py`.
    cutout: side of the square that is set to 0 after normalisation; 0 is off.
      Its centre is uniform over the image, so that a part may fall outside.
    cutout_probability: probability that an image is cut, in [0, 1].
    mean: per channel mean ``[c]`` in [0, 1], see :func:`statistics`.
    std: per channel standard deviation ``[c]``, above 0.

  Returns:
    float32 ``[batch, h, w, c]``.

  References:
    DeVries and Taylor, `Improved Regularization of Convolutional Neural
    Networks with Cutout <https://arxiv.org/abs/1708.04552>`_, 2017
  """
  _check(images, pad, fill, cutout, cutout_probability)
  crop_key, flip_key, center_key, cut_key = jax.random.split(key, 4)
  if pad or flip:
    motion = geometry.draw(crop_key, flip_key, images.shape, pad, flip)
    images = geometry.move(motion, images, fill)
  if randaugment_layers:
    images = randaugment(
      # A key that the split has not given.
      jax.random.fold_in(key, 4),
      images,
      randaugment_layers,
      randaugment_magnitude,
    )
  x = normalise(images, mean, std)
  if cutout and cutout_probability:
    x = _cut_out(center_key, cut_key, x, cutout, cutout_probability)
  return x


def from_options(
  options: Mapping[str, Any], dataset: Any
) -> Callable[[jax.Array | None, jax.Array], jax.Array]:
  """Builds the augmentation of a config.

  Args:
    options: the arguments of `augment`; where mean and std are None or left
      out, they are computed from the data set's images.
    dataset: the data set.

  Returns:
    (key, images) -> the augmented images; (None, images) -> the images,
    normalised only.

  Raises:
    ConfigError: if an option cannot be used with these images.
  """
  options = dict(options)
  mean, std = normalisation(
    options.pop('mean', None), options.pop('std', None), dataset
  )

  def augmented(key: jax.Array | None, images: jax.Array) -> jax.Array:
    if key is None:
      return normalise(images, mean, std)
    return augment(key, images, mean=mean, std=std, **options)

  # What is refused is refused here, not in the first step.
  try:
    jax.eval_shape(
      augmented,
      jax.random.key(0),
      jax.ShapeDtypeStruct((1, *dataset.image_shape), jnp.uint8),
    )
  except (TypeError, ValueError) as error:
    raise ConfigError(f'In augment: {error}') from error
  return augmented


def normalisation(
  mean: Sequence[float] | None, std: Sequence[float] | None, dataset: Any
) -> tuple[np.ndarray, np.ndarray]:
  """The given constants, or what the images of a data set have.

  Args:
    mean: each channel's, of pixels in [0, 1]; None to compute both.
    std: likewise.
    dataset: the data set.

  Returns:
    Both as float32 ``[c]``.

  Raises:
    ConfigError: if the constants do not fit the images.
  """
  if mean is None and std is None:
    return statistics(dataset.sample())
  channels = dataset.image_shape[-1]
  values = [np.asarray(x, np.float32).ravel() for x in (mean, std)]
  whole = all(len(x) == channels and np.all(x <= 1) for x in values)
  if not (whole and np.all(values[0] >= 0) and np.all(values[1] > 0)):
    raise ConfigError(
      f'Given augment.mean={mean} and augment.std={std}. The images have '
      f'{channels} channels, each of which needs both, of pixels in [0, 1]. '
      'Divide what is of pixels up to 255, or leave out both to have them '
      'computed.'
    )
  return values[0], values[1]


def normalise(
  images: jax.Array,
  mean: Sequence[float] | np.ndarray | jax.Array,
  std: Sequence[float] | np.ndarray | jax.Array,
) -> jax.Array:
  """Maps uint8 ``[..., h, w, c]`` to float32 ``(images / 255 - mean) / std``.

  Args:
    images: uint8 ``[..., h, w, c]``.
    mean: per channel mean ``[c]`` in [0, 1].
    std: per channel standard deviation ``[c]``, above 0.

  Returns:
    float32 of the images' shape.
  """
  shape = (1,) * (images.ndim - 1) + (-1,)
  mean = jnp.asarray(mean, jnp.float32).reshape(shape)
  std = jnp.asarray(std, jnp.float32).reshape(shape)
  return images.astype(jnp.float32) * (1.0 / (255.0 * std)) - mean / std


def statistics(
  images: np.ndarray, chunk: int = 1024
) -> tuple[np.ndarray, np.ndarray]:
  """Computes the mean and standard deviation that normalise a data set.

  The sums are integers and so exact, whatever the order and the chunk.

  Args:
    images: uint8 ``[n, h, w, c]`` on the host, the training split.
    chunk: images converted at a time; bounds the memory.

  Returns:
    float32 ``mean`` and ``std``, each ``[c]``, of pixels in [0, 1]. A constant
    channel gets a ``std`` of 1, and so becomes 0 when normalised.
  """
  width, channels = images.shape[-2:]
  total = np.zeros((width, channels), np.int64)
  squares = np.zeros((width, channels), np.int64)
  for start in range(0, len(images), chunk):
    pixels = images[start : start + chunk].reshape(-1, width, channels)
    pixels = pixels.astype(np.int64)
    total += pixels.sum(axis=0)
    squares += np.square(pixels).sum(axis=0)
  count = images.size // channels
  mean = total.sum(axis=0) / count
  variance = squares.sum(axis=0) / count - np.square(mean)
  # A constant channel leaves the rounding of the subtraction, either sign.
  std = np.where(variance > 1e-6, np.sqrt(np.maximum(variance, 0.0)), 255.0)
  return (mean / 255).astype(np.float32), (std / 255).astype(np.float32)


def _cut_out(
  center_key: jax.Array,
  cut_key: jax.Array,
  x: jax.Array,
  side: int,
  probability: float,
) -> jax.Array:
  batch, height, width, _ = x.shape
  row_key, column_key = jax.random.split(center_key)

  def inside(key: jax.Array, size: int) -> jax.Array:
    low = jax.random.randint(key, (batch, 1), 0, size) - side // 2
    position = jnp.arange(size)[None]
    return (position >= low) & (position < low + side)

  rows = inside(row_key, height)[:, :, None, None]
  columns = inside(column_key, width)[:, None, :, None]
  cut = jax.random.bernoulli(cut_key, probability, (batch, 1, 1, 1))
  return jnp.where(rows & columns & cut, 0.0, x)


def _check(
  images: jax.Array,
  pad: int,
  fill: Fill,
  cutout: int,
  cutout_probability: float,
) -> None:
  if images.dtype != jnp.uint8 or images.ndim != 4:
    raise ValueError(
      f'Cannot augment {images.dtype} images of shape {images.shape}: pixels '
      'are read as integers from 0 to 255. Give uint8 [batch, h, w, c].'
    )
  if fill not in PAD_MODES:
    raise ValueError(
      f'Cannot pad with fill={fill!r}: the padding has two forms. Give one of '
      f'{", ".join(map(repr, PAD_MODES))}.'
    )
  if pad < 0 or cutout < 0:
    raise ValueError(
      f'Cannot augment with pad={pad}, cutout={cutout}: these are numbers of '
      'pixels. Give 0 or more; 0 turns the option off.'
    )
  if fill == 'reflect' and pad >= min(images.shape[1:3]):
    raise ValueError(
      f'Cannot reflect {pad} pixels of images of shape {images.shape}: only '
      f'{min(images.shape[1:3]) - 1} lie beyond the edge. Give a smaller pad, '
      "or fill='zero'."
    )
  if not 0.0 <= cutout_probability <= 1.0:
    raise ValueError(
      f'Cannot cut out with cutout_probability={cutout_probability}: a '
      'probability lies between 0 and 1. Give 0.5 to cut every second image.'
    )
