"""Draws examples with what a task says of them, for people to look at.

Everything is on the host: uint8 arrays ``[height, width, 3]``.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
  from PIL import ImageDraw

# A picture is enlarged until its shorter side has so many pixels.
_SIDE = 144
_GAP, _LINE = 6, 14
# How much of a pixel is the colour of its class.
_OPACITY = 0.6
# A joint or a limb of the person's right, of the left, and in between.
RIGHT, LEFT, MIDDLE = (230, 60, 60), (60, 110, 240), (250, 200, 40)


class Panel(NamedTuple):
  """A picture with a line of text.

  Attributes:
    text: of the line; '' for none.
    image: uint8 ``[height, width, 3]``.
  """

  text: str
  image: np.ndarray


def palette() -> np.ndarray:
  """VOC's colours of 256 classes, uint8 ``[256, 3]``."""
  numbers = np.arange(256)
  colors = np.zeros((256, 3), int)
  # Three bits of a number at a time, one for each channel, the last ones first.
  for place in range(8):
    for channel in range(3):
      bit = (numbers >> (3 * place + channel)) & 1
      colors[:, channel] |= bit << (7 - place)
  return colors.astype(np.uint8)


def colored(image: np.ndarray) -> np.ndarray:
  """An image as one of 3 channels; of other than 1 or 3 the first is shown."""
  if image.shape[-1] not in (1, 3):  # such as of a satellite: the first one
    image = image[..., :1]
  return np.broadcast_to(image, (*image.shape[:2], 3))


def enlarged(image: np.ndarray) -> np.ndarray:
  """Enlarges an image by a whole factor, to be looked at.

  Args:
    image: ``[height, width, ...]``.

  Returns:
    The image, of a shorter side of 144 pixels or a little more.
  """
  times = factor(image.shape)
  return image.repeat(times, axis=0).repeat(times, axis=1)


def factor(shape: Sequence[int]) -> int:
  """How many times :func:`enlarged` enlarges an image of this shape."""
  return -(-_SIDE // min(shape[:2]))


def painted(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
  """Lays the colours of a mask over an image.

  Args:
    image: uint8 ``[height, width, 3]``.
    mask: uint8 ``[height, width]``; 0 is the background, which is left as it
      is, and 255 does not count, which is dark.

  Returns:
    uint8 of the image's shape.
  """
  colors = palette()
  colors[255] = 0
  over = np.where((mask == 0)[..., None], image, colors[mask])
  mixed = (1 - _OPACITY) * image + _OPACITY * over.astype(np.float32)
  return np.rint(mixed).astype(np.uint8)


def skeleton(
  image: np.ndarray,
  joints: np.ndarray,
  visible: np.ndarray,
  limbs: Sequence[tuple[int, int, tuple[int, int, int]]] = (),
) -> np.ndarray:
  """Draws the joints of a person, and lines between them, on an image.

  Args:
    image: uint8 ``[height, width, 3]``.
    joints: float ``[joints, 2]``, x and y in pixels of the image.
    visible: bool ``[joints]``: which of them are drawn.
    limbs: pairs of joints with the colour of the line between them.

  Returns:
    uint8, enlarged.
  """
  from PIL import Image, ImageDraw

  times = factor(image.shape)
  picture = Image.fromarray(np.ascontiguousarray(enlarged(image)))
  draw = ImageDraw.Draw(picture)
  # Pixels have their centres at whole numbers.
  places = [tuple(place) for place in ((joints + 0.5) * times).tolist()]
  for one, other, color in limbs:
    if visible[one] and visible[other]:
      draw.line([*places[one], *places[other]], color, width=3)
  for (x, y), drawn in zip(places, visible, strict=True):
    if drawn:
      draw.ellipse((x - 3, y - 3, x + 3, y + 3), 'white', 'black')
  return np.asarray(picture)


def sheet(examples: Sequence[Sequence[Panel]], columns: int = 1) -> np.ndarray:
  """Puts pictures of examples into one.

  Args:
    examples: the panels of each, which stand side by side.
    columns: how many examples are side by side.

  Returns:
    uint8 ``[height, width, 3]``.
  """
  from PIL import Image, ImageDraw

  count = max(map(len, examples))
  width = max(panel.image.shape[1] for some in examples for panel in some)
  # Of each line; images differ in height.
  heights = [
    max(panel.image.shape[0] for some in line for panel in some)
    for line in _lines(examples, columns)
  ]
  tops = np.cumsum([_GAP // 2, *(x + _LINE + _GAP for x in heights)]).tolist()
  across = columns * count * (width + _GAP) + _GAP
  picture = Image.new('RGB', (across, tops[-1]), 'white')
  draw = ImageDraw.Draw(picture)
  for number, panels in enumerate(examples):
    line, column = divmod(number, columns)
    for place, panel in enumerate(panels):
      x = _GAP + (column * count + place) * (width + _GAP)
      y = tops[line]
      draw.text((x, y), fitting(draw, panel.text, width), 'black')
      image = np.ascontiguousarray(panel.image)
      picture.paste(Image.fromarray(image), (x, y + _LINE))
  return np.asarray(picture)


def _lines(
  examples: Sequence[Sequence[Panel]], columns: int
) -> list[Sequence[Sequence[Panel]]]:
  """The examples of each line."""
  starts = range(0, len(examples), columns)
  return [examples[start : start + columns] for start in starts]


def fitting(draw: 'ImageDraw.ImageDraw', text: str, width: int) -> str:
  """A text as Pillow's own font can write it, cut to a width in pixels."""
  # Pillow's own font has no letters beyond Latin ones.
  text = text.encode('latin-1', 'replace').decode('latin-1')
  if draw.textlength(text) <= width:
    return text
  while text and draw.textlength(text + '...') > width:
    text = text[:-1]
  return text + '...'
