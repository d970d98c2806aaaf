"""Opens a config's data set: in memory, or streamed from disk."""

import math
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from train import checks
from train.checks import DataError
from train.data import (
  arrays,
  dense,
  digits,
  folder,
  image,
  memory,
  stream,
  subset,
  tfds,
)

CROPS = ('none', 'inception')

# A larger set is streamed unless the config says otherwise.
_IN_MEMORY = 2 * 2**30  # bytes


def open_set(options: Any) -> memory.Dataset | stream.Streamed:
  """Opens the data set of a config: in memory, or streamed from disk.

  Args:
    options: the config's `data` section, see `train/config.py`.

  Returns:
    The data set.

  Raises:
    DataError: when there is no such set, or it cannot be used this way.
  """
  _check(options)
  dataset = _open_whole(options)
  if isinstance(dataset, stream.Streamed):
    return dataset
  if options.first is not None:
    dataset = subset.first_of(options.name, dataset, options.first)
  if options.validation is not None:
    dataset = subset.held_out(options.name, dataset, options.validation)
  return dataset


def _open_whole(options: Any) -> memory.Dataset | stream.Streamed:
  if options.name.endswith('.npz'):
    return memory.load(options.name, options.dir)
  dense_reader = dense.find(os.path.expanduser(options.name))
  if dense_reader is not None:
    return _dense(options, dense_reader)
  found = memory.find(options.name, options.dir)
  shape = _shape(found, options.size)
  if isinstance(found, folder.Folder):
    train, test = found.train, found.test
    file_notes = found.notes
    label_notes = arrays.label_notes(
      train.labels, test.labels, found.num_classes, found.class_names
    )
  else:
    train, test = found.records()
    file_notes = label_notes = ()
  resized, inception = options.size is not None, options.crop == 'inception'
  streams = options.stream
  if streams is None:
    large = None not in shape and (
      (len(train) + len(test)) * math.prod(shape) > _IN_MEMORY
    )
    streams = inception or large
  if not (streams or resized):
    return memory.load(options.name, options.dir)
  for key in ('first', 'validation'):
    if streams and options[key] is not None:
      raise DataError(
        f'Cannot take data.{key}={options[key]} of {options.name!r}, which is'
        f' read from disk while it trains. Leave out data.{key}, or keep the'
        ' set in memory with data.stream=False.'
      )
  if None in shape or shape[-1] not in (1, 3):
    raise DataError(
      f'Cannot use {options.name!r}. Its images are of the shape {shape}, each'
      ' of its own where that is None, and a batch takes one of 1 or 3'
      ' channels. Give data.size in pixels to have them cut and resized to'
      ' squares, or another set.'
    )
  spec = stream.ImageSpec(shape, resized, inception)
  if streams:
    return stream.Streamed(
      options.name,
      train,
      test,
      found.num_classes,
      spec,
      options.workers,
      found.class_names,
      (*file_notes, *label_notes),
    )
  read = (
    stream.read_all(split, spec, found.num_classes, np.arange(len(split)))
    for split in (train, test)
  )
  train, test = ((rows['image'], rows['label']) for rows in read)
  whole = memory.checked(
    options.name, train, test, found.num_classes, found.class_names
  )
  return whole._replace(notes=(*file_notes, *whole.notes))


def _dense(
  options: Any, read: Callable[[str], memory.Dataset]
) -> memory.Dataset:
  """Masks or people, which are kept in memory as they are."""
  if options.stream or options.size:
    raise DataError(
      f'Cannot stream or resize {options.name!r}. Sets of masks and of people'
      ' are kept in memory, where each image is moved with its mask or its'
      ' joints. Leave out data.stream and data.size.'
    )
  return read(os.path.expanduser(options.name))


def _shape(
  found: folder.Folder | tfds.Prepared | digits.Digits, size: int | None
) -> Any:
  """Height, width and channels of what is read, None where they differ."""
  if not isinstance(found, folder.Folder):
    shape = found.shape
    return shape if size is None else (size, size, shape[-1])
  if size is not None:
    return size, size, 3  # colour, of which some images may have none
  first = found.train[0]
  return image.read(first.image, first.name).shape


def _check(options: Any) -> None:
  checks.pick('data.crop', options.crop, dict.fromkeys(CROPS))
  checks.at_least('data.workers', options.workers, 0)
  if options.size is not None:
    checks.at_least('data.size', options.size, 1)
  elif options.crop != 'none':
    raise DataError(
      f'Cannot cut with data.crop={options.crop} and no data.size. The crops'
      ' are resized to a square of so many pixels. Give data.size, of 224 for'
      ' one.'
    )
  if options.name.endswith('.npz') and (options.stream or options.size):
    raise DataError(
      f'Cannot stream or resize {options.name!r}. An .npz file has images of'
      ' one size and is read whole. Leave out data.stream, data.size and'
      ' data.crop, such as by --config.data.size=None, or give a folder of'
      ' images.'
    )
  if options.stream is False and options.crop != 'none':
    raise DataError(
      f'Cannot cut with data.crop={options.crop} and data.stream=False. In'
      ' memory the images are of one size, and the crop needs whole ones.'
      ' Leave out data.stream.'
    )
