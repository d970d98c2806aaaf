"""Files by name, in a folder or inside a zip."""

import functools
import os
import posixpath
import zipfile
from collections.abc import Sequence

from train.checks import DataError, said


class Store:
  """The files below one place of a folder or of a zip.

  A copy of it in another process opens the zip again.

  Args:
    path: of a folder or of a zip.
    inside: the place, apart by '/', '' for the top.
  """

  def __init__(self, path: str, inside: str = ''):
    self.path = path
    self.inside = inside

  def __repr__(self) -> str:
    return repr(self._named(''))

  def name(self, file: str) -> str:
    """The file's name in an error."""
    return repr(self._named(file))

  def read(self, file: str) -> bytes:
    """The content of a file.

    Args:
      file: its name below the place, apart by '/'.

    Returns:
      Its bytes.

    Raises:
      DataError: if there is no such file.
    """
    try:
      if _is_zip(self.path):
        return _opened(self.path).read(posixpath.join(self.inside, file))
      with open(self._named(file), 'rb') as opened:
        return opened.read()
    except (KeyError, OSError, zipfile.BadZipFile) as error:
      raise DataError(
        f'Cannot load {self.name(file)}. There is no such file, or it is not'
        f' whole: {said(error)} Unpack or copy the data set again.'
      ) from error

  def source(self, file: str) -> str | bytes:
    """What Pillow opens a file by: its path, or of a zip its content."""
    return self.read(file) if _is_zip(self.path) else self._named(file)

  def has(self, file: str) -> bool:
    """Whether there is such a file or folder below the place."""
    if not _is_zip(self.path):
      return os.path.exists(self._named(file))
    return posixpath.join(self.inside, file) in _names(self.path)

  def at(self, inside: str) -> 'Store':
    """The store of a place below this one."""
    return Store(self.path, posixpath.join(self.inside, inside))

  def first(self, marker: str) -> 'Store | None':
    """The first place, from the top, below which there is a file or folder.

    Args:
      marker: name of the file or folder, apart by '/'.

    Returns:
      Its store, or ``None`` if there is none.
    """
    for place in sorted(self._places(), key=lambda x: (x.count('/'), x)):
      if self.at(place).has(marker):
        return self.at(place)
    return None

  def _places(self) -> Sequence[str]:
    """The top, and the folders of two levels below it."""
    places = {''}
    if _is_zip(self.path):
      for name in _names(self.path):
        parts = posixpath.relpath(name, self.inside or '.').split('/')[:-1]
        places.update('/'.join(parts[:depth]) for depth in (1, 2) if parts)
      return sorted(places)
    top = os.path.join(self.path, self.inside)
    for outer in _folders(top):
      places.add(outer)
      inner = _folders(os.path.join(top, outer))
      places.update(f'{outer}/{name}' for name in inner)
    return sorted(places)

  def _named(self, file: str) -> str:
    return os.path.join(self.path, self.inside, file).rstrip('/')


def lines(content: bytes, name: str) -> list[str]:
  """The lines of a text file.

  Args:
    content: of the file; a byte order mark at its beginning is no text.
    name: of the file, for an error.

  Returns:
    The lines, without their ends.

  Raises:
    DataError: if it is not in UTF-8.
  """
  try:
    return content.decode('utf-8-sig').splitlines()
  except UnicodeDecodeError as error:
    raise DataError(
      f'Cannot load {name}. It is no text in UTF-8: {said(error)} Save it in'
      ' UTF-8.'
    ) from error


def _folders(path: str) -> Sequence[str]:
  if not os.path.isdir(path):
    return []
  return sorted(entry.name for entry in os.scandir(path) if entry.is_dir())


def _is_zip(path: str) -> bool:
  return path.lower().endswith('.zip')


# The list of a zip's files is at its end, and is read once. Reading from an
# open one is safe in threads.
@functools.lru_cache(maxsize=4)
def _opened(path: str) -> zipfile.ZipFile:
  return zipfile.ZipFile(path)


@functools.lru_cache(maxsize=4)
def _names(path: str) -> frozenset[str]:
  """The files and folders of a zip."""
  try:
    files = _opened(path).namelist()
  except (OSError, zipfile.BadZipFile) as error:
    raise DataError(
      f'Cannot load {path!r}. It is not a whole zip: {said(error)} Copy it'
      ' again.'
    ) from error
  names = set()
  for name in files:
    name = name.rstrip('/')
    while name and name not in names:
      names.add(name)
      name = posixpath.dirname(name)
  return frozenset(names)
