"""The report of some runs: the text, and the files."""

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from train import workdir
from train.report import (
  alike,
  cost,
  curves,
  further,
  sensitivity,
  speeds,
  table,
)
from train.report.results import Names, SavedRun, main_of, rows

_VERSIONS = ('sam_optax', 'jax', 'optax', 'flax')


def text(found: Sequence[SavedRun], names: Names) -> str:
  """The report in Markdown: title, tables, failures, changes, versions."""
  made, main = rows(found, names), main_of(found)
  swept = list(dict.fromkeys(row['overrides'] for row in made))
  parts = [names.title]
  if swept == ['']:
    parts += [table.full(made, main), speeds.doubt(found, names)]
  else:
    parts.append(table.overview(made, main))
    for overrides in swept:
      here = [row for row in made if row['overrides'] == overrides]
      runs = [run for run in found if run.overrides == overrides]
      parts += [f'{overrides or "As configured"}:', table.full(here, main)]
      parts.append(speeds.doubt(runs, names))
  if further_sets := further.text(found, names, main):
    parts += ['Further test sets:', further_sets]
  for row in made:
    for seed, failure in row['failed'].items():
      parts.append(f'{_called(row)} seed {seed} failed: {failure}')
  parts += _doubts(found, made)
  parts.append(_changes(found, names))
  made_with = ', '.join(
    f'{name} {" and ".join(values)}'
    for name, values in _made_with(found).items()
  )
  if made_with:
    parts.append(f'Made with {made_with}.')
  return '\n\n'.join(filter(None, parts))


def write(
  found: Sequence[SavedRun], names: Names, folder: pathlib.Path
) -> tuple[str, list[pathlib.Path]]:
  """Writes the table, its numbers and the curves.

  Args:
    found: the runs.
    names: of the rows.
    folder: where the files go.

  Returns:
    The table, and the files.
  """
  markdown, made = text(found, names), rows(found, names)
  main = main_of(found)
  folder.mkdir(parents=True, exist_ok=True)
  record = {
    'title': names.title,
    'made_with': _made_with(found),
    'main': main._asdict(),
    'rows': made,
    'doubts': _doubts(found, made),
  }
  workdir.write(folder / 'table.md', markdown)
  workdir.write(folder / 'table.json', json.dumps(record, indent=2))
  title = names.title or _title(found[0].config)
  files = [folder / 'table.md', folder / 'table.json']
  for module in (sensitivity, cost):
    path = folder / f'{module.__name__.rpartition(".")[2]}.png'
    if module.picture(made, main, title, path):
      files.append(path)
  for overrides in dict.fromkeys(row['overrides'] for row in made):
    groups = {
      row['method']: _curves(found, (overrides, row['variant']))
      for row in made
      if row['overrides'] == overrides and row['planned_seeds']
    }
    name = '-'.join(filter(None, ('curves', overrides.replace('/', ','))))
    here = ', '.join(filter(None, (title, overrides)))
    if curves.picture(groups, main, here, folder / f'{name}.png'):
      files.append(folder / f'{name}.png')
  return markdown, files


def _title(config: Mapping[str, Any]) -> str:
  name = lambda section: str(config.get(section, {}).get('name', ''))
  return f'{name("model")} on {pathlib.Path(name("data")).name}'


def _curves(
  found: Sequence[SavedRun], kind: tuple[str, str]
) -> list[curves.Curves]:
  """The curves of the finished runs, or else of those that have begun."""
  group = [run for run in found if run.kind == kind]
  done = [run for run in group if run.result is not None]
  return [curves.read(run.folder) for run in done or group]


def _called(row: table.Row) -> str:
  return ' '.join(filter(None, (row['method'], row['overrides'])))


def _doubts(found: Sequence[SavedRun], made: Sequence[table.Row]) -> list[str]:
  """Says which rows are of finished runs of different configs."""
  done = [run for run in found if run.result is not None]
  said = [
    alike.doubt(
      _called(row),
      [run for run in done if run.kind == (row['overrides'], row['variant'])],
    )
    for row in made
  ]
  return [text for text in said if text is not None]


def _changes(found: Sequence[SavedRun], names: Names) -> str:
  """How the configs differ from the file's, apart from the grid.

  A change that not all rows have is said with those that have it.
  """
  changed: dict[str, dict[str, None]] = {}
  every = {}
  if names.get_config is not None:
    for run in found:
      if run.variant in names.labels:
        called = names.labels[run.variant]
        every[called] = None
        own = workdir.as_json(names.get_config(run.variant))
        differing = workdir.differing(run.config, own)
        swept = [value.split('=')[0] for value in run.overrides.split('/')]
        for key, (value, _) in differing.items():
          if key not in ('seed', *swept):
            changed.setdefault(f'{key}={value}', {})[called] = None
  kept = [
    change if rows == every else f'{change} ({", ".join(rows)})'
    for change, rows in changed.items()
    if not change.startswith(workdir.MAY_DIFFER)
  ]
  return f'Changed in the configs: {", ".join(kept)}.' if kept else ''


def _made_with(found: Sequence[SavedRun]) -> dict[str, list[str]]:
  """Devices and versions of the finished runs: all of them if they differ."""
  results = [run.result for run in found if run.result is not None]
  made_with = {}
  for name in ('device', *_VERSIONS):
    values = sorted({str(result[name]) for result in results if name in result})
    if values:
      made_with[name] = values
  return made_with
