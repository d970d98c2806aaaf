"""The published files of CIFAR-10, binary or Python."""

import hashlib
import os
import pickle
from collections.abc import Mapping
from typing import Any

import numpy as np

from train.checks import DataError

CIFAR10_CLASSES = (
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
)

# Digests of the published records, and so of `cat data_batch_?.bin` and of
# `test_batch.bin`. They are the same for both published layouts.
CIFAR10_SHA256 = {
  'train': ('a0181da372c0d63a5920fdbea2ec3f83ecbc552d378218e1cb473cf634941a3b'),
  'test': ('8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b'),
}

_CIFAR10_FILES = {
  'train': tuple(f'data_batch_{i}' for i in range(1, 6)),
  'test': ('test_batch',),
}
_RECORD_BYTES = 1 + 3 * 32 * 32


def read_cifar10(folder: str) -> dict[str, np.ndarray]:
  """Reads the published files of CIFAR-10, whichever of the two layouts.

  Args:
    folder: holds the `.bin` files or the Python pickles, or holds their folder
      `cifar-10-batches-bin` or `cifar-10-batches-py`.

  Returns:
    The records of `train` and of `test`, uint8 of shape [n, 3073]: the label,
    then 32x32 pixels of red, of green and of blue.

  Raises:
    DataError: when there are no such files, or they are not as published.
  """
  names = [name for split in _CIFAR10_FILES.values() for name in split]
  for layout, suffix, read in (
    ('cifar-10-batches-bin', '.bin', _read_binary),
    ('cifar-10-batches-py', '', _read_pickle),
  ):
    for place in (folder, os.path.join(folder, layout)):
      paths = {name: os.path.join(place, name + suffix) for name in names}
      missing = [path for path in paths.values() if not os.path.isfile(path)]
      if len(missing) == len(names):
        continue
      if missing:
        raise DataError(
          f'Cannot read CIFAR-10 from {folder!r}. Of its six files these are'
          f' missing: {", ".join(missing)}. Unpack the published archive'
          ' again and give its folder.'
        )
      return {
        split: np.concatenate([read(paths[name]) for name in files])
        for split, files in _CIFAR10_FILES.items()
      }
  raise DataError(
    f'Cannot read CIFAR-10 from {folder!r}. Neither it nor a'
    ' cifar-10-batches-bin or cifar-10-batches-py inside it holds'
    ' data_batch_1 to data_batch_5 and test_batch. Download'
    ' https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz, unpack it with'
    ' tar -xzf and give the folder that it makes.'
  )


def check_cifar10(records: Mapping[str, np.ndarray]) -> None:
  """Checks that records are exactly the published ones, in their order.

  Args:
    records: the `train` and `test` records as `read_cifar10` gives them.

  Raises:
    DataError: when any byte differs.
  """
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


def _read_binary(path: str) -> np.ndarray:
  data = np.fromfile(path, np.uint8)
  if not data.size or data.size % _RECORD_BYTES:
    raise DataError(
      f'Cannot read {path!r}. Its {data.size} bytes are not a whole number of'
      f' records of {_RECORD_BYTES} bytes. Download the archive again.'
    )
  records = data.reshape(-1, _RECORD_BYTES)
  _check_labels(path, records[:, 0])
  return records


def _read_pickle(path: str) -> np.ndarray:
  try:
    with open(path, 'rb') as file:
      batch = _ArrayUnpickler(file, encoding='bytes').load()
  except DataError:
    raise
  except Exception as error:  # A damaged pickle may raise anything.
    raise DataError(
      f'Cannot read {path!r}. It is not a whole pickle: {error}. Download the'
      ' archive again.'
    ) from error
  pixels = batch.get(b'data') if isinstance(batch, dict) else None
  labels = batch.get(b'labels') if isinstance(batch, dict) else None
  if (
    not isinstance(pixels, np.ndarray)
    or pixels.dtype != np.uint8
    or pixels.shape[1:] != (_RECORD_BYTES - 1,)
    or not isinstance(labels, list)
    or not labels
    or len(labels) != len(pixels)
    or not all(isinstance(label, int) for label in labels)
  ):
    raise DataError(
      f'Cannot read {path!r}. A batch of CIFAR-10 is a dict of `data`, uint8'
      f' of shape [n, {_RECORD_BYTES - 1}], and `labels`, a list of n'
      ' integers; this is not. Download the archive again.'
    )
  _check_labels(path, labels)
  return np.column_stack([np.array(labels, np.uint8), pixels])


def _check_labels(path: str, labels: np.ndarray | list[int]) -> None:
  low, high = min(labels), max(labels)
  if low < 0 or high >= len(CIFAR10_CLASSES):
    raise DataError(
      f'Cannot read {path!r}. Its labels run from {low} to {high}, where'
      ' those of CIFAR-10 run from 0 to 9. Download the archive again.'
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
        ' The published batches of CIFAR-10 hold NumPy arrays only, and'
        ' loading other objects can run code. Download the archive from'
        ' https://www.cs.toronto.edu/~kriz/cifar.html.'
      ) from None
