"""Times rows in turns, so that drift in the machine's speed cancels."""

import datetime
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import metadata
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np


class Row(Protocol):
  """Anything that takes turns."""

  @property
  def gradients(self) -> float:
    """Gradients taken so far, in units of the whole batch."""
    ...

  def turn(self, steps: int) -> float:
    """Runs so many steps to their end.

    Returns:
      The seconds that they took, not counting compilation.
    """
    ...


class Turns(NamedTuple):
  """The turns of a row: seconds and gradients, one number per round."""

  seconds: list[float]
  gradients: list[float]


class Ratio(NamedTuple):
  """The ratio of two costs, with the quartiles over the rounds."""

  value: float
  low: float
  high: float


class Rounds(NamedTuple):
  """How many turns each row takes.

  Attributes:
    least: the rounds that are always made.
    most: the rounds after which the measurement ends in any case.
    within: the width, relative to the value, that the interval of every row
      must have for the measurement to end; see `interval`.
  """

  least: int
  most: int
  within: float = 0.03


def interleave(
  rows: Mapping[str, Row],
  rounds: Rounds,
  steps: int,
  is_settled: Callable[[dict[str, Turns]], bool] = lambda turns: False,
  progress: Callable[[Iterable[int]], Iterable[int]] = iter,
  pause: float = 0.05,
) -> dict[str, Turns]:
  """Lets every row take a turn in every round: A B C A B C ...

  Args:
    rows: the rows by name, warmed up.
    rounds: number of turns of each row.
    steps: steps in a turn.
    is_settled: turns -> whether they suffice, asked after each round from the
      last of `rounds.least` on.
    progress: wraps the rounds, for a progress bar.
    pause: seconds before a turn.

  Returns:
    The turns of each row.
  """
  turns = {name: Turns([], []) for name in rows}
  for done in progress(range(rounds.most)):
    if done >= rounds.least and is_settled(turns):
      break
    for name, row in rows.items():
      before = row.gradients
      # The threads of PyTorch spin for a while after their last work and would
      # slow the next row.
      time.sleep(pause)
      turns[name].seconds.append(row.turn(steps))
      turns[name].gradients.append(row.gradients - before)
  return turns


def over(turns: Turns, reference: Turns) -> Ratio:
  """The cost of a row relative to another.

  Args:
    turns: the turns of the row.
    reference: the turns of the other row, in the same rounds.

  Returns:
    The median over the rounds of the ratio within a round. If the turns differ
    in their work, the ratio of the means, because a median would be the cost of
    the more frequent kind of turn. The quartiles are always over the rounds.
  """
  rounds = ratio(turns.seconds, reference.seconds)
  if alike(turns):
    return rounds
  means = np.mean(turns.seconds) / np.mean(reference.seconds)
  return rounds._replace(value=float(means))


def efficiency(
  row: Turns, sgd: Turns, forward: Turns, forwards: float, steps: int
) -> float:
  """The ideal cost of a row over the measured one.

  Args:
    row: the turns of the row.
    sgd: the turns of SGD, in the same rounds.
    forward: the turns of a forward pass, in the same rounds.
    forwards: the forward passes per step of the row beside its gradients.
    steps: steps in a turn.
  """
  ideal = float(np.sum(row.gradients)) / (len(row.gradients) * steps)
  if forwards:
    ideal += forwards * over(forward, sgd).value
  return ideal / over(row, sgd).value


def interval(
  estimate: Callable[..., float], *turns: Turns, resamples: int = 400
) -> tuple[float, float]:
  """The 95 % interval of an estimate, by resampling the rounds.

  The quartiles of the rounds say how much one round differs from another, and
  they stay as they are however many rounds there are. This interval says how
  well the estimate is known, and it narrows with the number of rounds. Work
  that differs from turn to turn cancels if the estimate divides by it.

  Args:
    estimate: as many `Turns` as are given -> the number.
    *turns: of some rows, in the same rounds.
    resamples: how often the rounds are drawn anew.

  Returns:
    The ends of the interval.
  """
  generator = np.random.default_rng(0)
  count = len(turns[0].seconds)
  found = []
  for _ in range(resamples):
    drawn = generator.integers(count, size=count)
    found.append(
      estimate(
        *(
          Turns(*(np.take(numbers, drawn).tolist() for numbers in one))
          for one in turns
        )
      )
    )
  low, high = np.percentile(found, (2.5, 97.5))
  return float(low), float(high)


def alike(turns: Turns) -> bool:
  """Whether every turn did the same work."""
  return bool(np.ptp(turns.gradients) < 1e-6 * max(turns.gradients, default=1))


def seconds_per_step(turns: Turns, steps: int) -> float:
  """Seconds of one step: a median, or a mean if the turns differ in work."""
  center = statistics.median if alike(turns) else statistics.mean
  return center(turns.seconds) / steps


def steps_in(seconds: float, per_step: float, most: int = 100) -> int:
  """The number of steps in a turn of so many seconds, from 1 to `most`."""
  return max(1, min(most, round(seconds / per_step)))


def peak_bytes(compiled: Iterable[Any]) -> int | None:
  """The peak memory of the largest of some compiled functions.

  Args:
    compiled: compiled functions of JAX.

  Returns:
    Bytes of arguments, results and temporaries, with donated buffers counted
    once; None if the backend does not report them.
  """
  analyses = [function.memory_analysis() for function in compiled]
  if not analyses or None in analyses:
    return None
  return max(
    analysis.temp_size_in_bytes
    + analysis.argument_size_in_bytes
    + analysis.output_size_in_bytes
    - analysis.alias_size_in_bytes
    for analysis in analyses
  )


def ratio(numbers: Sequence[float], references: Sequence[float]) -> Ratio:
  """The median of the ratios of pairs, with their quartiles."""
  low, middle, high = np.percentile(
    np.divide(numbers, references), (25, 50, 75)
  )
  return Ratio(float(middle), float(low), float(high))


def environment() -> dict[str, Any]:
  """The machine and the package versions, to store with a measurement."""
  versions: dict[str, str | None] = {'python': platform.python_version()}
  for package in ('jax', 'jaxlib', 'optax', 'flax', 'torch'):
    try:
      versions[package] = metadata.version(package)
    except metadata.PackageNotFoundError:
      versions[package] = None
  return {
    'date': datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'),
    'device': jax.devices()[0].device_kind,
    'backend': jax.default_backend(),
    'cores': len(os.sched_getaffinity(0)),
    'processor': platform.processor() or platform.machine(),
    'versions': versions,
  }
