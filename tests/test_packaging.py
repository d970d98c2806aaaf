"""What an installation puts into an environment: the library alone."""

import ast
import fnmatch
import pathlib
import re
import runpy
import sys
import types

import pytest
import yaml

import sam_optax

URL = 'https://github.com/OWNER/sam_optax'
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


def test_the_version_is_the_same_everywhere(distribution):
  version = distribution['version']
  assert version == sam_optax.__version__
  citation = (ROOT / 'CITATION.cff').read_text()
  assert f'\nversion: {version}\n' in citation
  newest = re.search(r'^## (\S+)', (ROOT / 'CHANGELOG.md').read_text(), re.M)
  assert newest and newest[1] == version


def test_a_package_index_can_follow_the_links(distribution):
  text = distribution['long_description']
  targets = re.findall(r'(!?)\[[^]]*\]\(([^)]*)\)', text)
  assert all(re.match('https?://|#', target) for _, target in targets)
  pictures = [target for mark, target in targets if mark]
  assert pictures
  assert all(target.startswith(f'{URL}/raw/main/') for target in pictures)
  assert distribution['url'] == URL


def test_the_address_of_the_project_is_written_once():
  texts = [
    *ROOT.glob('*.*'),
    *ROOT.glob('.github/**/*.yml'),
    *ROOT.glob('docs/**/*.md'),
    *ROOT.glob('examples/*'),
  ]
  found = [
    path.name
    for path in texts
    if path.is_file() and 'OWNER' in path.read_text(errors='ignore')
  ]
  assert found == ['setup.py']


def test_the_citation_has_the_four_papers():
  citation = yaml.safe_load((ROOT / 'CITATION.cff').read_text())
  assert {paper['notes'] for paper in citation['references']} == {
    'F-SAM',
    'R-SAM',
    'ARSAM',
    'AUSAM',
  }
  urls = {paper['url'] for paper in citation['references']}
  for method in ('fsam', 'rsam', 'arsam', 'ausam'):
    # Each is the paper that the docstring of the method names.
    assert any(url in getattr(sam_optax, method).__doc__ for url in urls)


def test_the_workflow_calls_what_exists():
  (workflow,) = (ROOT / '.github' / 'workflows').glob('*.yml')
  jobs = yaml.safe_load(workflow.read_text())['jobs']
  assert set(jobs) == {'lint', 'tests', 'docs', 'wheel'}
  commands = '\n'.join(
    step.get('run', '') for job in jobs.values() for step in job['steps']
  )
  targets = re.findall(r'\bmake (\w+)', commands)
  makefile = (ROOT / 'Makefile').read_text()
  assert targets and all(f'\n{target}: ' in makefile for target in targets)
  for path in re.findall(r'tests/\w+\.py', commands):
    assert (ROOT / path).exists()
