"""The pages of the methods, from their docstrings and the published tables."""

import importlib
import inspect
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import sam_optax
from configs import digits, index, published, settings

# The heads of the groups, by the module that holds the functions: the question
# to which the methods have a new answer.
_GROUPS = {
  '_alias.ascent': 'A new ascent',
  '_alias.cadence': 'A new cadence',
  '_alias.descent': 'A new descent',
  '_alias.selection': 'A new selection',
  '_alias.compositions': 'Compositions',
  'optimizers': 'Whole optimizers',
  'trajectory': 'Another loss',
}
_COST = re.compile(r'Costs\s+(.+?)\s+per\s+step([^.,:]*)', re.DOTALL)
_MEMORY = re.compile(
  r'The\s+state\s+holds\s+(.+?)(,\s+(and\s+)?the\s+scalars[^.]*)?\.(\s|$)',
  re.DOTALL,
)
_PAPER = re.compile(r'`([^`<]+?)\s+<(https?://[^>]+)>`_')
_PARTS = re.compile(r'^Parts: (.+?)\.$', re.MULTILINE | re.DOTALL)


class Summary(NamedTuple):
  """The docstring of a method in a few words.

  Attributes:
    line: its first line.
    parts: the four parts, as the docstring names them.
    cost: the cost of a step, in gradients of a batch.
    memory: what the state holds besides scalars.
    paper: title and address of the first reference, None if there is none.
  """

  line: str
  parts: str
  cost: str
  memory: str
  paper: tuple[str, str] | None


def summary(name: str) -> Summary:
  """Reads the docstring of a method.

  Raises:
    ValueError: if it does not state its parts, cost or memory.
  """
  text = inspect.getdoc(sam_optax.METHODS[name]) or ''
  line = text.partition('\n')[0]
  found = {}
  for what, pattern in (
    ('parts', _PARTS),
    ('cost', _COST),
    ('memory', _MEMORY),
  ):
    match = pattern.search(text)
    if match is None:
      raise ValueError(
        f'Given the docstring of {name} without its {what}. The page of a '
        'method shows it. Write "Parts: ...", "Costs ... per step" and "The '
        'state holds ..." as the other methods have them.'
      )
    said = match[1] + (match[2] if what == 'cost' else '')
    found[what] = ' '.join(said.split())
  paper = _PAPER.search(text)
  return Summary(
    line,
    **found,
    paper=(' '.join(paper[1].split()), paper[2]) if paper else None,
  )


def groups() -> dict[str, list[str]]:
  """The names of the methods by the head of their group, in order."""
  found: dict[str, list[str]] = {head: [] for head in _GROUPS.values()}
  for name, method in sam_optax.METHODS.items():
    module = method.__module__.removeprefix('sam_optax.')
    (head,) = (
      head for prefix, head in _GROUPS.items() if module.startswith(prefix)
    )
    found[head].append(name)
  return found


def pages() -> dict[str, str]:
  """The pages in Markdown, by their place in the site."""
  runs = _runs()
  found = {'methods/index.md': _index()}
  for name in sam_optax.METHODS:
    found[f'methods/{name}.md'] = _page(name, runs.get(name, []))
  return found


def nav() -> list[Any]:
  """The pages as a part of the navigation."""
  return [
    'methods/index.md',
    *(
      {head: [{name: f'methods/{name}.md'} for name in names]}
      for head, names in groups().items()
    ),
  ]


class Run(NamedTuple):
  """A published row that trains with a method.

  Attributes:
    row: the row.
    config: `configs/FILE.py:VARIANT`, None for a row of another paper.
    arguments: those of the method that differ from its defaults.
  """

  row: published.Row
  config: str | None
  arguments: Mapping[str, Any]


def _runs() -> dict[str, list[Run]]:
  """The published rows by method."""
  found: dict[str, list[Run]] = {}
  for entry in index.entries():
    row = published.rows(entry.paper, entry.table)[entry.row]
    if entry.config is None and row.quoted_from is None:
      continue
    method = settings.method_of(row)
    if method in sam_optax.METHODS:
      run = Run(row, entry.config, _arguments(method, entry.config))
      found.setdefault(method, []).append(run)
  return found


def _arguments(method: str, config: str | None) -> dict[str, Any]:
  """The arguments in a config that are not the defaults of the method."""
  if config is None:
    return {}
  file, _, variant = config.partition(':')
  module = importlib.import_module(file.removesuffix('.py').replace('/', '.'))
  given = module.get_config(variant).method.to_dict()
  parameters = inspect.signature(sam_optax.METHODS[method]).parameters
  return {
    name: value
    for name, value in given.items()
    if name in parameters and value != parameters[name].default
  }


def _index() -> str:
  lines = [
    '# Methods',
    '',
    'Each method is one function. The names lead to its equation, arguments,'
    ' cost and published results. *Gradients* are those of a whole batch in'
    ' one step, and *memory* is what the state holds besides a few scalars.'
    ' To choose one, see [choosing a method](../choosing-a-method.md), and'
    ' [parts and costs](../methods-table.md) for a table of them all.',
    '',
  ]
  for head, names in groups().items():
    lines += [
      f'## {head}',
      '',
      '| method | what it is | gradients | memory |',
      '|---|---|---|---|',
    ]
    for name in names:
      about = summary(name)
      lines.append(
        f'| [`{name}`]({name}.md) | {about.line.rstrip(".")} |'
        f' {_in_short(about.cost)} | {_in_short(about.memory)} |'
      )
    lines.append('')
  return '\n'.join(lines)


def _in_short(text: str) -> str:
  """A cost or a memory without the words that the table's head has."""
  text = re.sub(r' and no copy of the parameters$', '', text)
  text = re.sub(r'^no copy of the parameters$', 'none', text)
  text = re.sub(r' gradients?(?= (within|after|on)|$)', '', text)
  text = text.replace(' of the parameters', '').replace(':math:', '')
  return text.replace('`', '')


def _page(name: str, runs: list[Run]) -> str:
  parts = [
    # Who searches for a method wants its page, not one that mentions it.
    f'---\ntitle: {name}\nsearch:\n  boost: 3\n---\n',
    f'::: sam_optax.{name}\n'
    '    options:\n'
    '      heading_level: 1\n'
    '      show_root_full_path: false\n',
    _branch(name),
    _try(name),
  ]
  if runs:
    parts.append(_published(runs))
  return '\n'.join(parts)


def _branch(name: str) -> str:
  """What to do about plain steps on a CPU, for a method that has them."""
  parts = summary(name).parts
  if 'cadence.' not in parts or 'cadence.never' in parts:
    return ''
  return (
    'Some of its steps are plain ones. For convolutions on a CPU,'
    ' [choose the branch in Python]'
    '(../quick-start.md#on-a-cpu-choose-the-branch-in-python).\n'
  )


def _try(name: str) -> str:
  """How to train with a method in a minute."""
  variants = [
    variant
    for variant, (method, _) in digits.VARIANTS.items()
    if method == name
  ]
  lines = ['## Train with it', '', '```sh']
  lines += [
    f'python -m train --config=configs/digits.py:{variant}'
    f' --workdir=runs/{variant}'
    for variant in variants
  ]
  return '\n'.join(
    [
      *lines,
      '```',
      '',
      'This trains a small network on the digits of scikit-learn'
      ' ([results of every method](../results/digits.md)).'
      f' In a config of your own, write `config.method.name = {name!r}`.',
      '',
    ]
  )


def _published(runs: list[Run]) -> str:
  """The rows of the papers, a table for each of theirs."""
  lines = [
    '## In the papers',
    '',
    'Published test accuracy, and the config that trains the row. *Speed* is'
    ' relative to SAM on the same network; *SAM steps* is the fraction of steps'
    ' that perturb. Arguments are those of our config where they differ from'
    ' the defaults; of one that the paper does not print, the file of the'
    ' config says "our choice" or names another source.'
    ' A row without a config is quoted by the paper from another one.',
    '',
  ]
  for (paper, table), some in _by_table(runs).items():
    lines += [
      f'**{published.title(paper, int(table))}**',
      '',
      *_table(some),
      '',
    ]
  return '\n'.join(lines)


def _by_table(runs: list[Run]) -> dict[tuple[str, str], list[Run]]:
  found: dict[tuple[str, str], list[Run]] = {}
  for run in runs:
    found.setdefault((run.row.paper, run.row.table), []).append(run)
  return found


def _table(runs: list[Run]) -> list[str]:
  """The rows of one table, with the columns in which it has anything."""
  columns = {
    'network': lambda run: run.row.model,
    'data': _data,
    'accuracy': _accuracy,
    'SAM steps': lambda run: _percent(run.row.sam_share),
    'speed': lambda run: _percent(run.row.relative_speed),
    'arguments': _shown,
    'config': _config,
  }
  cells = {head: [cell(run) for run in runs] for head, cell in columns.items()}
  cells = {head: column for head, column in cells.items() if any(column)}
  lines = ['| ' + ' | '.join(cells) + ' |', '|---' * len(cells) + '|']
  lines += [
    '| ' + ' | '.join(line) + ' |' for line in zip(*cells.values(), strict=True)
  ]
  return lines


def _data(run: Run) -> str:
  noise = run.row.setting.get('noise_percent')
  return run.row.dataset + (f', {noise} % wrong labels' if noise else '')


def _accuracy(run: Run) -> str:
  if run.row.accuracy is None:
    return ''
  spread = run.row.accuracy_std
  after = '' if spread is None else f'&nbsp;±&nbsp;{spread}'
  return f'{run.row.accuracy}{after}'


def _percent(share: float | None) -> str:
  return '' if share is None else f'{share:g}&nbsp;%'


def _shown(run: Run) -> str:
  shown = [f'`{k}={_value(v)}`{{ .whole }}' for k, v in run.arguments.items()]
  return ', '.join(shown)


def _value(value: Any) -> str:
  """A value of a config; one that varies during a run by its kind alone."""
  if isinstance(value, Mapping):
    return f'<{value.get("name", "schedule")}>'
  return f'{value:g}' if isinstance(value, float) else str(value)


def _config(run: Run) -> str:
  if run.config is None:
    return 'quoted'
  return f'`{run.config.removeprefix("configs/")}`'
