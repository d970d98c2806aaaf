"""The published files of CIFAR-10 and CIFAR-100, binary or Python."""

import hashlib
import os
import pickle
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from train.checks import DataError, said

Records = Mapping[str, np.ndarray]  # of 'train' and 'test', uint8 [n, bytes]

_PIXELS = 3 * 32 * 32


class Label(NamedTuple):
  """A label that each record begins with.

  Attributes:
    name: in TFDS.
    key: in the Python batches.
    classes: their names, in the order of their numbers.
  """

  name: str
  key: bytes
  classes: tuple[str, ...]


class Published(NamedTuple):
  """A set as it was published.

  Attributes:
    name: in TFDS.
    title: what people call it.
    labels: as a record has them before its pixels, the class last.
    files: of each split, without the suffix of their layout.
    binary: folder that the binary archive unpacks to; its files end in .bin.
    python: folder that the Python archive unpacks to.
    check: records -> a note on them, '' for none; a DataError if they are not
      the published ones.
  """

  name: str
  title: str
  labels: tuple[Label, ...]
  files: Mapping[str, tuple[str, ...]]
  binary: str
  python: str
  check: Callable[[Records], str]


def read(published: Published, folder: str) -> dict[str, np.ndarray]:
  """Reads the published files, whichever of the two layouts.

  Args:
    published: what is read.
    folder: holds the `.bin` files or the Python batches, or holds the folder
      that their archive unpacks to.

  Returns:
    The records of 'train' and of 'test', uint8 [n, labels + 3072]: the labels,
    then 32x32 pixels of red, of green and of blue.

  Raises:
    DataError: when there are no such files, or they are not as published.
  """
  names = [name for split in published.files.values() for name in split]
  for layout, suffix, read_file in (
    (published.binary, '.bin', _read_binary),
    (published.python, '', _read_pickle),
  ):
    for place in (folder, os.path.join(folder, layout)):
      paths = {name: os.path.join(place, name + suffix) for name in names}
      missing = [path for path in paths.values() if not os.path.isfile(path)]
      if len(missing) == len(names):
        continue
      if missing:
        raise DataError(
          f'Cannot read {published.title} from {folder!r}. Of its {len(names)}'
          f' files these are missing: {", ".join(missing)}. Unpack the'
          ' published archive again and give its folder.'
        )
      return {
        split: np.concatenate(
          [read_file(published, paths[name]) for name in files]
        )
        for split, files in published.files.items()
      }
  raise DataError(
    f'Cannot read {published.title} from {folder!r}. Neither it nor a'
    f' {published.binary} or {published.python} inside it holds'
    f' {", ".join(names)}. Download an archive from'
    ' https://www.cs.toronto.edu/~kriz/cifar.html, unpack it with tar -xzf and'
    ' give the folder that it makes.'
  )


def _read_binary(published: Published, path: str) -> np.ndarray:
  data = np.fromfile(path, np.uint8)
  size = len(published.labels) + _PIXELS
  if not data.size or data.size % size:
    raise DataError(
      f'Cannot read {path!r}. Its {data.size} bytes are not a whole number of'
      f' records of {size} bytes. Download the archive again.'
    )
  records = data.reshape(-1, size)
  for column, label in enumerate(published.labels):
    _check_labels(published, label, path, records[:, column])
  return records


def _read_pickle(published: Published, path: str) -> np.ndarray:
  try:
    with open(path, 'rb') as file:
      batch = _ArrayUnpickler(file, encoding='bytes').load()
  except DataError:
    raise
  except Exception as error:  # A damaged pickle may raise anything.
    raise DataError(
      f'Cannot read {path!r}. It is not a whole pickle: {said(error)}'
      ' Download the archive again.'
    ) from error
  batch = batch if isinstance(batch, dict) else {}
  pixels = batch.get(b'data')
  labels = [batch.get(label.key) for label in published.labels]
  if (
    not isinstance(pixels, np.ndarray)
    or pixels.dtype != np.uint8
    or pixels.shape[1:] != (_PIXELS,)
    or not all(_are_labels(found, len(pixels)) for found in labels)
  ):
    keys = ' and '.join(f'`{x.key.decode()}`' for x in published.labels)
    raise DataError(
      f'Cannot read {path!r}. A batch of {published.title} is a dict of `data`,'
      f' uint8 of shape [n, {_PIXELS}], and {keys}, lists of n integers; this'
      ' is not. Download the archive again.'
    )
  for found, label in zip(labels, published.labels, strict=True):
    _check_labels(published, label, path, found)
  return np.column_stack([np.array(labels, np.uint8).T, pixels])


def _are_labels(found: Any, count: int) -> bool:
  return (
    isinstance(found, list)
    and len(found) == count > 0
    and all(isinstance(label, int) for label in found)
  )


def _check_labels(
  published: Published, label: Label, path: str, found: Any
) -> None:
  low, high = min(found), max(found)
  if low < 0 or high >= len(label.classes):
    raise DataError(
      f'Cannot read {path!r}. Its labels run from {low} to {high}, where'
      f' in {published.title} they run from 0 to {len(label.classes) - 1}.'
      ' Download the archive again.'
    )


class _ArrayUnpickler(pickle.Unpickler):
  """Loads plain values and NumPy arrays, and runs nothing else.

  An ordinary unpickler calls whatever the file names. The published pickles
  name these three only, under the module names that NumPy had then.
  """

  _ALLOWED = {
    ('numpy', 'ndarray'): np.ndarray,
    ('numpy', 'dtype'): np.dtype,
    ('numpy.core.multiarray', '_reconstruct'): np.empty(0).__reduce__()[0],
  }

  def find_class(self, module_name: str, global_name: str) -> Any:
    try:
      return self._ALLOWED[module_name, global_name]
    except KeyError:
      raise DataError(
        f'Refused to read a pickle that names {module_name}.{global_name}.'
        ' The published batches hold NumPy arrays only, and loading other'
        ' objects can run code. Download the archive from'
        ' https://www.cs.toronto.edu/~kriz/cifar.html.'
      ) from None


# Digests of CIFAR-10's published records in their order, and so of `cat
# data_batch_?.bin` and of `test_batch.bin`; the same for both layouts.
CIFAR10_SHA256 = {
  'train': 'a0181da372c0d63a5920fdbea2ec3f83ecbc552d378218e1cb473cf634941a3b',
  'test': '8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b',
}
# Of CIFAR-100's records, sorted: from a lossless copy in another order, which
# is why records that differ are only remarked on.
CIFAR100_SHA256 = {
  'train': 'e087818905fce27ff63616d8f344858809aab7e66060ba0e155a3bb18453ec1e',
  'test': 'b8278c7d1bf36d32ce3e9f2a02eb2c80c9458dcf9a15571d082434cc68f5f5ce',
}
CIFAR100_PER_CLASS = {'train': 500, 'test': 100}
# Of the training pixels from 0 to 255, by channel; to be known again where the
# records differ from that copy.
CIFAR100_MEANS = (129.304, 124.070, 112.434)
CIFAR100_STDS = (68.170, 65.392, 70.418)


def _check_cifar10(records: Records) -> str:
  for split, expected in CIFAR10_SHA256.items():
    found = hashlib.sha256(records[split].tobytes()).hexdigest()
    if found != expected:
      raise DataError(
        f'Cannot use these files as CIFAR-10. Their {len(records[split]):,}'
        f' {split} records have the sha256 {found}, where the published'
        f' records (50,000 train, 10,000 test) have {expected}. Download the'
        ' archive again, or give data of your own as an .npz file or a folder'
        ' of images.'
      )
  return ''


def _check_cifar100(records: Records) -> str:
  note = ''
  for split, expected in CIFAR100_PER_CLASS.items():
    found = np.bincount(records[split][:, 1], minlength=100)
    if np.any(found != expected):
      raise DataError(
        f'Cannot use these files as CIFAR-100. Their {split} records have'
        f' {found.min()} to {found.max()} images of a class, where the'
        f' published ones have {expected} of each. Download the archive again,'
        ' or give data of your own as an .npz file or a folder of images.'
      )
    digest = hashlib.sha256()
    for record in sorted(map(bytes, records[split])):
      digest.update(record)
    if digest.hexdigest() != CIFAR100_SHA256[split]:
      note += (
        f' Its {split} records have the sorted sha256 {digest.hexdigest()} and'
        f' not {CIFAR100_SHA256[split]}, as the copy that is known here has.'
      )
  if note:
    mean, std = channel_statistics(records['train'])
    note += (
      f' The channels of its training pixels have the means {mean} and the'
      f' standard deviations {std}; those of the published ones are'
      f' {CIFAR100_MEANS} and {CIFAR100_STDS}.'
    )
  return note


def channel_statistics(
  records: np.ndarray,
) -> tuple[tuple[float, ...], tuple[float, ...]]:
  """The statistics of records that end in their pixels.

  Args:
    records: uint8 [n, labels + 3072].

  Returns:
    The mean and the standard deviation of red, of green and of blue, of pixels
    from 0 to 255, to three digits.
  """
  pixels = records[:, -_PIXELS:].reshape(len(records), 3, -1)
  mean, std = (
    tuple(round(float(of(pixels[:, channel])), 3) for channel in range(3))
    for of in (np.mean, np.std)
  )
  return mean, std


CIFAR10 = Published(
  name='cifar10',
  title='CIFAR-10',
  labels=(
    Label(
      'label',
      b'labels',
      (
        'airplane',
        'automobile',
        'bird',
        'cat',
        'deer',
        'dog',
        'frog',
        'horse',
        'ship',
        'truck',
      ),
    ),
  ),
  files={
    'train': tuple(f'data_batch_{i}' for i in range(1, 6)),
    'test': ('test_batch',),
  },
  binary='cifar-10-batches-bin',
  python='cifar-10-batches-py',
  check=_check_cifar10,
)

_SUPERCLASSES = """
  aquatic_mammals fish flowers food_containers fruit_and_vegetables
  household_electrical_devices household_furniture insects large_carnivores
  large_man-made_outdoor_things large_natural_outdoor_scenes
  large_omnivores_and_herbivores medium_mammals non-insect_invertebrates
  people reptiles small_mammals trees vehicles_1 vehicles_2
"""
_CLASSES = """
  apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl
  boy bridge bus butterfly camel can castle caterpillar cattle chair
  chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin
  elephant flatfish forest fox girl hamster house kangaroo keyboard lamp
  lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain
  mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck
  pine_tree plain plate poppy porcupine possum rabbit raccoon ray road
  rocket rose sea seal shark shrew skunk skyscraper snail snake spider
  squirrel streetcar sunflower sweet_pepper table tank telephone television
  tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf
  woman worm
"""

CIFAR100 = Published(
  name='cifar100',
  title='CIFAR-100',
  labels=(
    Label('coarse_label', b'coarse_labels', tuple(_SUPERCLASSES.split())),
    Label('label', b'fine_labels', tuple(_CLASSES.split())),
  ),
  files={'train': ('train',), 'test': ('test',)},
  binary='cifar-100-binary',
  python='cifar-100-python',
  check=_check_cifar100,
)

PUBLISHED = {set_.name: set_ for set_ in (CIFAR10, CIFAR100)}
