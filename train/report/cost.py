"""The picture of what accuracy costs: scores over the gradients they took."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from train.report import panels
from train.tasks import Score

_MARKERS = 'osD^vP*X<>'


def picture(
  rows: Sequence[Mapping[str, Any]],
  main: Score,
  title: str,
  path: pathlib.Path,
) -> bool:
  """Draws a point per method, with the standard deviation over the seeds.

  The cost of a run are the gradients that it evaluated, each counted as the
  share of the batch that it is of, in units of one epoch of SGD. The values of
  a sweep's grid have an axis each.

  Args:
    rows: as `results.rows` makes them.
    main: the score of the runs.
    title: what the runs are of.
    path: the PNG file to write.

  Returns:
    Whether there was something to draw: methods whose costs differ.
  """
  rows = [row for row in rows if row['score']['values'] and row['sgd_epochs']]
  costs = {round(row['sgd_epochs'], 6) for row in rows}
  methods = list(dict.fromkeys(row['method'] for row in rows))
  if len(costs) < 2 or not 2 <= len(methods) <= panels.COLORS:
    return False
  swept = list(dict.fromkeys(row['overrides'] for row in rows))
  plt = panels.pyplot()
  figure, axes = plt.subplots(
    1,
    len(swept),
    figsize=(4.6 * len(swept) + 1.4, 4.2),
    squeeze=False,
    layout='constrained',
  )
  colors = panels.colors(methods)
  for axis, overrides in zip(axes.flat, swept, strict=True):
    here = [row for row in rows if row['overrides'] == overrides]
    _draw(axis, here, colors)
    axis.set(xlabel='gradients of a batch, in epochs of SGD', title=overrides)
  axes[0, 0].set_ylabel(panels.axis_label(main))
  figure.legend(
    *_first_handles(axes, methods), loc='outside right center', frameon=False
  )
  figure.suptitle(
    f'{title}\n{_seeds(rows)}',
    fontsize='medium',
    wrap=True,
  )
  figure.savefig(path, dpi=150)
  plt.close(figure)
  return True


def _seeds(rows: Sequence[Mapping[str, Any]]) -> str:
  counts = {len(row['score']['values']) for row in rows}
  least, most = min(counts), max(counts)
  if most == 1:
    return 'One seed of each method'
  number = f'{most}' if least == most else f'{least} to {most}'
  return f'Mean and standard deviation over {number} seeds'


def _draw(
  axis: Any, rows: Sequence[Mapping[str, Any]], colors: Mapping[str, str]
) -> None:
  for row in rows:
    method, score = row['method'], row['score']
    axis.errorbar(
      row['sgd_epochs'],
      score['mean'],
      score['std'] or 0,
      fmt=_MARKERS[list(colors).index(method)],
      color=colors[method],
      label=method,
      capsize=3,
      markersize=7,
    )
  axis.set_xlim(0, None)
  axis.grid(alpha=0.3)


def _first_handles(
  axes: Any, methods: Sequence[str]
) -> tuple[list[Any], list[Any]]:
  """A handle for each method, from the first axis that has it."""
  handles = {}
  for axis in axes.flat:
    for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
      handles.setdefault(label, handle)
  return [handles[method] for method in methods], list(methods)
