"""Tests of whole images by windows that a network sees one by one.

The windows of all images lie side by side in one batch, so that whoever calls
the network need not know of them: :func:`cut` makes the batch, and
:func:`merge` makes the images' probabilities of what the network gives.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Windows(NamedTuple):
  """Where the windows of an image are.

  Attributes:
    shape: height and width of the images.
    size: height and width of a window.
    places: top and left of each window, in the padded image.
    mirror: whether each window is seen a second time, mirrored.
  """

  shape: tuple[int, int]
  size: tuple[int, int]
  places: tuple[tuple[int, int], ...]
  mirror: bool

  @property
  def padding(self) -> list[tuple[int, int]]:
    """What an image that is smaller than a window is padded by, each side."""
    sides = zip(self.size, self.shape, strict=True)
    spare = [max(window - side, 0) for window, side in sides]
    return [(x // 2, x - x // 2) for x in spare]

  @property
  def views(self) -> int:
    """How often the network sees something of an image."""
    return len(self.places) * (1 + self.mirror)


def starts(length: int, window: int, share: float = 2 / 3) -> list[int]:
  """Where the windows of an axis start.

  Args:
    length: pixels of the axis, at least those of a window.
    window: pixels of a window.
    share: of a window that the next one is moved by, at most; in (0, 1].

  Returns:
    The first pixels; the last window ends with the axis.
  """
  if not 0 < share <= 1:
    raise ValueError(
      f'Cannot move windows by share={share} of their size: 0 would never end, '
      'and above 1 there would be gaps. Give a number above 0 and up to 1.'
    )
  stride = int(np.ceil(window * share))
  count = int(np.ceil((length - window) / stride)) + 1
  return [min(index * stride, length - window) for index in range(count)]


def plan(
  shape: Sequence[int],
  window: int | None,
  share: float = 2 / 3,
  mirror: bool = True,
) -> Windows:
  """Plans the windows of images of one shape.

  Args:
    shape: of the images, height and width first.
    window: side of a window; ``None`` for one window, which is the image.
    share: as :func:`starts` takes it.
    mirror: whether each window is seen a second time, mirrored.

  Returns:
    The windows.

  Raises:
    ValueError: if a number is out of its range.
  """
  height, width = shape[:2]
  if window is None:
    return Windows((height, width), (height, width), ((0, 0),), mirror)
  if window < 1:
    raise ValueError(
      f'Cannot test on windows of window={window} pixels: a network sees at '
      'least one. Give the side that it is trained on, or None for whole '
      'images.'
    )
  tops, lefts = (
    starts(max(side, window), window, share) for side in (height, width)
  )
  places = tuple((top, left) for top in tops for left in lefts)
  return Windows((height, width), (window, window), places, mirror)


def cut(windows: Windows, images: jax.Array) -> jax.Array:
  """Cuts images into their windows.

  Images that are smaller than a window are padded with 0, the mean colour of
  normalised images, as much on either side.

  Args:
    windows: of the images.
    images: float ``[batch, h, w, c]``, normalised.

  Returns:
    float ``[views * batch, window, window, c]``: the first window of each
    image, then the second; and then all of them mirrored.
  """
  images = jnp.pad(images, ((0, 0), *windows.padding, (0, 0)))
  height, width = windows.size
  parts = [
    images[:, top : top + height, left : left + width]
    for top, left in windows.places
  ]
  straight = jnp.concatenate(parts)
  if not windows.mirror:
    return straight
  return jnp.concatenate([straight, straight[:, :, ::-1]])


def merge(windows: Windows, logits: jax.Array) -> jax.Array:
  """Averages the probabilities of windows over those that see a pixel.

  Args:
    windows: of the images.
    logits: float ``[views * batch, window, window, classes]``, of what
      :func:`cut` gives.

  Returns:
    float32 ``[batch, h, w, classes]``; ``argmax`` predicts.
  """
  found = jax.nn.softmax(logits.astype(jnp.float32))
  if windows.mirror:
    straight, mirrored = jnp.split(found, 2)
    found = (straight + mirrored[:, :, ::-1]) / 2
  parts = jnp.split(found, len(windows.places))
  (above, below), (before, behind) = windows.padding
  padded = (
    windows.shape[0] + above + below,
    windows.shape[1] + before + behind,
  )
  total = jnp.zeros((len(parts[0]), *padded, found.shape[-1]), jnp.float32)
  times = np.zeros((1, *padded, 1), np.float32)
  for (top, left), part in zip(windows.places, parts, strict=True):
    rows = slice(top, top + windows.size[0])
    columns = slice(left, left + windows.size[1])
    total = total.at[:, rows, columns].add(part)
    times[:, rows, columns] += 1
  height, width = windows.shape
  mean = total / times
  return mean[:, above : above + height, before : before + width]


def scores(
  score: Callable[[jax.Array], jax.Array],
  images: jax.Array,
  window: int | None,
  *,
  share: float = 2 / 3,
  mirror: bool = True,
) -> jax.Array:
  """Averages the probabilities of a network over windows of the images.

  Args:
    score: from images ``[batch, window, window, c]`` to logits of each pixel
      ``[batch, window, window, classes]``.
    images: float ``[batch, h, w, c]``, normalised.
    window: as :func:`plan` takes it.
    share: likewise.
    mirror: likewise.

  Returns:
    float32 ``[batch, h, w, classes]``; ``argmax`` predicts.
  """
  windows = plan(images.shape[1:3], window, share, mirror)
  return merge(windows, score(cut(windows, images)))
