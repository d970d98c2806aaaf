"""Whether the runs that one number is of differ in their seed only."""

from collections.abc import Hashable, Iterable, Sequence

from train import workdir
from train.checks import ConfigError
from train.report.results import SavedRun


def check_different(places: Iterable[tuple[Hashable, SavedRun]]) -> None:
  """Refuses two folders that would be the same run.

  Args:
    places: runs, each with the row or point that its number goes to.

  Raises:
    ConfigError: if two of one place have one seed.
  """
  known: dict[Hashable, SavedRun] = {}
  for place, run in places:
    other = known.setdefault((place, run.seed), run)
    if other.folder != run.folder:
      raise ConfigError(
        f'Given {other.folder} and {run.folder}. They would be the same run, '
        'and one seed would count as two. Give folders whose runs differ in '
        'their variant, their grid or their seed.'
      )


def differing(
  runs: Sequence[SavedRun], over: str | None = None
) -> dict[str, dict[str, SavedRun]]:
  """What the configs of some runs differ in, apart from their seed.

  Args:
    runs: of a row.
    over: a key that they may differ in, besides those that change nothing.

  Returns:
    For each key, with dots, its values as they are printed, and the first run
    of each.
  """
  found: dict[str, dict[str, SavedRun]] = {}
  for run in runs[1:]:
    first, pairs = runs[0], workdir.differing(runs[0].config, run.config)
    for key, (there, here) in pairs.items():
      if key not in ('seed', over) and not key.startswith(workdir.MAY_DIFFER):
        values = found.setdefault(key, {repr(there): first})
        values.setdefault(repr(here), run)
  return dict(sorted(found.items()))


def doubt(
  name: str, runs: Sequence[SavedRun], over: str | None = None
) -> str | None:
  """Says which keys tell the runs of a row apart.

  Args:
    name: of the row.
    runs: see `differing`.
    over: likewise.

  Returns:
    A sentence; None if the runs differ in their seed only.
  """
  found = differing(runs, over)
  if not found:
    return None
  texts = [
    f'{key} is '
    + ' and '.join(f'{value} in {run.folder}' for value, run in values.items())
    for key, values in found.items()
  ]
  return f'{name} has runs of different configs: {"; ".join(texts)}.'
