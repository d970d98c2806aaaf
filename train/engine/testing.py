"""The scores of a training state on test sets."""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from train.checks import ConfigError
from train.data.tests import FIELDS, TestSet
from train.engine import feed, gallery
from train.engine.step import Step, TrainState
from train.tasks import Rows, Task


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
    order, _ = self._order(own.num_tested)
    # As many of each batch, and of all that the config asks for.
    shown = -(-step.config.pictures // len(order)) if _drawn(step.task) else 0
    evaluate = functools.partial(step.evaluate, shown=shown)
    self._evaluate = step.devices.jit(evaluate)
    self._evaluate_further = step.devices.jit(step.evaluate)

  def scores(
    self, state: TrainState
  ) -> tuple[dict[str, float], gallery.Examples | None]:
    """The scores on the test split of the data set, and some of its examples.

    Args:
      state: the training state.

    Returns:
      The scores by name; and as many examples as the config's `pictures`, with
      what is predicted for them, None where there are none.
    """
    order, valid = self._order(self._own.num_tested)
    fed = self._own.test(order)
    scores, examples = self._scores(state, fed, valid, self._evaluate)
    return scores, gallery.joined(examples, self._step.config.pictures)

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
        parts[part.name], _ = self._scores(
          state, fed, valid, self._evaluate_further
        )
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
    self,
    state: TrainState,
    batches: Iterable[Rows],
    valid: np.ndarray,
    evaluate: Callable[..., Any],
  ) -> tuple[dict[str, float], list[gallery.Examples]]:
    # Added up in float64: as many terms as there are batches.
    sums: Any = None
    examples = []
    for rows, valid_here in zip(batches, valid, strict=True):
      found, shown = evaluate(
        *state.tested,
        rows,
        self._step.devices.split(valid_here),
      )
      if shown is not None:
        examples.append(jax.device_get(shown))
      found = jax.tree.map(np.float64, jax.device_get(found))
      sums = found if sums is None else jax.tree.map(np.add, sums, found)
    return self._step.task.scores(sums), examples


def _drawn(task: Task) -> bool:
  return task.draw is not None and task.predict is not None


def _mean(scores: Sequence[Mapping[str, float]]) -> dict[str, Any]:
  return {
    name: float(np.mean([one[name] for one in scores])) for name in scores[0]
  }
