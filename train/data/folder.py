"""A folder of images as a data set: which files it has, and of which class.

Read are `train/CLASS/*` and `test/CLASS/*`, `val` in place of `test` as
ImageNet is often unpacked, and Tiny-ImageNet as its archive unpacks: there the
images of a class are in `train/CLASS/images`, and `val/val_annotations.txt`
lists the classes of the images in `val/images`.
"""

import collections
import dataclasses
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from train.checks import DataError
from train.data.arrays import shortened
from train.data.image import Encoded
from train.data.store import lines

SUFFIXES = ('.png', '.jpg', '.jpeg', '.webp', '.bmp')
# Of images too, which are not read: some have several images, or 16 bits.
_NOT_READ = (
  '.tif', '.tiff', '.gif', '.heic', '.avif', '.jp2', '.ppm', '.pgm', '.npy',
  '.dcm', '.svg', '.jfif',
)  # fmt: skip
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

  def listing(self) -> Iterator[str]:
    """A line for each file: its name, its class and its size."""
    for path, label in zip(self.paths, self.labels, strict=True):
      folder, name = os.path.split(path)
      inside = os.path.basename(folder)
      yield f'{inside}/{name} {label} {os.path.getsize(path)}'


class Folder(NamedTuple):
  """A folder's splits, in the order of the names."""

  train: Files
  test: Files
  num_classes: int
  class_names: Sequence[str] = ()
  notes: Sequence[str] = ()  # what is rarely meant, and what to do about it


def find(path: str) -> Folder:
  """Lists a folder of images.

  Args:
    path: of the folder, which has a folder `train`.

  Returns:
    Its files; classes and files are in the order of their names.

  Raises:
    DataError: when it is laid out in no known way.
  """
  inside = os.path.join(path, 'train')
  classes = _folders(inside)
  if not classes:
    here = [
      name for name in _folders(path) if _images(os.path.join(path, name))
    ]
    hint = f' Move {shortened(here)} into {inside!r}.' if here else ''
    raise DataError(
      f'Cannot load the folder {path!r}. It has no train/CLASS folders of'
      f' images. {_LAYOUT}.{hint}'
    )
  _check_loose(inside)
  numbers = {name: number for number, name in enumerate(classes)}
  train = _by_class(inside, classes, numbers)
  annotations = os.path.join(path, 'val', _ANNOTATIONS)
  if os.path.isfile(annotations):
    test = _annotated(annotations, numbers)
  else:
    test = _test_split(path, numbers)
  notes = (*_formats('training', train), *_formats('test', test))
  return Folder(_files(train), _files(test), len(classes), classes, notes)


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
    _check_loose(inside)
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
    tiny = os.path.isdir(inner)
    images = _images(inner if tiny else folder)
    # Those of Tiny-ImageNet have nothing beside them.
    _check_nested(folder, skipped='images' if tiny else None)
    if tiny and _images(folder):
      raise DataError(
        f'Cannot load the folder {folder!r}. It has images, and a folder'
        " 'images' beside them, and only one of both is read. Move all images"
        ' of the class into one folder.'
      )
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
  with open(path, 'rb') as file:
    listed = lines(file.read(), repr(path))
  for line in listed:
    # File, class and a box, apart by tabs.
    name, _, rest = line.partition('\t')
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


def _check_loose(path: str) -> None:
  """Refuses images beside the folders of the classes."""
  loose = _images(path)
  if loose:
    raise DataError(
      f'Cannot load the folder {path!r}. Beside its class folders are'
      f' {len(loose)} images, such as {loose[0]!r}, of no class. Move each into'
      ' the folder of its class, or away.'
    )


def _check_nested(folder: str, skipped: str | None) -> None:
  """Refuses images in folders inside of a class folder."""
  for name in _folders(folder):
    if name == skipped:
      continue
    for place, _, _ in os.walk(os.path.join(folder, name)):
      if _images(place):
        raise DataError(
          f'Cannot load the folder {folder!r}. It has images in the folder'
          f' {place!r} inside of it, where images are not looked for. Move them'
          f' up into {folder!r}, or make a class of each folder.'
        )


def _formats(split: str, found: Sequence[tuple[str, int]]) -> Iterator[str]:
  """What is rarely meant in the formats of a split's files."""
  paths = [path for path, _ in found]
  kinds = collections.Counter(
    os.path.splitext(path)[1].lower().replace('.jpeg', '.jpg') for path in paths
  )
  if len(kinds) > 1:
    counts = ', '.join(f'{n:,} {kind}' for kind, n in kinds.most_common())
    yield (
      f'The {split} images are of {len(kinds)} formats: {counts}. Where formats'
      ' go with classes a network can learn the format. Convert all images to'
      ' one format unless they are mixed alike in all classes.'
    )
    stems = collections.Counter(os.path.splitext(path)[0] for path in paths)
    twice = [stem for stem, count in stems.items() if count > 1]
    if twice:
      yield (
        f'{len(twice):,} {split} images are there in several formats, such as'
        f' {twice[0]!r}, and each counts. Keep one format of each image.'
      )
  unread = collections.Counter(
    suffix
    for folder in {os.path.dirname(path) for path in paths}
    for name in os.listdir(folder)
    if (suffix := os.path.splitext(name)[1].lower()) in _NOT_READ
  )
  if unread:
    counts = ', '.join(f'{n:,} {kind}' for kind, n in unread.most_common())
    yield (
      f'Files of the {split} split are not read: {counts}. Read are'
      f' {", ".join(SUFFIXES)}. Convert them, or move them away.'
    )


def _images(path: str) -> list[str]:
  return sorted(
    entry.path
    for entry in os.scandir(path)
    # Not those of macOS, which begin with a dot and are no images.
    if entry.name.lower().endswith(SUFFIXES)
    and not entry.name.startswith('.')
    and entry.is_file()
  )


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
