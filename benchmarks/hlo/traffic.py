"""Tables of what the steps send, and of the time that they would take."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks.hlo import one_step, ring
from train.report import table

# The rows whose steps are estimated.
_EXAMPLES = ('sgd', 'sam', 'fsam', 'arsam')


def by_route(
  counted: Mapping[str, Any], cell: Callable[[dict[str, Any]], str]
) -> str:
  """A Markdown table with a row for each method and a column for each route."""
  lines = []
  for name, row in counted.items():
    steps = row['steps'].values()
    cells = [name, ', '.join(str(step['gradients']) for step in steps)]
    cells += [
      ', '.join(cell(step['routes'][route]) for step in steps)
      for route in one_step.ROUTES
    ]
    lines.append(cells)
  return table.markdown(['row', 'gradients', *one_step.ROUTES], lines)


def copies(sent: dict[str, Any]) -> str:
  """Copies of the parameters, and the kilobytes of examples if any are sent.

  Each kind of operation has a number of its own.
  """
  counts = [f'{count:.2f}'.rstrip('0').rstrip('.') for count in _by_kind(sent)]
  extra = sent['other_bytes'] / 1000
  return ' + '.join(counts) + (f' ({extra:.1f} kB)' if extra >= 0.1 else '')


def _by_kind(sent: dict[str, Any]) -> Sequence[float]:
  kinds = sorted(sent['copies'], reverse=True)
  return [sent['copies'][kind] for kind in kinds] or [0.0]


def operations(sent: dict[str, Any]) -> str:
  """Operations that send parameters (arrays in them) + single numbers."""
  return f'{sent["operations"]} ({sent["arrays"]}) + {sent["scalars"]}'


def works(counted: Mapping[str, Any], share: float) -> dict[str, ring.Work]:
  """The mean work of a step, for the rows that are estimated.

  Args:
    counted: results of `one_step.count`, by row.
    share: the fraction of steps that are perturbed, for a row with both kinds.

  Returns:
    The work by 'row, route'.
  """
  made = {}
  for name in (name for name in _EXAMPLES if name in counted):
    steps = counted[name]['steps']
    shares = {kind: 1.0 for kind in steps}
    if len(steps) > 1:
      shares = {'perturbed': share, 'plain': 1 - share}
    for route in ('local', 'synced'):
      made[f'{name}, {route}'] = ring.Work(
        sum(shares[kind] * steps[kind]['gradients'] for kind in steps),
        sum(
          shares[kind] * steps[kind]['routes'][route]['total'] for kind in steps
        ),
      )
  return made


def report(
  counted: Mapping[str, Any],
  works: Mapping[str, ring.Work],
  devices: Sequence[int],
  assumed: ring.Assumptions,
) -> str:
  """All tables, in Markdown."""
  return '\n\n'.join(
    [
      '## Copies of the parameters that a step sends',
      by_route(counted, copies),
      '## Operations (arrays of parameters in them) + single numbers',
      by_route(counted, operations),
      '## Arithmetic, not a measurement: ms per step on a ring, and relative '
      'to the first row',
      ring.markdown(works, devices, assumed),
    ]
  )
