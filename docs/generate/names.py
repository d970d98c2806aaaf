"""The public names: of the library all, of the program those meant for others.

A name of the library is public by the rule for typed packages (PEP 484): a
module without an underscore defines it, or imports it as itself.
"""

import ast
import functools
import importlib
import pathlib

ROOT = pathlib.Path(__file__).parents[2]
LIBRARY = 'sam_optax'

# The program is not a library. These of its names are kept for others.
PROGRAM = (
  'train.predict.load',
  'train.predict.Predictor',
  'train.predict.Predictions',
  'train.run.run',
  'train.config.default',
  'train.tasks.task.Task',
  'train.tasks.metrics.confusion_matrix',
  'train.tasks.metrics.iou',
  'train.tasks.metrics.pck',
  'train.tasks.simcc.simcc_targets',
  'train.models.quantize.lsq',
)


@functools.cache
def modules() -> tuple[str, ...]:
  """The public modules of the library: itself, and those right below it."""
  below = sorted(
    path.stem
    for path in (ROOT / LIBRARY).iterdir()
    if not path.stem.startswith(('_', '.'))
    and (path.suffix == '.py' or (path / '__init__.py').exists())
  )
  return (LIBRARY, *(f'{LIBRARY}.{name}' for name in below))


@functools.cache
def public(module: str) -> tuple[str, ...]:
  """The public names of a module, in the order of its source.

  Args:
    module: of `modules()`.

  Returns:
    Names without the module, and without those of other public modules.
  """
  found = dict.fromkeys(
    name for node in ast.parse(source(module)).body for name in _named(node)
  )
  return tuple(
    name
    for name in found
    if not name.startswith('_') and f'{module}.{name}' not in modules()
  )


@functools.cache
def identifiers() -> dict[str, str]:
  """The identifiers of the reference, by what docstrings call them.

  `sam_optax.ascent.friendly` is `ascent.friendly` too, and `sam_optax.fsam` is
  `fsam`.
  """
  found = {}
  for module in modules():
    short = module.removeprefix(LIBRARY).lstrip('.')
    for name in public(module):
      identifier = f'{LIBRARY if is_shared(module, name) else module}.{name}'
      found[f'{module}.{name}'] = identifier
      found[f'{short}.{name}' if short else name] = identifier
  return found


def is_shared(module: str, name: str) -> bool:
  """Whether a name of a module is the package's too, and so described there."""
  if module == LIBRARY or name not in public(LIBRARY):
    return False
  here, there = map(importlib.import_module, (module, LIBRARY))
  return getattr(here, name) is getattr(there, name)


def source(module: str) -> str:
  """The text of a module of the library."""
  place = ROOT.joinpath(*module.split('.'))
  path = place / '__init__.py' if place.is_dir() else place.with_suffix('.py')
  return path.read_text('utf-8')


def _named(node: ast.stmt) -> list[str]:
  """The names that a statement makes public, if they have no underscore."""
  if isinstance(node, ast.FunctionDef | ast.ClassDef):
    return [node.name]
  if isinstance(node, ast.ImportFrom):
    return [alias.name for alias in node.names if alias.asname == alias.name]
  if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
    return [node.target.id]
  if isinstance(node, ast.Assign):
    return [
      target.id for target in node.targets if isinstance(target, ast.Name)
    ]
  return []
