"""Errors in three beats: what was given, why not, what would work.

Of numbers, only what is known in Python is checked: a schedule passes, and so
does a number traced by `optax.inject_hyperparams`.
"""

import numbers
from collections.abc import Sequence
from typing import Any

import jax
import optax


def number(
  name: str,
  value: Any,
  minimum: float = 0.0,
  maximum: float = float('inf'),
  *,
  why: str,
  above: bool = False,
  static: bool = False,
) -> None:
  """Raises ValueError if `value` is a Python number out of its range.

  Args:
    name: the argument's name.
    value: what was given.
    minimum: the least value.
    maximum: the greatest value.
    why: what the number is, to end "because ...".
    above: whether `minimum` itself is out of range.
    static: whether it shapes arrays, so that a schedule cannot serve.
  """
  if static and callable(value):
    raise ValueError(
      f'Given a schedule for {name}. It cannot change over the steps because '
      'the shapes of arrays depend on it. Pass a number.'
    )
  if isinstance(value, str) or value is None:
    raise ValueError(
      f'Given {name}={value!r}. A number or an optax.Schedule is needed '
      f'because {why}. Pass a float.'
    )
  if not isinstance(value, numbers.Real):
    return
  low = float(value) > minimum if above else float(value) >= minimum
  if low and float(value) <= maximum:  # NaN fails both.
    return
  bounds = f'{"above" if above else "at least"} {minimum:g}'
  if maximum != float('inf'):
    bounds += f' and at most {maximum:g}'
  raise ValueError(
    f'Given {name}={value!r}. This cannot work because {why}. '
    f'Use a value {bounds}.'
  )


def one_of(name: str, value: Any, choices: Sequence[Any]) -> None:
  """Raises ValueError if `value` is none of the named options."""
  if value not in choices:
    raise ValueError(
      f'Given {name}={value!r}. There is no such option. '
      f'Use one of {", ".join(repr(c) for c in choices)}.'
    )


def not_masked(params: Any) -> None:
  """Raises where optax.masked or optax.partition hides parameters."""
  is_masked = lambda x: isinstance(x, optax.MaskedNode)
  if any(map(is_masked, jax.tree.leaves(params, is_leaf=is_masked))):
    raise ValueError(
      'Given masked params: this method stands inside optax.masked or '
      'optax.partition. It evaluates the model, so it needs every '
      'parameter. Put it first, optax.chain(method, optax.masked(...)); to '
      'perturb only some leaves, mask the ascent: optax.chain('
      'optax.masked(optax.set_to_zero(), the_others), ascent.gradient(rho)).'
    )
