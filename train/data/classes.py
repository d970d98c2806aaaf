"""Labels of a test set as classes of the training set."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from train.checks import DataError, said


def number_of(what: str, label: str | int, facts: Mapping[str, Any]) -> int:
  """The number of a training class.

  Args:
    what: the label is of, for an error.
    label: the name of a training class; or a number, as an integer or, where
      no class has this name, as text.
    facts: about the training set.

  Returns:
    The number.

  Raises:
    DataError: if there is no such class.
  """
  names: Sequence[str] = list(facts.get('class_names') or ())
  count = facts['num_classes']
  if label in names:
    return names.index(label)
  if str(label).isdecimal() and int(label) < count:
    return int(label)
  few = ', '.join(names[:3]) or ', '.join(map(str, range(min(3, count))))
  raise DataError(
    f'Cannot use {what}. Its class {label!r} is none of the {count} training'
    f' classes ({few} and so on), neither by name nor by number. Name the'
    ' training class of each of its classes in a JSON file, with `mapped`.'
  )


def numbers_of(
  what: str,
  names: Sequence[str],
  facts: Mapping[str, Any],
  mapped: str | None = None,
) -> np.ndarray:
  """The training classes of the classes of a test set.

  Args:
    what: the test set, for an error.
    names: of its classes.
    facts: about the training set.
    mapped: a JSON file of the training class, by name or number, of each name.

  Returns:
    The numbers, int32 [len(names)].

  Raises:
    DataError: if a class has no training class, or the file cannot be used.
  """
  table = None if mapped is None else _json(mapped, dict)
  if table is None:
    labels = names
  else:
    missing = [name for name in names if name not in table]
    if missing:
      raise DataError(
        f'Cannot use {what}. Its classes {missing[:5]} are not in {mapped!r}.'
        ' Name a training class for each of them there.'
      )
    labels = [table[name] for name in names]
  return np.array([number_of(what, x, facts) for x in labels], np.int32)


def read_lists(
  path: str, files: Iterable[Sequence[str]], facts: Mapping[str, Any]
) -> dict[str, list[int]]:
  """The right training classes of images, of which each may have several.

  Args:
    path: of a JSON file: a list of classes for each file name; or a list of
      such lists, in the order of the names.
    files: the images of each part of the set, whose folders do not matter: the
      images of one name in several parts are versions of one image.
    facts: about the training set.

  Returns:
    The numbers of the classes by file name.

  Raises:
    DataError: if the file cannot be used, or is not of these images.
  """
  content = _json(path, dict | list)
  names = sorted(set().union(*(_names(path, part) for part in files)))
  if isinstance(content, list):
    if len(content) != len(names):
      raise DataError(
        f'Cannot use the labels in {path!r}. It has {len(content)} lists, and'
        f' there are {len(names)} images. Give as many, in the order of the'
        ' file names, or a list for each file name.'
      )
    content = dict(zip(names, content, strict=True))
  missing = [name for name in names if name not in content]
  if missing:
    raise DataError(
      f'Cannot use the labels in {path!r}. It lacks the images {missing[:3]}.'
      ' Give a list for each, an empty one where no label is right.'
    )
  return {
    name: [number_of(repr(path), label, facts) for label in content[name]]
    for name in names
  }


def _names(path: str, files: Sequence[str]) -> Mapping[str, str]:
  """The images of a part by their names, of which each must be of one."""
  found = {}
  for file in files:
    name = os.path.basename(file)
    if name in found:
      raise DataError(
        f'Cannot use the labels in {path!r}. They go by the names of files, and'
        f' both {found[name]!r} and {file!r} are called {name!r}. Give each'
        ' image a name of its own.'
      )
    found[name] = file
  return found


def _json(path: str, kind: Any) -> Any:
  try:
    with open(os.path.expanduser(path), encoding='utf-8') as file:
      content = json.load(file)
    if not isinstance(content, kind):
      raise ValueError(f'it holds a {type(content).__name__}')
  except (OSError, ValueError) as error:
    raise DataError(
      f'Cannot read {path!r}. No such JSON file can be used here:'
      f' {said(error)} See train/data/classes.py for what it holds.'
    ) from error
  return content
