"""How the rows of a batch reach a step: from a set on the device, or streamed.

A step takes its examples as `Rows` or finds them by their ids in the `Whole`.
"""

import collections
import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeAlias

import jax
import numpy as np

from train import data, stream

# Batches that are on the device, or on their way, before they are needed.
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
  """Feeds a step from a set that stays on the device."""

  def __init__(self, dataset: data.Dataset):
    self.whole = Whole(
      *jax.device_put((dataset.train_images, dataset.train_labels))
    )
    self._test = dataset.test_images, dataset.test_labels
    self.num_tested = len(dataset.test_images)

  def train(
    self, order: np.ndarray, seed: int = 0, epoch: int = 0
  ) -> Iterator[Examples]:
    """For each row of an order, where the step finds its examples."""
    del seed, epoch
    return itertools.repeat(self.whole, len(order))

  def test(self, order: np.ndarray) -> Iterator[Any]:
    """For each row of an order the test images and their labels."""
    images, labels = self._test
    return ((images[rows], labels[rows]) for rows in order)


class Ahead:
  """Feeds a step from disk, some batches ahead.

  Args:
    dataset: the data set.
    share: number of this process and number of processes. Each reads its share
      of every batch, in order.
    put: sends what it read to the process's devices.
  """

  def __init__(
    self,
    dataset: stream.Streamed,
    share: tuple[int, int] = (0, 1),
    put: Callable[[Any], Any] = jax.device_put,
  ):
    self._dataset, self._share, self._put = dataset, share, put
    self.num_tested = len(dataset.test)

  def train(
    self, order: np.ndarray, seed: int = 0, epoch: int = 0
  ) -> Iterator[Examples]:
    """For each row of an order its examples."""
    order = self._own(order)
    batches = self._dataset.train_batches(order, seed, epoch)
    return self._ahead(
      Rows(*batch, ids) for ids, batch in zip(order, batches, strict=True)
    )

  def test(self, order: np.ndarray) -> Iterator[Any]:
    """For each row of an order the test images and their labels."""
    return self._ahead(self._dataset.test_batches(self._own(order)))

  def _own(self, order):
    index, count = self._share
    return np.split(order, count, axis=1)[index]

  def _ahead(self, batches):
    sent = collections.deque()
    for batch in batches:
      sent.append(self._put(batch))
      if len(sent) > _AHEAD:
        yield sent.popleft()
    yield from sent


def make(dataset: data.Dataset | stream.Streamed) -> Resident | Ahead:
  """What feeds a step from a data set."""
  if isinstance(dataset, stream.Streamed):
    return Ahead(dataset)
  return Resident(dataset)
