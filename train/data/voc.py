"""Images with a class for each pixel, in the layout of PASCAL VOC.

`JPEGImages/NAME.jpg`, `SegmentationClassAug/NAME.png` or
`SegmentationClass/NAME.png`, and `ImageSets/Segmentation/SPLIT.txt` with one
name in a line; in a folder, in its `VOCdevkit/VOC2012`, or inside a zip.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from train.checks import DataError
from train.data import image as images
from train.data.store import Store

CLASSES = (
  'background', 'aeroplane', 'bicycle', 'bird', 'boat', 'bottle', 'bus', 'car',
  'cat', 'chair', 'cow', 'diningtable', 'dog', 'horse', 'motorbike', 'person',
  'pottedplant', 'sheep', 'sofa', 'train', 'tvmonitor',
)  # fmt: skip
IGNORED = 255
LISTS = 'ImageSets/Segmentation'
# The former has the labels of the latter where both have some.
_MASKS = ('SegmentationClassAug', 'SegmentationClass')


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
    return f'JPEGImages/{name}.jpg', f'{self.masks}/{name}.png'

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
  lines = store.read(listed).decode().splitlines()
  # Lists of pairs of files, as some codes have them, are not VOC's.
  names = [line.strip() for line in lines if line.strip()]
  if not names or ' ' in names[0]:
    raise DataError(
      f'Cannot load {store.name(listed)}. It does not have one name in each'
      ' line. Use the list as VOC has it.'
    )
  return Split(store, found[0], names)


def _mask(encoded: bytes, name: str) -> np.ndarray:
  with images.opened(encoded, name) as image:
    if image.mode not in ('L', 'P'):
      raise DataError(
        f'Cannot load {name}. Its mode is {image.mode}, and a mask has one'
        ' channel of classes or a palette. Save it as a grey PNG.'
      )
    # Of a palette the index is the class, whatever its colour.
    return np.array(image, np.uint8)
