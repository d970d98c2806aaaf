"""A page for each example: its text, its code and, once it ran, its picture.

`python examples/notebooks.py build/examples` runs the examples as notebooks and
leaves a page and pictures of each there. A page that is older than its example,
or not there, is made from the source alone.
"""

import ast
import pathlib
import re

from docs.generate.names import ROOT

FOLDER = ROOT / 'examples'
EXECUTED = ROOT / 'build' / 'examples'
_CELL = re.compile(r'^# %% (.*)\n', re.MULTILINE)


def sources() -> list[pathlib.Path]:
  """The files of the examples: those with cells."""
  return [
    path
    for path in sorted(FOLDER.glob('*.py'))
    if path.name != 'notebooks.py' and _CELL.search(path.read_text('utf-8'))
  ]


def pages() -> dict[str, str]:
  """The pages in Markdown, by their place in the site."""
  return {f'examples/{path.stem}.md': _page(path) for path in sources()}


def pictures() -> dict[str, str]:
  """Places in the repository by places in the site, of the executed pages."""
  return {
    f'examples/{path.relative_to(EXECUTED).as_posix()}': path.relative_to(
      ROOT
    ).as_posix()
    for source in sources()
    if _is_executed(source)
    for path in sorted(EXECUTED.glob(f'{source.stem}_files/*'))
  }


def _is_executed(source: pathlib.Path) -> bool:
  page = EXECUTED / f'{source.stem}.md'
  return page.exists() and page.stat().st_mtime >= source.stat().st_mtime


def _page(source: pathlib.Path) -> str:
  if _is_executed(source):
    return (EXECUTED / f'{source.stem}.md').read_text('utf-8')
  text = source.read_text('utf-8')
  title, _, about = (ast.get_docstring(ast.parse(text)) or '').partition('\n')
  parts = _CELL.split(text)[1:]
  cells = [
    f'## {head}\n\n```python\n{code.strip()}\n```\n'
    for head, code in zip(parts[::2], parts[1::2], strict=True)
  ]
  return '\n'.join([f'# {title}', about, *cells])
