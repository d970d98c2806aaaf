"""Joints of people for people: drawn, and for image files."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from train.checks import DataError
from train.tasks import metrics, pictures, simcc
from train.tasks.pictures import LEFT, MIDDLE, RIGHT, Panel
from train.tasks.task import Answer, Files, Rows, View

# Between the joints of MPII. Pelvis and thorax, which many sets lack, are left
# out: the trunk is drawn from shoulders to hips.
MPII_LIMBS = (
  (0, 1, RIGHT), (1, 2, RIGHT), (10, 11, RIGHT), (11, 12, RIGHT),
  (2, 12, RIGHT), (5, 4, LEFT), (4, 3, LEFT), (15, 14, LEFT), (14, 13, LEFT),
  (3, 13, LEFT), (2, 3, MIDDLE), (12, 13, MIDDLE), (8, 9, MIDDLE),
)  # fmt: skip
MPII_JOINTS = 16

# How much more than the box of a person is cut out, as in MPII's sets.
_MARGIN = 1.25


class Skeleton(NamedTuple):
  """Which joints belong together.

  Attributes:
    pairs: joints that change places in a mirrored image.
    parts: the joints of each part that is scored by itself.
    left_out: joints that are not in the mean score.
    limbs: two joints each, with the colour of the line between them.
  """

  pairs: Sequence[Sequence[int]]
  parts: Mapping[str, Sequence[int]] = MappingProxyType({})
  left_out: Sequence[int] = ()
  limbs: Sequence[tuple[int, int, tuple[int, int, int]]] = ()


MPII = Skeleton(
  simcc.MPII_PAIRS, metrics.MPII_PARTS, metrics.MPII_LEFT_OUT, MPII_LIMBS
)


def skeleton(
  joints: int, pairs: Sequence[Sequence[int]] | None, mirrors: bool
) -> Skeleton:
  """The skeleton of people with so many joints.

  Args:
    joints: how many; 16 are MPII's, unless the pairs are others.
    pairs: joints that change places in a mirrored image (``None``: MPII's).
    mirrors: whether images are mirrored, for which pairs are needed.

  Returns:
    MPII's; or one without parts, all of whose joints are scored alike.

  Raises:
    ValueError: if pairs are missing, or are not of the joints.
  """
  if pairs is None and joints == MPII_JOINTS:
    return MPII
  if pairs is None and mirrors:
    raise ValueError(
      f'Cannot mirror people of {joints} joints without pairs: a left joint'
      ' becomes a right one, and only of the 16 joints of MPII it is known'
      ' which. Give the joints that change places, such as pairs=((1, 2),'
      ' (3, 4)), or flip=False and flip_test=False.'
    )
  pairs = pairs or ()
  whole = all(isinstance(x, Sequence) and len(x) == 2 for x in pairs)
  flat = [joint for pair in pairs for joint in pair] if whole else []
  once = len(set(flat)) == len(flat)
  if not (whole and once and all(joint in range(joints) for joint in flat)):
    raise ValueError(
      f'Cannot exchange {pairs=}: each is of two joints from 0 to'
      f' {joints - 1}, and a joint is in one pair at most. Give such pairs.'
    )
  alike = set(map(frozenset, pairs)) == set(map(frozenset, MPII.pairs))
  return MPII if joints == MPII_JOINTS and alike else Skeleton(pairs)


class Cut(NamedTuple):
  """Where the image that a network takes was cut out of the one given.

  Attributes:
    corner: x and y of its upper left corner, in pixels of the image given.
    scale: pixels of the image given for a pixel, on each axis.
  """

  corner: tuple[float, float]
  scale: tuple[float, float]

  def restore(self, joints: np.ndarray) -> np.ndarray:
    """Points ``[joints, 2]`` as points of the image given."""
    # Pixels have their centres at whole numbers, their corners half before.
    return np.array(self.corner) + (joints + 0.5) * np.array(self.scale) - 0.5


def files(names: Sequence[str]) -> Files:
  """How a trained model says where the joints of a person are.

  Args:
    names: of the joints.

  Returns:
    A line has the joints with x, y and confidence.
  """

  def see(pixels, name, shape, options):
    return view(pixels, name, shape, options.get('box'))

  def tell(prediction, back, options):
    del options
    found = back.restore(np.asarray(prediction['joints'], np.float64))
    joints = [
      {
        'joint': name,
        'x': round(float(x), 2),
        'y': round(float(y), 2),
        'confidence': round(float(confidence), 4),
      }
      for name, (x, y), confidence in zip(
        names, found, prediction['confidence'], strict=True
      )
    ]
    return Answer({'joints': joints})

  return Files(tell=tell, view=see, options=('box',))


def view(
  pixels: np.ndarray,
  name: str,
  shape: Sequence[int],
  box: Sequence[float] | None = None,
) -> View:
  """Cuts a person out of an image.

  An image of the shape that the model takes is left as it is, so that the model
  sees of it what it sees in a test.

  Args:
    pixels: uint8 ``[height, width, channels]``.
    name: of the file, for an error.
    shape: height, width and channels that the model takes.
    box: x and y of the upper left corner, width and height of the box around
      the person, in pixels; of its longer side 1.25 times as much is seen.
      None: all of the image is seen, and nothing else.

  Returns:
    The row, and where it was cut out.

  Raises:
    DataError: if the box is none, or beside the image.
  """
  height, width = pixels.shape[:2]
  left, top, wide, high = box or (0, 0, width, height)
  beside = left >= width or top >= height or left + wide <= 0 or top + high <= 0
  if wide <= 0 or high <= 0 or beside:
    raise DataError(
      f'Cannot predict {name} in the box {tuple(box or ())}. It has'
      f' {width}x{height} pixels, of which the box has none. Give'
      ' --box=LEFT,TOP,WIDTH,HEIGHT of a part of the image.'
    )
  ratio = shape[0] / shape[1]
  side = max(wide, high / ratio) * (_MARGIN if box else 1.0)
  center = left + wide / 2, top + high / 2
  if pixels.shape == tuple(shape):
    return _row(pixels, center, side, Cut((0, 0), (1, 1)))
  corner = center[0] - side / 2, center[1] - side * ratio / 2
  cut = Cut(corner, (side / shape[1], side * ratio / shape[0]))
  image = _cut_out(pixels, corner, (side, side * ratio), shape)
  return _row(image, (shape[1] / 2, shape[0] / 2), shape[1], cut)


def draw(
  limbs: Sequence[tuple[int, int, tuple[int, int, int]]],
  row: Rows,
  prediction: Mapping[str, Any],
) -> Sequence[Panel]:
  """A person with the labelled joints, and with those that are predicted.

  Args:
    limbs: of the skeleton.
    row: 'image', 'joints', 'visible' and 'head_size' of one example.
    prediction: its 'joints'.

  Returns:
    Two panels; joints without a label are on neither. How many are found is
    said where the size of the head is known.
  """
  image = pictures.colored(np.asarray(row['image']))
  truth, visible = np.asarray(row['joints']), np.asarray(row['visible'])
  found = np.asarray(prediction['joints'])
  text, head = 'predicted', row['head_size']
  if np.isfinite(head) and head > 0:
    distance = np.linalg.norm(found - truth, axis=-1)
    near = np.sum(visible & (distance <= 0.5 * head))
    text = f'{text}: {near} of {visible.sum()} joints'
  return (
    Panel('truth', pictures.skeleton(image, truth, visible, limbs)),
    Panel(text, pictures.skeleton(image, found, visible, limbs)),
  )


def _row(image, center, side, back: Cut) -> View:
  row = {
    'image': image,
    'center': np.array(center, np.float32),
    'side': np.array(side, np.float32),
  }
  return View(row, back)


def _cut_out(
  pixels: np.ndarray,
  corner: Sequence[float],
  size: Sequence[float],
  shape: Sequence[int],
) -> np.ndarray:
  """Cuts out a part, black outside of the image, and resizes it."""
  from PIL import Image

  x, y = corner
  whole = Image.fromarray(np.ascontiguousarray(pictures.colored(pixels)))
  # A frame of whole pixels around the part, in which the part is not whole.
  left, top = int(np.floor(x)), int(np.floor(y))
  right, bottom = int(np.ceil(x + size[0])), int(np.ceil(y + size[1]))
  framed = whole.crop((left, top, right, bottom))
  inner = (x - left, y - top, x - left + size[0], y - top + size[1])
  resized = framed.resize(
    (shape[1], shape[0]), Image.Resampling.BILINEAR, box=inner
  )
  return np.asarray(resized)
