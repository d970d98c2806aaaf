"""Crops on the host, from images of any size to squares of one size."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from train.data.image import opened

if TYPE_CHECKING:
  from PIL import Image

# Of the area, and of width over height: Inception's.
SCALE = (0.08, 1.0)
RATIO = (3 / 4, 4 / 3)

_ATTEMPTS = 10


def inception_crop(
  generator: np.random.Generator,
  image: np.ndarray,
  size: int,
  scale: tuple[float, float] = SCALE,
  ratio: tuple[float, float] = RATIO,
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
  box = draw_box(generator, image.shape, scale, ratio)
  with opened(image, 'the image') as whole:
    return cut(whole, box, size)


def cut(
  image: 'Image.Image', box: Sequence[int], size: int, mode: str | None = None
) -> np.ndarray:
  """Cuts a rectangle out of an image and resizes it to a square.

  Args:
    image: of 8 bits a channel. Of a JPEG that is not decoded yet only as much
      is, where the rectangle is at least twice the square: JPEGs are decoded
      to a half, a quarter or an eighth of their sides at less cost.
    box: left, top, width and height in pixels.
    size: side of the result in pixels.
    mode: Pillow's name for the result's channels, ``'L'`` or ``'RGB'``; the
      image's own by default.

  Returns:
    uint8 ``[size, size, c]``, bilinear; where pixels become fewer each is the
    mean of those that it covers, weighed by their distance.
  """
  # Here, so that an .npz file can be read where Pillow is not installed.
  from PIL.Image import Resampling

  left, top, width, height = _drafted(image, box, size)
  piece = image.crop((left, top, left + width, top + height))
  # Of the piece, which has fewer pixels.
  piece = piece.convert(mode) if mode else piece
  pixels = np.asarray(piece.resize((size, size), Resampling.BILINEAR), np.uint8)
  return pixels.reshape(size, size, -1)


def _drafted(
  image: 'Image.Image', box: Sequence[int], size: int
) -> Sequence[int]:
  """Lets a JPEG be decoded to fewer pixels; the box in these."""
  columns, rows = image.size
  factor = min(box[2:]) // size
  if factor > 1:
    # Does nothing where the format cannot.
    image.draft(None, (columns // factor, rows // factor))
  if image.size == (columns, rows):
    return box
  across, down = image.size[0] / columns, image.size[1] / rows
  left, right = (round(x * across) for x in (box[0], box[0] + box[2]))
  top, bottom = (round(x * down) for x in (box[1], box[1] + box[3]))
  return left, top, right - left, bottom - top


def central_box(
  shape: Sequence[int], share: float = 1.0, squash: bool = False
) -> tuple[int, int, int, int]:
  """The middle of an image: left, top, width and height in whole pixels.

  Args:
    shape: of the image, height first.
    share: of the image's shorter side that the side of a square is.
    squash: whether the share is of each side: what is left in the middle of
      the whole image once that has been squashed to a square.
  """
  height, width = shape[:2]
  sides = (height, width) if squash else (min(height, width),) * 2
  rows, columns = (max(1, round(share * side)) for side in sides)
  return (width - columns) // 2, (height - rows) // 2, columns, rows


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
