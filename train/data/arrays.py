"""Arrays of images and labels: whether a network can be trained on them.

Arrays that cannot be right are refused, with the line of NumPy that mends them.
Arrays that are rarely right are noted: the program shows the notes of a data
set once, as warnings.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from train.checks import DataError

# More channels than colour and alpha are rarely meant to be channels.
_CHANNELS = 4
# Thinner than this, a grey image is mostly a colour image that was flattened.
_LONG_SIDE = 16
# Of 255: pixels that all stay below were mostly scaled another way.
_DARK = 32
# From so many images on, a class for each of them is worth a note.
_MANY = 10


class Arrays(NamedTuple):
  """A split: its images, and their classes' numbers."""

  images: np.ndarray
  labels: np.ndarray


def checked(what: str, arrays: Arrays, num_classes: int | None) -> Arrays:
  """Checks a split and gives it its final types.

  Args:
    what: it is called in an error.
    arrays: images uint8 ``[n, h, w]`` or ``[n, h, w, c]``, and labels, integers
      ``[n]``.
    num_classes: of the training split; None if its labels alone tell, in which
      every number up to the greatest must then occur.

  Returns:
    Images uint8 ``[n, h, w, c]`` and labels int32 ``[n]``.

  Raises:
    DataError: when they cannot be trained on.
  """
  images, labels = arrays
  _check_images(what, images)
  _check_labels(what, labels)
  if len(images) != len(labels) or not images.size:
    raise DataError(
      f'Cannot use {what}. It has {len(images)} images and {len(labels)}'
      ' labels, where every image needs one label and there must be an'
      f' image. Give as many of both.{_moved(images, labels)}'
    )
  low, high = int(labels.min()), int(labels.max())
  if low >= 0 and num_classes is None:
    _check_gaps(what, labels)
  if low < 0 or (num_classes is not None and high >= num_classes):
    classes = high + 1 if num_classes is None else num_classes
    raise DataError(
      f'Cannot use {what}. Its labels run from {low} to'
      f' {high}, where with {classes} classes in the train split'
      f' they must run from 0 to {classes - 1}. Number the classes of'
      ' both splits from 0, and leave out images of no class.'
    )
  if images.ndim == 3:
    images = images[..., None]
  return Arrays(images, labels.astype(np.int32))


def notes(
  train: Arrays, test: Arrays, num_classes: int, names: Sequence[str] = ()
) -> tuple[str, ...]:
  """Says what of a data set is rarely meant.

  Args:
    train: the training split, as `checked` returns it.
    test: the test split.
    num_classes: number of classes.
    names: of the classes.

  Returns:
    A sentence or more for each thing, with what to do.
  """
  found = []
  for split, images in (('training', train.images), ('test', test.images)):
    flat = images.reshape(len(images), -1)
    blank = np.flatnonzero(flat.min(axis=1) == flat.max(axis=1))
    if len(blank) and flat.shape[1] > 1:
      found.append(
        f'{len(blank):,} of {len(flat):,} {split} images are of one colour,'
        f' the first of them image {blank[0]}. Look at them, and leave out'
        ' those that were not read or saved properly.'
      )
  high = int(train.images.max())
  if high < _DARK:
    found.append(
      f'The pixels of the training images run from {train.images.min()} to'
      f' {high}, of 255. Images that are predicted later must be scaled alike.'
      ' Store pixels of 0 to 255 unless this is meant.'
    )
  other = int(test.images.max())
  if max(high, other) > 8 * max(1, min(high, other)):
    found.append(
      f'The greatest pixel is {high} in the training images and {other} in the'
      ' test images. Scale both splits alike.'
    )
  if np.array_equal(train.images, test.images):
    found.append(
      'The test images are the training images, so that the test says nothing'
      ' of new images. Keep images for the test that are not trained on.'
    )
  return (*found, *label_notes(train.labels, test.labels, num_classes, names))


def label_notes(
  train: np.ndarray,
  test: np.ndarray,
  num_classes: int,
  names: Sequence[str] = (),
) -> tuple[str, ...]:
  """The notes that the labels alone tell.

  Args:
    train: labels of the training split, from 0 to below `num_classes`.
    test: labels of the test split.
    num_classes: number of classes.
    names: of the classes.

  Returns:
    As `notes`.
  """
  found = []
  for split, labels in (('training', train), ('test', test)):
    counts = np.bincount(labels, minlength=num_classes)
    absent = [
      str(names[number]) if names else str(number)
      for number in np.flatnonzero(counts == 0).tolist()
    ]
    if absent:
      found.append(
        f'{len(absent)} of {num_classes} classes have no {split} images:'
        f' {shortened(absent)}. Add images of them, or leave the classes out.'
      )
  if len(train) >= _MANY and len(np.unique(train)) == len(train):
    found.append(
      f'Each of the {len(train):,} training images has a class of its own. Give'
      ' labels that are classes, and not numbers of images.'
    )
  return tuple(found)


def check_different(name: str, images: np.ndarray) -> None:
  """Refuses training images that are all the same.

  Args:
    name: of the set.
    images: uint8 ``[n, h, w, c]``.

  Raises:
    DataError: if they are.
  """
  if all(np.array_equal(image, images[0]) for image in images[1:]):
    raise DataError(
      f'Cannot use {name!r}. Its {len(images)} training images are all the'
      f' same, with pixels from {images[0].min()} to {images[0].max()}, so that'
      ' nothing tells the classes apart. Check how they were written: floats'
      ' from 0 to 1 become 0 when they are cast to uint8.'
    )


def check_several(name: str, num_classes: int) -> None:
  """Refuses a set whose training images are all of one class.

  Args:
    name: of the set.
    num_classes: of its training images.

  Raises:
    DataError: if there are less than two.
  """
  if num_classes < 2:
    raise DataError(
      f'Cannot use {name!r}. Its training images are all of one class, so that '
      'there is nothing to tell apart. Use a set of two classes or more.'
    )


def shortened(words: Sequence[str], most: int = 8) -> str:
  """Some words with commas, the first ones of many."""
  if len(words) <= most:
    return ', '.join(words)
  return f'{", ".join(words[: most - 1])} and {len(words) - most + 1:,} more'


def _check_images(what: str, images: np.ndarray) -> None:
  if images.dtype != np.uint8 or images.ndim not in (3, 4):
    raise DataError(
      f'Cannot use {what}. Its images are {images.dtype} of shape'
      f' {images.shape}{_range(images)}, where uint8 of shape [n, height,'
      ' width] or [n, height, width, channels] is needed. Convert them to'
      f' values of 0 to 255, channels last. {_converted(images)}'.rstrip()
    )
  if images.ndim == 4 and _channels_first(images.shape):
    raise DataError(
      f'Cannot use {what}. The shape of its images is {images.shape}, which'
      f' would be images of {images.shape[3]} channels: the channels seem to'
      ' come first. Put them last: numpy.moveaxis(images, 1, -1).'
    )
  sides = sorted(images.shape[1:3])
  if images.ndim == 3 and sides[0] <= _CHANNELS and sides[1] >= _LONG_SIDE:
    raise DataError(
      f'Cannot use {what}. The shape of its images is {images.shape}, which'
      f' would be grey images of {images.shape[1]}x{images.shape[2]} pixels:'
      ' they seem to be flattened. Give them their height and width with'
      ' reshape, and put the channels last; to grey images as they are add an'
      ' axis for the channel: images[..., None].'
    )


def _check_labels(what: str, labels: np.ndarray) -> None:
  if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
    raise DataError(
      f'Cannot use {what}. Its labels are {labels.dtype} of shape'
      f' {labels.shape}, where integers of shape [n] are needed. Give each'
      f' example the number of its class. {_numbered(labels)}'.rstrip()
    )


def _check_gaps(what: str, labels: np.ndarray) -> None:
  present = np.unique(labels)
  if int(present[-1]) + 1 != len(present):
    raise DataError(
      f'Cannot use {what}. Its labels are {len(present)} numbers,'
      f' {shortened([str(x) for x in present])}, and a network has an output'
      ' for each number from 0 to the greatest. Number the classes from 0:'
      ' values, train_y = numpy.unique(train_y, return_inverse=True), and'
      ' test_y = numpy.searchsorted(values, test_y). Or, if there are classes'
      ' without training images, name all of them in an array class_names.'
    )


def _channels_first(shape: Sequence[int]) -> bool:
  _, one, two, last = shape
  return last > _CHANNELS and (one <= _CHANNELS or (two == last != one))


def _range(images: np.ndarray) -> str:
  if not images.size or images.dtype.kind not in 'iuf':
    return ''
  return f' with values from {images.min():g} to {images.max():g}'


def _converted(images: np.ndarray) -> str:
  """The line that makes images of arrays, where one can be told."""
  cast = '.astype(numpy.uint8)'
  if images.dtype == np.uint8:
    side = math.isqrt(images.shape[1]) if images.ndim == 2 else 0
    square = side and side**2 == images.shape[1]
    return f'Such as images.reshape(-1, {side}, {side}).' if square else ''
  if images.dtype.kind == 'b':
    return f'That is, 255 * images{cast}.'
  if not images.size or images.dtype.kind not in 'iuf':
    return ''
  low, high = images.min(), images.max()
  if not (np.isfinite(low) and np.isfinite(high)):
    return 'Some values are not finite: leave out their images.'
  if images.dtype.kind != 'f' and low >= 0:
    if high <= 255:
      return f'That is, images{cast}.'
    return f'Such as numpy.round(images * (255 / {high})){cast}.'
  if low >= 0 and high <= 1:
    return f'Such as numpy.round(255 * images){cast}.'
  if low >= -1 and high <= 1:
    return f'Such as numpy.round(127.5 * (images + 1)){cast}.'
  if low >= 0 and high <= 255:
    return f'Such as numpy.round(images){cast}.'
  return 'They seem to be normalised, which the program does: give raw pixels.'


def _numbered(labels: np.ndarray) -> str:
  """The line that makes numbers of labels, where one can be told."""
  if labels.ndim == 2:
    one = labels.shape[1] == 1
    line = 'labels.ravel()' if one else 'numpy.argmax(labels, axis=1)'
    return f'Such as {line}.'
  if labels.dtype.kind in 'US':
    return (
      'Such as class_names, labels = numpy.unique(labels, return_inverse=True)'
      ' for both splits together.'
    )
  whole = labels.dtype.kind == 'f' and np.all(labels == np.round(labels))
  if labels.dtype.kind == 'b' or whole:
    return 'Such as labels.astype(int).'
  return ''


def _moved(images: np.ndarray, labels: np.ndarray) -> str:
  axes = [axis for axis, n in enumerate(images.shape) if n == len(labels) > 0]
  if len(images) == len(labels) or not axes:
    return ''
  return (
    ' The images seem to be along another axis: numpy.moveaxis(images,'
    f' {axes[-1]}, 0).'
  )
