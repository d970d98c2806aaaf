"""Arguments of a method that vary during a run, written as a section.

`method.rho = {'follows': 'learning_rate', 'first': 2.5, 'last': 1.5}` is affine
in the learning rate: `first` at its peak, `last` where it ends. With 'steps' in
its place it is half a cosine over the run's steps.
"""

from collections.abc import Mapping
from typing import Any

import jax
import optax

import sam_optax
from train import checks

_KEYS = {'follows', 'first', 'last'}


def build(
  name: str,
  section: Mapping[str, Any],
  peak: float,
  learning_rate: optax.Schedule,
  total_steps: int,
) -> optax.Schedule:
  """Builds an argument that varies.

  Args:
    name: of the argument, for the messages.
    section: its section of the config.
    peak: the greatest learning rate.
    learning_rate: the base optimizer's schedule.
    total_steps: length of the run.

  Returns:
    A schedule from step to value.

  Raises:
    ConfigError: if the section cannot be used.
  """
  if set(section) != _KEYS:
    raise checks.ConfigError(
      f'Given method.{name} with {", ".join(section) or "nothing"} in it. An '
      'argument that varies needs to know what it follows, its first and its '
      f'last value. Give {", ".join(sorted(_KEYS))}, or a number.'
    )
  follows = checks.pick(
    f'method.{name}.follows', section['follows'], _SCHEDULES
  )
  first, last = section['first'], section['last']
  checks.at_least(f'method.{name}.last', last, 0)
  return follows(name, first, last, peak, learning_rate, total_steps)


def _follow_learning_rate(name, first, last, peak, learning_rate, total_steps):
  checks.at_least(f'method.{name}.first', first, last)
  # A number, also where the method is built while a step is traced.
  with jax.ensure_compile_time_eval():
    end = float(learning_rate(total_steps))
  return sam_optax.rho_schedule(learning_rate, first, last, peak, end)


def _follow_steps(name, first, last, peak, learning_rate, total_steps):
  del peak, learning_rate
  if not first > 0:
    raise checks.ConfigError(
      f'Given method.{name}.first={first}. What grows over the steps is a '
      'multiple of it. Use a number above 0.'
    )
  return sam_optax.noise_schedule(total_steps, first, last / first)


_SCHEDULES = {'learning_rate': _follow_learning_rate, 'steps': _follow_steps}
