"""Parts of a data set: its first examples, and a validation part."""

from collections.abc import Mapping, Sequence

import numpy as np

from train.checks import DataError
from train.data.memory import Dataset

_SEED = 0  # of the validation part, the same one in every run


def first_of(name: str, dataset: Dataset, first: Sequence[int]) -> Dataset:
  """The first training and test images of a data set.

  Args:
    name: of the set.
    dataset: the whole set.
    first: how many of each to keep, which in a folder are of its first classes.

  Returns:
    Their data set.

  Raises:
    DataError: when it has not so many.
  """
  sizes = dataset.num_examples, dataset.num_tested
  if len(first) != 2 or not all(
    1 <= count <= size for count, size in zip(first, sizes, strict=False)
  ):
    raise DataError(
      f'Given first={tuple(first)} of {name!r}. It has {sizes[0]} training and'
      f' {sizes[1]} test images. Give two numbers from 1 up to these.'
    )
  train, test = (
    _rows(rows, slice(count))
    for rows, count in zip((dataset.train, dataset.test), first, strict=True)
  )
  return dataset._replace(train=train, test=test)


def held_out(name: str, dataset: Dataset, count: int) -> Dataset:
  """A data set that is tested on a part of its training examples.

  Hyperparameters that are chosen by the score on this part leave the test set
  unseen. The part is drawn at random once: every method and every seed of a run
  has the same one, and the examples that are left keep their order.

  Args:
    name: of the set.
    dataset: the whole set.
    count: how many training examples become the test set, at least 1 and fewer
      than there are.

  Returns:
    A data set whose test examples are the part, without those of `dataset`.

  Raises:
    DataError: when there are too few training examples.
  """
  if not 1 <= count < dataset.num_examples:
    raise DataError(
      f'Given data.validation={count} of {name!r}. It has'
      f' {dataset.num_examples} training images, and some must be left to train'
      f' on. Give a number from 1 to {dataset.num_examples - 1}.'
    )
  order = np.random.default_rng(_SEED).permutation(dataset.num_examples)
  note = (
    f'The test set of {name!r} is not used: the scores are of {count} training'
    ' images that are held out (data.validation).'
  )
  return dataset._replace(
    train=_rows(dataset.train, np.sort(order[count:])),
    test=_rows(dataset.train, np.sort(order[:count])),
    notes=(*dataset.notes, note),
  )


def _rows(
  rows: Mapping[str, np.ndarray], chosen: slice | np.ndarray
) -> dict[str, np.ndarray]:
  return {name: x[chosen] for name, x in rows.items()}
