"""Data sets of masks and of people: their layouts, and as arrays in memory.

The images of a set of masks differ in size; they lie in the upper left of
arrays of one size, and the rest has the mean colour and no label.
"""

import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from train.checks import DataError
from train.data import crop, dense_stream, mpii, voc
from train.data import image as images_of
from train.data.dense_stream import DenseStream
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
    array); the facts are those of :func:`train.data.dense_stream.facts`.

  Raises:
    DataError: if it cannot be read.
  """
  train = train or _default_train(path)
  splits = [voc.find(path, name) for name in (train, test)]
  examples = [[split[i] for i in range(len(split))] for split in splits]
  notes = []
  for split, found, where in zip(
    splits, examples, ('training', 'test'), strict=True
  ):
    classes = voc.classes_in(found)
    if not classes:
      raise DataError(
        f'Cannot use {path!r}. In the masks of its {where} split, of'
        f' {len(split)} images, every pixel is {voc.IGNORED}, which does not'
        ' count. Give pixels the numbers of their classes.'
      )
    notes += voc.notes(where, classes)
  shapes = [example.mask.shape for found in examples for example in found]
  shape = tuple(int(side) for side in np.max(shapes, axis=0))
  colour = dense_stream.mean_colour([example.image for example in examples[0]])
  train_rows, test_rows = (
    dense_stream.padded(split, shape, colour) for split in examples
  )
  return Dataset(train_rows, test_rows, dense_stream.facts(colour), notes)


def pose(
  path: str,
  size: int | None = None,
  train: str = 'train',
  test: str = 'valid',
) -> Dataset:
  """Reads a data set in MPII's layout whose images are of one size.

  Args:
    path: of the folder or zip, see :func:`train.data.mpii.find`.
    size: side in pixels that square images are brought to, with their joints
      and boxes (``None``: the images are of one size as they are).
    train: the training split.
    test: the test split.

  Returns:
    Rows of 'image' and of the fields of :class:`train.data.mpii.People`; the
    facts are those of :func:`train.data.mpii.facts`.

  Raises:
    DataError: if it cannot be read, or images differ in size.
  """
  splits = [mpii.find(path, name) for name in (train, test)]
  notes = mpii.notes(*splits)
  train_rows, test_rows = (_people(split, size) for split in splits)
  return Dataset(train_rows, test_rows, mpii.facts(splits[0].people), notes)


class Layout(NamedTuple):
  """How a data set of one layout is opened.

  Attributes:
    in_memory: (path, size) -> the data set, all of it read.
    streamed: (path, size, workers) -> the data set, read while it trains.
    cuts: whether images are brought to a `size`; or else the size is None.
  """

  in_memory: Callable[[str, Any], Dataset]
  streamed: Callable[[str, Any, int], DenseStream]
  cuts: bool


def _scenes(path: str, size: None) -> Dataset:
  del size
  return segmentation(path)


def _streamed_scenes(
  path: str, size: None, workers: int
) -> dense_stream.DenseStream:
  del size
  return dense_stream.scenes(path, (_default_train(path), 'val'), workers)


SCENES = Layout(_scenes, _streamed_scenes, cuts=False)
PEOPLE = Layout(pose, dense_stream.people, cuts=True)


def find(path: str) -> Layout | None:
  """The layout of a folder or a zip, if it is that of VOC or MPII.

  Args:
    path: which may be anything else.

  Returns:
    How to open it, or ``None``.
  """
  if not os.path.exists(path):
    return None
  if not (os.path.isdir(path) or path.lower().endswith('.zip')):
    return None
  store = Store(path)
  if store.first(voc.LISTS) is not None:
    return SCENES
  return PEOPLE if store.first(mpii.PEOPLE) is not None else None


def _default_train(path: str) -> str:
  store = Store(path).first(voc.LISTS)
  augmented = f'{voc.LISTS}/train_aug.txt'
  # Without such a layout, the error of `train` says more.
  has = store is not None and store.has(augmented)
  return 'train_aug' if has else 'train'


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
      ' array has one. Give data.size, the side that a network sees of each'
      ' person, to have the people cut out.'
    )
  return {'image': np.stack(images), **people._asdict()}


def _scaled(
  people: mpii.People, images: Sequence[np.ndarray], size: int, name: str
) -> mpii.People:
  """The people of square images, in images of another side."""
  sides = np.array([image.shape[:2] for image in images])
  oblong = sides[:, 0] != sides[:, 1]
  if np.any(oblong):
    height, width = sides[np.argmax(oblong)]
    raise DataError(
      f'Cannot bring the images of {name} to data.size={size} in memory. One'
      f' of them has {width}x{height} pixels, and people are kept in'
      ' proportion. Leave out data.stream to have the people cut out.'
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
