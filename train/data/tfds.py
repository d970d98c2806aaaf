"""Sets of TFDS that are prepared on this machine. Nothing here downloads."""

import dataclasses
import difflib
import importlib
import os
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from train.checks import DataError, said
from train.data import cifar
from train.data.image import Encoded

# `name[/config][:version]`. A namespace (`huggingface:name`) does not match:
# TFDS would look for it on the network.
NAME = re.compile(r'[A-Za-z]\w*(/[\w.-]+)?(:\d+\.[\d.*]+)?')

# What is trained and what is tested on, where it is not `train`, and `test` or
# else `validation`: the labels of these test splits are not published.
_SPLITS = {
  'i_naturalist2018': ('train', 'validation'),
  'imagenet2012': ('train', 'validation'),
  'places365_small': ('train', 'validation'),
}

# TFDS imports these late or without declaring them: a lack of one would show
# as an error from deep inside it.
_NEEDS = ('PIL', 'array_record', 'importlib_resources')

_INSTALL = "pip install 'sam_optax[train]'"
_INSTALL_TF = "pip install 'sam_optax[tf]'"

_READ_BATCH = 1000


@dataclasses.dataclass(frozen=True)
class Records:
  """A split of a set, whose images are left as they are stored."""

  name: str
  source: Any  # examples by number
  label: str = 'label'  # the feature

  def __len__(self) -> int:
    return len(self.source)

  def __getitem__(self, number: int) -> Encoded:
    example = self.source[number]
    name = f'example {number} of {self.name}'
    # A number, or an array where an example has several.
    return Encoded(example['image'], example[self.label], name)


class Prepared(NamedTuple):
  """A set whose splits can be read example by example."""

  name: str
  builder: Any
  splits: tuple[str, str]
  num_classes: int
  shape: tuple[int | None, ...]  # of the images, None where they differ
  class_names: Sequence[str] = ()

  def records(self) -> tuple[Records, Records]:
    """The two splits, undecoded."""
    train, test = (
      Records(f'the split {split} of {self.name!r}', source)
      for split, source in zip(self.splits, self._sources(), strict=True)
    )
    return train, test

  def arrays(self) -> list[tuple[np.ndarray, np.ndarray]]:
    """Images and labels of the two splits, in memory."""
    return [_read_all(self.name, source) for source in self._sources('image')]

  def _sources(self, decoded: str | None = None) -> list[Any]:
    return [_source(self.builder, split, decoded) for split in self.splits]


def find(name: str, data_dir: str | None) -> Prepared:
  """Finds a set.

  Args:
    name: as TFDS has it.
    data_dir: where prepared sets are, None for TFDS's own place.

  Returns:
    The set.

  Raises:
    DataError: when there is no such set here, or none of images and labels
      with random access.
  """
  tfds = import_tfds(name)
  builder = _prepared_builder(tfds, name, data_dir)
  features, splits = builder.info.features, builder.info.splits
  chosen = splits_of(builder.name, set(splits))
  missing = {'image', 'label'} - set(features) | set(chosen) - set(splits)
  if missing:
    raise DataError(
      f'Cannot use {name!r}. It lacks {", ".join(sorted(missing))}: it has the'
      f' features {sorted(features)} and the splits {sorted(splits)}. Write'
      ' what you need of it as an .npz file.'
    )
  _check_access(name, data_dir, builder, chosen[0])
  return Prepared(
    name,
    builder,
    chosen,
    features['label'].num_classes,
    tuple(features['image'].shape),
    tuple(features['label'].names or ()),
  )


def find_test(
  name: str, data_dir: str | None, split: str | None, label: str
) -> tuple[Records, Sequence[str]]:
  """Finds a split that is only tested on.

  Args:
    name: as TFDS has it.
    data_dir: where prepared sets are, None for TFDS's own place.
    split: None for `test` or else `validation`.
    label: the feature that has a label or a list of labels.

  Returns:
    The examples, and the names of the classes, by their numbers.

  Raises:
    DataError: when there is no such set here, or no such split or feature.
  """
  builder = _prepared_builder(import_tfds(name), name, data_dir)
  features, splits = builder.info.features, builder.info.splits
  chosen = split or splits_of(builder.name, set(splits))[1]
  missing = {'image', label} - set(features) | {chosen} - set(splits)
  if missing:
    raise DataError(
      f'Cannot test on {name!r}. It lacks {", ".join(sorted(missing))}: it has'
      f' the features {sorted(features)} and the splits {sorted(splits)}. Name'
      ' one of them as `label` or as `split`.'
    )
  _check_access(name, data_dir, builder, chosen)
  of_one = getattr(features[label], 'feature', features[label])
  names = of_one.names or tuple(map(str, range(of_one.num_classes)))
  records = Records(
    f'the split {chosen} of {name!r}', _source(builder, chosen), label
  )
  return records, tuple(names)


def splits_of(name: str, available: set[str]) -> tuple[str, str]:
  """The splits that are trained and tested on.

  Args:
    name: of the set, without configuration and version.
    available: the splits that it has.

  Returns:
    Their names, which need not be available.
  """
  both = {'test', 'validation'} & available
  default = 'validation' if both == {'validation'} else 'test'
  return _SPLITS.get(name, ('train', default))


def import_tfds(name: str) -> Any:
  """Imports TFDS, which only those need who ask for a set of it."""
  try:
    for module in _NEEDS:
      importlib.import_module(module)
    return importlib.import_module('tensorflow_datasets')
  except ImportError as error:
    raise DataError(
      f'Cannot load {name!r}. It is no path here, and to look for it in TFDS'
      f' {error.name or error} is needed, which is not'
      f' installed. Run {_INSTALL}, or give an .npz file or a folder of'
      ' images.'
    ) from error


def how_to_prepare(name: str, data_dir: str | None) -> str:
  """The commands that prepare a TFDS set."""
  folder = f' --data_dir={data_dir}' if data_dir else ''
  own = (
    "TFDS's own builder downloads the data and needs TensorFlow: run"
    f' {_INSTALL_TF} and then'
    f' tfds build {name} --file_format=array_record{folder}.'
  )
  if (published := name.split(':')[0]) not in cifar.PUBLISHED:
    return own
  return (
    f'Run python -m train.prepare {published} --from=FOLDER{folder}, where'
    f' FOLDER has the published files. Or, {own}'
  )


class UnknownName(DataError):
  """A name that TFDS does not have."""


def is_name(name: str) -> bool:
  """Whether a name may name a TFDS set, and names no folder of images here."""
  path = os.path.expanduser(name)
  # A TFDS name may be the name of some folder here as well, the one that its
  # data are in for one. That has no folder `train`.
  return bool(NAME.fullmatch(name)) and not os.path.isdir(
    os.path.join(path, 'train')
  )


def _prepared_builder(tfds: Any, name: str, data_dir: str | None) -> Any:
  try:
    builder = tfds.builder(name, data_dir=data_dir)
  except tfds.core.registered.DatasetNotFoundError as error:
    known = tfds.list_builders(with_community_datasets=False)
    near = difflib.get_close_matches(name.split('/')[0], ['digits', *known])
    raise UnknownName(
      f'Cannot load {name!r}. TFDS has no such data set, and here is no folder'
      ' of this name with train and test in it.'
      f' {f"Did you mean {near[0]}?" if near else "Check the name."}'
    ) from error
  except (ValueError, RuntimeError, AssertionError) as error:
    raise DataError(
      f'Cannot load {name!r}. TFDS has no such configuration or version of'
      f' it: {said(error)} Give one that TFDS lists.'
    ) from error
  if not builder.is_prepared():
    raise DataError(
      f'Cannot load {name!r}. TFDS knows it, but it is not prepared in'
      f' {builder.data_path}. {how_to_prepare(name, data_dir)}'
    )
  return builder


def _check_access(
  name: str, data_dir: str | None, builder: Any, split: str
) -> None:
  try:
    builder.as_data_source(split)
  # Raised by TFDS for a file format without random access.
  except NotImplementedError as error:
    raise DataError(
      f'Cannot read {name!r} from {builder.data_path}. It was prepared as'
      f' {builder.info.file_format}, which has no random access. Prepare it'
      ' again as array_record into another data_dir, or remove that folder'
      f' first. {how_to_prepare(name, data_dir)}'
    ) from error


def _source(builder: Any, split: str, decoded: str | None = None) -> Any:
  tfds = import_tfds(builder.name)
  # Of an example's images, a mask for one, no other is asked for.
  skipped = {
    name: tfds.decode.SkipDecoding()
    for name, feature in builder.info.features.items()
    if isinstance(feature, tfds.features.Image) and name != decoded
  }
  return builder.as_data_source(split, decoders=skipped)


def _read_all(name: str, source: Any) -> tuple[np.ndarray, np.ndarray]:
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
        ' where a model takes one. Give data.size to have them resized.'
      )
    images.append(np.stack([example['image'] for example in batch]))
    labels.extend(example['label'] for example in batch)
  return np.concatenate(images), np.array(labels)
