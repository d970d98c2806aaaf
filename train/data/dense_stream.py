"""Masks and people that do not fit in memory: read and cut as they are needed.

What a batch holds depends on the ids of its examples alone. The images of a
batch have one size: masks and their images lie in the upper left of arrays as
large as the largest; people are cut out of their images with as much around
them as the scales and turns of training can reach.
"""

import dataclasses
import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np

from train.data import digest, image, mpii, stream, voc

Rows: TypeAlias = dict[str, np.ndarray]

# A person at the greatest scale, turned by any angle, is within a square so
# many times as large as the person's box.
_REACH = 1.25 * math.sqrt(2)

# So many images tell the mean colour.
_SAMPLE = 100


class Split(Protocol):
  """A split on disk, as rows."""

  @property
  def fields(self) -> tuple[str, ...]:
    """The names of an example's values beside its image."""
    ...

  def __len__(self) -> int: ...

  def __call__(self, ids: np.ndarray) -> Rows:
    """Reads some examples by their positions."""
    ...

  def values(self, field: str) -> np.ndarray | None:
    """A field of all examples, None where it must be read first."""
    ...

  def hashed(self, found: Any) -> None:
    """Adds to a hash what is cheap to read."""
    ...


class DenseStream(NamedTuple):
  """A data set on disk, see `train/data/stream.py` for one with labels.

  Attributes:
    train: the training split; the position of an example is its id.
    test: the test split.
    facts: about the set.
    image_shape: height, width and channels of what the network sees.
    row_shape: of an image in a row.
    workers: processes that read, 0 for threads of this one.
    notes: what of the set is rarely meant, and what to do about it.
  """

  train: Split
  test: Split
  facts: Mapping[str, Any]
  image_shape: tuple[int, ...]
  row_shape: tuple[int, ...]
  workers: int = 0
  notes: Sequence[str] = ()

  num_examples = stream.Streamed.num_examples
  num_tested = stream.Streamed.num_tested

  @property
  def fields(self) -> tuple[str, ...]:
    """The names of an example's values beside its image."""
    return self.train.fields

  def values(self, field: str) -> np.ndarray | None:
    """A field of all training examples, None where it must be read first."""
    return self.train.values(field)

  def digest(self) -> str:
    """A hash of the lists and of 100 files of each split."""
    found = hashlib.sha256(repr(sorted(self.facts.items())).encode())
    for split in (self.train, self.test):
      found.update(f'split {len(split)}'.encode())
      split.hashed(found)
    return found.hexdigest()[: digest.DIGITS]

  def train_batches(
    self, order: np.ndarray, seed: int, epoch: int
  ) -> Iterator[Rows]:
    """Reads training batches; seed and epoch change nothing.

    Args:
      order: ids, int32 [steps, batch].
      seed: of the run.
      epoch: its number.

    Returns:
      For each step its examples by name.
    """
    del seed, epoch
    return stream.batches(self.train, order, self.workers)

  def test_batches(self, order: np.ndarray) -> Iterator[Rows]:
    """Reads test batches, as `train_batches` does."""
    return stream.batches(self.test, order, self.workers)


@dataclasses.dataclass(frozen=True)
class Scenes:
  """Images with masks, in arrays of one size.

  Attributes:
    split: where they are.
    shape: height and width of the arrays.
    colour: of what is outside of an image, uint8 ``[3]``.
  """

  split: voc.Split
  shape: tuple[int, int]
  colour: np.ndarray
  fields = ('mask', 'extent')

  def __len__(self) -> int:
    return len(self.split)

  def __call__(self, ids: np.ndarray) -> Rows:
    """Reads some examples."""
    examples = [self.split[int(number)] for number in ids]
    return padded(examples, self.shape, self.colour)

  def values(self, field: str) -> None:
    """None: masks are read with their images."""
    del field

  def hashed(self, found: Any) -> None:
    """Adds the list and some of the files to a hash."""
    for name in self.split.names:
      found.update(name.encode())
    for number in _spread(len(self)):
      for content in self.split.encoded(number):
        found.update(content)


@dataclasses.dataclass(frozen=True)
class Cut:
  """People, each cut out of its image to a square of one size.

  The square has the person's box in its middle and `_REACH` times its side;
  what is outside of the image is black. Joints, box and head are in pixels of
  the square.

  Attributes:
    split: where they are.
    side: pixels of the square.
  """

  split: mpii.Split
  side: int
  fields = mpii.People._fields

  def __len__(self) -> int:
    return len(self.split)

  def __call__(self, ids: np.ndarray) -> Rows:
    """Reads some people."""
    images, boxes = [], []
    for number in map(int, ids):
      pixels, box = self._cut(number)
      images.append(pixels)
      boxes.append(box)
    people = mpii.People(*(x[ids] for x in self.split.people))
    left, top, factor = np.array(boxes, np.float32).T

    def moved(points: np.ndarray) -> np.ndarray:
      shape = (-1,) + (1,) * (points.ndim - 2)
      corner = np.stack([left, top], -1).reshape(*shape, 2)
      scale = factor.reshape(*shape, 1)
      # The pixels' edges are at halves.
      return ((points - corner + 0.5) * scale - 0.5).astype(np.float32)

    people = people._replace(
      joints=moved(people.joints),
      center=moved(people.center),
      side=people.side * factor,
      head_size=people.head_size * factor,
    )
    return {'image': np.stack(images), **people._asdict()}

  def values(self, field: str) -> np.ndarray:
    """A field of everybody, in pixels of the images."""
    return getattr(self.split.people, field)

  def hashed(self, found: Any) -> None:
    """Adds the people and some of the images to a hash."""
    for name in self.split.files:
      found.update(name.encode())
    for values in self.split.people:
      found.update(np.ascontiguousarray(values).tobytes())
    for number in _spread(len(self)):
      found.update(self.split.encoded(number))

  def _cut(self, number: int) -> tuple[np.ndarray, tuple[float, ...]]:
    """The square, and its left, top and pixels for one of the image."""
    people = self.split.people
    x, y = people.center[number]
    length = max(1, math.ceil(float(people.side[number]) * _REACH))
    left, top = (math.floor(float(c) - (length - 1) / 2) for c in (x, y))
    # Here, as in `train/data/crop.py`.
    from PIL.Image import Resampling

    encoded = self.split.encoded(number)
    with image.opened(encoded, self.split.name(number)) as opened:
      # Pillow fills up with black what is outside.
      box = (left, top, left + length, top + length)
      square = opened.convert('RGB').crop(box)
      square = square.resize((self.side, self.side), Resampling.BILINEAR)
    return np.asarray(square, np.uint8), (left, top, self.side / length)


def scenes(path: str, splits: Sequence[str], workers: int) -> DenseStream:
  """Opens a data set in VOC's layout.

  Args:
    path: of the folder or zip, see :func:`train.data.voc.find`.
    splits: names of the training and of the test split.
    workers: processes that read, 0 for threads.

  Returns:
    Rows as :func:`train.data.dense.segmentation` has them. The largest image
    tells the size of all; 100 of the training images tell the colour outside,
    and whether there is a note on their masks.

  Raises:
    DataError: if it cannot be read.
  """
  found = [voc.find(path, name) for name in splits]
  sizes = [split.size(n) for split in found for n in range(len(split))]
  height, width = (int(side) for side in np.max(sizes, axis=0))
  sample = [found[0][n] for n in _spread(len(found[0]))]
  notes = tuple(voc.notes('training', voc.classes_in(sample)))
  colour = mean_colour([example.image for example in sample])
  train, test = (Scenes(split, (height, width), colour) for split in found)
  shape = (height, width, 3)
  return DenseStream(train, test, facts(colour), shape, shape, workers, notes)


def people(
  path: str, size: int, workers: int, splits: Sequence[str] = ('train', 'valid')
) -> DenseStream:
  """Opens a data set in MPII's layout, whose images may be of any size.

  Args:
    path: of the folder or zip, see :func:`train.data.mpii.find`.
    size: side of what the network sees of a person, in pixels.
    workers: processes that read, 0 for threads.
    splits: names of the training and of the test split.

  Returns:
    Rows of 'image' and of the fields of :class:`train.data.mpii.People`.

  Raises:
    DataError: if it cannot be read.
  """
  found = [mpii.find(path, name) for name in splits]
  side = math.ceil(size * _REACH)
  train, test = (Cut(split, side) for split in found)
  row_shape = (side, side, 3)
  return DenseStream(
    train,
    test,
    mpii.facts(found[0].people),
    (size, size, 3),
    row_shape,
    workers,
    mpii.notes(*found),
  )


def facts(colour: np.ndarray) -> dict[str, Any]:
  """What a data set knows of its masks.

  Args:
    colour: outside of its images, uint8 ``[3]``.

  Returns:
    'num_classes', 'class_names', and 'colour' as numbers.
  """
  return {
    'num_classes': len(voc.CLASSES),
    'class_names': voc.CLASSES,
    'colour': tuple(colour.tolist()),
  }


def padded(
  examples: Sequence[voc.Example], shape: tuple[int, ...], colour: np.ndarray
) -> Rows:
  """Images and masks in the upper left of arrays of one size.

  Args:
    examples: images and masks.
    shape: height and width of the arrays.
    colour: outside of an image; its mask is `voc.IGNORED` there.

  Returns:
    'image', 'mask' and 'extent', the width and height of each image.
  """
  count = len(examples)
  images = np.empty((count, *shape, 3), np.uint8)
  images[:] = colour
  masks = np.full((count, *shape), voc.IGNORED, np.uint8)
  extents = np.zeros((count, 2), np.int32)
  for number, (pixels, mask) in enumerate(examples):
    height, width = mask.shape
    images[number, :height, :width] = pixels
    masks[number, :height, :width] = mask
    extents[number] = width, height
  return {'image': images, 'mask': masks, 'extent': extents}


def mean_colour(images: Sequence[np.ndarray]) -> np.ndarray:
  """The mean of the images' mean colours, uint8 ``[3]``."""
  means = [pixels.reshape(-1, 3).mean(axis=0) for pixels in images]
  return np.round(np.mean(means, axis=0)).astype(np.uint8)


def _spread(count: int) -> list[int]:
  """Positions over a split."""
  some = min(_SAMPLE, count)
  return np.linspace(0, count - 1, some).astype(int).tolist()
