"""Errors in three beats: what was given, why not, what would work.

Of numbers, only what is known when a part is built is checked: a schedule
passes, and so does a number traced by `optax.inject_hyperparams`.
"""

import functools
import inspect
import numbers
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer

# Steps and ids are int32.
_MOST = float(np.iinfo(np.int32).max)

_P = ParamSpec('_P')
_R = TypeVar('_R')


def number(
  name: str,
  value: Any,
  minimum: float = 0.0,
  maximum: float = float('inf'),
  *,
  why: str,
  above: bool = False,
  static: bool = False,
  schedule: bool = True,
  whole: bool = False,
) -> None:
  """Raises ValueError if `value` is known to be no number in its range.

  Args:
    name: the argument's name.
    value: what was given.
    minimum: the least value.
    maximum: the greatest value.
    why: what the number is, to end "because ...".
    above: whether `minimum` itself is out of range.
    static: whether it shapes arrays, so that a schedule cannot serve.
    schedule: whether a schedule can serve.
    whole: whether it counts something, so that a fraction cannot serve.
  """
  if static and callable(value):
    raise ValueError(
      f'Given a schedule for {name}. It cannot change over the steps because '
      'the shapes of arrays depend on it. Pass a number.'
    )
  if static and isinstance(value, Tracer):
    raise ValueError(
      f'Given a traced {name}. It must be known when the step is compiled '
      'because the shapes of arrays depend on it. Pass a Python number; to '
      f"optax.inject_hyperparams, static_args=('{name}',)."
    )
  if callable(value) and not isinstance(value, type):
    if not schedule:
      raise ValueError(
        f'Given a schedule for {name}. It has one value for the whole run '
        f'because {why}. Pass a number.'
      )
    _takes_a_step(name, value)
    return
  is_array = isinstance(value, jax.Array | np.ndarray)
  if is_array and value.ndim:
    raise ValueError(
      f'Given {name} of shape {value.shape}. One number is needed because '
      f'{why}. Pass a scalar.'
    )
  if isinstance(value, Tracer):
    return
  known = _plain(value)
  if isinstance(known, bool) or not isinstance(known, numbers.Real):
    known_as = f'{name}={value!r}'
    if isinstance(value, optax.GradientTransformation):
      known_as = f'an optimizer as {name}'
    raise ValueError(
      f'Given {known_as}. A number or an optax.Schedule is needed because '
      f'{why}. Pass a float; the base optimizer follows in optax.chain('
      'method, optimizer).'
    )
  if whole:
    maximum = min(maximum, _MOST)
  elif float(known) == float('inf') == maximum and minimum > -maximum:
    maximum = float(np.finfo(np.float32).max)
  low = float(known) > minimum if above else float(known) >= minimum
  kind, is_whole = 'value', True
  if whole:
    kind, is_whole = 'whole number', float(known) == np.floor(float(known))
  if static and whole:
    is_whole = isinstance(known, numbers.Integral)
  if low and float(known) <= maximum and is_whole:  # NaN fails both bounds.
    return
  bounds = f'{"above" if above else "at least"} {minimum:g}'
  if maximum != float('inf'):
    bounds += f' and at most {maximum:g}'
  raise ValueError(
    f'Given {name}={value!r}. This cannot work because {why}. '
    f'Use a {kind} {bounds}.'
  )


def _plain(value: Any) -> Any:
  """A number of NumPy or JAX as a Python number; anything else stays.

  NumPy does not count its scalars of bfloat16 or float8 as real numbers.
  """
  if not isinstance(value, jax.Array | np.ndarray | np.generic):
    return value
  return value.item() if jnp.issubdtype(value.dtype, jnp.number) else value


def _takes_a_step(name: str, schedule: Callable[..., Any]) -> None:
  """Raises ValueError if a schedule cannot be called with one argument."""
  try:
    signature = inspect.signature(schedule)
  except ValueError:  # not of Python
    return
  try:
    signature.bind(0)
  except TypeError as error:
    raise ValueError(
      f'Given a schedule for {name} with the arguments {signature}. It is '
      'called with the number of the step, and with nothing else. Pass a '
      'function (step) -> number, such as those in optax.schedules.'
    ) from error


def span(
  names: tuple[str, str], start: Any, stop: Any, *, never: bool = False
) -> None:
  """Raises ValueError if a span is known to end before it starts.

  Args:
    names: the names of the two arguments.
    start: where it starts; a schedule or a traced number passes.
    stop: where it ends; None for no end.
    never: whether a stop of 0 says that there is no span at all.
  """
  if not _are_known(start, stop):
    return
  first, end = _plain(start), _plain(stop)
  if end < first and not (never and end == 0):
    raise ValueError(
      f'Given {names[0]}={start!r} and {names[1]}={stop!r}. The span ends '
      f'before it starts, and would be empty. Use a {names[1]} of at least '
      f'{names[0]}, or None for no end.'
    )


def interval(names: tuple[str, str], low: Any, high: Any) -> None:
  """Raises ValueError if two bounds of a number are known to exclude any.

  Args:
    names: the names of the two arguments.
    low: the least value; a schedule or a traced number passes.
    high: the greatest.
  """
  if _are_known(low, high) and _plain(low) > _plain(high):
    raise ValueError(
      f'Given {names[0]}={low!r} and {names[1]}={high!r}. No number is between '
      f'the two. Use a {names[0]} of at most {names[1]}.'
    )


def _are_known(*values: Any) -> bool:
  """Whether all are numbers, and neither schedules nor traced."""
  known = numbers.Real | jax.Array | np.ndarray | np.generic
  return all(
    isinstance(value, known) and not isinstance(value, Tracer)
    for value in values
  )


def key(name: str, value: Any) -> None:
  """Raises ValueError if `value` is neither a seed nor one PRNG key."""
  if isinstance(value, numbers.Integral) and not isinstance(value, bool):
    if -(2**63) <= int(value) < 2**63:
      return
  given, is_key = f'{name}={value!r}', False
  if isinstance(value, jax.Array | np.ndarray):
    dtype, shape = value.dtype, value.shape
    given = f'{name} of dtype {dtype} and shape {shape}'
    if jnp.issubdtype(dtype, jax.dtypes.prng_key):
      is_key = shape == ()
    elif len(shape) == 1:
      # An old-style key, as long as those of JAX's default generator.
      default = jax.eval_shape(lambda: jax.random.key_data(jax.random.key(0)))
      is_key = dtype == jnp.uint32 and shape == default.shape
    else:
      is_key = shape == () and jnp.issubdtype(dtype, jnp.integer)
  if not is_key:
    raise ValueError(
      f'Given {given}. Each draw comes from one PRNG key. Pass an int as a '
      'seed, or one key: jax.random.key(0). Of several, pass one, keys[i].'
    )


def no_optimizer(constructor: Callable[_P, _R]) -> Callable[_P, _R]:
  """Decorates `sam`: explains a call in the manner of `optax.contrib.sam`."""

  @functools.wraps(constructor)
  def checked(*arguments: _P.args, **options: _P.kwargs) -> _R:
    given = (*arguments, *options.values())
    if any(isinstance(x, optax.GradientTransformation) for x in given):
      raise ValueError(
        'Given an optimizer, as optax.contrib.sam takes two. Here a method '
        'turns a gradient into another, and needs only its radius. Call '
        'optax.chain(sam_optax.sam(rho=0.05), optimizer), without an '
        'adversarial optimizer: the learning rate of that one is rho.'
      )
    return constructor(*arguments, **options)

  return checked


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
