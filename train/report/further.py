"""The table of a report on further test sets, see `data.tests` of a config."""

import statistics
from collections.abc import Sequence
from typing import Any

from train.report import published, table
from train.report.published import Numbers
from train.report.results import Names, SavedRun
from train.tasks import Score


def text(found: Sequence[SavedRun], names: Names, main: Score) -> str:
  """The scores on further test sets beside the published ones.

  Args:
    found: the runs.
    names: of the rows, and the published numbers.
    main: the score of the runs.

  Returns:
    A row for each method, overrides and set, as Markdown; '' if no run was
    tested on another set.
  """
  groups: dict[tuple[str, str, str], list[float]] = {}
  for run in sorted(found, key=lambda run: run.seed):
    for name, scores in ((run.result or {}).get('tests') or {}).items():
      own = groups.setdefault((run.variant, run.overrides, name), [])
      own.append(main.shown(scores[main.name]))
  if not groups:
    return ''
  order = {variant: place for place, variant in enumerate(names.labels)}
  rows = sorted(
    groups, key=lambda key: (key[1], order.get(key[0], len(order)), key[0])
  )
  head = ['method', 'test set', 'seeds', f'test {main.name}']
  body = [_row(key, groups[key], names, main) for key in rows]
  if any(cells[-1] != '-' for cells in body):
    head += ['published', 'difference']
  return table.markdown(head, [cells[: len(head)] for cells in body])


def _row(
  key: tuple[str, str, str],
  values: Sequence[float],
  names: Names,
  main: Score,
) -> list[str]:
  variant, overrides, name = key
  ours = {
    'mean': statistics.mean(values),
    'std': statistics.stdev(values) if len(values) > 1 else None,
  }
  printed = published.as_json(of_set(variant, name, names.published))
  difference = published.difference(ours, printed)
  return [
    ' '.join(filter(None, (names.labels.get(variant, variant), overrides))),
    name,
    str(len(values)),
    table.score(ours, main),
    table.score(printed, main),
    table.number(difference, '+.2f'),
  ]


def of_set(variant: str, name: str, numbers: Numbers) -> Any | None:
  """The published number of a variant on another test set.

  Args:
    variant: of the config file.
    name: of the test set in the config, the data set of the number.
    numbers: the published ones.

  Returns:
    The number that is of the variant but for its data set; None if there is
    none.
  """
  what = lambda number: tuple(
    getattr(number, key, None) for key in ('model', 'method', 'setting')
  )
  own = numbers.get(variant)
  for number in numbers.values():
    if getattr(number, 'dataset', None) == name and what(number) == what(own):
      return number
  return None
