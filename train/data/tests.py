"""Further test sets of labelled images, read from disk while they are used.

A set may have only some of the training classes, several right labels for an
image, or parts of which the mean is taken, such as kinds of corruption.
"""

import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from train import checks
from train.checks import DataError
from train.data import classes, digest, digits, folder, memory, stream, tfds

# The values of an example, beside its image.
FIELDS = ('right', 'possible')
# The keys of a section of `data.tests`, and what they are where left out.
DEFAULTS = {
  # A folder, an .npz file or a prepared set of TFDS; or a tuple of them, each a
  # part of the set.
  'name': None,
  # Of TFDS: the split ('test' or else 'validation'), and the feature that has
  # the label or a list of labels.
  'split': None,
  'label': 'label',
  # A JSON file of the training class of each class of the set; without it they
  # have the same names, or are numbered.
  'mapped': None,
  # A JSON file of all right labels of each image. See train/data/classes.py.
  'labels': None,
  # What a prediction is chosen from: 'all' training classes, or 'own', those of
  # the set.
  'classes': 'all',
  # Whether all of an image is used where data.crop would leave its middle: of
  # one that is not square its middle square, or with 'squash' all of it.
  'whole': False,
}


class Part(NamedTuple):
  """A part of a test set.

  Attributes:
    name: its folder, such as 'fog/3'; '' where the set is one part.
    rows: reads a batch of it.
    size: how many images it has.
  """

  name: str
  rows: 'Rows'
  size: int


class TestSet(NamedTuple):
  """A test set, whose scores are the means of those of its parts.

  Attributes:
    name: its name in the config.
    parts: of the set.
    workers: how many processes read it, 0 for threads.
  """

  name: str
  parts: Sequence[Part]
  workers: int = 0

  def batches(self, part: Part, order: np.ndarray) -> Iterator[stream.Rows]:
    """Reads a part.

    Args:
      part: of the set.
      order: positions in the part, int32 [steps, batch].

    Yields:
      For each step its examples by name: 'image', uint8 [batch, height, width,
      channels]; 'right', bool [batch, classes], the right labels, none where
      the image has no label; and 'possible', bool [batch, classes], what a
      prediction is chosen from.
    """
    return stream.batches(part.rows, order, self.workers)

  def digest(self) -> str:
    """A hash of what is cheap to read, see `train/data/digest.py`."""
    return digest.of_parts(
      [(part.rows.source, part.rows.labelling()) for part in self.parts]
    )


@dataclasses.dataclass(frozen=True)
class Rows:
  """Reads a batch; what a worker process is sent.

  Attributes:
    source: the examples, whose label is a number in the set, or several.
    spec: how an image is read.
    numbers: of the training class of each class of the set.
    possible: bool [training classes].
    right: the numbers of the right training classes by example, in place of the
      label in the source; None for the label.
  """

  source: Any
  spec: stream.ImageSpec
  numbers: np.ndarray
  possible: np.ndarray
  right: Sequence[Sequence[int]] | None = None

  def labelling(self) -> dict[str, Any]:
    """Which predictions count as right, beside the labels in the source."""
    return {
      'numbers': self.numbers.tolist(),
      'possible': self.possible.tolist(),
      'right': self.right,
    }

  def __call__(self, ids: np.ndarray) -> stream.Rows:
    """Reads some examples, see `TestSet.batches`."""
    images = np.empty((len(ids), *self.spec.shape), np.uint8)
    right = np.zeros((len(ids), len(self.possible)), bool)
    for row, number in enumerate(map(int, ids)):
      encoded = self.source[number]
      images[row] = self.spec.read(encoded, None)
      if self.right is not None:
        right[row, self.right[number]] = True
        continue
      own = np.ravel(np.asarray(encoded.label, np.int64))
      if own.size and not 0 <= own.min() <= own.max() < len(self.numbers):
        raise DataError(
          f'Cannot use {encoded.name}. Its label is {encoded.label}, where with'
          f' {len(self.numbers)} classes it must be from 0 to'
          f' {len(self.numbers) - 1}. Leave it out, or number the classes from'
          ' 0.'
        )
      right[row, self.numbers[own]] = True
    possible = np.repeat(self.possible[None], len(ids), axis=0)
    return {'image': images, 'right': right, 'possible': possible}


def open_tests(options: Any, dataset: Any) -> list[TestSet]:
  """Opens the sets of a config's `data.tests`, reading no image.

  Args:
    options: the config's `data` section.
    dataset: the training set, onto whose classes the labels are mapped.

  Returns:
    The sets, in the order of the config.

  Raises:
    DataError: if a set is not there, or has a class that is not trained.
    ConfigError: if an option cannot be used.
  """
  return [
    _open(name, section, options, dataset)
    for name, section in options.tests.to_dict().items()
  ]


class _Found(NamedTuple):
  """A part as it lies on the disk: its examples and the names of its classes.

  The label of an example is a position among the names.
  """

  name: str
  source: Any
  names: Sequence[str]


def _open(
  name: str, given: Mapping[str, Any], options: Any, dataset: Any
) -> TestSet:
  what = f'data.tests.{name}'
  section = _checked(what, given)
  if 'num_classes' not in dataset.facts:
    raise DataError(
      f'Cannot use {what}. The training set {options.name!r} has no classes,'
      ' onto which the labels would be mapped. Leave out data.tests.'
    )
  spec = stream.image_spec(
    options,
    dataset.image_shape,
    resized=options.size is not None,
    whole=section['whole'],
  )
  found = _find(section, options)
  right = None
  if section['labels'] is not None:
    files = [_paths(what, part.source) for part in found]
    right = classes.read_lists(section['labels'], files, dataset.facts)
  parts = []
  for part in found:
    numbers = classes.numbers_of(
      what, part.names, dataset.facts, section['mapped']
    )
    possible = np.ones(dataset.facts['num_classes'], bool)
    if section['classes'] == 'own':
      possible = _own(what, numbers, len(possible))
    rows = Rows(part.source, spec, numbers, possible)
    if right is not None:
      rows = _with_labels(rows, right)
    parts.append(Part(part.name, rows, len(rows.source)))
  if len(parts) == 1:
    parts = [parts[0]._replace(name='')]
  return TestSet(name, parts, options.workers)


def _checked(what: str, given: Mapping[str, Any]) -> dict[str, Any]:
  for key in given:
    checks.pick(f'the key of {what}', key, DEFAULTS)
  section: dict[str, Any] = {**DEFAULTS, **given}
  if not section['name']:
    raise DataError(
      f'Cannot use {what}. It has no name, which says where its images are.'
      ' Give a folder, an .npz file or a set of TFDS as its name.'
    )
  checks.pick(f'{what}.classes', section['classes'], {'all': 1, 'own': 1})
  return section


def _find(section: Mapping[str, Any], options: Any) -> list[_Found]:
  """The parts of a set."""
  names = section['name']
  if isinstance(names, str):
    return _find_one(names, section, options)
  found = []
  for name in names:
    for part in _find_one(name, section, options):
      label = '/'.join(filter(None, (name, part.name)))
      found.append(part._replace(name=label))
  return found


def _find_one(
  name: str, section: Mapping[str, Any], options: Any
) -> list[_Found]:
  path = os.path.expanduser(name)
  if path.endswith('.npz'):
    whole = memory.load(path)
    numbers = tuple(map(str, range(whole.facts['num_classes'])))
    source = digits.Split(whole.test['image'], whole.test['label'])
    names = whole.facts.get('class_names', numbers)
    return [_Found('', source, names)]
  if os.path.isdir(path):
    return _find_folder(path)
  if name == digits.NAME:
    found = digits.find()
    return [_Found('', found.test, found.class_names)]
  if not tfds.NAME.fullmatch(name):
    raise DataError(
      f'Cannot load {name!r}. No such path exists, and it is not a TFDS name'
      ' (name/config:version) either. Give a folder of images, a path ending in'
      ' .npz, or a TFDS name.'
    )
  label = section['label']
  return [
    _Found('', *tfds.find_test(name, options.dir, section['split'], label))
  ]


def _find_folder(path: str) -> list[_Found]:
  """The parts of a folder: where there are folders of images, one by one."""
  if os.path.isdir(os.path.join(path, 'train')):
    found = folder.find(path)
    return [_Found('', found.test, found.class_names)]
  parts = []
  for place in folder.above_classes(path):
    files, names = folder.read_classes(place)
    inside = os.path.relpath(place, path)
    parts.append(_Found('' if inside == '.' else inside, files, names))
  if not parts:
    raise DataError(
      f'Cannot load the folder {path!r}. It has no folders of images. Give one'
      ' folder of images for each class; or such folders inside others, of'
      ' which the mean is taken.'
    )
  return parts


def _own(what: str, numbers: np.ndarray, count: int) -> np.ndarray:
  """Which training classes a set has, bool [count]."""
  own = np.isin(np.arange(count), numbers)
  if own.all():
    raise DataError(
      f"Given {what}.classes='own'. The set names all {count} training classes,"
      " so that nothing is left out. Give 'all', or a folder that has folders"
      ' of its own classes alone.'
    )
  return own


def _with_labels(rows: Rows, right: Mapping[str, Sequence[int]]) -> Rows:
  """The rows of the images that have a label, with all of their labels."""
  labels = [right[os.path.basename(path)] for path in rows.source.paths]
  kept = [number for number, found in enumerate(labels) if found]
  source = folder.Files(
    [rows.source.paths[number] for number in kept], rows.source.labels[kept]
  )
  return dataclasses.replace(
    rows, source=source, right=[labels[number] for number in kept]
  )


def _paths(what: str, source: Any) -> Sequence[str]:
  if not isinstance(source, folder.Files):
    raise DataError(
      f'Cannot use {what}.labels. They go by the names of files, and this set'
      ' is no folder. Give a folder; or, for TFDS, the feature with the labels'
      ' as `label`.'
    )
  return source.paths
