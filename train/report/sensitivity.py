"""The picture of a sweep's `--grid`: the score over the values of one key."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from train.report.curves import COLORS, axis_label, pyplot
from train.tasks import Score

# Values further apart than this are drawn on a logarithmic axis.
_FAR = 20


def picture(
  rows: Sequence[Mapping[str, Any]],
  main: Score,
  title: str,
  path: pathlib.Path,
) -> bool:
  """Draws a line per method: the mean over the seeds, and their range.

  Args:
    rows: as `results.rows` makes them.
    main: the score of the runs.
    title: what the runs are of.
    path: the PNG file to write.

  Returns:
    Whether there was something to draw: two numbers of one key.
  """
  rows = [row for row in rows if row['score']['values']]
  values = {row['overrides']: _number(row['overrides']) for row in rows}
  keys = {overrides.partition('=')[0] for overrides in values}
  numbers = [number for number in values.values() if number is not None]
  if len(keys) != 1 or len(numbers) != len(values) or len(numbers) < 2:
    return False
  plt = pyplot()
  figure, axis = plt.subplots(figsize=(6.4, 4.4), layout='constrained')
  for index, method in enumerate(dict.fromkeys(row['method'] for row in rows)):
    own = [row for row in rows if row['method'] == method]
    x = [values[row['overrides']] for row in own]
    found = [row['score'] for row in own]
    style = '-o' if index < COLORS else '--s'
    (line,) = axis.plot(x, [one['mean'] for one in found], style, label=method)
    axis.fill_between(
      x,
      [min(one['values']) for one in found],
      [max(one['values']) for one in found],
      color=line.get_color(),
      alpha=0.12,
      linewidth=0,
    )
  if min(numbers) > 0 and max(numbers) > _FAR * min(numbers):
    axis.set_xscale('log')
    axis.minorticks_off()
  axis.set_xticks(numbers, [f'{number:g}' for number in numbers])
  axis.set(
    xlabel=keys.pop(),
    ylabel=axis_label(main),
    title=f'Test {main.name}: mean and range over the seeds',
  )
  axis.grid(alpha=0.3)
  axis.legend()
  figure.suptitle(title, wrap=True)
  figure.savefig(path, dpi=150)
  plt.close(figure)
  return True


def _number(overrides: str) -> float | None:
  try:
    return float(overrides.partition('=')[2])
  except ValueError:
    return None
