"""Whether the speeds of some runs can be compared at all."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from train.report.results import Names, SavedRun

# Seeds of one method differ by less where nothing else runs: by 1.0 to 1.4
# times in the runs behind results/.
_SEEDS = 1.5
# A method beats its base by more than this only if it evaluates less.
_METHODS = 1.25
_WHY = (
  'so other programs ran beside some of these runs, or they are of several '
  'machines.'
)
# In a config, what differs between runs whose gradients cost the same.
_FREE = ('method', 'seed', 'reference', 'optimizer')


def doubt(found: Sequence[SavedRun], names: Names) -> str:
  """Says why the speeds of some runs mean nothing.

  They contradict each other where the seeds of one method differ by more than
  1.5 times for the same gradients, or where a method is more than 1.25 times as
  fast as the first one, with at least as many gradients in a step.

  Args:
    found: runs with the same overrides.
    names: of the rows, the method that the others are relative to first.

  Returns:
    Two sentences; '' where the speeds do not contradict each other.
  """
  groups: dict[str, list[SavedRun]] = {}
  for variant in dict.fromkeys([*names.labels, *_variants(found)]):
    done = [run for run in found if run.variant == variant and _speed(run)]
    if done:
      groups[names.labels.get(variant, variant)] = done
  for text in (_seeds(groups), _methods(groups)):
    if text:
      return f'The speeds mean nothing here. {text}, {_WHY}'
  return ''


def _seeds(groups: Mapping[str, Sequence[SavedRun]]) -> str:
  found = max(
    (
      (_speed(fast) / _speed(slow) / _more(slow, fast), label)
      for label, group in groups.items()
      for fast, slow in _pairs(group)
    ),
    default=(1.0, ''),
  )
  if found[0] <= _SEEDS:
    return ''
  return (
    f'Seeds of {found[1]}, for the same work, differ {found[0]:.1f} times in '
    'images/s'
  )


def _methods(groups: Mapping[str, Sequence[SavedRun]]) -> str:
  labels = list(groups)
  for label in labels[1:]:
    base, group = groups[labels[0]], groups[label]
    ratio = _median(_speed, group) / _median(_speed, base)
    own, other = _median(_gradients, group), _median(_gradients, base)
    if ratio > _METHODS and own >= other and _alike(base[0], group[0]):
      return (
        f'{label} trained {ratio:.2f} times as many images/s as {labels[0]}, '
        f'with {own:.2f} gradients in a step to its {other:.2f}'
      )
  return ''


def _pairs(
  group: Sequence[SavedRun],
) -> Iterator[tuple[SavedRun, SavedRun]]:
  """Pairs of seeds on one kind of device, the faster one first."""
  for one in group:
    for other in group:
      if _alike(one, other) and _speed(one) > _speed(other):
        yield one, other


def _more(one: SavedRun, other: SavedRun) -> float:
  """How many times the gradients of the other one has taken, at least 1."""
  return max(1.0, _gradients(one) / _gradients(other))


def _alike(one: SavedRun, other: SavedRun) -> bool:
  """Whether a gradient of both costs the same."""
  return _cost(one) == _cost(other)


def _cost(run: SavedRun) -> Any:
  kept = {name: x for name, x in run.config.items() if name not in _FREE}
  optimizer = run.config.get('optimizer', {}).get('name')
  return kept, optimizer, (run.result or {}).get('device')


def _variants(found: Sequence[SavedRun]) -> list[str]:
  return sorted({run.variant for run in found})


def _median(value: Any, group: Sequence[SavedRun]) -> float:
  return statistics.median(map(value, group))


def _speed(run: SavedRun) -> float:
  return (run.result or {}).get('images_per_second') or 0.0


def _gradients(run: SavedRun) -> float:
  return (run.result or {}).get('batch_gradients_per_step') or 1.0
