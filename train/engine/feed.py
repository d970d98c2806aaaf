"""How a step gets its examples: from a set on the devices, or from disk."""

import collections
import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from train.data import dense_stream, memory, stream
from train.data.open import AnySet
from train.parallel.devices import SINGLE_DEVICE, Devices
from train.tasks import Field, Rows

# Batches that are on the devices, or on their way, before they are needed.
_AHEAD = 2


class FullSet(NamedTuple):
  """The rows of all examples, where an id is a position."""

  rows: Rows


class Batch(NamedTuple):
  """The input of a step beside its state.

  Attributes:
    ids: of the examples, int32 ``[batch]``.
    examples: their rows; or the full set, in which the step finds them.
    reference_ids: of the examples of the second gradient source, if there is
      one.
    first: what the first pass found, where it was a call of its own.
  """

  ids: Any
  examples: Rows | FullSet
  reference_ids: Any = None
  first: Any = None

  @property
  def candidates(self) -> Any:
    """The tree that a method selects examples from.

    Ids where there is the full set, so that only selected rows are read.
    """
    if isinstance(self.examples, FullSet):
      return self.ids
    return {**self.examples, 'id': self.ids}

  def rows(self, selected: Any) -> Rows:
    """The rows of what was selected, with their ids."""
    if isinstance(self.examples, FullSet):
      rows = {name: x[selected] for name, x in self.examples.rows.items()}
      return {**rows, 'id': selected}
    return selected


class InMemoryFeed:
  """Feeds a step from a set of which every device has a copy.

  Args:
    dataset: the data set.
    fields: that the task asks for, beside the image.
    devices: of the run.
  """

  splits = False  # a step's examples are the same on all devices

  def __init__(
    self,
    dataset: memory.Dataset,
    fields: Mapping[str, Field],
    devices: Devices = SINGLE_DEVICE,
  ):
    self._devices = devices
    only = lambda rows: {name: rows[name] for name in ('image', *fields)}
    self.full_set = FullSet(devices.copies(only(dataset.train)))
    self._test = only(dataset.test)
    self.num_tested = dataset.num_tested

  def like(self, size: int) -> FullSet:
    """A stand-in, with its shapes, for what `train` yields."""
    del size
    return self.full_set

  def train(
    self, order: np.ndarray, seed: int = 0, epoch: int = 0
  ) -> Iterator[FullSet]:
    """For each row of an order, where the step finds its examples."""
    del seed, epoch
    return itertools.repeat(self.full_set, len(order))

  def test(self, order: np.ndarray) -> Iterator[Rows]:
    """For each row of an order its test examples."""
    for positions in order:
      rows = {name: x[positions] for name, x in self._test.items()}
      yield self._devices.split(rows)


class PrefetchingFeed:
  """Feeds a step from disk, some batches ahead.

  Each process reads what its own devices take of every batch.

  Args:
    dataset: the data set.
    fields: that the task asks for, beside the image.
    devices: of the run.
  """

  splits = True  # a device has its own rows of a step's examples

  def __init__(
    self,
    dataset: stream.Streamed | dense_stream.DenseStream,
    fields: Mapping[str, Field],
    devices: Devices = SINGLE_DEVICE,
  ):
    self._dataset, self._fields, self._devices = dataset, fields, devices
    self.num_tested = dataset.num_tested

  def like(self, size: int) -> Rows:
    """A stand-in, with its shapes, for what `train` yields."""
    image = Field(self._dataset.row_shape, 'uint8', 0)
    return {
      name: jax.ShapeDtypeStruct((size, *field.shape), field.dtype)
      for name, field in {'image': image, **self._fields}.items()
    }

  def train(
    self, order: np.ndarray, seed: int = 0, epoch: int = 0
  ) -> Iterator[Rows]:
    """For each row of an order its examples."""
    size = order.shape[1]
    order = order[:, self._devices.own_rows(size)]
    batches = self._dataset.train_batches(order, seed, epoch)
    return _ahead(
      jax.device_put(self._devices.batch(self._only(rows), size))
      for rows in batches
    )

  def test(self, order: np.ndarray) -> Iterator[Rows]:
    """For each row of an order its test examples."""
    read = lambda order: map(self._only, self._dataset.test_batches(order))
    return placed(read, order, self._devices)

  def _only(self, rows: Rows) -> Rows:
    return {name: rows[name] for name in ('image', *self._fields)}


def placed(
  read: Callable[[np.ndarray], Iterator[Rows]],
  order: np.ndarray,
  devices: Devices,
) -> Iterator[Rows]:
  """Test batches on the devices, some ahead; each process reads its own rows.

  Args:
    read: order -> the examples of each of its rows.
    order: positions, int32 ``[steps, batch]``.
    devices: of the run.

  Returns:
    For each row of the order its examples.
  """
  size = order.shape[1]
  order = order[:, devices.own_rows(size)]
  return _ahead(
    jax.device_put(devices.split(rows, size)) for rows in read(order)
  )


def _ahead(batches: Iterator[Any]) -> Iterator[Any]:
  sent = collections.deque()
  for batch in batches:
    sent.append(batch)
    if len(sent) > _AHEAD:
      yield sent.popleft()
  yield from sent


def make(
  dataset: AnySet,
  fields: Mapping[str, Field],
  devices: Devices = SINGLE_DEVICE,
) -> InMemoryFeed | PrefetchingFeed:
  """Builds the feed of a data set.

  Args:
    dataset: the data set.
    fields: that the task asks for, beside the image.
    devices: of the run.

  Returns:
    The feed.
  """
  if isinstance(dataset, memory.Dataset):
    return InMemoryFeed(dataset, fields, devices)
  return PrefetchingFeed(dataset, fields, devices)
