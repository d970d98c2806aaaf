"""Hashes of data sets: whether a run is resumed on the data it began with."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

# As many as tell a set from another; two that differ in a bit are told apart.
DIGITS = 16
# Examples of a split on disk whose content is hashed, spread over the split.
_SAMPLE = 100


def of_arrays(
  train: Mapping[str, np.ndarray],
  test: Mapping[str, np.ndarray],
  facts: Mapping[str, Any],
) -> str:
  """Hashes a data set in memory, every byte of it.

  Args:
    train: arrays by name.
    test: arrays by name.
    facts: about the set.

  Returns:
    16 hexadecimal digits.
  """
  found = _begun(facts)
  for rows in (train, test):
    for name, values in sorted(rows.items()):
      found.update(f'{name} {values.dtype.str} {values.shape}'.encode())
      found.update(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)
  return found.hexdigest()[:DIGITS]


def of_sources(train: Any, test: Any, facts: Mapping[str, Any]) -> str:
  """Hashes a data set on disk, without reading all of it.

  A folder's digest has the names of all its files, their classes and their
  sizes, and the content of 100 files of each split. A set of another kind has
  the number of its examples, and 100 of them. So a change of a few files that
  keeps their sizes can pass unnoticed, and a copied folder stays the same.

  Args:
    train: the training split, see `train.data.stream.Source`.
    test: the test split.
    facts: about the set.

  Returns:
    16 hexadecimal digits.
  """
  found = _begun(facts)
  for split in (train, test):
    _add(found, split)
  return found.hexdigest()[:DIGITS]


def of_parts(parts: Sequence[tuple[Any, Any]]) -> str:
  """Hashes a further test set, without reading all of it.

  Args:
    parts: of the set: the examples of each, and what is known of them. Of the
      examples as much is hashed as `of_sources` does of a split.

  Returns:
    16 hexadecimal digits.
  """
  found = hashlib.sha256()
  for source, facts in parts:
    found.update(_text(facts))
    _add(found, source)
  return found.hexdigest()[:DIGITS]


def _add(found: Any, split: Any) -> None:
  """Adds to a hash what of a split is cheap to read."""
  found.update(f'split {len(split)}'.encode())
  if hasattr(split, 'listing'):
    for line in split.listing():
      found.update(line.encode(errors='surrogateescape'))
  count = min(_SAMPLE, len(split))
  for number in np.linspace(0, len(split) - 1, count).astype(int):
    example = split[int(number)]
    content = example.image
    if isinstance(content, np.ndarray):
      content = content.tobytes()
    found.update(f'{example.label} {len(content)}'.encode())
    found.update(content)


def _begun(facts: Mapping[str, Any]) -> Any:
  return hashlib.sha256(_text(facts))


def _text(facts: Any) -> bytes:
  return json.dumps(facts, sort_keys=True, default=str).encode()
