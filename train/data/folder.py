"""A folder of images as a data set: which files it has, and of which class.

Read are `train/CLASS/*` and `test/CLASS/*`, `val` in place of `test` as
ImageNet is often unpacked, and Tiny-ImageNet as its archive unpacks: there the
images of a class are in `train/CLASS/images`, and `val/val_annotations.txt`
lists the classes of the images in `val/images`.
"""

import dataclasses
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from train.checks import DataError
from train.data.image import Encoded

SUFFIXES = ('.png', '.jpg', '.jpeg', '.webp', '.bmp')
_ANNOTATIONS = 'val_annotations.txt'
_LAYOUT = (
  'Give one folder of images for each class under train, and the same under'
  ' test or val'
)


@dataclasses.dataclass(frozen=True)
class Files:
  """A split of a folder: its files, and their classes' numbers."""

  paths: Sequence[str]
  labels: np.ndarray

  def __len__(self) -> int:
    return len(self.paths)

  def __getitem__(self, number: int) -> Encoded:
    path = self.paths[number]
    with open(path, 'rb') as file:
      return Encoded(file.read(), int(self.labels[number]), repr(path))


class Folder(NamedTuple):
  """A folder's splits, in the order of the names."""

  train: Files
  test: Files
  num_classes: int
  class_names: Sequence[str] = ()


def find(path: str) -> Folder:
  """Lists a folder of images.

  Args:
    path: of the folder, which has a folder `train`.

  Returns:
    Its files; classes and files are in the order of their names.

  Raises:
    DataError: when it is laid out in no known way.
  """
  classes = _folders(os.path.join(path, 'train'))
  if not classes:
    raise DataError(
      f'Cannot load the folder {path!r}. It has no train/CLASS folders of'
      f' images. {_LAYOUT}.'
    )
  numbers = {name: number for number, name in enumerate(classes)}
  train = _by_class(os.path.join(path, 'train'), classes, numbers)
  annotations = os.path.join(path, 'val', _ANNOTATIONS)
  if os.path.isfile(annotations):
    test = _annotated(annotations, numbers)
  else:
    test = _test_split(path, numbers)
  return Folder(_files(train), _files(test), len(classes), classes)


def above_classes(path: str) -> Iterator[str]:
  """The folders at or below a path that have folders of images in them."""
  inner = [os.path.join(path, name) for name in _folders(path)]
  if any(_images(place) for place in inner):
    yield path
    return
  for place in inner:
    yield from above_classes(place)


def read_classes(path: str) -> tuple[Files, Sequence[str]]:
  """The images in the folders of a folder, and the names of the folders.

  Args:
    path: of the folder.

  Returns:
    The files, whose labels are positions among the names, and the names.

  Raises:
    DataError: if one of the folders has no images.
  """
  names = _folders(path)
  numbers = {name: number for number, name in enumerate(names)}
  return _files(_by_class(path, names, numbers)), names


def _test_split(path: str, numbers: dict[str, int]) -> list[tuple[str, int]]:
  for split in ('test', 'val'):
    inside = os.path.join(path, split)
    classes = _folders(inside)
    if not classes:
      continue
    unknown = sorted(set(classes) - set(numbers))
    if unknown:
      raise DataError(
        f'Cannot load the folder {path!r}. Its {split} split has the classes'
        f' {unknown}, of which the train split has no examples. Use the same'
        f' class folders under train and under {split}. (Tiny-ImageNet needs'
        f' its val/{_ANNOTATIONS}.)'
      )
    return _by_class(inside, classes, numbers)
  raise DataError(
    f'Cannot load the folder {path!r}. It has no test/CLASS or val/CLASS'
    f' folders of images, and no val/{_ANNOTATIONS}. {_LAYOUT}.'
  )


def _by_class(
  path: str, classes: Sequence[str], numbers: dict[str, int]
) -> list[tuple[str, int]]:
  found = []
  for name in classes:
    folder = os.path.join(path, name)
    inner = os.path.join(folder, 'images')  # Tiny-ImageNet's
    images = _images(inner if os.path.isdir(inner) else folder)
    if not images:
      raise DataError(
        f'Cannot load the folder {folder!r}. It has no'
        f' {", ".join(SUFFIXES)} images. Add images or remove it.'
      )
    found += [(image, numbers[name]) for image in images]
  return found


def _annotated(path: str, numbers: dict[str, int]) -> list[tuple[str, int]]:
  """The files of Tiny-ImageNet's validation split, in the order of names."""
  images = os.path.join(os.path.dirname(path), 'images')
  found = []
  with open(path, encoding='utf-8') as lines:
    for line in lines:
      # File, class and a box, apart by tabs.
      name, _, rest = line.rstrip('\n').partition('\t')
      label = rest.split('\t')[0]
      image = os.path.join(images, name)
      if label not in numbers or not os.path.isfile(image):
        raise DataError(
          f'Cannot load {path!r}. Its line {line.strip()!r} names'
          f' {image!r} of the class {label!r}, and there is no such file or'
          ' no such folder under train. Unpack the archive again.'
        )
      found.append((image, numbers[label]))
  if not found:
    raise DataError(
      f'Cannot load {path!r}. It is empty, so that there is nothing to test'
      ' on. Unpack the archive again.'
    )
  return sorted(found)


def _images(path: str) -> list[str]:
  names = sorted(os.listdir(path))
  return [
    os.path.join(path, name)
    for name in names
    if name.lower().endswith(SUFFIXES)
  ]


def _folders(path: str) -> list[str]:
  if not os.path.isdir(path):
    return []
  return sorted(
    entry.name
    for entry in os.scandir(path)
    if entry.is_dir() and not entry.name.startswith('.')
  )


def _files(found: Iterable[tuple[str, int]]) -> Files:
  paths, labels = zip(*found, strict=True)
  return Files(paths, np.array(labels, np.int32))
