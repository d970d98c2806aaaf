"""Opens a config's data set: in memory, or streamed from disk."""

import math
import os
import pathlib
from typing import Any, TypeAlias

import numpy as np

from train import checks
from train.checks import DataError
from train.data import (
  arrays,
  dense,
  dense_stream,
  digits,
  folder,
  image,
  memory,
  stream,
  subset,
  tfds,
)

CROPS = ('none', 'inception')
TEST_CROPS = ('squash',)

AnySet: TypeAlias = memory.Dataset | stream.Streamed | dense_stream.DenseStream

# A larger set is streamed unless the config says otherwise.
_IN_MEMORY = 2 * 2**30  # bytes


def open_set(options: Any) -> AnySet:
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
  if not isinstance(dataset, memory.Dataset):
    return dataset
  if options.first is not None:
    dataset = subset.first_of(options.name, dataset, options.first)
  if options.validation is not None:
    dataset = subset.held_out(options.name, dataset, options.validation)
  return dataset


def folder_of(options: Any) -> pathlib.Path | None:
  """What a config's data set is read from.

  Args:
    options: the config's `data` section.

  Returns:
    The path; None for a set that is known by its name, which lies elsewhere,
    whatever is called so here.
  """
  path = os.path.expanduser(options.name)
  if tfds.is_name(options.name) and dense.find(path) is None:
    return None
  return pathlib.Path(path)


def _open_whole(options: Any) -> AnySet:
  if options.name.endswith('.npz'):
    return memory.load(options.name, options.dir)
  layout = dense.find(os.path.expanduser(options.name))
  if layout is not None:
    return _dense(options, layout)
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
  resized = options.size is not None
  streams = options.stream
  if streams is None:
    large = None not in shape and (
      (len(train) + len(test)) * math.prod(shape) > _IN_MEMORY
    )
    streams = options.crop == 'inception' or large
  if not (streams or resized):
    return memory.load(options.name, options.dir)
  if streams:
    _check_whole(options)
  if None in shape or shape[-1] not in (1, 3):
    raise DataError(
      f'Cannot use {options.name!r}. Its images are of the shape {shape}, each'
      ' of its own where that is None, and a batch takes one of 1 or 3'
      ' channels. Give data.size in pixels to have them cut and resized to'
      ' squares, or another set.'
    )
  spec = stream.image_spec(options, shape, resized=resized)
  if streams:
    # Each class of a folder has images; labels elsewhere are not read yet.
    arrays.check_several(options.name, found.num_classes)
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


def _dense(options: Any, layout: dense.Layout) -> AnySet:
  """Masks or people, in memory or streamed."""
  path, size = os.path.expanduser(options.name), options.size
  if options.crop != 'none':
    raise DataError(
      f'Cannot cut {options.name!r} with data.crop={options.crop}. It would'
      ' move neither masks nor joints. Leave out data.crop: the task itself'
      ' draws cuts, see its section of the config.'
    )
  if size is not None and not layout.cuts:
    raise DataError(
      f'Cannot resize {options.name!r} to data.size={size}. Each mask is moved'
      ' with its image, by draws of the training. Leave out data.size, and give'
      ' segmentation.crop.'
    )
  if layout.cuts and options.stream and size is None:
    raise DataError(
      f'Cannot stream {options.name!r} without data.size. People are cut out of'
      ' their images while they are streamed, to the side that a network sees.'
      ' Give data.size, or leave out data.stream to keep images of one size in'
      ' memory.'
    )
  streams = size is not None if options.stream is None else options.stream
  part = options.first is not None or options.validation is not None
  if not streams and (layout.cuts or part or options.stream is False):
    return layout.in_memory(path, size)
  streamed = layout.streamed(path, size, options.workers)
  count = streamed.num_examples + streamed.num_tested
  if not streams and count * math.prod(streamed.row_shape) <= _IN_MEMORY:
    return layout.in_memory(path, size)
  _check_whole(options)
  return streamed


def _check_whole(options: Any) -> None:
  """Refuses a part of a set that is streamed."""
  for key in ('first', 'validation'):
    if options[key] is not None:
      raise DataError(
        f'Cannot take data.{key}={options[key]} of {options.name!r}, which is'
        f' read from disk while it trains. Leave out data.{key}, or keep the'
        ' set in memory with data.stream=False.'
      )


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


def _check_crop(options: Any) -> None:
  """Refuses what is said of crops and cannot be, or where there are none."""
  area, test = options.crop_area, options.test_crop
  if area is not None and not 0 < area <= 1:
    raise checks.ConfigError(
      f'Given data.crop_area={area}. It is a share of the area of an image, of'
      ' which a crop has as much or more. Use a value above 0 and up to 1.'
    )
  if test is not None:
    checks.pick('data.test_crop', test, dict.fromkeys(TEST_CROPS))
  for key in ('crop_area', 'test_crop'):
    if options[key] is not None and options.crop == 'none':
      raise DataError(
        f'Cannot read images with data.{key}={options[key]} and'
        ' data.crop=none. It says how the crops of data.crop are taken, and'
        f' there are none. Give data.crop=inception, or leave out data.{key},'
        f' such as by --config.data.{key}=None.'
      )


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
  _check_crop(options)
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
