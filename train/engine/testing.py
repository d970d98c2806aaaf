"""The scores of a training state on test sets."""

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from train.checks import ConfigError
from train.data.tests import FIELDS, TestSet
from train.engine import feed
from train.engine.step import Step, TrainState
from train.tasks import Rows


class Testing:
  """Tests the states of a run.

  Args:
    step: of the run.
    own: the feed of the data set of the run.
    further: test sets beside its own.

  Raises:
    ConfigError: if the task has no use for further sets.
  """

  def __init__(
    self,
    step: Step,
    own: feed.InMemoryFeed | feed.PrefetchingFeed,
    further: Sequence[TestSet] = (),
  ):
    if further and set(step.task.test_fields) != set(FIELDS):
      raise ConfigError(
        f'Given data.tests with task={step.config.task!r}. Their examples have '
        f'{" and ".join(FIELDS)}, which this task does not read. Leave out '
        'data.tests.'
      )
    self._step, self._own, self._further = step, own, further
    self._evaluate = step.devices.jit(step.evaluate)

  def scores(self, state: TrainState) -> dict[str, float]:
    """The scores on the test split of the data set."""
    order, valid = self._order(self._own.num_tested)
    return self._scores(state, self._own.test(order), valid)

  def further_scores(self, state: TrainState) -> dict[str, dict[str, Any]]:
    """The scores on each further set.

    Args:
      state: the training state.

    Returns:
      For each set its scores by name, each the mean over the parts of the set,
      and where there are several parts, 'parts': the scores of each.
    """
    found = {}
    for test_set in self._further:
      parts = {}
      for part in test_set.parts:
        order, valid = self._order(part.size)
        read = functools.partial(test_set.batches, part)
        fed = feed.placed(read, order, self._step.devices)
        parts[part.name] = self._scores(state, fed, valid)
      found[test_set.name] = _mean(list(parts.values()))
      if len(parts) > 1:
        found[test_set.name]['parts'] = parts
    return found

  def _order(self, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions in batches, and which of them count.

    The last batch is filled up with the first examples, which do not count.
    """
    devices = self._step.devices.count
    size = min(self._step.config.test_batch_size, count)
    size = -(-size // devices) * devices
    positions = np.arange(-(-count // size) * size).reshape(-1, size)
    return positions % count, (positions < count).astype(np.float32)

  def _scores(
    self, state: TrainState, batches: Iterable[Rows], valid: np.ndarray
  ) -> dict[str, float]:
    params = state.params if state.average is None else state.average
    # Added up in float64: as many terms as there are batches.
    sums: Any = None
    for rows, valid_here in zip(batches, valid, strict=True):
      found = self._evaluate(
        params,
        state.statistics,
        rows,
        self._step.devices.split(valid_here),
      )
      found = jax.tree.map(np.float64, jax.device_get(found))
      sums = found if sums is None else jax.tree.map(np.add, sums, found)
    return self._step.task.scores(sums)


def _mean(scores: Sequence[Mapping[str, float]]) -> dict[str, Any]:
  return {
    name: float(np.mean([one[name] for one in scores])) for name in scores[0]
  }
