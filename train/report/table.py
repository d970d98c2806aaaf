"""The rows of a report as Markdown tables."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]  # as `results.rows` makes it


def full(table: Sequence[Row]) -> str:
  """A row per method, all columns; the published ones where there are any."""
  columns = {
    'method': lambda row: row['method'],
    'seeds': _seeds,
    'test accuracy': lambda row: _accuracy(row['test_accuracy_percent']),
    'published': lambda row: _accuracy(row['published_percent']),
    'gradients/step': lambda row: _number(row['gradients_per_step'], '.2f'),
    'steps that perturbed': lambda row: _share(row['sam_fraction']),
    'images/s': lambda row: _number(row['images_per_second'], ',.0f'),
    'relative speed': lambda row: _number(row['relative_speed'], '.2f'),
  }
  if not any(row['published_percent'] for row in table):
    del columns['published']
  return markdown(
    list(columns), [[cell(row) for cell in columns.values()] for row in table]
  )


def overview(table: Sequence[Row], points: Sequence[str]) -> str:
  """A row per method and a column per point of the grid."""
  cells = {(row['method'], row['point']): row for row in table}

  def cell(method, point):
    row = cells.get((method, point))
    if row is None:
      return '-'
    accuracy = _accuracy(row['test_accuracy_percent'])
    whole = row['seeds'] == row['planned_seeds']
    return accuracy if whole else f'{accuracy} ({_seeds(row)} seeds)'

  methods = dict.fromkeys(row['method'] for row in table)
  return markdown(
    ['test accuracy', *(point or 'as configured' for point in points)],
    [[name, *(cell(name, point) for point in points)] for name in methods],
  )


def markdown(head: Sequence[str], body: Iterable[Sequence[str]]) -> str:
  """A Markdown table of one line per row, its cells already formatted."""
  line = lambda cells: f'| {" | ".join(cells)} |'
  return '\n'.join([line(head), '|---' * len(head) + '|', *map(line, body)])


def _seeds(row: Row) -> str:
  done, planned = len(row['seeds']), len(row['planned_seeds'])
  text = str(done) if done == planned else f'{done} of {planned}'
  return text + (f', {len(row["failed"])} failed' if row['failed'] else '')


def _accuracy(percent: Mapping[str, Any] | None) -> str:
  if percent is None or percent['mean'] is None:
    return '-'
  spread = '' if percent['std'] is None else f' ± {percent["std"]:.2f}'
  return f'{percent["mean"]:.2f} %{spread}'


def _share(value: float | None) -> str:
  return '-' if value is None else f'{100 * value:.0f} %'


def _number(value: float | None, form: str) -> str:
  return '-' if value is None else f'{value:{form}}'
