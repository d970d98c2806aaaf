"""The tables of the papers as data: their rows, by paper and table.

The numbers are in the JSON files beside this module; README.md describes them.
"""

import functools
import json
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

PAPERS = ('arsam', 'ausam', 'fsam', 'rsam')

_FOLDER = pathlib.Path(__file__).parent
# What a key of `setting` adds to the name of a row.
_TAGS = {
  'noise_percent': lambda percent: f'noise{percent}',
  'alpha': lambda alpha: f'alpha{alpha}',
  'keep': lambda keep: f'keep{keep}',
  'rho': lambda rho: f'rho{rho}',
  'lambda': lambda weight: f'lambda{weight}',
  'batch_size': lambda size: f'batch{size}',
  'k': lambda k: f'k{k}',
  'loss': str,
  'mixup': lambda on: 'mixup' if on else '',
  'randaugment': lambda on: 'randaugment' if on else '',
}


class Row(NamedTuple):
  """A row of a table: what was trained and how it scored.

  Attributes:
    accuracy: in percent, of pose the mean PCKh; None where the table has none.
    accuracy_std: its standard deviation over the seeds, None where not printed.
    sam_share: share of the steps that perturb, in percent.
    images_per_second: of training, data loading included.
    training_seconds: of a whole training, printed for some rows of pose.
    relative_speed: in percent of SAM in the same block of the table.
    paper: of `PAPERS`.
    table: its number, as text.
    position: among the rows of the table, from 0.
    model: name of the network.
    dataset: name of the data set.
    method: name of the method, None where the paper names none.
    setting: what the table prints of the hyperparameters, and what the text
      ties to this run; None is not given.
    quoted_from: whose numbers these are, None for the authors' own.
    note: a remark or a doubt about the row.
  """

  accuracy: float | None = None
  accuracy_std: float | None = None
  sam_share: float | None = None
  images_per_second: float | None = None
  training_seconds: float | None = None
  relative_speed: float | None = None
  paper: str = ''
  table: str = ''
  position: int = 0
  model: str = ''
  dataset: str = ''
  method: str | None = None
  setting: Mapping[str, Any] = {}
  quoted_from: str | None = None
  note: str | None = None


@functools.cache
def read(paper: str) -> Mapping[str, Any]:
  """The whole file of a paper, by its name in `PAPERS`."""
  return json.loads((_FOLDER / f'{paper}.json').read_text('utf-8'))


def tables(paper: str) -> list[str]:
  """The numbers of the tables of a paper, as text."""
  return list(read(paper)['tables'])


def rows(paper: str, table: str) -> list[Row]:
  """The rows of a table, in the order of the paper."""
  return [
    Row(
      paper=paper,
      table=table,
      position=position,
      **_scored({key: x for key, x in row.items() if key in _READ}, row),
    )
    for position, row in enumerate(read(paper)['tables'][table]['rows'])
  ]


_READ = set(Row._fields) - {'paper', 'table', 'position'}


def _scored(read: dict[str, Any], row: Mapping[str, Any]) -> dict[str, Any]:
  """A row with a score: of pose that is the mean over the joints."""
  if row['accuracy'] is not None:
    return read
  return {**read, 'accuracy': row.get('mean')}


def table(paper: str, number: int, *by: str) -> dict[str, Row]:
  """The rows of a table by name.

  A name is NETWORK-DATA-METHOD, such as `resnet18-cifar10-sam`, with settings
  before the method where rows differ in them, `resnet18-cifar10-noise40-sam`,
  and with `quoted` at the end where the numbers are those of another paper.

  Args:
    paper: of `PAPERS`.
    number: of the table.
    *by: keys of `setting` in which rows differ.

  Returns:
    The rows, in the order of the paper.
  """
  return named(rows(paper, str(number)), *by)


def named(rows: Iterable[Row], *by: str) -> dict[str, Row]:
  """Rows by name, as those of a `table`."""
  return {name(row, *by): row for row in rows}


def name(row: Row, *by: str) -> str:
  """The name of a row, see `table`."""
  given = [key for key in by if row.setting.get(key) is not None]
  tags = [_TAGS[key](row.setting[key]) for key in given]
  quoted = 'quoted' if row.quoted_from else ''
  # Both CIFAR sets share a row of hyperparameters.
  data = row.dataset.partition('+')[0]
  return '-'.join(filter(None, [row.model, data, *tags, row.method, quoted]))


def title(paper: str, number: int, kind: str = 'table') -> str:
  """The title of a table, such as 'F-SAM, table 1: four networks ...'.

  Args:
    paper: of `PAPERS`.
    number: of the table.
    kind: 'table' or 'figure'.

  Returns:
    The title.
  """
  what = read(paper)[f'{kind}s'][str(number)]['what']
  return f'{read(paper)["paper"]["name"]}, {kind} {number}: {what}'


def figure(paper: str, number: int) -> Mapping[str, Any]:
  """The values of a figure that the text gives."""
  return read(paper)['figures'][str(number)]['values_in_text']
