"""The runs in a folder, and the numbers that they come to."""

import json
import pathlib
import re
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from train import workdir


class SavedRun(NamedTuple):
  """One run as its folder has it."""

  variant: str
  point: str  # of the grid of a sweep, see train/sweep/plan.py
  seed: int
  folder: pathlib.Path
  config: dict[str, Any]
  result: dict[str, Any] | None  # None while it is not finished
  failure: str | None

  @property
  def kind(self) -> tuple[str, str]:
    """What it has in common with the runs that differ in the seed only."""
    return self.point, self.variant


class Names(NamedTuple):
  """What the rows are called, and what is published about them."""

  labels: Mapping[str, str] = {}  # by variant, in the order of the rows
  title: str = ''
  published: Mapping[str, tuple[float, float | None]] = {}
  get_config: Callable[[str], Any] | None = None  # of a variant


def names_in(module: Mapping[str, Any]) -> Names:
  """The names in a config file, see `train/sweep/plan.py`."""
  return Names(
    {variant: variant for variant in module.get('VARIANTS', ())},
    module.get('TABLE', ''),
    module.get('PUBLISHED', {}),
    module.get('get_config'),
  )


def read(folder: pathlib.Path) -> list[SavedRun]:
  """Reads all runs in a folder, that of a sweep or that of one run."""
  found = []
  for place in _folders(folder):
    config = _json(place / 'config.json') or {}
    variant, point = _name(place, folder, str(config.get('seed')))
    failure = _json(place / workdir.FAILURE)
    found.append(
      SavedRun(
        variant,
        point,
        config.get('seed', 0),
        place,
        config,
        _json(place / 'result.json'),
        failure and failure['message'],
      )
    )
  return found


def rows(found: Sequence[SavedRun], names: Names) -> list[dict[str, Any]]:
  """The numbers of the table, a row for each variant at each point.

  Args:
    found: the runs.
    names: of the rows.

  Returns:
    The rows, point by point. Accuracies and speeds are of the finished runs;
    a speed is relative to that of the first row of its point.
  """
  variants = [*names.labels, *sorted({run.variant for run in found})]
  points = sorted({run.point for run in found}, key=_natural)
  made = []
  for point in points:
    reference = None
    for variant in dict.fromkeys(variants):
      group = [run for run in found if run.kind == (point, variant)]
      if group:
        row = _row(sorted(group, key=lambda run: run.seed), names)
        speed = row['images_per_second']
        reference = reference or speed
        row['relative_speed'] = speed and speed / reference
        made.append(row)
  return made


def _row(group: Sequence[SavedRun], names: Names) -> dict[str, Any]:
  variant = group[0].variant
  results = {run.seed: run.result for run in group if run.result is not None}
  values = lambda key: [result[key] for result in results.values()]
  mean = lambda key: statistics.mean(values(key)) if results else None
  return {
    'method': names.labels.get(variant, variant),
    'variant': variant,
    'point': group[0].point,
    'seeds': list(results),
    'planned_seeds': [run.seed for run in group],
    'failed': {
      run.seed: run.failure
      for run in group
      if run.failure is not None and run.result is None
    },
    'test_accuracy_percent': _percent(values('test_accuracy')),
    'published_percent': _published(names.published.get(variant)),
    'gradients_per_step': mean('gradient_evaluations_per_step'),
    'sam_fraction': mean('sam_fraction'),
    'images_per_second': (
      statistics.median(values('images_per_second')) if results else None
    ),
    'test_loss': mean('test_loss'),
    'train_seconds': mean('train_seconds'),
    'steps': mean('steps'),
  }


def _percent(shares: Sequence[float]) -> dict[str, Any]:
  values = [100 * share for share in shares]
  return {
    'mean': statistics.mean(values) if values else None,
    'std': statistics.stdev(values) if len(values) > 1 else None,
    'values': values,
  }


def _published(number: tuple[float, float | None] | None) -> Any:
  return number and {'mean': number[0], 'std': number[1]}


def _folders(folder: pathlib.Path) -> Iterator[pathlib.Path]:
  """The folders of runs in a folder; no run lies in another one."""
  if (folder / 'config.json').exists():
    yield folder
    return
  for inner in sorted(folder.iterdir()):
    if inner.is_dir():
      yield from _folders(inner)


def _name(place: pathlib.Path, folder: pathlib.Path, seed: str) -> Any:
  """A run's variant and point: what its folder is called, but for the seed."""
  parts = list(place.relative_to(folder).parts)
  if parts[-1:] == [seed]:
    parts.pop()
  if parts:
    return parts[0], '/'.join(parts[1:])
  own = folder.resolve()
  return (own.parent if own.name == seed else own).name, ''


def _json(path: pathlib.Path) -> Any:
  try:
    return json.loads(path.read_text())
  except (OSError, ValueError):  # not there, or damaged
    return None


def _natural(point: str) -> list[Any]:
  """Sorts numbers in a text as numbers: 0.2, 0.4, 10."""
  parts = re.split(r'(\d+(?:\.\d+)?(?:e[+-]?\d+)?)', point)
  return [float(part) if i % 2 else part for i, part in enumerate(parts)]
