"""The configuration of a run: its default, and what is built from it.

A file in `configs/` starts from `default()` and changes a few lines. The
config is locked, so a misspelt key is an error that names the nearest one.
Everything here fails before anything is written or compiled.
"""

import difflib
import inspect
import typing
from collections.abc import Sequence
from typing import Any, TypeAlias

import ml_collections
import optax
from ml_collections import config_dict

import sam_optax

# An ml_collections.ConfigDict; its keys have no static types.
Config: TypeAlias = Any


class ConfigError(ValueError):
  """A run that cannot be built: what was given, why not, what would work."""


def default() -> Config:
  """The configuration that every file in `configs/` starts from."""
  config: Config = ml_collections.ConfigDict(
    {
      'seed': 0,
      'epochs': 10,
      # If set, the run ends after so many steps, whatever `epochs` says.
      'steps': config_dict.placeholder(int),
      'batch_size': 128,
      'eval_every': 1,  # epochs
      'log_every': 10,  # steps
      # Steps, 0 for none; and how many of the last checkpoints stay.
      'checkpoint': {'every': 500, 'keep': 2},
      # Who takes the branches: 'host' picks a compiled step, 'device' runs
      # lax.cond; 'auto' is host on CPU, where XLA runs the gradient of a
      # convolution in a cond 40 times slower, and device elsewhere.
      'branch': 'auto',
      'data': {
        'name': 'digits',  # see train/data.py
        'dir': config_dict.placeholder(str),
      },
      'model': {'name': 'resnet'},
      'augment': {
        'pad': 0,
        'fill': 'zero',
        'flip': False,
        'cutout': 0,
        'cutout_probability': 0.5,
      },
      # The second gradient source of the methods that have one: how many
      # examples (None for no such source), and whether the step's own batch
      # is among them.
      'reference': {
        'batch_size': config_dict.placeholder(int),
        'contains_batch': False,
      },
      'label_smoothing': 0.0,  # mass spread over all classes, the true included
      'optimizer': {
        'name': 'sgd',
        'learning_rate': 0.1,
        'schedule': 'cosine',  # per step, to 0; or 'constant'
        'warmup_steps': 0,
        'weight_decay': 5e-4,
        'momentum': 0.9,
        'nesterov': False,
      },
      'method': method('sam'),
    }
  )
  return config.lock()


def method(name: str, **changes: Any) -> Config:
  """A method's section of the config: its name and all of its arguments.

  Args:
    name: a public method of `sam_optax`.
    **changes: arguments that differ from the method's defaults.

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
      f'{_nearest(unknown, known)}'
    )
  return ml_collections.ConfigDict(section)


def pick_variant(variant: str, variants: dict[str, Any]) -> Any:
  """The row of a config file's table, or an error that lists the rows."""
  return _pick('the variant (--config=FILE:VARIANT)', variant, variants)


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
        f'{_nearest(option, names)}'
      )
  for option, value in {**known, 'key': key}.items():
    if option in names and options.get(option) is None:
      options[option] = value
  asked = options.get('num_examples')
  if asked is not None and asked < known['num_examples']:
    raise ConfigError(
      f'Given method.num_examples={asked}. The training set has '
      f'{known["num_examples"]} examples, and each needs a row of the table. '
      'Leave it out, or give at least the size of the set.'
    )
  try:
    return getattr(sam_optax, name)(**options)
  except ValueError as error:
    raise ConfigError(f'In method ({name}): {error}') from error


def build_schedule(config: Config, total_steps: int) -> optax.Schedule:
  """Builds the learning rate: a function of the step.

  Args:
    config: the config of the run.
    total_steps: length of the schedule.

  Returns:
    The schedule.

  Raises:
    ConfigError: if an option cannot be used.
  """
  options = config.optimizer
  _at_least('optimizer.learning_rate', options.learning_rate, 0)
  _at_least('optimizer.warmup_steps', options.warmup_steps, 0)
  schedule = _pick('optimizer.schedule', options.schedule, _SCHEDULES)
  rate = schedule(options.learning_rate, total_steps - options.warmup_steps)
  if not options.warmup_steps:
    return rate
  rise = optax.linear_schedule(0.0, options.learning_rate, options.warmup_steps)
  return optax.join_schedules([rise, rate], [options.warmup_steps])


def build_optimizer(
  config: Config, total_steps: int
) -> optax.GradientTransformation:
  """Builds the base optimizer: weight decay, momentum, learning rate.

  Args:
    config: the config of the run.
    total_steps: length of the learning-rate schedule.

  Returns:
    An Optax transformation, applied to the method's gradient.

  Raises:
    ConfigError: if an option cannot be used.
  """
  options = config.optimizer
  _at_least('optimizer.weight_decay', options.weight_decay, 0)
  rate = build_schedule(config, total_steps)
  return _pick('optimizer.name', options.name, _OPTIMIZERS)(options, rate)


def _sgd(options, rate):
  return optax.chain(
    optax.add_decayed_weights(options.weight_decay),
    optax.sgd(rate, momentum=options.momentum, nesterov=options.nesterov),
  )


def _adamw(options, rate):
  return optax.adamw(rate, weight_decay=options.weight_decay)


_OPTIMIZERS = {'sgd': _sgd, 'adamw': _adamw}
_SCHEDULES = {
  'cosine': lambda rate, steps: optax.cosine_decay_schedule(
    rate, max(steps, 1)
  ),
  'constant': lambda rate, steps: optax.constant_schedule(rate),
}


def check(config: Config, num_examples: int) -> int:
  """Checks the numbers of a run, and gives its length.

  Args:
    config: the config of the run.
    num_examples: size of the training set.

  Returns:
    The number of steps.

  Raises:
    ConfigError: if a number cannot be used.
  """
  for name in ('epochs', 'batch_size', 'eval_every', 'log_every'):
    _at_least(name, config[name], 1)
  _at_least('checkpoint.every', config.checkpoint.every, 0)
  _at_least('checkpoint.keep', config.checkpoint.keep, 1)
  _pick('branch', config.branch, dict.fromkeys(('auto', 'host', 'device')))
  if config.reference.batch_size is not None:
    _at_least('reference.batch_size', config.reference.batch_size, 1)
  if not 0 <= config.label_smoothing < 1:
    raise ConfigError(
      f'Given label_smoothing={config.label_smoothing}. It is the share of the '
      'label spread over all classes. Use a value from 0 to below 1.'
    )
  if config.batch_size > num_examples:
    raise ConfigError(
      f'Given batch_size={config.batch_size}. The training set has only '
      f'{num_examples} examples, so there would be no step. Use at most '
      f'{num_examples}.'
    )
  if config.steps is not None:
    _at_least('steps', config.steps, 1)
    return config.steps
  return config.epochs * (num_examples // config.batch_size)


def _arguments(name: str) -> Sequence[inspect.Parameter]:
  """The arguments of a public method of sam_optax."""
  known = sorted(method for method in dir(sam_optax) if is_method(method))
  if name not in known:
    raise ConfigError(
      f'Given method.name={name!r}. sam_optax has no such method. '
      f'{_nearest(name, known)}'
    )
  signature = inspect.signature(getattr(sam_optax, name))
  return list(signature.parameters.values())


def is_method(name: str) -> bool:
  """Whether a name of sam_optax is that of a method."""
  function = getattr(sam_optax, name)
  if not inspect.isfunction(function):
    return False
  returned = inspect.signature(function).return_annotation
  parts = set(inspect.signature(function).parameters) & {'ascent', 'cadence'}
  return returned is sam_optax.SharpnessAware and not parts


def _at_least(name: str, value: float, minimum: float) -> None:
  if not value >= minimum:
    raise ConfigError(
      f'Given {name}={value}. It cannot be below {minimum}. '
      f'Use {minimum} or more.'
    )


def _pick(name: str, value: str, known: dict[str, Any]) -> Any:
  if value not in known:
    raise ConfigError(
      f'Given {name}={value!r}. There is no such choice. '
      f'{_nearest(value, list(known))}'
    )
  return known[value]


def _nearest(given: str, known: Sequence[str]) -> str:
  match = difflib.get_close_matches(given, known, n=1)
  hint = f'Did you mean {match[0]!r}? ' if match else ''
  return f'{hint}Use one of {", ".join(known)}.'
