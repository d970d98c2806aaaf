"""Masks of classes for people: drawn, and for image files."""

import io
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from train.checks import DataError
from train.tasks import pictures
from train.tasks.pictures import Panel
from train.tasks.task import Answer, Files, Rows, View

IGNORED = 255


class Place(NamedTuple):
  """Where an image lies in the array that a network takes.

  Attributes:
    given: height and width of the image as it was given.
    inside: height and width of the image in the upper left of the array.
  """

  given: tuple[int, int]
  inside: tuple[int, int]


def files(names: Sequence[str], fill: Sequence[float]) -> Files:
  """How a trained model says what is where in image files.

  Args:
    names: of the classes.
    fill: of each channel, 0 to 255, beside an image that is smaller than the
      model's: what is there in the data set.

  Returns:
    A line has the share of the pixels of each class; the file is an indexed PNG
    in VOC's colours, of the size of the image.
  """

  def see(pixels, name, shape, options):
    return view(pixels, name, shape, fill, options['resize'])

  def tell(prediction, back, options):
    del options
    mask = restored(prediction['mask'], back)
    return Answer({'classes': shares(mask, names)}, {'.png': indexed(mask)})

  return Files(tell=tell, view=see, writes='masks')


def view(
  pixels: np.ndarray,
  name: str,
  shape: Sequence[int],
  fill: Sequence[float],
  resize: bool,
) -> View:
  """Lays an image into the upper left of an array, as data sets of masks do.

  Args:
    pixels: uint8 ``[height, width, channels]``.
    name: of the file, for an error.
    shape: of the array.
    fill: value of each channel beside the image.
    resize: whether an image that does not fit is made smaller.

  Returns:
    The row, and the `Place` of the image.

  Raises:
    DataError: if it does not fit.
  """
  given = pixels.shape[0], pixels.shape[1]
  share = min(1.0, shape[0] / given[0], shape[1] / given[1])
  inside = given
  if share < 1:
    if not resize:
      raise DataError(
        f'Cannot predict {name}. It has {given[1]}x{given[0]} pixels, and the'
        f' model takes up to {shape[1]}x{shape[0]}. Make it smaller, or have'
        ' it made smaller: --resize.'
      )
    inside = max(1, round(given[0] * share)), max(1, round(given[1] * share))
    pixels = _resized(pixels, inside, smooth=True)
  image = np.empty(shape, np.uint8)
  image[:] = np.rint(fill)
  image[: inside[0], : inside[1]] = pixels
  extent = np.array(inside[::-1], np.int32)
  return View({'image': image, 'extent': extent}, Place(given, inside))


def restored(mask: np.ndarray, place: Place) -> np.ndarray:
  """A mask of an array as a mask of the image that was given."""
  inside = mask[: place.inside[0], : place.inside[1]]
  if place.inside == place.given:
    return inside
  return _resized(inside[..., None], place.given, smooth=False)[..., 0]


def shares(mask: np.ndarray, names: Sequence[str]) -> dict[str, float]:
  """The share of the pixels that each class has, the greatest first.

  Args:
    mask: uint8 ``[height, width]``; what is 255 does not count.
    names: of the classes.

  Returns:
    Shares by name, of the classes that occur.
  """
  counts = np.bincount(mask[mask != IGNORED], minlength=len(names))
  order = [int(n) for n in np.argsort(-counts, kind='stable')]
  total = max(int(counts.sum()), 1)
  return {
    names[number]: round(int(counts[number]) / total, 6)
    for number in order
    if counts[number]
  }


def indexed(mask: np.ndarray) -> bytes:
  """A PNG file whose values are the classes and whose colours are VOC's."""
  from PIL import Image

  picture = Image.fromarray(np.ascontiguousarray(mask))
  picture.putpalette(pictures.palette().tobytes())
  content = io.BytesIO()
  picture.save(content, 'PNG')
  return content.getvalue()


def draw(
  names: Sequence[str], row: Rows, prediction: Mapping[str, Any]
) -> Sequence[Panel]:
  """An image, its mask, and the predicted one.

  Args:
    names: of the classes.
    row: 'image', 'mask' and 'extent' of one example.
    prediction: its 'mask'.

  Returns:
    Three panels.
  """
  width, height = (int(side) for side in row['extent'])
  image, truth, found = (
    np.asarray(x)[:height, :width]
    for x in (row['image'], row['mask'], prediction['mask'])
  )
  image = pictures.colored(image)

  def panel(what, mask):
    seen = ', '.join(list(shares(mask, names)))
    over = pictures.painted(image, mask)
    return Panel(f'{what}: {seen}', pictures.enlarged(over))

  return (
    Panel('image', pictures.enlarged(image)),
    panel('truth', truth),
    panel('predicted', found),
  )


def _resized(
  pixels: np.ndarray, size: Sequence[int], smooth: bool
) -> np.ndarray:
  from PIL import Image

  ways = Image.Resampling
  grey = pixels.shape[-1] == 1
  image = Image.fromarray(pixels[..., 0] if grey else pixels)
  way = ways.BILINEAR if smooth else ways.NEAREST
  resized = np.asarray(image.resize((size[1], size[0]), way))
  return resized[..., None] if grey else resized
