"""The picture of a sweep's `--grid`: the score over the values of one key."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from train.keys import MEANINGS
from train.report import panels
from train.tasks import Score


def picture(
  rows: Sequence[Mapping[str, Any]],
  main: Score,
  title: str,
  path: pathlib.Path,
) -> bool:
  """Draws a line per method: mean and standard deviation over the seeds.

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
  lines = {}
  for method in dict.fromkeys(row['method'] for row in rows):
    own = [row for row in rows if row['method'] == method]
    scores = [row['score'] for row in own]
    mean = np.array([score['mean'] for score in scores])
    std = np.array([score['std'] or 0.0 for score in scores])
    x = np.array([values[row['overrides']] for row in own])
    lines[method] = panels.Line(x, mean, mean - std, mean + std)
  plt = panels.pyplot()
  count = len(lines)
  single = panels.share_axes(count)
  size = (6.4, 4.4)
  if not single:
    size = (2.4 * panels.columns_of(count) + 1, 2.4 * panels.rows_of(count) + 1)
  figure = plt.figure(figsize=size, layout='constrained')
  axes = panels.told_apart(figure, lines, style='-o')
  for axis in axes.flat:
    panels.scale_values(axis, numbers)
  for axis in axes[:, 0]:
    axis.set_ylabel(panels.axis_label(main))
  figure.supxlabel(_named(keys.pop()), fontsize='medium')
  what = f'Test {main.name}: mean and standard deviation over the seeds'
  figure.suptitle(
    f'{title}\n{what}{panels.explained(lines)}', fontsize='medium', wrap=True
  )
  figure.savefig(path, dpi=150)
  plt.close(figure)
  return True


def _named(key: str) -> str:
  """A key of the config, and its meaning where it is not an argument."""
  meaning = MEANINGS.get(key)
  return f'{key}: {meaning}' if meaning else key


def _number(overrides: str) -> float | None:
  try:
    return float(overrides.partition('=')[2])
  except ValueError:
    return None
