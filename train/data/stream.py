"""Data sets that do not fit in memory: read, decoded and cropped as needed.

The content of a batch depends on the ids of its examples and on (seed, epoch),
not on earlier batches or the number of workers. So a run resumes at any
position of an epoch by starting there, and one of several processes asks for
its own columns of the order.
"""

import dataclasses
import gc
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np

from train.checks import DataError
from train.data import crop, digest, image

# The published sides of ImageNet are 224 pixels out of 256.
_CENTRAL_SHARE = 224 / 256

# How many images tell the mean and the standard deviation of the pixels.
_SAMPLE = 1000
_READ_BATCH = 100

# Keeps the draws of crops apart from the order's, which use (seed, epoch).
_CROP = 1

# By name: 'image', uint8 [batch, height, width, channels], and 'label', int32.
Rows: TypeAlias = dict[str, np.ndarray]


class Source(Protocol):
  """A split of a set on disk: a folder's, or one prepared by TFDS."""

  def __len__(self) -> int: ...

  def __getitem__(self, number: int) -> image.Encoded: ...


class ImageSpec(NamedTuple):
  """How an image is read: cropped, resized, converted."""

  shape: tuple[int, int, int]
  resized: bool  # or else the images have this shape already
  inception: bool  # cropped at random in training
  least_area: float = crop.SCALE[0]  # of a random crop, as a share
  squash: bool = False  # what is not cropped at random, see crop.central_box

  def read(
    self, encoded: image.Encoded, generator: np.random.Generator | None
  ) -> np.ndarray:
    """An image as uint8 of this shape.

    Args:
      encoded: the image as it is stored.
      generator: of a random crop; None for the middle of the image.
    """
    if not self.resized:
      pixels = image.read(encoded.image, encoded.name)
      if pixels.shape != self.shape:
        raise DataError(
          f'Cannot use {encoded.name}. Its shape is {pixels.shape} and that of'
          f' the first image is {self.shape}, where a model takes one. Give'
          ' data.size to have them resized.'
        )
      return pixels
    with image.opened(encoded.image, encoded.name) as opened:
      shape = (opened.height, opened.width)
      if generator is None or not self.inception:
        share = _CENTRAL_SHARE if self.inception else 1.0
        box = crop.central_box(shape, share, self.squash)
      else:
        scale = (self.least_area, crop.SCALE[1])
        box = crop.draw_box(generator, shape, scale, crop.RATIO)
      mode = 'L' if self.shape[2] == 1 else 'RGB'
      return crop.cut(opened, box, self.shape[0], mode)


def image_spec(
  options: Any,
  shape: tuple[int, int, int],
  *,
  resized: bool,
  whole: bool = False,
) -> ImageSpec:
  """How a config's images are read.

  Args:
    options: the config's `data` section, see `train/config.py`.
    shape: height, width and channels of what is read.
    resized: whether images are cut and resized to it.
    whole: whether all of the middle square is read, or with 'squash' all of the
      image, where `data.crop` would leave 7/8 of its sides.
  """
  return ImageSpec(
    shape,
    resized,
    options.crop == 'inception' and not whole,
    crop.SCALE[0] if options.crop_area is None else options.crop_area,
    options.test_crop == 'squash',
  )


class Streamed(NamedTuple):
  """A data set on disk.

  An example's position in `train` is its id, as it is in `data.Dataset`.
  """

  name: str
  train: Source
  test: Source
  num_classes: int
  spec: ImageSpec
  workers: int = 0  # processes; 0 for threads of this one
  class_names: Sequence[str] = ()
  notes: Sequence[str] = ()  # what is rarely meant, and what to do about it

  @property
  def fields(self) -> tuple[str, ...]:
    """The names of an example's values beside its image."""
    return ('label',)

  @property
  def facts(self) -> dict[str, Any]:
    """Facts about the set."""
    names = {'class_names': self.class_names} if self.class_names else {}
    return {'num_classes': self.num_classes, **names}

  @property
  def num_examples(self) -> int:
    """Size of the training set."""
    return len(self.train)

  @property
  def num_tested(self) -> int:
    """Size of the test set."""
    return len(self.test)

  @property
  def image_shape(self) -> tuple[int, ...]:
    """Height, width and channels."""
    return self.spec.shape

  @property
  def row_shape(self) -> tuple[int, ...]:
    """The shape of an image in a row."""
    return self.spec.shape

  def sample(self) -> np.ndarray:
    """The images that tell how to normalise: some, spread over the set."""
    count = min(_SAMPLE, len(self.train))
    ids = np.linspace(0, len(self.train) - 1, count).astype(np.int32)
    rows = read_all(self.train, self.spec, self.num_classes, ids)
    return rows['image']

  def values(self, field: str) -> np.ndarray | None:
    """A field of all training examples, None where it must be read first."""
    return getattr(self.train, f'{field}s', None)

  def digest(self) -> str:
    """A hash of what is cheap to read, see `train/data/digest.py`."""
    return digest.of_sources(self.train, self.test, self.facts)

  def train_batches(
    self, order: np.ndarray, seed: int, epoch: int
  ) -> Iterator[Rows]:
    """Reads training batches.

    Args:
      order: ids, int32 [steps, batch]; of several processes, each gives the
        columns that it trains on.
      seed: of the run; with the epoch and its id, of an example's crop.
      epoch: its number, from 0.

    Yields:
      For each step its examples by name: 'image', uint8 [batch, height, width,
      channels], and 'label', int32 [batch].
    """
    read = _Read(self.train, self.spec, self.num_classes, (seed, epoch))
    return batches(read, order, self.workers)

  def test_batches(self, order: np.ndarray) -> Iterator[Rows]:
    """Reads test batches, without anything random.

    Args:
      order: positions in the test split, int32 [steps, batch].

    Yields:
      As `train_batches`.
    """
    read = _Read(self.test, self.spec, self.num_classes)
    return batches(read, order, self.workers)


def read_all(
  source: Source, spec: ImageSpec, num_classes: int, ids: np.ndarray
) -> Rows:
  """Reads some of a split into memory, without anything random.

  Args:
    source: the split.
    spec: how its images are read.
    num_classes: number of classes.
    ids: which ones.

  Returns:
    The examples by name.
  """
  rows = np.resize(ids, (-(-len(ids) // _READ_BATCH), _READ_BATCH))
  images = np.empty((len(ids), *spec.shape), np.uint8)
  labels = np.empty(len(ids), np.int32)
  start = 0
  for some in batches(_Read(source, spec, num_classes), rows, workers=0):
    stop = min(start + _READ_BATCH, len(ids))
    images[start:stop] = some['image'][: stop - start]
    labels[start:stop] = some['label'][: stop - start]
    start = stop
  return {'image': images, 'label': labels}


@dataclasses.dataclass(frozen=True)
class _Read:
  """Reads a batch; what a worker process is sent."""

  source: Source
  spec: ImageSpec
  num_classes: int
  draw: tuple[int, ...] | None = None  # (seed, epoch), of random crops

  def __call__(self, ids: np.ndarray) -> Rows:
    images = np.empty((len(ids), *self.spec.shape), np.uint8)
    labels = np.empty(len(ids), np.int32)
    for row, number in enumerate(map(int, ids)):
      encoded = self.source[number]
      if not 0 <= encoded.label < self.num_classes:
        raise DataError(
          f'Cannot use {encoded.name}. Its label is {encoded.label}, where'
          f' with {self.num_classes} classes it must be from 0 to'
          f' {self.num_classes - 1}. Leave it out, or number the classes from'
          ' 0.'
        )
      generator = None
      if self.draw is not None:
        generator = np.random.default_rng((_CROP, *self.draw, number))
      images[row] = self.spec.read(encoded, generator)
      labels[row] = encoded.label
    return {'image': images, 'label': labels}


def batches(
  read: Callable[[np.ndarray], Rows], order: np.ndarray, workers: int
) -> Iterator[Rows]:
  """Reads the rows of an order ahead of their use, in their order.

  Args:
    read: ids -> the examples of a batch; a worker process is sent it.
    order: ids, int32 [steps, batch].
    workers: how many processes read, 0 for threads.

  Yields:
    For each step its examples.
  """
  # Imported here, for a set in memory does without.
  import grain
  from absl import flags

  # Pillow decodes and resizes without Python's lock, so threads do for some
  # cores. A row is one element of Grain's: rows are what workers share out, so
  # that their number does not show in what a row holds.
  threads = 1 if workers else min(16, os.cpu_count() or 1)
  rows = (
    grain.MapDataset.source(list(order))
    .map(read)
    .to_iter_dataset(
      grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads + 1)
    )
  )
  if workers:
    # Grain hands its own flags on to a worker, and a program without absl has
    # none that are parsed.
    if not flags.FLAGS.is_parsed():
      flags.FLAGS.mark_as_parsed()
    rows = rows.mp_prefetch(
      grain.MultiprocessingOptions(
        num_workers=min(workers, len(order)), per_worker_buffer_size=2
      )
    )
  # Out of the memory that is shared with a worker, which then is free.
  copied = lambda batch: {name: np.array(x) for name, x in batch.items()}
  iterator = iter(rows)
  try:
    yield from map(copied, iterator) if workers else iterator
  finally:
    iterator.close()
    del iterator
    if workers:
      # The last batches hang in a cycle of Grain's, and what is shared still
      # when Python ends is reported as leaked.
      gc.collect()
