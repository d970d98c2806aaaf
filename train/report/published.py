"""Published numbers, to stand beside those of a run.

A number is a tuple that begins with the score and its standard deviation. It
may have further fields, which are read by name: `model` and `dataset` (the
block of the table), `relative_speed` in percent, and `quoted_from` for a number
that the authors took from another paper.
"""

from collections.abc import Mapping
from typing import Any, TypeAlias

Number: TypeAlias = Any  # a tuple, see above
Numbers: TypeAlias = Mapping[str, Number]  # by variant, in the order printed


def as_json(number: Number | None) -> dict[str, Any] | None:
  """A number as a report stores it; the speed is a ratio there."""
  if number is None:
    return None
  speed = getattr(number, 'relative_speed', None)
  return {
    'mean': number[0],
    'std': number[1],
    'relative_speed': None if speed is None else speed / 100,
  }


def reference(variant: str, numbers: Numbers) -> str | None:
  """The variant that the published speed of another is relative to."""
  block = _block(numbers.get(variant))
  for name, number in numbers.items():
    is_own = getattr(number, 'quoted_from', None) is None
    is_whole = getattr(number, 'relative_speed', None) == 100
    if is_own and is_whole and _block(number) == block:
      return name
  return None


def quoted(variants: set[str], numbers: Numbers) -> dict[str, str]:
  """The quoted rows beside some variants: name -> where the number is from."""
  blocks = {_block(numbers.get(variant)) for variant in variants} - {None}
  return {
    name: number.quoted_from
    for name, number in numbers.items()
    if getattr(number, 'quoted_from', None) and _block(number) in blocks
  }


def difference(
  score: Mapping[str, Any], published: Mapping[str, Any] | None
) -> float | None:
  """Our score minus the published one, None where either is missing."""
  if published is None or None in (score['mean'], published['mean']):
    return None
  return score['mean'] - published['mean']


def _block(number: Number | None) -> tuple[str, str] | None:
  model, dataset = (getattr(number, key, '') for key in ('model', 'dataset'))
  return (model, dataset) if model else None
