"""Estimates the time of a step on a ring of devices, by arithmetic alone."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from train.report import table


class Assumptions(NamedTuple):
  """An imagined machine and network.

  Attributes:
    parameters: the number of float32 parameters.
    compute: seconds for one gradient on one device.
    bandwidth: bytes per second that a device sends.
    latency: seconds for a message to the next device.
  """

  parameters: int
  compute: float
  bandwidth: float
  latency: float


class Work(NamedTuple):
  """The work of a step, as a mean over the steps of a method.

  Attributes:
    gradients: gradients that each device computes.
    copies: copies of the parameters that are averaged over the devices.
  """

  gradients: float
  copies: float


def all_reduce(
  size: float, devices: int, bandwidth: float, latency: float
) -> float:
  """Seconds to average an array on a ring.

  Each device sends 2 (n - 1) messages to its neighbour, of an n-th of the array
  each: half of them to sum, half to spread the sums.

  Args:
    size: bytes of the array.
    devices: n, at least 1.
    bandwidth: bytes per second that a device sends.
    latency: seconds that a message takes besides its bytes.

  Returns:
    Seconds.
  """
  messages = 2 * (devices - 1)
  return messages * (latency + size / devices / bandwidth)


def step(work: Work, devices: int, assumed: Assumptions) -> float:
  """Seconds for a step: its gradients, and then its averages.

  Assumes that nothing overlaps and that a copy is sent as one array.
  """
  copy = all_reduce(
    4 * assumed.parameters, devices, assumed.bandwidth, assumed.latency
  )
  return work.gradients * assumed.compute + work.copies * copy


def markdown(
  works: Mapping[str, Work], devices: Sequence[int], assumed: Assumptions
) -> str:
  """A table of milliseconds per step, also relative to the first row."""
  first = next(iter(works.values()))
  header = ['step', 'gradients', 'copies', *map(str, devices)]
  rows = []
  for name, work in works.items():
    cells = [name, f'{work.gradients:.2f}', f'{work.copies:.2f}']
    for count in devices:
      seconds = step(work, count, assumed)
      ratio = seconds / step(first, count, assumed)
      cells.append(f'{1000 * seconds:.1f} ms, {ratio:.2f}')
    rows.append(cells)
  return table.markdown(header, rows)
