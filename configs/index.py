"""All rows of the papers' tables, and the config that trains each."""

import importlib
import json
import pathlib
from collections.abc import Sequence
from types import ModuleType
from typing import Any, NamedTuple

from configs import published, settings

_FOLDER = pathlib.Path(__file__).parent


class Entry(NamedTuple):
  """A row of the index.

  Attributes:
    paper: of `published.PAPERS`.
    table: its number, as text.
    row: position among the rows of the table, from 0.
    config: `configs/FILE.py:VARIANT`, None where the row cannot be trained.
    why: why not, None where it can.
  """

  paper: str
  table: str
  row: int
  config: str | None
  why: str | None


def entries() -> list[Entry]:
  """Every row of every table, in the order of the papers."""
  return [
    Entry(paper, table, row.position, *_config(row))
    for paper in published.PAPERS
    for table in published.tables(paper)
    for row in published.rows(paper, table)
  ]


def module(paper: str, number: str, kind: str = 'table') -> ModuleType | None:
  """The config file of a table or a figure, None where there is none."""
  name = f'{paper}_{kind}{number}'
  if not (_FOLDER / f'{name}.py').exists():
    return None
  return importlib.import_module(f'configs.{name}')


def as_text(found: Sequence[Entry]) -> str:
  """The index as aligned columns."""
  cells = [
    ('paper', 'table', 'row', 'config, or why there is none'),
    *(
      (
        entry.paper,
        entry.table,
        str(entry.row),
        entry.config or f'({entry.why})',
      )
      for entry in found
    ),
  ]
  widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
  lines = ('  '.join(map(str.ljust, line, widths)).rstrip() for line in cells)
  return '\n'.join(lines)


def as_json(found: Sequence[Entry]) -> str:
  """The index as JSON, a line for each row."""
  return '\n'.join(json.dumps(entry._asdict()) for entry in found)


def _config(row: published.Row) -> tuple[str | None, str | None]:
  why = settings.missing(row)
  if why is not None:
    return None, why
  file = module(row.paper, row.table)
  assert file is not None, f'{row.paper}, table {row.table}, has no config file'
  names = [
    name for name, other in file.VARIANTS.items() if _run(other) == _run(row)
  ]
  (name,) = names
  return f'configs/{row.paper}_table{row.table}.py:{name}', None


def _run(row: published.Row) -> Any:
  """What tells a run of a table from the others."""
  dataset = settings.TEST_SETS.get(row.dataset, row.dataset)
  return row.model, dataset, row.method, row.setting
