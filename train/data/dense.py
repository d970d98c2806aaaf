"""Data sets of masks and of people, as arrays in memory.

The images of a set of masks differ in size; they lie in the upper left of
arrays of one size, and the rest has the mean colour and no label.
"""

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from train.checks import DataError
from train.data import crop, mpii, voc
from train.data import image as images_of
from train.data.memory import Dataset
from train.data.store import Store


def segmentation(
  path: str, train: str | None = None, test: str = 'val'
) -> Dataset:
  """Reads a data set in VOC's layout.

  Args:
    path: of the folder or zip, see :func:`train.data.voc.find`.
    train: the training split; by default `train_aug` where there is one, or
      else `train`.
    test: the test split.

  Returns:
    Rows of 'image', 'mask' (uint8 ``[n, height, width]``, 255 where nothing
    counts) and 'extent' (int32 ``[n, 2]``, width and height of the image in its
    array); the facts have 'num_classes' and 'class_names'.

  Raises:
    DataError: if it cannot be read.
  """
  train = train or _default_train(path)
  splits = [voc.find(path, name) for name in (train, test)]
  examples = [[split[i] for i in range(len(split))] for split in splits]
  masks = [example.mask.shape for split in examples for example in split]
  shape = tuple(int(side) for side in np.max(masks, axis=0))
  pixels = [x.image.reshape(-1, 3).mean(axis=0) for x in examples[0]]
  mean = np.round(np.mean(pixels, axis=0)).astype(np.uint8)
  train_rows, test_rows = (_padded(split, shape, mean) for split in examples)
  return Dataset(
    train_rows,
    test_rows,
    {'num_classes': len(voc.CLASSES), 'class_names': voc.CLASSES},
  )


def pose(
  path: str,
  train: str = 'train',
  test: str = 'valid',
  size: int | None = None,
) -> Dataset:
  """Reads a data set in MPII's layout whose images are of one size.

  Args:
    path: of the folder or zip, see :func:`train.data.mpii.find`.
    train: the training split.
    test: the test split.
    size: side in pixels that square images are brought to, with their joints
      and boxes (``None``: as they are).

  Returns:
    Rows of 'image' and of the fields of :class:`train.data.mpii.People`; the
    facts have 'joints', and 'joint_names' where they are those of MPII.

  Raises:
    DataError: if it cannot be read, or images differ in size.
  """
  train_rows, test_rows = (
    _people(mpii.find(path, name), size) for name in (train, test)
  )
  joints = train_rows['joints'].shape[1]
  facts: dict[str, Any] = {'joints': joints}
  if joints == len(mpii.JOINTS):
    facts['joint_names'] = mpii.JOINTS
  return Dataset(train_rows, test_rows, facts)


def find(path: str) -> Callable[[str], Dataset] | None:
  """How to read a folder or a zip, if it is laid out as VOC or MPII.

  Args:
    path: which may be anything else.

  Returns:
    The function that reads it, or ``None``.
  """
  if not os.path.exists(path):
    return None
  if not (os.path.isdir(path) or path.lower().endswith('.zip')):
    return None
  store = Store(path)
  if store.first(voc.LISTS) is not None:
    return segmentation
  return pose if store.first(mpii.PEOPLE) is not None else None


def _default_train(path: str) -> str:
  try:
    voc.find(path, 'train_aug')
  except DataError:
    return 'train'  # Whose error, if there is one, says more.
  return 'train_aug'


def _padded(
  examples: Sequence[voc.Example], shape: tuple[int, ...], mean: np.ndarray
) -> dict[str, np.ndarray]:
  count = len(examples)
  images = np.empty((count, *shape, 3), np.uint8)
  images[:] = mean
  masks = np.full((count, *shape), voc.IGNORED, np.uint8)
  extents = np.zeros((count, 2), np.int32)
  for number, (image, mask) in enumerate(examples):
    height, width = mask.shape
    images[number, :height, :width] = image
    masks[number, :height, :width] = mask
    extents[number] = width, height
  return {'image': images, 'mask': masks, 'extent': extents}


def _people(split: mpii.Split, size: int | None) -> dict[str, Any]:
  images = [split.image(number) for number in range(len(split))]
  people = split.people
  if size is not None:
    people = _scaled(people, images, size, str(split.store))
    images = [_resized(image, size) for image in images]
  shapes = {image.shape for image in images}
  if len(shapes) > 1:
    raise DataError(
      f'Cannot keep the images of {split.store} in memory. They have'
      f' {len(shapes)} sizes, such as {min(shapes)} and {max(shapes)}, and an'
      ' array has one. Cut each person out to squares, with their joints,'
      ' center and scale, and bring them to one size with data.size.'
    )
  return {'image': np.stack(images), **people._asdict()}


def _scaled(
  people: mpii.People, images: Sequence[np.ndarray], size: int, name: str
) -> mpii.People:
  """The people of square images, in images of another side."""
  sides = np.array([image.shape[:2] for image in images])
  if np.any(sides[:, 0] != sides[:, 1]):
    height, width = sides[np.argmax(sides[:, 0] != sides[:, 1])]
    raise DataError(
      f'Cannot bring the images of {name} to data.size={size}. One of them has'
      f' {width}x{height} pixels, and people are kept in proportion. Cut each'
      ' person out to a square, or leave out data.size.'
    )
  scale = (size / sides[:, 0]).astype(np.float32)
  # Pixels have their centres at whole numbers, the image begins half before.
  move = lambda x, scale: (x + 0.5) * scale - np.float32(0.5)
  return people._replace(
    joints=move(people.joints, scale[:, None, None]),
    center=move(people.center, scale[:, None]),
    side=people.side * scale,
    head_size=people.head_size * scale,
  )


def _resized(image: np.ndarray, size: int) -> np.ndarray:
  with images_of.opened(image, 'the image of a person') as whole:
    return crop.cut(whole, (0, 0, image.shape[1], image.shape[0]), size)
