"""How the rows of a batch reach a step: from a set on the devices, or streamed.

A step takes its examples as `Rows` or finds them by their ids in the `Whole`.
"""

import collections
import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple, TypeAlias

import jax
import numpy as np

from train.data import memory, stream
from train.parallel.devices import ONE, Devices

# Batches that are on the devices, or on their way, before they are needed.
_AHEAD = 2


class Rows(NamedTuple):
  """The examples of one batch."""

  images: Any  # uint8 [batch, height, width, channels]
  labels: Any  # int32 [batch]
  ids: Any  # int32 [batch]

  def batch(self, ids: jax.Array) -> 'Rows':
    """What a method chooses from: the examples themselves."""
    del ids
    return self

  def rows(self, batch: 'Rows') -> 'Rows':
    """What was chosen."""
    return batch


class Whole(NamedTuple):
  """All examples, where an id is a position."""

  images: jax.Array
  labels: jax.Array

  def batch(self, ids: jax.Array) -> jax.Array:
    """What a method chooses from: ids, so that only the chosen are read."""
    return ids

  def rows(self, batch: jax.Array) -> Rows:
    """The examples of what was chosen."""
    return Rows(self.images[batch], self.labels[batch], batch)


Examples: TypeAlias = Rows | Whole


class Resident:
  """Feeds a step from a set of which every device has a copy."""

  splits = False  # a step's examples are the same on all devices

  def __init__(self, dataset: memory.Dataset, devices: Devices = ONE):
    self._devices = devices
    self.whole = Whole(
      *devices.copies((dataset.train_images, dataset.train_labels))
    )
    self._test = dataset.test_images, dataset.test_labels
    self.num_tested = dataset.num_tested

  def like(self, size: int) -> Examples:
    """What `train` yields for batches of a size, for its shapes."""
    del size
    return self.whole

  def train(
    self, order: np.ndarray, seed: int = 0, epoch: int = 0
  ) -> Iterator[Examples]:
    """For each row of an order, where the step finds its examples."""
    del seed, epoch
    return itertools.repeat(self.whole, len(order))

  def test(self, order: np.ndarray) -> Iterator[Any]:
    """For each row of an order the test images and their labels."""
    images, labels = self._test
    for rows in order:
      yield self._devices.split((images[rows], labels[rows]))


class Ahead:
  """Feeds a step from disk, some batches ahead.

  Each process reads what its own devices take of every batch.
  """

  splits = True  # a device has its own rows of a step's examples

  def __init__(self, dataset: stream.Streamed, devices: Devices = ONE):
    self._dataset, self._devices = dataset, devices
    self.num_tested = dataset.num_tested

  def like(self, size: int) -> Examples:
    """What `train` yields for batches of a size, for its shapes."""
    shape = (size, *self._dataset.image_shape)
    ids = jax.ShapeDtypeStruct((size,), np.int32)
    return Rows(jax.ShapeDtypeStruct(shape, np.uint8), ids, ids)

  def train(
    self, order: np.ndarray, seed: int = 0, epoch: int = 0
  ) -> Iterator[Examples]:
    """For each row of an order its examples."""
    size = order.shape[1]
    order = order[:, self._devices.own_rows(size)]
    batches = self._dataset.train_batches(order, seed, epoch)
    return _ahead(
      jax.device_put(self._devices.batch(Rows(*batch, ids), size))
      for ids, batch in zip(order, batches, strict=True)
    )

  def test(self, order: np.ndarray) -> Iterator[Any]:
    """For each row of an order the test images and their labels."""
    size = order.shape[1]
    order = order[:, self._devices.own_rows(size)]
    return _ahead(
      jax.device_put(self._devices.split(batch, size))
      for batch in self._dataset.test_batches(order)
    )


def _ahead(batches: Iterator[Any]) -> Iterator[Any]:
  sent = collections.deque()
  for batch in batches:
    sent.append(batch)
    if len(sent) > _AHEAD:
      yield sent.popleft()
  yield from sent


def make(
  dataset: memory.Dataset | stream.Streamed, devices: Devices = ONE
) -> Resident | Ahead:
  """What feeds a step on some devices from a data set."""
  if isinstance(dataset, stream.Streamed):
    return Ahead(dataset, devices)
  return Resident(dataset, devices)
