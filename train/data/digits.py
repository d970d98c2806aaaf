"""The digits of scikit-learn: 1,797 images of 8x8 pixels, in the package."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from train.checks import DataError
from train.data.image import Encoded

NAME = 'digits'
_TEST_EVERY = 5  # the first of so many examples is in the test split


@dataclasses.dataclass(frozen=True)
class Split:
  """A split, example by example."""

  images: np.ndarray
  labels: np.ndarray

  def __len__(self) -> int:
    return len(self.labels)

  def __getitem__(self, number: int) -> Encoded:
    return Encoded(
      self.images[number], int(self.labels[number]), f'digit {number}'
    )


class Digits(NamedTuple):
  """The digits, as `train.data.tfds.Prepared` has a set."""

  train: Split
  test: Split
  num_classes: int = 10
  class_names: Sequence[str] = tuple('0123456789')
  shape: tuple[int, int, int] = (8, 8, 1)

  def records(self) -> tuple[Split, Split]:
    """The two splits, example by example."""
    return self.train, self.test

  def arrays(self) -> list[tuple[np.ndarray, np.ndarray]]:
    """Images and labels of the two splits."""
    return [(split.images, split.labels) for split in self.records()]


def find() -> Digits:
  """Reads the digits.

  Returns:
    The set: 1,437 training and 360 test examples in scikit-learn's order, their
    pixels stretched from 0 to 16 to 0 to 255.

  Raises:
    DataError: when scikit-learn is not installed.
  """
  # Imported here: only who asks for the digits needs it.
  try:
    from sklearn import datasets
  except ImportError as error:
    raise DataError(
      "Cannot load 'digits'. The images are part of scikit-learn, which is not"
      " installed. Run pip install 'sam_optax[train]'."
    ) from error
  pixels, labels = datasets.load_digits(return_X_y=True)
  images = np.round(pixels * 255 / 16).astype(np.uint8).reshape(-1, 8, 8, 1)
  is_test = np.arange(len(labels)) % _TEST_EVERY == 0
  train, test = (Split(images[own], labels[own]) for own in (~is_test, is_test))
  return Digits(train, test)
