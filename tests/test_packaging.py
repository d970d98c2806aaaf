"""What an installation puts into an environment: the library alone."""

import ast
import fnmatch
import pathlib
import re
import runpy
import sys
import types

import pytest

ROOT = pathlib.Path(__file__).parent.parent


def find_packages(include):
  """As setuptools has it, which a new environment may lack."""
  packages = [
    '.'.join(path.parent.relative_to(ROOT).parts)
    for top in ROOT.iterdir()
    if (top / '__init__.py').exists()
    for path in top.rglob('__init__.py')
  ]
  return [
    name
    for name in packages
    if any(fnmatch.fnmatchcase(name, pattern) for pattern in include)
  ]


@pytest.fixture
def distribution(monkeypatch):
  """What setup.py says."""
  said = {}
  fake = types.ModuleType('setuptools')
  fake.setup = said.update
  fake.find_packages = find_packages
  monkeypatch.setitem(sys.modules, 'setuptools', fake)
  monkeypatch.chdir(ROOT)
  runpy.run_path(str(ROOT / 'setup.py'))
  return said


def test_the_library_alone_is_installed(distribution):
  packages = set(distribution['packages'])
  assert {name.split('.')[0] for name in packages} == {'sam_optax'}
  # And whole.
  folders = {path.parent for path in (ROOT / 'sam_optax').rglob('*.py')}
  assert packages == {
    '.'.join(folder.relative_to(ROOT).parts) for folder in folders
  }


def test_the_extra_has_what_the_program_imports(distribution):
  required = {
    re.split(r'[<>=]', text)[0].lower().replace('-', '_')
    for text in distribution['extras_require']['train']
    + distribution['install_requires']
  }
  # Where a distribution is called otherwise than what it is imported as.
  names = {
    'PIL': 'pillow',
    'absl': 'absl_py',
    'orbax': 'orbax_checkpoint',
    'sklearn': 'scikit_learn',
    'tensorboardX': 'tensorboardx',
  }
  imported = set()
  for path in (ROOT / 'train').rglob('*.py'):
    for node in ast.walk(ast.parse(path.read_text())):
      if isinstance(node, ast.Import):
        imported.update(alias.name for alias in node.names)
      elif isinstance(node, ast.ImportFrom):
        imported.add(node.module)
  others = {name.split('.')[0] for name in imported}
  others -= {*sys.stdlib_module_names, 'train', 'sam_optax'}
  others -= {'numpy', 'scipy'}  # which jax brings
  assert 'flax' in others
  assert {names.get(name, name) for name in others} <= required
