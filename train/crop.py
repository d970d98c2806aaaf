"""The Inception crop, on the host: decoded images of any size to one size."""

import numpy as np
from PIL import Image

_ATTEMPTS = 10


def inception_crop(
  generator: np.random.Generator,
  image: np.ndarray,
  size: int,
  scale: tuple[float, float] = (0.08, 1.0),
  ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> np.ndarray:
  """Cuts a random rectangle out of an image and resizes it to a square.

  Area and logarithm of the ratio are uniform, and so is the place. A rectangle
  that does not fit is drawn again; after ten of them the largest one in the
  middle whose ratio is allowed is taken, as torchvision's
  ``RandomResizedCrop`` does.

  Args:
    generator: what the draw comes from; one of ``(seed, epoch, id)`` makes it
      the same whatever was read before.
    image: uint8 ``[h, w, c]``, ``c`` 1 or 3.
    size: side of the result in pixels.
    scale: least and greatest share of the area, in (0, 1]; with both scale and
      ratio ``(1, 1)`` a square image is resized whole.
    ratio: least and greatest width over height.

  Returns:
    uint8 ``[size, size, c]``, bilinear; where pixels become fewer each is the
    mean of those that it covers, weighed by their distance.

  References:
    Szegedy et al., `Going Deeper with Convolutions
    <https://arxiv.org/abs/1409.4842>`_, 2014
  """
  _check(image, size, scale, ratio)
  left, top, width, height = draw_box(generator, image.shape, scale, ratio)
  cut = image[top : top + height, left : left + width]
  grey = cut.shape[-1] == 1
  resized = Image.fromarray(cut[..., 0] if grey else cut).resize(
    (size, size), Image.Resampling.BILINEAR
  )
  return np.asarray(resized).reshape(size, size, image.shape[-1])


def draw_box(
  generator: np.random.Generator,
  shape: tuple[int, ...],
  scale: tuple[float, float],
  ratio: tuple[float, float],
) -> tuple[int, int, int, int]:
  """Draws the rectangle: left, top, width and height in whole pixels."""
  height, width = shape[:2]
  for _ in range(_ATTEMPTS):
    area = height * width * generator.uniform(*scale)
    wider = np.exp(generator.uniform(*np.log(ratio)))
    columns, rows = (round(np.sqrt(x)) for x in (area * wider, area / wider))
    if 0 < columns <= width and 0 < rows <= height:
      left = generator.integers(width - columns + 1)
      top = generator.integers(height - rows + 1)
      return int(left), int(top), columns, rows
  columns = max(1, min(width, round(height * ratio[1])))
  rows = max(1, min(height, round(width / ratio[0])))
  return (width - columns) // 2, (height - rows) // 2, columns, rows


def _check(
  image: np.ndarray,
  size: int,
  scale: tuple[float, float],
  ratio: tuple[float, float],
) -> None:
  if (
    image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] not in (1, 3)
  ):
    raise ValueError(
      f'Cannot crop {image.dtype} of shape {image.shape}: Pillow resizes grey '
      'and RGB images of 8 bits. Give uint8 [h, w, 1 or 3].'
    )
  if size < 1:
    raise ValueError(
      f'Cannot resize to size={size}: it is a number of pixels. Give 1 or more.'
    )
  if not 0 < scale[0] <= scale[1] <= 1:
    raise ValueError(
      f'Cannot crop with scale={scale}: these are the least and the greatest '
      'share of the area. Give two numbers above 0 and up to 1, rising.'
    )
  if not 0 < ratio[0] <= ratio[1]:
    raise ValueError(
      f'Cannot crop with ratio={ratio}: these are the least and the greatest '
      'width over height. Give two numbers above 0, rising.'
    )
