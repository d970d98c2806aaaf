"""What a task is: a row of functions and facts, as a method is."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

import jax

# The examples of a batch: arrays by name, each with the examples as its first
# axis. Raw rows have 'image' (uint8), 'id' and the task's fields; a batch that
# `prepare` made has 'image' as the network takes it and the task's targets.
Rows: TypeAlias = Mapping[str, Any]


class Field(NamedTuple):
  """What a task needs of an example beside its image.

  Attributes:
    shape: of one example's value.
    dtype: of the value.
    fill: the value where there is none, such as outside of the image.
  """

  shape: tuple[int, ...]
  dtype: str
  fill: float


class Score(NamedTuple):
  """The number that tables, curves and the progress bar show.

  Attributes:
    name: of the score, a key of what `Task.scores` returns.
    unit: '%' for a share, which is kept in [0, 1] and shown times 100; or that
      of the score itself, '' for none.
    higher_is_better: whether a greater score is a better one.
  """

  name: str
  unit: str
  higher_is_better: bool

  def shown(self, value: float) -> float:
    """The score in its unit."""
    return 100 * value if self.unit == '%' else value

  def text(self, value: float, digits: int = 2) -> str:
    """The score and its unit."""
    return f'{self.shown(value):.{digits}f} {self.unit}'.rstrip()


class Task(NamedTuple):
  """A task: all that the engine asks of it.

  Attributes:
    fields: the fields of a row by name, beside its image and its id.
    outputs: dataset -> the keyword arguments of the network that say what it
      is to give, such as ``num_classes``.
    prepare: (key or None, rows) -> batch. With a key, augmentation and targets
      for training; without, for the test. Everything in a row is moved alike.
    losses: (outputs, batch) -> float ``[batch]``, one number for each example.
    scalars: (outputs, batch) -> scalars by name, the log's of a training step.
    sums: (outputs, batch, valid) -> a tree of numbers that are added up over
      the test set; ``valid`` is 0 for a row that only fills up its batch.
    scores: the sums, as NumPy arrays -> floats by name: the loss as 'loss',
      and that of `main`.
    main: the score that is shown.
    probabilities: outputs -> float ``[batch, classes]``, where a greater output
      is a greater probability; None where the outputs are of no classes.
  """

  fields: Mapping[str, Field]
  outputs: Callable[[Any], dict[str, Any]]
  prepare: Callable[[jax.Array | None, Rows], Rows]
  losses: Callable[[Any, Rows], jax.Array]
  scalars: Callable[[Any, Rows], dict[str, jax.Array]]
  sums: Callable[[Any, Rows, jax.Array], Any]
  scores: Callable[[Any], dict[str, float]]
  main: Score
  probabilities: Callable[[Any], jax.Array] | None = None
