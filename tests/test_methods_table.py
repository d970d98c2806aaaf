"""`sam_optax.METHODS`, the public functions and THE TABLE list one set."""

import inspect
import types
import typing

import optax
import pytest

import sam_optax
from tests import methods

# A function that must be given one of these makes a method from something else:
# `sharpness_aware` from parts, `parallel` from another method.
INGREDIENTS = {optax.GradientTransformation, sam_optax.SharpnessAware}


def public_constructors():
  """The functions of sam_optax that return a method and need none."""
  found = {}
  for name, function in vars(sam_optax).items():
    if name.startswith('_') or not inspect.isfunction(function):
      continue
    hints = typing.get_type_hints(function)
    needed = {
      hints[argument.name]
      for argument in inspect.signature(function).parameters.values()
      if argument.default is argument.empty and argument.name in hints
    }
    returned = hints.get('return')
    if returned is sam_optax.SharpnessAware and not needed & INGREDIENTS:
      found[name] = function
  return found


def test_they_are_the_public_constructors():
  assert dict(sam_optax.METHODS) == public_constructors()


def test_all_that_is_public_is_its_own():
  for name, value in vars(sam_optax).items():
    if not name.startswith('_') and name != 'METHODS':
      is_module = inspect.ismodule(value)
      home = value.__name__ if is_module else value.__module__
      assert home.startswith('sam_optax'), name


def test_help_shows_the_names_of_types():
  public = lambda place: {
    name: value for name, value in vars(place).items() if name[0] != '_'
  }
  places = filter(inspect.ismodule, public(sam_optax).values())
  seen = set()
  for place in (sam_optax, *places):
    for name, function in public(place).items():
      if inspect.isfunction(function):
        seen.add(name)
        assert 'Union[' not in str(inspect.signature(function)), name
  assert seen >= {*sam_optax.METHODS, 'gradient', 'autoregressive'}
  shown = str(inspect.signature(sam_optax.arsam))
  assert "rho: '_base.ScalarOrSchedule' = 0.1" in shown


def test_each_has_a_row_of_the_table():
  rows = {name: row.make for name, row in methods.METHODS.items()}
  assert dict(sam_optax.METHODS) == rows


def test_each_is_listed_by_its_own_name():
  assert [make.__name__ for make in sam_optax.METHODS.values()] == list(
    sam_optax.METHODS
  )


def test_the_mapping_is_read_only():
  assert isinstance(sam_optax.METHODS, types.MappingProxyType)
  with pytest.raises(TypeError):
    sam_optax.METHODS['sgd'] = optax.sgd  # pyright: ignore


@pytest.mark.parametrize('name', sam_optax.METHODS)
def test_each_makes_a_method(name):
  row = methods.METHODS[name]
  made = sam_optax.METHODS[name](**row.options)
  assert isinstance(made, sam_optax.SharpnessAware)
  assert isinstance(made, optax.GradientTransformationExtraArgs)


@pytest.mark.parametrize('name', sam_optax.METHODS)
def test_each_is_documented_like_the_others(name):
  make = sam_optax.METHODS[name]
  text = inspect.getdoc(make) or ''
  sections = ['Args:', 'Returns:', 'Raises:', 'Example:', 'References:']
  if not inspect.signature(make).parameters:
    sections = ['Returns:', 'Example:']
  places = [text.find(f'\n{section}\n') for section in sections]
  assert -1 not in places and places == sorted(places)
  assert '\nParts: ' in text
  described = text.partition('\nArgs:\n')[2].partition('\nReturns:\n')[0]
  for argument in inspect.signature(make).parameters:
    assert f'\n  {argument}: ' in f'\n{described}'
