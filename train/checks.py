"""Checks of a config's values, and the errors of a run that cannot be."""

import difflib
import errno
import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

# An ml_collections.ConfigDict; its keys have no static types.
Config: TypeAlias = Any


class ConfigError(ValueError):
  """A run that cannot be built: what was given, why not, what would work."""


class DataError(ValueError):
  """A data set that cannot be used: what was given, why, and what to do."""


def at_least(name: str, value: float, minimum: float) -> None:
  """Refuses a number below a minimum, an infinite one, or none at all."""
  if not math.isfinite(value):
    raise ConfigError(
      f'Given {name}={value}. It is no finite number, with which nothing can '
      f'be computed. Use a number from {minimum}.'
    )
  if value < minimum:
    raise ConfigError(
      f'Given {name}={value}. It cannot be below {minimum}. '
      f'Use {minimum} or more.'
    )


def between(name: str, value: float, low: float, high: float, why: str) -> None:
  """Refuses a number outside of a range; both ends are in it."""
  if not low <= value <= high:
    raise ConfigError(
      f'Given {name}={value}. {why}. Use a value from {low} to {high}.'
    )


def pick(name: str, value: str, known: Mapping[str, Any]) -> Any:
  """The row of a table, or an error that lists the rows."""
  if value not in known:
    raise ConfigError(
      f'Given {name}={value!r}. There is no such choice. '
      f'{nearest(value, list(known))}'
    )
  return known[value]


def nearest(given: str, known: Sequence[str]) -> str:
  """Advice after an unknown name: the nearest one, and all of them."""
  match = difflib.get_close_matches(given, known, n=1)
  hint = f'Did you mean {match[0]!r}? ' if match else ''
  return f'{hint}Use one of {", ".join(known)}.'


def said(error: BaseException | str) -> str:
  """Another library's message as sentences, for the middle of one of ours.

  Args:
    error: what was raised, or its text.

  Returns:
    One line that ends in a full stop, or as the message itself ends.
  """
  # The text of a KeyError is in quotes, with its line breaks escaped.
  inner = error.args[0] if isinstance(error, KeyError) and error.args else error
  lines = [line.strip() for line in str(inner).splitlines() if line.strip()]
  text = ''
  for line in lines or [type(error).__name__]:
    is_next = text and line[0].isupper() and text[-1] not in '.?!:;,'
    text = f'{text}{"." if is_next else ""} {line}'.strip()
  text = text.rstrip(' ,:;')
  return text if text.endswith(('.', '?', '!')) else f'{text}.'


def warn(text: str) -> None:
  """Says on stderr what is rarely meant, and what to do about it."""
  print(f'warning: {text}', file=sys.stderr, flush=True)


def shortage(error: BaseException | None) -> str | None:
  """What the machine ran out of, and what to change; None if of nothing.

  Args:
    error: what was raised, by whichever library; also what it was raised from.
  """
  while error is not None:
    text = (str(error).splitlines() or [''])[0][:200]
    code = error.errno if isinstance(error, OSError) else None
    if code in (errno.ENOSPC, errno.EDQUOT) or 'No space left' in str(error):
      return (
        f'Cannot write any more: {said(text)} The disk is full, or your share '
        'of it is. The last whole checkpoint stays: free some space, and run '
        'the same command again to resume from it.'
      )
    if isinstance(error, MemoryError) or (
      # JAX's, by its name: this module is the ground and imports no JAX.
      type(error).__name__ == 'JaxRuntimeError'
      and 'RESOURCE_EXHAUSTED' in str(error)
    ):
      return (
        f'Out of memory: {said(text or "of the machine")} The run needs more '
        'than the device, or the machine, has free. In another workdir give a '
        'smaller batch_size, or test_batch_size, which is that of predictions '
        'too; or keep them and set micro_batch, dtype=bfloat16, '
        'model.remat=True of a vit, or data.stream=True. The last whole '
        'checkpoint stays.'
      )
    error = error.__cause__ or error.__context__
  return None
