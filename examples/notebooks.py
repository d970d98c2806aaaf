"""Makes the notebooks of the examples, and their pages in the documentation.

  python examples/notebooks.py [EXAMPLE ...]

Needs `pip install '.[docs]'`. Each example is run as a notebook and written to
examples/notebooks: NAME.ipynb, and NAME.md with its pictures. A line
`# %% Title` begins a cell. The last cell, which draws `histories`, is the same
for all of them and stands in this file only.
"""

import ast
import pathlib
import re
import sys

HERE = pathlib.Path(__file__).parent
FOLDER = HERE / 'notebooks'
PICTURE = """\
import matplotlib.pyplot as plt

measures = list(next(iter(histories.values())))
figure, axes = plt.subplots(
  1, len(measures), figsize=(4 * len(measures), 3), squeeze=False, dpi=120
)
for axis, measure in zip(axes[0], measures):
  for (name, history), style in zip(histories.items(), ['-', '--', ':']):
    axis.plot(history[measure], style, label=name)
  axis.set(xlabel='{unit}', ylabel=measure)
axes[0, 0].legend()
figure.tight_layout()"""


def names() -> list[str]:
  """The examples: every file beside this one."""
  own = pathlib.Path(__file__)
  return sorted(
    path.stem for path in HERE.glob('*.py') if path.name != own.name
  )


def cells(name: str) -> list[tuple[str, str]]:
  """The cells of an example: 'markdown' or 'code', and the text."""
  source = (HERE / f'{name}.py').read_text('utf-8')
  title, _, text = (ast.get_docstring(ast.parse(source)) or '').partition('\n')
  link = (
    f'This is [examples/{name}.py](../{name}.py), run as '
    f'[a notebook]({name}.ipynb).'
  )
  found = [('markdown', f'# {title.rstrip(".")}\n{text}\n\n{link}')]
  parts = re.split(r'^# %% (.*)\n', source, flags=re.MULTILINE)[1:]
  for heading, code in zip(parts[::2], parts[1::2], strict=True):
    found += [('markdown', f'## {heading}'), ('code', code.strip())]
  unit = 'epoch' if 'epochs=' in source else 'step'
  found += [('markdown', '## A picture')]
  return [*found, ('code', PICTURE.format(unit=unit))]


def write(name: str) -> None:
  """Runs the notebook of an example, and writes it and its page.

  Args:
    name: the example.

  Raises:
    nbclient.exceptions.CellExecutionError: if a cell raises.
  """
  import nbclient
  import nbconvert
  import nbformat

  kinds = {
    'markdown': nbformat.v4.new_markdown_cell,
    'code': nbformat.v4.new_code_cell,
  }
  made = nbformat.v4.new_notebook()
  for i, (kind, text) in enumerate(cells(name)):
    # An id that is not random: the file changes when its example does.
    made.cells.append(kinds[kind](text, id=f'{name}-{i}'))
  where = {'metadata': {'path': str(HERE.parent)}}
  nbclient.NotebookClient(
    made, timeout=600, resources=where, record_timing=False
  ).execute()
  nbformat.write(made, FOLDER / f'{name}.ipynb')
  page, resources = nbconvert.MarkdownExporter().from_notebook_node(
    made, resources={'unique_key': name, 'output_files_dir': f'{name}_files'}
  )
  for file, content in resources['outputs'].items():
    (FOLDER / file).parent.mkdir(exist_ok=True)
    (FOLDER / file).write_bytes(content)
  (FOLDER / f'{name}.md').write_text(page, 'utf-8')


def main(*chosen: str) -> None:
  """Writes the notebooks and pages of all examples, or of those named."""
  FOLDER.mkdir(exist_ok=True)
  for name in chosen or names():
    write(name)


if __name__ == '__main__':
  main(*sys.argv[1:])
