"""Examples of the test set with what is predicted for them, as one picture."""

import importlib.util
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from train.tasks import Panel, Rows, Task, pictures

# Examples of one panel stand side by side, so many in a line.
_COLUMNS = 4


class Examples(NamedTuple):
  """Examples of the test set, each array with the examples as its first axis.

  Attributes:
    rows: as the data set has them.
    predictions: what the task says of them, see `Task.predict`.
    valid: 0 for an example that only filled up its batch.
  """

  rows: Rows
  predictions: Any
  valid: Any


def some(examples: Examples, count: int) -> Examples:
  """So many of the examples, evenly over all of them; traced."""
  total = len(examples.valid)
  places = np.linspace(0, total - 1, min(count, total)).round().astype(int)
  return jax.tree.map(lambda x: x[places], examples)


def joined(parts: Sequence[Examples], count: int) -> Examples | None:
  """Those of several batches, without what filled up the last.

  Args:
    parts: of each batch, on the host.
    count: at most so many of them, evenly over all.

  Returns:
    The examples; None for none.
  """
  if not parts:
    return None
  whole = jax.tree.map(lambda *x: np.concatenate(x), *parts)
  kept = np.flatnonzero(whole.valid > 0)
  return some(jax.tree.map(lambda x: x[kept], whole), count)


def is_due(test: int, last: bool) -> bool:
  """Whether the examples of a test are drawn.

  Those of the tests 1, 2, 4, 8 and so on, and of the last: the files of a run
  stay small, however often it tests.

  Args:
    test: number of the test, from 1.
    last: whether no other one follows.

  Returns:
    Whether they are.
  """
  return last or test & (test - 1) == 0


def draw(task: Task, examples: Examples) -> np.ndarray | None:
  """Draws examples.

  Args:
    task: of the run.
    examples: with their predictions, on the host.

  Returns:
    uint8 ``[height, width, 3]``; None where Pillow is not installed.
  """
  if importlib.util.find_spec('PIL') is None:
    return None
  one: Any = task.draw
  draw_one: Callable[[Rows, Any], Sequence[Panel]] = one
  at = lambda tree, number: jax.tree.map(lambda x: x[number], tree)
  drawn = [
    draw_one(at(examples.rows, number), at(examples.predictions, number))
    for number in range(len(examples.valid))
  ]
  alone = all(len(panels) == 1 for panels in drawn)
  return pictures.sheet(drawn, _COLUMNS if alone else 1)
