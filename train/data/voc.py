"""Images with a class for each pixel, in the layout of PASCAL VOC.

`JPEGImages/NAME.jpg` (or `.png`), `SegmentationClassAug/NAME.png` or
`SegmentationClass/NAME.png`, and `ImageSets/Segmentation/SPLIT.txt` with one
name in a line; in a folder, in its `VOCdevkit/VOC2012`, or inside a zip.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from train.checks import DataError
from train.data import image as images
from train.data.store import Store, lines

CLASSES = (
  'background', 'aeroplane', 'bicycle', 'bird', 'boat', 'bottle', 'bus', 'car',
  'cat', 'chair', 'cow', 'diningtable', 'dog', 'horse', 'motorbike', 'person',
  'pottedplant', 'sheep', 'sofa', 'train', 'tvmonitor',
)  # fmt: skip
IGNORED = 255
LISTS = 'ImageSets/Segmentation'
# The former has the labels of the latter where both have some.
_MASKS = ('SegmentationClassAug', 'SegmentationClass')
# Of images and of masks; the first that is there is read.
_IMAGE_ENDINGS = ('.jpg', '.jpeg', '.png', '.JPG', '.JPEG', '.PNG')
_MASK_ENDINGS = ('.png', '.PNG')


class Example(NamedTuple):
  """An image and its mask.

  Attributes:
    image: uint8 ``[h, w, 3]``.
    mask: uint8 ``[h, w]``: the class of each pixel, or 255 where it does not
      count.
  """

  image: np.ndarray
  mask: np.ndarray


@dataclasses.dataclass(frozen=True)
class Split:
  """The examples of a split, in the order of its list."""

  store: Store
  masks: str
  names: Sequence[str]

  def __len__(self) -> int:
    return len(self.names)

  def files(self, number: int) -> tuple[str, str]:
    """The files of an image and of its mask, below the store."""
    name = self.names[number]
    return (
      self._file(f'JPEGImages/{name}', _IMAGE_ENDINGS),
      self._file(f'{self.masks}/{name}', _MASK_ENDINGS),
    )

  def encoded(self, number: int) -> tuple[bytes, bytes]:
    """The content of both files."""
    image, mask = self.files(number)
    return self.store.read(image), self.store.read(mask)

  def size(self, number: int) -> tuple[int, int]:
    """Height and width of an image, of which no pixel is decoded."""
    file, _ = self.files(number)
    with images.opened(self.store.source(file), self.store.name(file)) as found:
      return found.height, found.width

  def __getitem__(self, number: int) -> Example:
    file, mask_file = self.files(number)
    image = images.read(self.store.read(file), self.store.name(file))
    if image.shape[-1] == 1:
      image = np.repeat(image, 3, axis=-1)
    mask = _mask(self.store.read(mask_file), self.store.name(mask_file))
    if mask.shape != image.shape[:2]:
      raise DataError(
        f'Cannot load {self.store.name(mask_file)}. It has {mask.shape[1]}x'
        f'{mask.shape[0]} pixels, and its image {image.shape[1]}x'
        f'{image.shape[0]}. Make both of one size, the mask with the nearest'
        ' neighbour.'
      )
    return Example(image, mask)

  def _file(self, stem: str, endings: Sequence[str]) -> str:
    for ending in endings:
      if self.store.has(stem + ending):
        return stem + ending
    raise DataError(
      f'Cannot load {self.store.name(stem + endings[0])}. There is no such'
      f' file, with none of the endings {", ".join(endings)}. Add it, or take'
      ' its name out of the list of the split.'
    )


def find(path: str, split: str, masks: str | None = None) -> Split:
  """Lists a split of a data set in VOC's layout.

  Args:
    path: of the folder or zip; what is looked for may be two folders below.
    split: name of the list, such as ``'train_aug'`` or ``'val'``.
    masks: folder of the masks; by default `SegmentationClassAug` where there is
      one, or else `SegmentationClass`.

  Returns:
    The split; its images are read when they are asked for.

  Raises:
    DataError: if there is no such layout, list or folder.
  """
  store = Store(path).first(LISTS)
  if store is None:
    raise DataError(
      f'Cannot load {path!r}. It has no {LISTS}, at the top or up to two'
      ' folders below. Give the folder or the zip of a data set in the layout'
      ' of VOC.'
    )
  listed = f'{LISTS}/{split}.txt'
  if not store.has(listed):
    raise DataError(
      f'Cannot load the split {split!r} of {store}. There is no {listed}. Name'
      ' a split that is listed there, such as train or val.'
    )
  chosen = (masks,) if masks else _MASKS
  found = [folder for folder in chosen if store.has(folder)]
  if not found:
    raise DataError(
      f'Cannot load {store}. It has no {" and no ".join(chosen)}. Add the'
      ' masks, or name the folder that they are in.'
    )
  found_lines = lines(store.read(listed), store.name(listed))
  names = [line.strip() for line in found_lines if line.strip()]
  if not names or _is_pair(store, names[0]):
    raise DataError(
      f'Cannot load {store.name(listed)}. It does not have one name in each'
      ' line. Use the list as VOC has it.'
    )
  return Split(store, found[0], names)


def notes(split: str, classes: Sequence[int]) -> Iterator[str]:
  """What is rarely meant in the masks of a split.

  Args:
    split: its name in a sentence, such as ``'training'``.
    classes: those in its masks, or in a part of them.

  Yields:
    A note if they are less than two.
  """
  if len(classes) > 1:
    return
  only = classes[0] if classes else None
  shown = 'no class' if only is None else f'one class, {only} ({CLASSES[only]})'
  yield (
    f'The {split} masks show {shown}; pixels of {IGNORED} do not count. To'
    ' predict the same everywhere is then right everywhere. Save the classes as'
    ' 0, 1, 2 and so on: in masks of 0 and 255, write 1 for 255.'
  )


def classes_in(examples: Iterable[Example]) -> list[int]:
  """The classes that occur in the masks of examples, in their order."""
  counts = np.zeros(256, np.int64)
  for example in examples:
    counts += np.bincount(example.mask.ravel(), minlength=256)
  return np.flatnonzero(counts[:IGNORED]).tolist()


def _is_pair(store: Store, line: str) -> bool:
  """Whether a line has a pair of files, or a name and a number.

  Some codes have such lists. A name may have spaces as well.
  """
  files = (f'JPEGImages/{line}{ending}' for ending in _IMAGE_ENDINGS)
  return len(line.split()) > 1 and not any(map(store.has, files))


def _mask(encoded: bytes, name: str) -> np.ndarray:
  with images.opened(encoded, name) as image:
    if image.mode not in ('L', 'P'):
      raise DataError(
        f'Cannot load {name}. Its mode is {image.mode}, and a mask has one'
        ' channel of classes or a palette. Save it as a grey PNG.'
      )
    # Of a palette the index is the class, whatever its colour.
    mask = np.array(image, np.uint8)
  greatest = np.max(mask, where=mask != IGNORED, initial=0)
  if greatest >= len(CLASSES):
    raise DataError(
      f'Cannot load {name}. A pixel has the value {greatest}, and the classes'
      f' are 0 to {len(CLASSES) - 1}; {IGNORED} does not count. Number the'
      ' classes from 0, or give the pixels of no class the value'
      f' {IGNORED}.'
    )
  return mask
