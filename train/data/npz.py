"""An `.npz` file as a data set: four arrays, and the classes' names."""

import difflib
import os
import zipfile
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from train.checks import DataError, said
from train.data import arrays
from train.data.arrays import Arrays

NAMES = ('train_x', 'train_y', 'test_x', 'test_y')
# The name of the classes' names, and another that many files have.
_CLASSES = ('class_names', 'names')
# Names in other programs, such as Keras, apart from the order of the words.
_WORDS = {'images': 'x', 'image': 'x', 'data': 'x', 'labels': 'y', 'label': 'y'}
_SPLITS = {'val': 'test', 'valid': 'test', 'validation': 'test'}


class Found(NamedTuple):
  """What an `.npz` file has, unchecked but for the classes' names.

  Attributes:
    train: the training split.
    test: the test split.
    class_names: by their numbers; none if the file has none.
    notes: what of the file is rarely meant.
  """

  train: Arrays
  test: Arrays
  class_names: Sequence[str]
  notes: Sequence[str]


def read(path: str) -> Found:
  """Reads an `.npz` file.

  Args:
    path: of the file.

  Returns:
    Its arrays.

  Raises:
    DataError: if there is no such file, or it has not these arrays.
  """
  if not os.path.isfile(path):
    raise DataError(
      f'Cannot load {path!r}. There is no such file. Write one with'
      f' numpy.savez(path, {"=..., ".join(NAMES)}=...).'
    )
  wanted = {*NAMES, *_CLASSES}
  try:
    with open(path, 'rb') as opened:
      file = np.load(opened, allow_pickle=False)
      if isinstance(file, np.ndarray):
        raise ValueError('it is one array, an .npy file')
      found = list(file)
      values = {name: file[name] for name in found if name in wanted}
  except (
    ValueError,
    OSError,
    EOFError,
    zipfile.BadZipFile,
    zlib.error,
  ) as error:
    raise DataError(
      f'Cannot load {path!r}. It is not a whole .npz file of plain arrays:'
      f' {said(error)} Write one with numpy.savez, without object arrays: of'
      ' images of several sizes, write a folder of files instead.'
    ) from error
  missing = [name for name in NAMES if name not in values]
  if missing:
    raise DataError(
      f'Cannot load {path!r}. It lacks {", ".join(missing)} and holds'
      f' {", ".join(found) or "nothing"}. Write it with numpy.savez(path,'
      f' {"=..., ".join(NAMES)}=...).{_meant(missing, found)}'
    )
  unused = [name for name in found if name not in wanted]
  notes = []
  if unused:
    near = difflib.get_close_matches(unused[0], _CLASSES, n=1)
    hint = f' Did you mean {near[0]!r} by {unused[0]!r}?' if near else ''
    notes.append(
      f'Of {path!r} the arrays {arrays.shortened(unused)} are not used. Read'
      f' are {", ".join(NAMES)} and class_names.{hint}'
    )
  return Found(
    Arrays(values['train_x'], values['train_y']),
    Arrays(values['test_x'], values['test_y']),
    _class_names(path, values),
    notes,
  )


def _class_names(path: str, values: dict[str, np.ndarray]) -> Sequence[str]:
  name = next((name for name in _CLASSES if name in values), None)
  if name is None:
    return ()
  names = values[name]
  if names.dtype.kind == 'S':
    names = np.char.decode(names, 'utf-8', 'replace')
  if names.ndim != 1 or names.dtype.kind != 'U':
    raise DataError(
      f'Cannot use {path!r}. Its {name} are {names.dtype} of shape'
      f' {names.shape}, where each class needs a text. Write them as'
      " numpy.array(['ant', 'bee']), in the order of the classes' numbers."
    )
  twice = sorted({one for one in names.tolist() if (names == one).sum() > 1})
  if twice or '' in names:
    raise DataError(
      f'Cannot use {path!r}. Its {name} have'
      f' {repr(twice[0]) + " several times" if twice else "an empty name"}, so'
      ' that a prediction would not tell the class. Give each class a name of'
      ' its own.'
    )
  labels = values['train_y']
  if labels.size and labels.dtype.kind in 'iu' and labels.max() >= len(names):
    raise DataError(
      f'Cannot use {path!r}. It has {len(names)} {name}, and its training'
      f' labels run to {labels.max()}. Give a name to each class, in the order'
      ' of their numbers from 0.'
    )
  return tuple(names.tolist())


def _meant(missing: Sequence[str], found: Sequence[str]) -> str:
  """Which of the arrays are those that are missing, by their names."""
  by_words = {frozenset(_words(name)): name for name in found}
  pairs = {
    name: by_words[frozenset(name.split('_'))]
    for name in missing
    if frozenset(name.split('_')) in by_words
  }
  if not pairs:
    return ''
  text = ', '.join(f'{name}=file[{old!r}]' for name, old in pairs.items())
  return f' They seem to be there under other names: {text}.'


def _words(name: str) -> list[str]:
  words = name.lower().replace('-', '_').split('_')
  words = [part for word in words for part in _apart(word)]
  return [_SPLITS.get(x, _WORDS.get(x, x)) for x in words]


def _apart(word: str) -> list[str]:
  """'xtrain' and 'trainx' as two words."""
  for split in ('train', 'test'):
    rest = word.replace(split, '', 1)
    if rest != word and rest in ('x', 'y'):
      return [split, rest]
  return [word]
