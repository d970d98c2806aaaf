"""A data set in memory: a TFDS set, an `.npz` file or a folder of images.

What is read is checked here, once, so that the rest of the program need not.
Nothing here uses a network. Sets that do not fit in memory:
`train/data/stream.py`.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from train.checks import DataError
from train.data import arrays, digest, digits, folder, npz, tfds
from train.data.arrays import Arrays
from train.data.image import read


class Dataset(NamedTuple):
  """A data set in memory.

  An example's position in `train` is its id: the order is the same on every
  machine and in every run.

  Attributes:
    train: the training examples by name: 'image', uint8 [n, height, width,
      channels], and others, such as 'label', int32 [n].
    test: the test examples, of the same names.
    facts: about the set, such as 'num_classes', and 'class_names' where the
      classes have names.
    notes: what of the set is rarely meant, and what to do about it.
  """

  train: Mapping[str, np.ndarray]
  test: Mapping[str, np.ndarray]
  facts: Mapping[str, Any]
  notes: Sequence[str] = ()

  @property
  def fields(self) -> tuple[str, ...]:
    """The names of an example's values beside its image."""
    return tuple(name for name in self.train if name != 'image')

  @property
  def num_examples(self) -> int:
    """Size of the training set."""
    return len(self.train['image'])

  @property
  def num_tested(self) -> int:
    """Size of the test set."""
    return len(self.test['image'])

  @property
  def image_shape(self) -> tuple[int, ...]:
    """Height, width and channels."""
    return self.train['image'].shape[1:]

  def sample(self) -> np.ndarray:
    """The images that tell how to normalise: all of the training set."""
    return self.train['image']

  def values(self, field: str) -> np.ndarray | None:
    """A field of all training examples, None where it must be read first."""
    return self.train.get(field)

  def digest(self) -> str:
    """A hash of the content: another one means that other data are there."""
    return digest.of_arrays(self.train, self.test, self.facts)


def labelled(
  train_images: np.ndarray,
  train_labels: np.ndarray,
  test_images: np.ndarray,
  test_labels: np.ndarray,
  num_classes: int,
) -> Dataset:
  """A data set of images and their labels, which are not checked.

  Args:
    train_images: uint8 [n, height, width, channels].
    train_labels: int32 [n].
    test_images: as the training images.
    test_labels: as the training labels.
    num_classes: number of classes.

  Returns:
    The data set.
  """
  return Dataset(
    {'image': train_images, 'label': train_labels},
    {'image': test_images, 'label': test_labels},
    {'num_classes': num_classes},
  )


def load(name: str, data_dir: str | None = None) -> Dataset:
  """Reads a data set.

  Args:
    name: one of

      * `digits`: the 8x8 digits of scikit-learn;
      * a path that ends in `.npz`, of the arrays `train_x`, `train_y`,
        `test_x` and `test_y`, with images as uint8 of shape [n, height, width]
        or [n, height, width, channels], and, if the classes have names,
        `class_names`;
      * a folder of images, `train/CLASS/*.png` and `test/CLASS/*.png` (or
        `.jpg`, `.webp`, `.bmp`), all of one size, or see
        `train/data/folder.py`;
      * any TFDS name, such as `cifar10` or `cmaterdb/bangla`, of a set that is
        prepared in `data_dir` in a format with random access.
    data_dir: where prepared TFDS sets are. Defaults to the environment variable
      `TFDS_DATA_DIR`, or else `~/tensorflow_datasets`.

  Returns:
    The data set.

  Raises:
    DataError: when there is no such data set, or it is not as described.
  """
  path = os.path.expanduser(name)
  if path.endswith('.npz'):
    found = npz.read(path)
    train, test, names = found.train, found.test, found.class_names
    num_classes, notes = len(names) or None, found.notes
  else:
    found = find(name, data_dir)
    notes = ()
    if isinstance(found, folder.Folder):
      train, test = map(_read_files, (found.train, found.test))
      notes = found.notes
    else:
      train, test = (Arrays(*pair) for pair in found.arrays())
    num_classes, names = found.num_classes, found.class_names
  whole = checked(name, train, test, num_classes, names)
  return whole._replace(notes=(*notes, *whole.notes))


def find(
  name: str, data_dir: str | None
) -> folder.Folder | tfds.Prepared | digits.Digits:
  """Finds a data set of images, reading none of them.

  Args:
    name: as `load` takes it, but of no `.npz` file.
    data_dir: as `load` takes it.

  Returns:
    Where it is, and what is known of it.

  Raises:
    DataError: when there is no such data set.
  """
  if tfds.is_name(name) and name == digits.NAME:
    return digits.find()
  path = os.path.expanduser(name)
  if tfds.is_name(name):
    try:
      return tfds.find(name, data_dir)
    except tfds.UnknownName:
      if not os.path.isdir(path):
        raise
    return folder.find(path)  # which says what the folder lacks
  if os.path.isdir(path):
    return folder.find(path)
  if os.path.exists(path):
    raise DataError(
      f'Cannot load {name!r}. It is a file, and of files only .npz is read (and'
      ' .zip, of sets in the layout of VOC or MPII). Write its arrays with'
      ' numpy.savez, or its images into a folder of'
      ' train/CLASS/*.png and test/CLASS/*.png.'
    )
  raise DataError(
    f'Cannot load {name!r}. No such path exists, and it is not a TFDS name'
    ' (name/config:version) either. Give `digits`, a TFDS name such as'
    ' `cifar10`, a path ending in .npz, or a folder of'
    ' train/CLASS/*.png and test/CLASS/*.png.'
  )


def checked(
  name: str,
  train: tuple[np.ndarray, np.ndarray],
  test: tuple[np.ndarray, np.ndarray],
  num_classes: int | None,
  class_names: Sequence[str] = (),
) -> Dataset:
  """A data set of arrays, or what is wrong with them.

  Args:
    name: of the set.
    train: images and labels.
    test: images and labels.
    num_classes: number of classes in the train split; None if its labels tell.
    class_names: by their numbers; none where there are numbers alone.

  Returns:
    The data set.

  Raises:
    DataError: when they are no images and labels of one kind.
  """
  here = f'the train split of {name!r}'
  train = arrays.checked(here, Arrays(*train), num_classes)
  if num_classes is None:
    num_classes = int(train.labels.max()) + 1
  here = f'the test split of {name!r}'
  test = arrays.checked(here, Arrays(*test), num_classes)
  several = train.labels.min() != train.labels.max()
  arrays.check_several(name, num_classes if several else 1)
  if train.images.shape[1:] != test.images.shape[1:]:
    raise DataError(
      f'Cannot use {name!r}. Its train images have the shape'
      f' {train.images.shape[1:]} and its test images'
      f' {test.images.shape[1:]}, where a model takes one. Resize them to one'
      ' shape.'
    )
  arrays.check_different(name, train.images)
  whole = labelled(*train, *test, num_classes)
  names = {'class_names': tuple(class_names)} if class_names else {}
  return whole._replace(
    facts={**whole.facts, **names},
    notes=arrays.notes(train, test, num_classes, class_names),
  )


def _read_files(files: folder.Files) -> Arrays:
  images = []
  for path in files.paths:
    image = read(path, repr(path))
    if images and image.shape != images[0].shape:
      raise DataError(
        f'Cannot load {path!r}. Its shape is {image.shape} and that of'
        f' {files.paths[0]!r} is {images[0].shape}, where a model takes one.'
        ' Give data.size to have them resized, or convert them to one size,'
        ' all to grey or all to colour.'
      )
    images.append(image)
  return Arrays(np.stack(images), files.labels)
