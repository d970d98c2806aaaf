"""A config file: its variants, and a config with overrides."""

import fnmatch
import importlib
import inspect
import runpy
from collections.abc import Mapping, Sequence
from typing import Any

from absl import flags
from ml_collections import config_flags

from train import checks
from train.checks import Config, ConfigError


def read(name: str) -> Mapping[str, Any]:
  """Reads the names that a config file defines.

  Args:
    name: the path of its file, or the name of a module.

  Returns:
    Its names and what they stand for.

  Raises:
    ConfigError: if there is no such module or file.
  """
  if name.endswith('.py'):
    try:
      return runpy.run_path(name)
    except FileNotFoundError as error:
      raise ConfigError(
        f'Given --config={name}. There is no such file: {error}. Give the path '
        'of one, such as configs/digits.py.'
      ) from error
  try:
    return vars(importlib.import_module(name))
  except ModuleNotFoundError as error:
    raise ConfigError(
      f'Given --config={name}. There is no such module: {error}. Give the path '
      'of a file, such as configs/digits.py.'
    ) from error


def choose(module: Mapping[str, Any], methods: str | None) -> list[str]:
  """The variants of a config file that are asked for.

  Args:
    module: what the file defines.
    methods: names or patterns such as ``*sam``, with commas; None or 'all'
      for all of them.

  Returns:
    The variants; those that match a pattern are in the order of the file.

  Raises:
    ConfigError: if there is no such variant.
  """
  known = list(module.get('VARIANTS', ()))
  if not known:
    raise ConfigError(
      'Given --config. The file has no VARIANTS, so that there is nothing to '
      'compare. Give one that has, or train with python -m train.'
    )
  if methods in (None, 'all'):
    return known
  chosen = []
  for name in methods.replace(' ', '').split(','):
    found = fnmatch.filter(known, name)
    if not found:
      checks.pick('--methods', name, dict.fromkeys(known))
    chosen += found
  return list(dict.fromkeys(chosen))


def load(given: str, settings: Sequence[str] = ()) -> Config:
  """Loads a config from its file.

  Args:
    given: ``FILE`` or ``FILE:VARIANT``.
    settings: ``--config.KEY=VALUE``.

  Returns:
    The config.

  Raises:
    ConfigError: if there is no such file, variant or key.
  """
  name, _, variant = given.partition(':')
  get_config = read(name).get('get_config')
  if get_config is None:
    raise ConfigError(
      f'Given --config={given}. The file has no get_config(). Give a config '
      'file, such as configs/digits.py.'
    )
  if not variant:
    return overridden(get_config(), settings)
  if not inspect.signature(get_config).parameters:
    raise ConfigError(
      f'Given --config={given}. The config has no variants. Use '
      f'--config={name}.'
    )
  return overridden(get_config(variant), settings)


def overridden(config: Config, settings: Sequence[str]) -> Config:
  """Sets keys of a config.

  Args:
    config: as its file has it.
    settings: ``--config.KEY=VALUE``.

  Returns:
    The config.

  Raises:
    ConfigError: if there is no such key, or it cannot have such a value.
  """
  values, argv = flags.FlagValues(), ['train', *settings]
  try:
    config_flags.DEFINE_config_dict(
      'config', config, flag_values=values, sys_argv=argv
    )
    values(argv)
  # A key, or a section, that is not there.
  except (AttributeError, KeyError) as error:
    key = error.args[0]
    text = key.args[0] if isinstance(key, KeyError) else str(key)
    raise ConfigError(
      f'Given an override of {", ".join(text.splitlines())} The config has no '
      'such key. Its keys are those of default() in train/config.py and the '
      'arguments of the method.'
    ) from error
  except flags.Error as error:
    raise ConfigError(
      f'Given {" ".join(settings)}. {str(error).strip()} Give each key a value '
      'of the kind that it has.'
    ) from error
  return values.config
