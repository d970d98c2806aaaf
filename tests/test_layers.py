"""Who may import whom: downwards only, and in no circle."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parent.parent

# The rooms of the training program, from the top to the ground. A module
# imports from its own room and from the lines below; the rooms of one line do
# not know each other.
LAYERS = (
  ('prepare',),  # the command's name, and nothing else
  ('__main__', 'look', 'predict', 'tools'),
  ('sweep',),
  ('answers', 'report'),
  ('run',),
  ('engine',),
  ('variants', 'workdir'),
  ('config', 'data', 'models', 'parallel', 'tasks'),
  ('command',),
  ('augment', 'optim'),
  ('checks', 'keys', 'linen'),
)
HEIGHT = {room: -depth for depth, rooms in enumerate(LAYERS) for room in rooms}


def modules(package, root=ROOT):
  """The modules of a package by their names."""
  found = {}
  for path in sorted((root / package).rglob('*.py')):
    parts = path.relative_to(root).with_suffix('').parts
    parts = parts[:-1] if parts[-1] == '__init__' else parts
    found['.'.join(parts)] = path
  return found


def imports(path, known):
  """The known modules that a file imports, within functions too."""
  found = set()
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      found.update(alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      assert not node.level, f'{path} imports relative to itself'
      # Of a package either a module or a name.
      for alias in node.names:
        inner = f'{node.module}.{alias.name}'
        found.add(inner if inner in known else node.module)
  return found & set(known)


def graph(package, root=ROOT):
  """For each module of a package those of it that it imports."""
  known = modules(package, root)
  return {name: imports(path, known) for name, path in known.items()}


def circle(edges):
  """Some modules that import each other in a circle, or none."""
  done, path = set(), []

  def visit(name):
    if name in path:
      return path[path.index(name) :]
    if name in done:
      return []
    path.append(name)
    for other in sorted(edges[name]):
      if found := visit(other):
        return found
    done.add(path.pop())
    return []

  for name in edges:
    if found := visit(name):
      return found
  return []


def upwards(edges):
  """The imports of the program that do not go down, and the unknown rooms."""
  room = lambda name: name.split('.')[1]
  wrong = []
  for name, others in edges.items():
    for other in others:
      if '.' not in name or '.' not in other or room(name) == room(other):
        continue
      known = room(name) in HEIGHT and room(other) in HEIGHT
      if not known or HEIGHT[room(name)] <= HEIGHT[room(other)]:
        wrong.append(f'{name} imports {other}')
  return wrong


def test_every_room_is_drawn():
  rooms = {name.split('.')[1] for name in modules('train') if '.' in name}
  assert rooms == set(HEIGHT)


def test_the_program_imports_downwards_only():
  assert upwards(graph('train')) == []


@pytest.mark.parametrize('package', ['train', 'sam_optax'])
def test_no_circle(package):
  edges = graph(package)
  assert len(edges) > 20
  assert circle(edges) == []


def test_the_library_knows_nothing_of_the_program():
  known = {**modules('train'), **modules('configs')}
  for name, path in modules('sam_optax').items():
    assert not imports(path, known), name


@pytest.fixture
def violated(tmp_path):
  """Writes a program of a few modules, as `{path: content}`."""

  def write(files):
    for name, content in files.items():
      path = tmp_path / 'train' / name
      path.parent.mkdir(parents=True, exist_ok=True)
      path.write_text(content)
    return graph('train', tmp_path)

  return write


@pytest.mark.parametrize(
  ('where', 'content'),
  [
    ('optim/a.py', 'from train import config'),
    ('data/a.py', 'import train.tasks.b'),
    ('tasks/b.py', 'def f():\n  from train.data.a import g'),
    ('checks.py', 'from train.engine import step'),
    ('elsewhere.py', 'from train import checks'),
  ],
)
def test_a_violation_is_found(where, content, violated):
  good = {
    'checks.py': '',
    'config.py': 'from train import checks',
    'data/a.py': 'g = 1',
    'engine/step.py': 'from train.data.a import g\nfrom train import config',
    'tasks/b.py': '',
  }
  assert upwards(violated(good)) == []
  (found,) = upwards(violated({where: content}))
  assert found.startswith(
    'train.' + where.removesuffix('.py').replace('/', '.')
  )


def test_a_circle_is_found(violated):
  edges = violated(
    {
      'data/a.py': 'from train.data.b import f',
      'data/b.py': 'def f():\n  from train.data import c',
      'data/c.py': 'from train.data import a',
      'data/d.py': 'from train.data import a',
    }
  )
  assert set(circle(edges)) == {f'train.data.{name}' for name in 'abc'}
