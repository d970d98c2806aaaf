"""The rows of a report as Markdown tables."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from train.tasks import Score

Row = Mapping[str, Any]  # as `results.rows` makes it
# Of several models or data sets, each relative to one of its own.
_SEVERAL = 'relative speed'


def full(table: Sequence[Row], main: Score) -> str:
  """All columns, a row for each method.

  Args:
    table: the rows.
    main: the score of the runs.

  Returns:
    The table; without the published numbers where there are none.
  """
  columns = {
    'method': lambda row: row['method'],
    'seeds': _seeds,
    f'test {main.name}': lambda row: score(row['score'], main),
    'published': lambda row: score(row['published'], main),
    'difference': lambda row: number(row['difference'], '+.2f'),
    'gradients/step': lambda row: number(row['gradients_per_step'], '.2f'),
    'SAM steps': lambda row: _share(row['sam_fraction']),
    'images/s': lambda row: number(row['images_per_second'], ',.0f'),
    _relative(table): lambda row: number(row['relative_speed'], '.2f'),
    'published speed': lambda row: number(_published_speed(row), '.2f'),
  }
  if not any(row['published'] for row in table):
    del columns['published'], columns['difference']
  if all(_published_speed(row) is None for row in table):
    del columns['published speed']
  return markdown(
    list(columns), [[cell(row) for cell in columns.values()] for row in table]
  )


def overview(table: Sequence[Row], main: Score) -> str:
  """A row for each method and a column for each of a sweep's overrides.

  Args:
    table: the rows.
    main: the score of the runs.

  Returns:
    The table.
  """
  cells = {(row['method'], row['overrides']): row for row in table}
  swept = list(dict.fromkeys(row['overrides'] for row in table))

  def cell(method, overrides):
    row = cells.get((method, overrides))
    if row is None:
      return '-'
    text = score(row['score'], main)
    whole = row['seeds'] == row['planned_seeds']
    return text if whole else f'{text} ({_seeds(row)} seeds)'

  methods = dict.fromkeys(row['method'] for row in table)
  return markdown(
    [f'test {main.name}', *(one or 'as configured' for one in swept)],
    [[name, *(cell(name, one) for one in swept)] for name in methods],
  )


def markdown(head: Sequence[str], body: Iterable[Sequence[str]]) -> str:
  """A Markdown table of one line per row, its cells already formatted."""
  line = lambda cells: f'| {" | ".join(cells)} |'
  return '\n'.join([line(head), '|---' * len(head) + '|', *map(line, body)])


def _relative(table: Sequence[Row]) -> str:
  """The head of the relative speeds: relative to what, where that is one."""
  bases = {row['relative_to'] for row in table} - {None}
  return f'speed relative to {bases.pop()}' if len(bases) == 1 else _SEVERAL


def _published_speed(row: Row) -> float | None:
  return row['published'] and row['published']['relative_speed']


def _seeds(row: Row) -> str:
  if not row['planned_seeds']:
    return '-'
  done, planned = len(row['seeds']), len(row['planned_seeds'])
  text = str(done) if done == planned else f'{done} of {planned}'
  return text + (f', {len(row["failed"])} failed' if row['failed'] else '')


def score(number: Mapping[str, Any] | None, main: Score) -> str:
  """A mean with its unit and its standard deviation, '-' for none."""
  if number is None or number['mean'] is None:
    return '-'
  spread = '' if number['std'] is None else f' ± {number["std"]:.2f}'
  return f'{number["mean"]:.2f} {main.unit}'.rstrip() + spread


def _share(value: float | None) -> str:
  return '-' if value is None else f'{100 * value:.0f} %'


def number(value: float | None, form: str) -> str:
  """A number in some form, '-' for none."""
  return '-' if value is None else f'{value:{form}}'
