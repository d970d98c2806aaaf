"""Reads a data set into arrays: a TFDS set, an `.npz` file or a folder.

What is read is checked here, once, so that the rest of the program need not.
Nothing here uses a network.
"""

import difflib
import importlib
import os
import re
import zipfile
import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

# `name[/config][:version]`. A namespace (`huggingface:name`) does not match:
# TFDS would look for it on the network.
_TFDS_NAME = re.compile(r'[A-Za-z]\w*(/[\w.-]+)?(:\d+\.[\d.*]+)?')

_IMAGE_SUFFIXES = ('.png', '.jpg', '.jpeg')

# Pillow's modes, and what each is read as. Absent are those of more than 8
# bits a channel, which Pillow would clip.
_IMAGE_MODES = {
  '1': 'L',
  'L': 'L',
  'LA': 'L',
  'P': 'RGB',
  'RGB': 'RGB',
  'RGBA': 'RGB',
  'CMYK': 'RGB',
  'YCbCr': 'RGB',
}

# TFDS imports these late or without declaring them: a lack of one would show
# as an error from deep inside it.
_TFDS_NEEDS = ('PIL', 'array_record', 'importlib_resources')

_READ_BATCH = 1000

_INSTALL = "pip install 'sam_optax[train]'"
_INSTALL_TF = "pip install 'sam_optax[tf]'"


class DataError(ValueError):
  """A data set that cannot be used: what was given, why, and what to do."""


class Dataset(NamedTuple):
  """A data set in memory.

  An example's position in `train_images` is its id: the order is the same on
  every machine and in every run.
  """

  train_images: np.ndarray  # uint8 [n, height, width, channels]
  train_labels: np.ndarray  # int32 [n]
  test_images: np.ndarray
  test_labels: np.ndarray
  num_classes: int


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

      * `digits`: the 8x8 digits of scikit-learn, prepared on first use;
      * a path that ends in `.npz`, of the arrays `train_x`, `train_y`,
        `test_x` and `test_y`, with images as uint8 of shape [n, height, width]
        or [n, height, width, channels];
      * a folder of images, `train/CLASS/*.png` and `test/CLASS/*.png` (or
        `.jpg`, `.jpeg`), all of one size;
      * any TFDS name, such as `cifar10` or `cmaterdb/bangla`, of a set that is
        prepared in `data_dir` in a format with random access.
    data_dir: where prepared TFDS sets are. Defaults to the environment variable
      `TFDS_DATA_DIR`, or else `~/tensorflow_datasets`.
    first: how many training and how many test images to keep, the first ones
      of each; None for all.

  Returns:
    The data set.

  Raises:
    DataError: when there is no such data set, or it is not as described.
  """
  path = os.path.expanduser(name)
  if path.endswith('.npz'):
    train, test, num_classes = _read_npz(path)
  elif _is_folder(name, path):
    train, test, num_classes = _read_folder(path)
  elif _TFDS_NAME.fullmatch(name):
    train, test, num_classes = _read_tfds(name, data_dir)
  else:
    raise DataError(
      f'Cannot load {name!r}. No such path exists, and it is not a TFDS name'
      ' (name/config:version) either. Give `digits`, a TFDS name such as'
      ' `cifar10`, a path ending in .npz, or a folder of'
      ' train/CLASS/*.png and test/CLASS/*.png.'
    )
  train = _checked(f'the train split of {name!r}', train, num_classes)
  test = _checked(f'the test split of {name!r}', test, num_classes)
  if train.images.shape[1:] != test.images.shape[1:]:
    raise DataError(
      f'Cannot use {name!r}. Its train images have the shape'
      f' {train.images.shape[1:]} and its test images'
      f' {test.images.shape[1:]}, where a model takes one. Resize them to one'
      ' shape.'
    )
  dataset = Dataset(*train, *test, num_classes)
  return dataset if first is None else _first(name, dataset, first)


def _first(name: str, dataset: Dataset, first: Sequence[int]) -> Dataset:
  sizes = len(dataset.train_images), len(dataset.test_images)
  if len(first) != 2 or not all(
    1 <= count <= size for count, size in zip(first, sizes, strict=False)
  ):
    raise DataError(
      f'Given first={tuple(first)} of {name!r}. It has {sizes[0]} training and'
      f' {sizes[1]} test images. Give two numbers from 1 up to these.'
    )
  train, test = first
  return dataset._replace(
    train_images=dataset.train_images[:train],
    train_labels=dataset.train_labels[:train],
    test_images=dataset.test_images[:test],
    test_labels=dataset.test_labels[:test],
  )


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


def _is_folder(name: str, path: str) -> bool:
  # A TFDS name may be the name of some folder here as well, the one that its
  # data are in for one. That has no folder `train`.
  return os.path.isdir(path) and (
    not _TFDS_NAME.fullmatch(name) or os.path.isdir(os.path.join(path, 'train'))
  )


def _read_folder(path: str) -> tuple[_Arrays, _Arrays, int]:
  for split in ('train', 'test'):
    if not _folders(os.path.join(path, split)):
      raise DataError(
        f'Cannot load the folder {path!r}. It has no {split}/CLASS folders of'
        ' images. Give one folder for each class under train and under test.'
      )
  classes = _folders(os.path.join(path, 'train'))
  unknown = set(_folders(os.path.join(path, 'test'))) - set(classes)
  if unknown:
    raise DataError(
      f'Cannot load the folder {path!r}. Its test split has the classes'
      f' {sorted(unknown)}, of which the train split has no examples. Use'
      ' the same class folders under train and under test.'
    )
  train = _read_split(os.path.join(path, 'train'), classes)
  test = _read_split(os.path.join(path, 'test'), classes)
  return train, test, len(classes)


def _folders(path: str) -> list[str]:
  if not os.path.isdir(path):
    return []
  return sorted(
    entry.name
    for entry in os.scandir(path)
    if entry.is_dir() and not entry.name.startswith('.')
  )


def _read_split(path: str, classes: list[str]) -> _Arrays:
  images, labels = [], []
  first = ''
  for label, name in enumerate(classes):
    folder = os.path.join(path, name)
    # Not every class of the train split need be in the test split.
    files = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    files = [f for f in files if f.lower().endswith(_IMAGE_SUFFIXES)]
    if not files and os.path.isdir(folder):
      raise DataError(
        f'Cannot load the folder {folder!r}. It has no'
        f' {", ".join(_IMAGE_SUFFIXES)} images. Add images or remove it.'
      )
    for file in files:
      file = os.path.join(folder, file)
      image = _read_image(file)
      first = first or file
      if images and image.shape != images[0].shape:
        raise DataError(
          f'Cannot load {file!r}. Its shape is {image.shape} and that of'
          f' {first!r} is {images[0].shape}, where a model takes one. Convert'
          ' the images to one size, and all to grey or all to colour.'
        )
      images.append(image)
      labels.append(label)
  return _Arrays(np.stack(images), np.array(labels))


def _read_image(path: str) -> np.ndarray:
  # Here, so that an .npz file can be read where Pillow is not installed.
  try:
    from PIL import Image
  except ImportError as error:
    raise DataError(
      f'Cannot load {path!r}. Images are read with Pillow, which is not'
      f' installed. Run {_INSTALL}, or give an .npz file.'
    ) from error
  try:
    with Image.open(path) as image:
      mode = _IMAGE_MODES.get(image.mode)
      if mode is not None:
        pixels = np.asarray(image.convert(mode))
        return pixels if pixels.ndim == 3 else pixels[..., None]
      found = image.mode
  except (OSError, SyntaxError, ValueError) as error:
    raise DataError(
      f'Cannot load {path!r}. It is not a whole image: {error}. Replace or'
      ' remove the file.'
    ) from error
  raise DataError(
    f'Cannot load {path!r}. Its mode is {found}, and only images of 8 bits a'
    ' channel are read. Convert it to 8 bits.'
  )


def _read_tfds(name: str, data_dir: str | None) -> tuple[_Arrays, _Arrays, int]:
  tfds = import_tfds(name)
  if name == 'digits':
    from train import prepare

    prepare.digits(data_dir)
  builder = _prepared_builder(tfds, name, data_dir)
  features, splits = builder.info.features, builder.info.splits
  missing = {'image', 'label'} - set(features) | {'train', 'test'} - set(splits)
  if missing:
    raise DataError(
      f'Cannot use {name!r}. It lacks {", ".join(sorted(missing))}: it has the'
      f' features {sorted(features)} and the splits {sorted(splits)}. Write'
      ' what you need of it as an .npz file.'
    )
  try:
    sources = builder.as_data_source()
  except NotImplementedError as error:
    raise DataError(
      f'Cannot read {name!r} from {builder.data_path}. It was prepared as'
      f' {builder.info.file_format}, which has no random access. Prepare it'
      ' again as array_record into another data_dir, or remove that folder'
      f' first. {how_to_prepare(name, data_dir)}'
    ) from error
  train, test = (_read_source(name, sources[s]) for s in ('train', 'test'))
  return train, test, features['label'].num_classes


def import_tfds(name: str) -> Any:
  """Imports TFDS, which only those need who ask for a set of it."""
  try:
    for module in _TFDS_NEEDS:
      importlib.import_module(module)
    return importlib.import_module('tensorflow_datasets')
  except ImportError as error:
    raise DataError(
      f'Cannot load {name!r}. It is no path here, and to look for it in TFDS'
      f' {error.name or error} is needed, which is not'
      f' installed. Run {_INSTALL}, or give an .npz file or a folder of'
      ' images.'
    ) from error


def _prepared_builder(tfds: Any, name: str, data_dir: str | None) -> Any:
  try:
    builder = tfds.builder(name, data_dir=data_dir)
  except tfds.core.registered.DatasetNotFoundError as error:
    known = tfds.list_builders(with_community_datasets=False)
    near = difflib.get_close_matches(name.split('/')[0], ['digits', *known])
    raise DataError(
      f'Cannot load {name!r}. TFDS has no such data set, and here is no folder'
      ' of this name with train and test in it.'
      f' {f"Did you mean {near[0]}?" if near else "Check the name."}'
    ) from error
  except (ValueError, RuntimeError, AssertionError) as error:
    raise DataError(
      f'Cannot load {name!r}. TFDS has no such configuration or version of'
      f' it: {error}. Give one that TFDS lists.'
    ) from error
  if not builder.is_prepared():
    raise DataError(
      f'Cannot load {name!r}. TFDS knows it, but it is not prepared in'
      f' {builder.data_path}. {how_to_prepare(name, data_dir)}'
    )
  return builder


def how_to_prepare(name: str, data_dir: str | None) -> str:
  """The commands that prepare a TFDS set."""
  folder = f' --data_dir={data_dir}' if data_dir else ''
  own = (
    "TFDS's own builder downloads the data and needs TensorFlow: run"
    f' {_INSTALL_TF} and then'
    f' tfds build {name} --file_format=array_record{folder}.'
  )
  if name.split(':')[0] != 'cifar10':
    return own
  return (
    f'Run python -m train.prepare cifar10 --from=FOLDER{folder}, where FOLDER'
    f' has the published files. Or, {own}'
  )


def _read_source(name: str, source: Any) -> _Arrays:
  images, labels = [], []
  # Whole batches are read faster than single examples.
  for start in range(0, len(source), _READ_BATCH):
    stop = min(start + _READ_BATCH, len(source))
    batch = source.__getitems__(list(range(start, stop)))
    shapes = {example['image'].shape for example in batch}
    shapes.update(done.shape[1:] for done in images)
    if len(shapes) > 1:
      raise DataError(
        f'Cannot use {name!r}. It has images of the shapes {sorted(shapes)},'
        ' where a model takes one. Resize them to one shape and give them as an'
        ' .npz file.'
      )
    images.append(np.stack([example['image'] for example in batch]))
    labels.extend(example['label'] for example in batch)
  return _Arrays(np.concatenate(images), np.array(labels))
