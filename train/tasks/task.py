"""A task as a row of functions and facts, as a method is."""

import inspect
import numbers
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

import jax
import numpy as np

from train import checks
from train.checks import Config, ConfigError
from train.tasks.pictures import Panel

# The examples of a batch: arrays by name, each with the examples as its first
# axis. Raw rows have 'image' (uint8), 'id' and the task's fields; a batch that
# `prepare` made has 'image' as the network takes it and the task's targets.
Rows: TypeAlias = Mapping[str, Any]

# So many classes are listed one by one.
_SHOWN = 10


class Field(NamedTuple):
  """A value that a task needs of each example, beside the image.

  Attributes:
    shape: of one example's value.
    dtype: of the value.
    fill: the value where there is none, such as outside of the image.
    places_image: whether the image that a network sees depends on it, such as
      on the box of a person; an image alone then cannot be predicted.
  """

  shape: tuple[int, ...]
  dtype: str
  fill: float
  places_image: bool = False


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


class View(NamedTuple):
  """An image as a network takes it, and the way back.

  Attributes:
    row: its row: 'image', and those fields that the image itself does not give.
    back: what the task needs to speak of the image that was given.
  """

  row: Rows
  back: Any = None


class Answer(NamedTuple):
  """What a trained model says of an image.

  Attributes:
    line: what a line of JSON has of it.
    files: the contents of files by the suffix that their name gets, such as
      '.png'.
  """

  line: Mapping[str, Any]
  files: Mapping[str, bytes] = MappingProxyType({})


class Files(NamedTuple):
  """How a trained model says what is in images of any kind.

  Attributes:
    tell: (prediction, back, options) -> Answer: from the `predict` of one
      example and its `View.back`.
    view: (pixels, name, shape, options) -> View: from an image as its file has
      it, uint8 ``[height, width, channels]``, to one of the shape that the
      model takes; the name is that of the file, for an error. It raises
      `DataError` where that cannot be. None reads as the run read its own
      images.
    options: the names of the options that both read, beside 'resize', which
      every task has.
    writes: what files an answer has, in a word or two; '' for none.
  """

  tell: Callable[[Any, Any, Mapping[str, Any]], Answer]
  view: (
    Callable[[np.ndarray, str, Sequence[int], Mapping[str, Any]], View] | None
  ) = None
  options: tuple[str, ...] = ()
  writes: str = ''


class Task(NamedTuple):
  """A task: all that the engine asks of it.

  Attributes:
    fields: the fields of a row by name, beside its image and its id.
    outputs: dataset -> the keyword arguments of the network that say what it
      is to give, such as ``num_classes``.
    prepare: (key or None, rows) -> batch. With a key, augmentation and targets
      for training; without, for the test. Everything in a row is moved alike.
    losses: (outputs, batch) -> float ``[batch]``, one number for each example.
    losses_alone: likewise, where the method compares examples: each is of its
      example alone, whatever else is in the batch. None where `losses` are so.
    scalars: (outputs, batch) -> scalars by name, the log's of a training step.
    sums: (outputs, batch, valid) -> a tree of numbers that are added up over
      the test set; ``valid`` is 0 for a row that only fills up its batch.
    scores: the sums, as NumPy arrays -> floats by name: 'loss', the score of
      `main`, and any others.
    main: the score that is shown.
    normalisation: the mean and the standard deviation, each float32 ``[c]`` of
      pixels in [0, 1], that images are normalised with; as the config's
      `augment.mean` and `augment.std` they give the same task. None where
      nothing is normalised.
    seen: dataset -> what its training examples are of, in a few words, such as
      the classes with their counts; None for none.
    probabilities: outputs -> float ``[batch, classes]``, where a greater output
      is a greater probability; None where the outputs are of no classes.
    predict: (outputs, batch) -> a tree of arrays ``[n, ...]``, what the task
      says of each example of a test batch, such as a mask; None where there is
      nothing to say of one.
    draw: (row, prediction) -> panels: an example of the test set, as the data
      set has it, and what `predict` says of it, on the host; None where there
      is nothing to look at.
    files: how a trained model says what is in image files; None where it
      cannot.
    test_fields: what a row of a further test set has beside its image and its
      id, in place of `fields`; ``prepare`` without a key and ``sums`` take such
      rows too. Empty where the task is tested on its own test split alone.
    comparable: whether there are such losses; False where the config asks for
      others by name.
  """

  fields: Mapping[str, Field]
  outputs: Callable[[Any], dict[str, Any]]
  prepare: Callable[[jax.Array | None, Rows], Rows]
  losses: Callable[[Any, Rows], jax.Array]
  scalars: Callable[[Any, Rows], dict[str, jax.Array]]
  sums: Callable[[Any, Rows, jax.Array], Any]
  scores: Callable[[Any], dict[str, float]]
  main: Score
  normalisation: tuple[Any, Any] | None = None
  probabilities: Callable[[Any], jax.Array] | None = None
  seen: Callable[[Any], str] | None = None
  predict: Callable[[Any, Rows], Any] | None = None
  draw: Callable[[Rows, Any], Sequence[Panel]] | None = None
  files: Files | None = None
  test_fields: tuple[str, ...] = ()
  losses_alone: Callable[[Any, Rows], jax.Array] | None = None
  comparable: bool = True


def whole(name: str, value: Any, minimum: int) -> None:
  """Refuses an option that is no whole number from a minimum on."""
  if not isinstance(value, numbers.Integral) or value < minimum:
    raise ValueError(
      f'Cannot use {name}={value!r}: it is a count. Give a whole number from'
      f' {minimum}.'
    )


def fact(dataset: Any, name: str) -> Any:
  """What is known of a data set.

  Args:
    dataset: the data set.
    name: of the fact, such as 'num_classes'.

  Returns:
    Its value.

  Raises:
    ConfigError: if the data set does not have it.
  """
  if name not in dataset.facts:
    known = ', '.join(dataset.facts) or 'nothing'
    raise ConfigError(
      f'Given a data set of which {known} is known. The task asks for {name}. '
      'Use a data set of this task, or another task.'
    )
  return dataset.facts[name]


def names(dataset: Any, name: str, count: int) -> Sequence[str]:
  """The names of classes or joints.

  Args:
    dataset: the data set.
    name: of the fact that has them, such as 'class_names'.
    count: how many there are.

  Returns:
    The names, which are the numbers from 0 where the data set has none.
  """
  return tuple(dataset.facts.get(name) or map(str, range(count)))


def counted(counts: Sequence[int], names: Sequence[Any]) -> str:
  """Counts with their names, abbreviated where there are many.

  Args:
    counts: of each class.
    names: of the classes.

  Returns:
    Such as ``ant: 12, bee: 9``.
  """
  pairs = [f'{name}: {n:,}' for name, n in zip(names, counts, strict=True)]
  if len(pairs) <= _SHOWN:
    return ', '.join(pairs)
  order = sorted(range(len(pairs)), key=lambda number: counts[number])
  return (
    f'{", ".join(pairs[: _SHOWN // 2])} and {len(pairs) - _SHOWN // 2:,} more,'
    f' least {pairs[order[0]]}, most {pairs[order[-1]]}'
  )


# Of the config, and what leaves it out: what only classification uses.
_CLASSIFICATION_ONLY = {
  'loss': 'softmax',
  'label_smoothing': 0,
  'data.label_noise': 0,
  'augment.pad': 0,
  'augment.flip': False,
  'augment.randaugment_layers': 0,
  'augment.cutout': 0,
  'augment.mixup': 0,
}


def build(row: Callable[..., Task], config: Config, dataset: Any) -> Task:
  """Builds a task from the section of a config that has its name.

  The channels' mean and standard deviation are those of the config's `augment`
  where it has them. A value that only classification uses is refused.

  Args:
    row: (dataset, **options) -> task.
    config: the config of the run.
    dataset: the data set.

  Returns:
    The task.

  Raises:
    ConfigError: if an option cannot be used.
  """
  for name, off in _CLASSIFICATION_ONLY.items():
    value = config
    for part in name.split('.'):
      value = value[part]
    if value != off:
      raise ConfigError(
        f'Given {name}={value!r} with task={config.task!r}. Only '
        'classification uses it. Leave it out, and see the section '
        f'{config.task!r} of the config for what this task has.'
      )
  section = config.get(config.task)
  options = section.to_dict() if section else {}
  known = set(inspect.signature(row).parameters) - {'dataset', 'mean', 'std'}
  for option in options:
    checks.pick(f'the option of {config.task}', option, dict.fromkeys(known))
  for name in ('mean', 'std'):
    if config.augment[name] is not None:
      options[name] = config.augment[name]
  try:
    return row(dataset, **options)
  except ValueError as error:
    raise ConfigError(f'In {config.task}: {error}') from error
