"""The runs in a folder, and the numbers of a report."""

import pathlib
import re
import statistics
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from train import workdir
from train.checks import ConfigError
from train.report import published
from train.report.published import Numbers
from train.tasks import Score

# What a table reads of a result besides the scores.
_NUMBERS = (
  *('images_per_second', 'sam_fraction', 'train_seconds', 'steps'),
  *('gradient_evaluations_per_step', 'batch_gradients_per_step'),
)


class SavedRun(NamedTuple):
  """One run, read from its folder."""

  variant: str
  overrides: str  # of a sweep's --grid, see train/sweep/plan.py
  seed: int
  folder: pathlib.Path
  config: dict[str, Any]
  result: dict[str, Any] | None  # None while it is not finished
  failure: str | None
  main: Score | None  # the task's; None before the run began

  @property
  def kind(self) -> tuple[str, str]:
    """Equal for the runs that differ in the seed only."""
    return self.overrides, self.variant


class Names(NamedTuple):
  """The names of the rows, and the published numbers."""

  labels: Mapping[str, str] = {}  # by variant, in the order of the rows
  title: str = ''
  published: Numbers = {}
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
  """Reads all runs in a folder, which may be one run's or a sweep's."""
  found = []
  for place in _folders(folder):
    config = _known(place / 'config.json', ()) or {}
    variant, overrides = _name(place, folder, str(config.get('seed')))
    failure = workdir.record(place / workdir.FAILURE)
    main = _main(place)  # without it, no score of the result is known
    found.append(
      SavedRun(
        variant,
        overrides,
        config.get('seed', 0),
        place,
        config,
        _known(place / 'result.json', _NUMBERS) if main else None,
        str(failure.get('message')) if failure else None,
        main,
      )
    )
  return found


def read_all(folders: Iterable[pathlib.Path]) -> list[SavedRun]:
  """Reads the runs in several folders.

  Args:
    folders: each of a run or of a sweep.

  Returns:
    Their runs, folder by folder.

  Raises:
    ConfigError: if a folder is missing or has no run.
  """
  return [run for folder in folders for run in _at_least_one(folder)]


def _at_least_one(folder: pathlib.Path) -> list[SavedRun]:
  if not folder.is_dir():
    why = 'It is a file' if folder.exists() else 'There is no such folder'
    raise ConfigError(
      f'Given {folder}. {why}. Give the --workdir of a sweep or of a run.'
    )
  found = read(folder)
  if not found:
    raise ConfigError(
      f'Given {folder}. There is no run in it, that is, no folder with a '
      'config.json. Give the --workdir of a sweep or of a run.'
    )
  return found


def main_of(found: Sequence[SavedRun]) -> Score:
  """The main score of some runs.

  Args:
    found: the runs.

  Returns:
    The score; one without a name if none of them has begun.

  Raises:
    ConfigError: if they have several.
  """
  scores = {run.main: run for run in found if run.main is not None}
  if len(scores) > 1:
    several = ', '.join(
      f'{score.name} ({run.folder})' for score, run in scores.items()
    )
    raise ConfigError(
      f'Given runs of several tasks, whose scores are {several}. One table has '
      'one score. Give the folders of one task at a time.'
    )
  return next(iter(scores), Score('score', '', higher_is_better=True))


def rows(found: Sequence[SavedRun], names: Names) -> list[dict[str, Any]]:
  """The numbers of the table, a row for each variant and overrides.

  Args:
    found: the runs.
    names: of the rows.

  Returns:
    The rows, overrides by overrides, in the order of the config file, with
    quoted rows where the paper prints them. Scores, in the unit of the main
    one, and speeds are of the finished runs. A speed is relative to the row
    that the published speed is relative to, or else to the first row with the
    same overrides.
  """
  trained = {run.variant for run in found}
  quoted = published.quoted(trained, names.published)
  order = [*_printed(names), *sorted(trained), *quoted]
  swept = sorted({run.overrides for run in found}, key=_natural)
  made, main = [], main_of(found)
  for overrides in swept:
    here = []
    for variant in dict.fromkeys(order):
      group = [run for run in found if run.kind == (overrides, variant)]
      if group or variant in quoted:
        group = sorted(group, key=lambda run: run.seed)
        here.append(_row(variant, overrides, group, names, main))
        if variant in quoted:
          here[-1]['method'] += f' (quoted from {quoted[variant]})'
    made += _with_relative_speeds(here, names)
  return made


def _printed(names: Names) -> Iterable[str]:
  """The variants in order, and quoted ones between them if they fit in."""
  both = [variant for variant in names.published if variant in names.labels]
  return names.published if both == list(names.labels) else names.labels


def _with_relative_speeds(
  rows: Sequence[dict[str, Any]], names: Names
) -> list[dict[str, Any]]:
  done = {row['variant']: row for row in rows if row['images_per_second']}
  first = next(iter(done), None)
  with_speeds = []
  for row in rows:
    speed = row['images_per_second']
    reference = published.reference(row['variant'], names.published) or first
    base = done.get(reference) if speed else None
    relative = speed / base['images_per_second'] if base else None
    own = {
      'relative_speed': relative,
      'relative_to': base['method'] if base else None,
    }
    with_speeds.append(row | own)
  return with_speeds


def _row(
  variant: str,
  overrides: str,
  group: Sequence[SavedRun],
  names: Names,
  main: Score,
) -> dict[str, Any]:
  number = published.as_json(names.published.get(variant))
  results = {run.seed: run.result for run in group if run.result is not None}
  values = lambda key: [result[key] for result in results.values()]
  mean = lambda key: statistics.mean(values(key)) if results else None
  score = _score(main, results.values())
  return {
    'method': names.labels.get(variant, variant),
    'variant': variant,
    'overrides': overrides,
    'seeds': list(results),
    'planned_seeds': [run.seed for run in group],
    'failed': {
      run.seed: run.failure
      for run in group
      if run.failure is not None and run.result is None
    },
    'score': score,
    'published': number,
    'difference': published.difference(score, number),
    'gradients_per_step': mean('batch_gradients_per_step'),
    'sgd_epochs': _sgd_epochs(group),
    'sam_fraction': mean('sam_fraction'),
    'images_per_second': (
      statistics.median(values('images_per_second')) if results else None
    ),
    'test_loss': mean('test_loss'),
    'train_seconds': mean('train_seconds'),
    'steps': mean('steps'),
  }


def _sgd_epochs(group: Sequence[SavedRun]) -> float | None:
  """The gradients of a batch that runs took, in epochs of SGD: the mean."""
  epochs = [
    run.result['batch_gradients_per_step'] * run.config['epochs']
    for run in group
    if run.result and run.config.get('epochs') and not run.config.get('steps')
  ]
  return statistics.mean(epochs) if epochs else None


def _score(main: Score, results: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
  values = [main.shown(result[f'test_{main.name}']) for result in results]
  return {
    'mean': statistics.mean(values) if values else None,
    'std': statistics.stdev(values) if len(values) > 1 else None,
    'values': values,
  }


def _folders(folder: pathlib.Path) -> Iterator[pathlib.Path]:
  """The folders of runs in a folder; no run lies in another one."""
  if (folder / 'config.json').exists():
    yield folder
    return
  for inner in sorted(folder.iterdir()):
    if inner.is_dir():
      yield from _folders(inner)


def _name(place: pathlib.Path, folder: pathlib.Path, seed: str) -> Any:
  """A run's variant and overrides, from the names of its folders."""
  parts = list(place.relative_to(folder).parts)
  if parts[-1:] == [seed]:
    parts.pop()
  own = folder.resolve()
  own = own.parent if not parts and own.name == seed else own
  if parts and '=' in parts[0]:
    return _upwards(own, '/'.join(parts))
  if parts:
    return parts[0], '/'.join(parts[1:])
  return _upwards(own, '')


def _upwards(own: pathlib.Path, inside: str) -> tuple[str, str]:
  """The variant above the overrides of a part of a sweep."""
  overrides = [inside] if inside else []
  while '=' in own.name:
    overrides.insert(0, own.name)
    own = own.parent
  return own.name, '/'.join(overrides)


def _main(folder: pathlib.Path) -> Score | None:
  task = _known(folder / workdir.TASK, ('main',))
  try:
    return Score(**task['main']) if task else None
  except TypeError:
    return None


def _known(path: pathlib.Path, keys: Iterable[str]) -> dict[str, Any] | None:
  """Reads a file of a run; says so, and gives None, if it is damaged."""
  content = workdir.record(path)
  if content is not None and set(keys) <= set(content):
    return content
  if path.exists():
    print(
      f'warning: cannot use {path}. It is damaged, and its run counts as not '
      'finished. Put the file back, or delete the folder and train again.',
      file=sys.stderr,
    )
  return None


def _natural(overrides: str) -> list[Any]:
  """Sorts numbers in a text as numbers: 0.2, 0.4, 10."""
  parts = re.split(r'(\d+(?:\.\d+)?(?:e[+-]?\d+)?)', overrides)
  return [float(part) if i % 2 else part for i, part in enumerate(parts)]
