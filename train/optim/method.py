"""The method of a run, from the config."""

import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ml_collections
from ml_collections import config_dict

import sam_optax
from train import checks
from train.checks import Config, ConfigError
from train.optim import varying


def method(name: str, **changes: Any) -> Config:
  """A method's section of the config: its name and all of its arguments.

  Args:
    name: a name in `sam_optax.METHODS`.
    **changes: arguments that differ from the method's defaults; a dict for
      one that varies, see `train/optim/varying.py`.

  Returns:
    The section. The program passes the run's seed as `key`, and what it knows
    of the run (see `build_method`) where that is left None.
  """
  section: dict[str, Any] = {'name': name}
  for argument in _arguments(name):
    value = changes.pop(argument.name, argument.default)
    if argument.name == 'key' or value is argument.empty:
      continue  # the program gives it
    if value is None and int in typing.get_args(argument.annotation):
      value = config_dict.placeholder(int)
    if value is not None:
      section[argument.name] = value
  if changes:
    unknown = next(iter(changes))
    known = [argument.name for argument in _arguments(name)]
    raise ConfigError(
      f'Given method.{unknown}. {name} has no such argument. '
      f'{checks.nearest(unknown, known)}'
    )
  return ml_collections.ConfigDict(section)


def build_method(
  config: Config, key: Any, **known: Any
) -> sam_optax.SharpnessAware:
  """Builds the method that the config names.

  Args:
    config: the config of the run.
    key: int seed or PRNG key, for a method that draws.
    **known: what the program knows of the run (`num_examples`,
      `total_steps`, ...), for a method that asks and whose config leaves it
      None.

  Returns:
    The method.

  Raises:
    ConfigError: if an argument is unknown or out of its range.
  """
  options = config.method.to_dict()
  name = options.pop('name')
  names = [argument.name for argument in _arguments(name)]
  for option in options:
    if option not in names:
      raise ConfigError(
        f'Given method.{option}. {name} has no such argument. '
        f'{checks.nearest(option, names)}'
      )
    if isinstance(options[option], dict):
      options[option] = varying.build(
        option,
        options[option],
        config.optimizer.learning_rate,
        known['learning_rate'],
        known['total_steps'],
      )
  for option, value in {**known, 'key': key}.items():
    if option in names and options.get(option) is None:
      options[option] = value
  for option in _OF_OUTPUTS:
    if option in names and options.get(option) is None:
      raise ConfigError(
        f'Given method.name={name!r} with task={config.task!r}. The method '
        f'asks for {option}, which the outputs of this task do not have. Use '
        'another method, or a task with a class for each image.'
      )
  asked = options.get('num_examples')
  if asked is not None and asked < known['num_examples']:
    raise ConfigError(
      f'Given method.num_examples={asked}. The training set has '
      f'{known["num_examples"]} examples, and each needs a row of the table. '
      'Leave it out, or give at least the size of the set.'
    )
  try:
    return sam_optax.METHODS[name](**options)
  except ValueError as error:
    raise ConfigError(f'In method ({name}): {error}') from error


# Arguments that say when a method begins to be what it is: from one, and the
# steps of an epoch, to the first such step.
_BEGINNINGS: Mapping[str, Callable[[float, int], float]] = {
  'warmup_steps': lambda steps, epoch: steps,
  'start': lambda step, epoch: step,
  'start_epoch': lambda last, epoch: (last + 1) * epoch,
}
# Those among them that only prepare the method. Others may begin late on
# purpose.
_PREPARING = ('warmup_steps',)


def late_starts(
  config: Config, total_steps: int, steps_per_epoch: int
) -> list[str]:
  """Says which argument makes the method begin late, or not in this run.

  Args:
    config: the config of the run.
    total_steps: the steps of the run.
    steps_per_epoch: the steps of an epoch.

  Returns:
    A text for each such argument, for a warning.
  """
  texts = []
  for argument, first_step in _BEGINNINGS.items():
    value = config.method.get(argument)
    if not isinstance(value, int | float):
      continue
    first = first_step(value, steps_per_epoch)
    if first >= total_steps:
      texts.append(
        f'Given method.{argument}={value} in a run of {total_steps} steps. '
        f'What begins at step {first:.0f} is not a part of this run, so its '
        'result is of another method. Use a smaller number, or more steps.'
      )
    elif argument in _PREPARING and 2 * first > total_steps:
      texts.append(
        f'Given method.{argument}={value} in a run of {total_steps} steps. '
        f'What begins at step {first:.0f} is less than half of this run, so '
        'the result is mostly of the steps before. Use a smaller number, or '
        'more steps.'
      )
  return texts


# Arguments that a method gets from the outputs of the task.
_OF_OUTPUTS = ('num_classes',)


def _arguments(name: str) -> Sequence[inspect.Parameter]:
  """The arguments of a method of sam_optax."""
  build = checks.pick('method.name', name, sam_optax.METHODS)
  # With types and not their names, which the annotations hold.
  return list(inspect.signature(build, eval_str=True).parameters.values())
