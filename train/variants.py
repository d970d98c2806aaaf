"""A config file: its variants, and a config with overrides."""

import ast
import fnmatch
import importlib
import inspect
import runpy
import traceback
from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections
from absl import flags
from ml_collections import config_flags

from train import checks, tasks
from train import config as train_config
from train.checks import Config, ConfigError

# What a config file may have beside get_config(), and of which kind.
_TABLES = {
  'VARIANTS': ((Mapping, list, tuple), 'variants by name, or their names'),
  'DEMO': ((Mapping,), 'variants by label'),
  'PUBLISHED': ((Mapping,), 'published numbers by variant'),
  'TABLE': ((str,), 'the words of a title'),
}


def read(name: str) -> Mapping[str, Any]:
  """Reads the names that a config file defines.

  Args:
    name: the path of its file, or the name of a module.

  Returns:
    Its names and what they stand for.

  Raises:
    ConfigError: if there is no such module or file, it cannot be read, or a
      table in it is of another kind than the commands take.
  """
  if not name.strip():
    raise ConfigError(
      f'Given --config={name}. It names no file. Give the path of one, such as '
      'configs/digits.py.'
    )
  module = _read(name)
  for table, (kind, what) in _TABLES.items():
    if table in module and not isinstance(module[table], kind):
      raise ConfigError(
        f'Given --config={name}. Its {table} is a '
        f'{type(module[table]).__name__}, where {what} are expected. Write it '
        'as the files in configs/ do, or leave it out.'
      )
  for variant, number in module.get('PUBLISHED', {}).items():
    if not (isinstance(number, tuple) and len(number) >= 2):
      raise ConfigError(
        f'Given --config={name}. Its PUBLISHED has {number!r} for {variant!r}, '
        'where a score and its standard deviation are expected. Write '
        f'({number!r}, None) if there is no deviation.'
      )
  return module


def _read(name: str) -> Mapping[str, Any]:
  if name.endswith('.py'):
    try:
      return runpy.run_path(name)
    except FileNotFoundError as error:
      raise ConfigError(
        f'Given --config={name}. There is no such file: {checks.said(error)} '
        'Give the path of one, such as configs/digits.py.'
      ) from error
    except (Exception, SystemExit) as error:
      raise _broken(name, 'The file cannot be read', error) from error
  try:
    return vars(importlib.import_module(name))
  except ModuleNotFoundError as error:
    raise ConfigError(
      f'Given --config={name}. There is no such module: {checks.said(error)} '
      'Give the path of a file, such as configs/digits.py.'
    ) from error
  except (Exception, SystemExit) as error:
    raise _broken(name, 'The module cannot be read', error) from error


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
  name, variant = split(given)
  return overridden(build(read(name), variant, given), settings)


def split(given: str) -> tuple[str, str]:
  """The file and the variant, '' for none, of ``FILE[:VARIANT]``."""
  name, _, variant = given.partition(':')
  return name, variant


def build(module: Mapping[str, Any], variant: str, given: str) -> Config:
  """The config that a file makes.

  Args:
    module: what the file defines.
    variant: of it, '' for its own choice.
    given: the file, for the messages.

  Returns:
    The config.

  Raises:
    ConfigError: if it makes none.
  """
  get_config = module.get('get_config')
  if not callable(get_config):
    raise ConfigError(
      f'Given --config={given}. The file has no get_config(). Give a config '
      'file, such as configs/digits.py.'
    )
  if variant and not inspect.signature(get_config).parameters:
    raise ConfigError(
      f'Given --config={given}. The config has no variants. Use '
      f'--config={split(given)[0]}.'
    )
  try:
    config = get_config(*([variant] if variant else []))
  except ConfigError:
    raise
  except (Exception, SystemExit) as error:
    raise _broken(given, 'Its get_config() fails', error) from error
  if not isinstance(config, ml_collections.ConfigDict):
    raise ConfigError(
      f'Given --config={given}. Its get_config() returns '
      f'{type(config).__name__}, and not a config. Start from '
      'train.config.default(), change it, and return it.'
    )
  check_keys(config, f'--config={given}')
  return config


def check_keys(config: Config, given: str) -> None:
  """Refuses keys that nothing reads, and sections that lack some.

  A dict that is assigned to a section takes its place, and is not locked.

  Args:
    config: the config.
    given: what made it, for the messages.

  Raises:
    ConfigError: if it has other keys than `default()`, and the section of a
      task.
  """
  _check_section(config, train_config.default(), '', given)


def _check_section(config: Any, default: Any, path: str, given: str) -> None:
  section = f'The section {path!r} of its config' if path else 'Its config'
  if not isinstance(config, ml_collections.ConfigDict):
    raise ConfigError(
      f'Given {given}. {section} is {config!r}, and a section has keys. Set '
      f'one of them, such as {path}.{next(iter(default))}.'
    )
  absent = sorted({*default} - {*config})
  if absent:
    advice = 'Start from train.config.default(), which has every key.'
    if path:
      advice = (
        'A dict that is assigned to a section replaces all of it. Set single '
        f'keys, or use config.{path}.update(KEY=VALUE).'
      )
    raise ConfigError(
      f'Given {given}. {section} has no {", ".join(absent)}, which a run '
      f'needs. {advice}'
    )
  known = [*default] if path else [*default, *tasks.TASKS]
  for key in config:
    if key not in known:
      raise ConfigError(
        f'Given {given}. {section} has {key!r}, which nothing reads. '
        f'{checks.nearest(key, known)}'
      )
  for key, value in default.items():
    inner = f'{path}.{key}' if path else key
    if inner in train_config.OWN_KEYS:
      continue
    if isinstance(value, ml_collections.ConfigDict):
      _check_section(config[key], value, inner, given)


def _broken(given: str, what: str, error: BaseException) -> ConfigError:
  where = ''
  for frame in traceback.extract_tb(error.__traceback__):
    if frame.filename.endswith(split(given)[0]):
      where = f' in line {frame.lineno}'
  return ConfigError(
    f'Given --config={given}. {what}: {type(error).__name__}{where}: '
    f'{checks.said(error)} Mend the file, or give another, such as '
    'configs/digits.py.'
  )


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
  settings = _replaced(config, settings)
  values, argv = flags.FlagValues(), ['train', *settings]
  try:
    config_flags.DEFINE_config_dict(
      'config', config, flag_values=values, sys_argv=argv
    )
    values(argv)
  except flags.Error as error:
    raise ConfigError(
      f'Given {" ".join(settings)}. {checks.said(error)} Give '
      'each key a value of the kind that it has.'
    ) from error
  # A key, or a section, that is not there, or one inside a value.
  except (AttributeError, KeyError, TypeError, IndexError, ValueError) as error:
    key = error.args[0] if error.args else error
    text = checks.said(key if isinstance(key, KeyError) else str(key))
    raise ConfigError(
      f'Given {" ".join(settings)}. The config has no such key: {text} Its '
      'keys are those of default() in train/config.py and the arguments of the '
      'method.'
    ) from error
  check_keys(values.config, ' '.join(settings) or 'a config')
  return values.config


def _replaced(config: Config, settings: Sequence[str]) -> list[str]:
  """Sets what is of another kind than before; returns the other settings."""
  given = {}
  for text in settings:
    key, equals, value = text.partition('config.')[2].partition('=')
    if equals:
      given[key] = value
  with config.unlocked():
    done = _another_model(config, given)
    name = given.get('method.name')
    if name is not None and name != config.method.get('name'):
      config.method = train_config.method(name)
    _fix(config, given)
    done += _emptied(config, given)
  gone = tuple(f'config.{key}=' for key in done)
  return [x for x in settings if not (gone and x.lstrip('-').startswith(gone))]


def _another_model(config: Config, given: Mapping[str, str]) -> list[str]:
  """Drops the options of the model before; the keys of those set anew."""
  name = given.get('model.name')
  if name is None or name == config.model.get('name'):
    return []
  common = train_config.default().model
  kept = {key: config.model.get(key) for key in common if key != 'name'}
  config.model = ml_collections.ConfigDict({'name': name, **kept})
  # Which options a model has is not known here: those given are its own.
  options = {
    key: key.removeprefix('model.')
    for key in given
    if key.startswith('model.') and key.count('.') == 1
  }
  done = [key for key, option in options.items() if option not in common]
  for key in done:
    config.model[options[key]] = _literal(given[key])
  return done


def _fix(config: Config, given: Mapping[str, str]) -> None:
  """Puts a number in the place of a section that says how it varies."""
  for key, text in given.items():
    *path, last = key.split('.')
    section = _inside(config, path)
    if section is None:
      continue
    old, number = section.get(last), _literal(text)
    varies = isinstance(old, ml_collections.ConfigDict) and 'follows' in old
    if varies and isinstance(number, int | float):
      del section[last]
      section[last] = float(number)


def _emptied(config: Config, given: Mapping[str, str]) -> list[str]:
  """Sets to None what the default config leaves at None; the keys of those."""
  done, default = [], train_config.default()
  for key, text in given.items():
    *path, last = key.split('.')
    section, usual = _inside(config, path), _inside(default, path)
    if text == 'None' and section is not None and usual is not None:
      if last in usual and usual[last] is None:
        section[last] = None
        done.append(key)
  return done


def _inside(config: Config, path: Sequence[str]) -> Any:
  """A section of a config, None if there is none."""
  section: Any = config
  for part in path:
    inside = isinstance(section, ml_collections.ConfigDict)
    section = section.get(part) if inside else None
  return section if isinstance(section, ml_collections.ConfigDict) else None


def _literal(text: str) -> Any:
  try:
    return ast.literal_eval(text)
  except (ValueError, SyntaxError):
    return text
