"""A data set in memory: a TFDS set, an `.npz` file or a folder of images.

What is read is checked here, once, so that the rest of the program need not.
Nothing here uses a network. Sets that do not fit in memory:
`train/data/stream.py`.
"""

import os
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from train.checks import DataError
from train.data import digits, folder, tfds
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
  """

  train: Mapping[str, np.ndarray]
  test: Mapping[str, np.ndarray]
  facts: Mapping[str, Any]

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


class _Arrays(NamedTuple):
  images: np.ndarray
  labels: np.ndarray


def load(
  name: str,
  data_dir: str | None = None,
  first: Sequence[int] | None = None,
) -> Dataset:
  """Reads a data set.

  Args:
    name: one of

      * `digits`: the 8x8 digits of scikit-learn;
      * a path that ends in `.npz`, of the arrays `train_x`, `train_y`,
        `test_x` and `test_y`, with images as uint8 of shape [n, height, width]
        or [n, height, width, channels];
      * a folder of images, `train/CLASS/*.png` and `test/CLASS/*.png` (or
        `.jpg`, `.webp`, `.bmp`), all of one size, or see
        `train/data/folder.py`;
      * any TFDS name, such as `cifar10` or `cmaterdb/bangla`, of a set that is
        prepared in `data_dir` in a format with random access.
    data_dir: where prepared TFDS sets are. Defaults to the environment variable
      `TFDS_DATA_DIR`, or else `~/tensorflow_datasets`.
    first: how many training and how many test images to keep, the first ones
      of each, which in a folder are of its first classes; None for all.

  Returns:
    The data set.

  Raises:
    DataError: when there is no such data set, or it is not as described.
  """
  path = os.path.expanduser(name)
  if path.endswith('.npz'):
    train, test, num_classes = _read_npz(path)
    names = ()
  else:
    found = find(name, data_dir)
    if isinstance(found, folder.Folder):
      train, test = map(_read_files, (found.train, found.test))
    else:
      train, test = (_Arrays(*arrays) for arrays in found.arrays())
    num_classes, names = found.num_classes, found.class_names
  whole = named(checked(name, train, test, num_classes), names)
  return first_of(name, whole, first)


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
  if tfds.is_name(name):
    return tfds.find(name, data_dir)
  path = os.path.expanduser(name)
  if os.path.isdir(path):
    return folder.find(path)
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
  num_classes: int,
) -> Dataset:
  """A data set of arrays, or what is wrong with them.

  Args:
    name: of the set.
    train: images and labels.
    test: images and labels.
    num_classes: number of classes in the train split.

  Returns:
    The data set.

  Raises:
    DataError: when they are no images and labels of one kind.
  """
  train = _checked(f'the train split of {name!r}', _Arrays(*train), num_classes)
  test = _checked(f'the test split of {name!r}', _Arrays(*test), num_classes)
  if num_classes < 2:
    raise DataError(
      f'Cannot use {name!r}. Its training images are all of one class, so that '
      'there is nothing to tell apart. Use a set of two classes or more.'
    )
  if train.images.shape[1:] != test.images.shape[1:]:
    raise DataError(
      f'Cannot use {name!r}. Its train images have the shape'
      f' {train.images.shape[1:]} and its test images'
      f' {test.images.shape[1:]}, where a model takes one. Resize them to one'
      ' shape.'
    )
  return labelled(*train, *test, num_classes)


def named(dataset: Dataset, class_names: Sequence[str]) -> Dataset:
  """A data set with the names of its classes, if they have names.

  Args:
    dataset: the data set.
    class_names: by their numbers; none where there are numbers alone.

  Returns:
    The data set.
  """
  if not class_names:
    return dataset
  names = tuple(class_names)
  return dataset._replace(facts={**dataset.facts, 'class_names': names})


def first_of(
  name: str, dataset: Dataset, first: Sequence[int] | None
) -> Dataset:
  """The first training and test images of a data set.

  Args:
    name: of the set.
    dataset: the whole set.
    first: how many of each to keep, None for all.

  Returns:
    Their data set.

  Raises:
    DataError: when it has not so many.
  """
  if first is None:
    return dataset
  sizes = dataset.num_examples, dataset.num_tested
  if len(first) != 2 or not all(
    1 <= count <= size for count, size in zip(first, sizes, strict=False)
  ):
    raise DataError(
      f'Given first={tuple(first)} of {name!r}. It has {sizes[0]} training and'
      f' {sizes[1]} test images. Give two numbers from 1 up to these.'
    )
  train, test = (
    {key: x[:count] for key, x in rows.items()}
    for rows, count in zip((dataset.train, dataset.test), first, strict=True)
  )
  return dataset._replace(train=train, test=test)


def _checked(what: str, arrays: _Arrays, num_classes: int) -> _Arrays:
  """Checks one split and gives it its final types."""
  images, labels = arrays
  if images.dtype != np.uint8 or images.ndim not in (3, 4):
    raise DataError(
      f'Cannot use {what}. Its images are {images.dtype} of shape'
      f' {images.shape}, where uint8 of shape [n, height, width] or'
      ' [n, height, width, channels] is needed. Convert them: values 0 to'
      ' 255, channels last.'
    )
  if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
    raise DataError(
      f'Cannot use {what}. Its labels are {labels.dtype} of shape'
      f' {labels.shape}, where integers of shape [n] are needed. Give each'
      ' example the number of its class.'
    )
  if len(images) != len(labels) or not len(images):
    raise DataError(
      f'Cannot use {what}. It has {len(images)} images and {len(labels)}'
      ' labels, where every image needs one label and there must be an'
      ' image. Give as many of both.'
    )
  if labels.min() < 0 or labels.max() >= num_classes:
    raise DataError(
      f'Cannot use {what}. Its labels run from {labels.min()} to'
      f' {labels.max()}, where with {num_classes} classes in the train split'
      f' they must run from 0 to {num_classes - 1}. Number the classes of'
      ' both splits from 0.'
    )
  if images.ndim == 3:
    images = images[..., None]
  return _Arrays(images, labels.astype(np.int32))


def _read_npz(path: str) -> tuple[_Arrays, _Arrays, int]:
  names = ('train_x', 'train_y', 'test_x', 'test_y')
  if not os.path.isfile(path):
    raise DataError(
      f'Cannot load {path!r}. There is no such file. Write one with'
      f' numpy.savez(path, {"=..., ".join(names)}=...).'
    )
  try:
    with open(path, 'rb') as opened:
      file = np.load(opened, allow_pickle=False)
      if isinstance(file, np.ndarray):
        raise ValueError('it is one array, an .npy file')
      missing = [name for name in names if name not in file]
      arrays = [file[name] for name in names if name in file]
      found = list(file)
  except (
    ValueError,
    OSError,
    EOFError,
    zipfile.BadZipFile,
    zlib.error,
  ) as error:
    raise DataError(
      f'Cannot load {path!r}. It is not a whole .npz file of plain arrays:'
      f' {error}. Write one with numpy.savez, without object arrays.'
    ) from error
  if missing:
    raise DataError(
      f'Cannot load {path!r}. It lacks {", ".join(missing)} and holds'
      f' {", ".join(found) or "nothing"}. Write it with numpy.savez(path,'
      f' {"=..., ".join(names)}=...).'
    )
  train, test = _Arrays(*arrays[:2]), _Arrays(*arrays[2:])
  # Labels that are no numbers have no maximum; `_checked` refuses them.
  countable = train.labels.size and np.issubdtype(
    train.labels.dtype, np.integer
  )
  return train, test, int(train.labels.max()) + 1 if countable else 0


def _read_files(files: folder.Files) -> _Arrays:
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
  return _Arrays(np.stack(images), files.labels)
