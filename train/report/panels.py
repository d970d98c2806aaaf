"""What the pictures of a report are made of: lines, spreads, scales."""

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from train.tasks import Score

# As many as Matplotlib's default cycle has.
COLORS = 10
# Means further apart than this, as a ratio, are drawn on a logarithmic axis.
_FAR = 5
# Likewise the values of a key of the config.
_FAR_VALUES = 10
# The bands of more lines on one axis cannot be told apart.
_TOGETHER = 3
_COLUMNS = 5


class Line(NamedTuple):
  """A method's mean over the seeds, and its spread.

  Attributes:
    x: of the points.
    mean: at each of them.
    low: the lower end of the spread.
    high: its upper end.
  """

  x: np.ndarray
  mean: np.ndarray
  low: np.ndarray
  high: np.ndarray


Lines = Mapping[str, Line]  # by label


def pyplot() -> Any:
  """Imports Matplotlib, only when something is drawn, without a screen."""
  import matplotlib

  matplotlib.use('Agg')
  from matplotlib import pyplot

  return pyplot


def axis_label(main: Score) -> str:
  """The label of an axis of scores."""
  return ', '.join(filter(None, (f'test {main.name}', main.unit)))


def colors(labels: Iterable[str]) -> dict[str, str]:
  """A color for each label, none of them grey, which the others have."""
  cycle = [f'C{index}' for index in range(COLORS)]
  cycle[7] = 'navy'
  return {label: cycle[index % COLORS] for index, label in enumerate(labels)}


def share_axes(count: int) -> bool:
  """Whether so many lines are drawn on one axis, with their bands."""
  return count <= _TOGETHER


def rows_of(count: int) -> int:
  """The rows of axes that so many lines take."""
  return 1 if share_axes(count) else math.ceil(count / _COLUMNS)


def columns_of(count: int) -> int:
  """The columns of axes that so many lines take."""
  return 1 if share_axes(count) else min(count, _COLUMNS)


def explained(labels: Iterable[str]) -> str:
  """What the lines of `told_apart` are, to be put into a title."""
  first, *others = labels
  if share_axes(1 + len(others)):
    return ''
  return f' (dashed: {first}; grey: the others)'


def told_apart(figure: Any, lines: Lines, style: str = '-') -> np.ndarray:
  """Draws lines so that the spread of each can be told from the others'.

  Few lines share an axis. Of more each has an axis of its own, with the means
  of the others in grey and that of the first dashed.

  Args:
    figure: to draw on.
    lines: by label.
    style: of the lines, such as '-o'. With points the spreads are bars.

  Returns:
    The axes, [rows, columns], of one scale.
  """
  labels, color = list(lines), colors(lines)
  together = share_axes(len(labels))
  shown = [labels] if together else [[label] for label in labels]
  axes = figure.subplots(
    rows_of(len(labels)),
    columns_of(len(labels)),
    sharex=True,
    sharey=True,
    squeeze=False,
  )
  for axis in axes.flat[len(shown) :]:
    axis.set_visible(False)
  for axis, own in zip(axes.flat, shown, strict=False):
    if not together:
      axis.set_title(own[0], color=color[own[0]], fontsize='medium')
      _draw_others(axis, lines, own[0], labels[0])
    for label in own:
      _draw_one(axis, lines[label], color[label], label, style)
    axis.grid(alpha=0.3)
  if together and len(labels) > 1:
    axes[0, 0].legend()
  return axes


def _draw_others(axis: Any, lines: Lines, own: str, first: str) -> None:
  for label, line in lines.items():
    if label not in (own, first):
      axis.plot(line.x, line.mean, color='0.82', linewidth=1)
  if own != first:
    line = lines[first]
    axis.plot(line.x, line.mean, '--', color='0.3', linewidth=1.2)


def _draw_one(
  axis: Any, line: Line, color: str, label: str, style: str
) -> None:
  if style == '-':
    axis.plot(line.x, line.mean, color=color, label=label, linewidth=2)
    axis.fill_between(
      line.x, line.low, line.high, color=color, alpha=0.25, linewidth=0
    )
    return
  around = (line.mean - line.low, line.high - line.mean)
  axis.errorbar(
    line.x, line.mean, around, fmt=style, color=color, label=label, capsize=3
  )


def as_errors(lines: Lines) -> Lines:
  """Shares in percent as how far they are from 100 %, see `scale_shares`."""
  return {
    label: Line(line.x, 100 - line.mean, 100 - line.high, 100 - line.low)
    for label, line in lines.items()
  }


def scale_shares(axes: np.ndarray, errors: Lines) -> bool:
  """Lets an axis of errors show the shares: 95 where the error is 5 %.

  Shares near 100 % are told apart by how far from it they are: where the errors
  are far apart the axis is logarithmic in them. It goes up as the shares do.

  Args:
    axes: of one scale.
    errors: what is drawn on them, see `as_errors`.

  Returns:
    Whether the axis is logarithmic.
  """
  logarithmic = scale(axes, errors, lambda value, _: f'{_round(100 - value):g}')
  axes[0, 0].invert_yaxis()
  return logarithmic


def scale(axes: np.ndarray, lines: Lines, form: Any = '{x:g}') -> bool:
  """Chooses a logarithmic axis where the means are far apart.

  Args:
    axes: of one scale.
    lines: what is drawn on them.
    form: of the ticks, as Matplotlib takes it.

  Returns:
    Whether the axis is logarithmic.
  """
  from matplotlib import ticker

  means = np.concatenate([line.mean for line in lines.values()])
  logarithmic = bool(means.min() > 0 and means.max() > _FAR * means.min())
  for axis in axes.flat:
    if logarithmic:
      axis.set_yscale('log')
      axis.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
      axis.minorticks_off()
    axis.yaxis.set_major_formatter(form)
  return logarithmic


def scale_values(axis: Any, values: Iterable[float]) -> None:
  """Puts the values of a key on the x axis, each with its tick.

  Values far apart are on a logarithmic axis. It has no place for 0 or below.

  Args:
    axis: to draw on.
    values: one or more.
  """
  ticks = sorted(set(values))
  if ticks[0] > 0 and ticks[-1] > _FAR_VALUES * ticks[0]:
    axis.set_xscale('log')
    axis.minorticks_off()
  axis.set_xticks(ticks, [f'{tick:g}' for tick in ticks])


def _round(value: float) -> float:
  return round(float(value), 6)
