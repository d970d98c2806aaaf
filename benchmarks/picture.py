"""Plots of the benchmarks."""

import pathlib
from collections.abc import Mapping
from typing import Any

from train.report import curves

# A row is named in the plot if it costs this much more than the ideal.
_FAR = 0.1


def against_ideal(
  networks: Mapping[str, Mapping[str, Any]], path: pathlib.Path
) -> None:
  """Plots measured against ideal cost, a point per row and network.

  Args:
    networks: results of `compare.compare`, by network.
    path: the PNG file to write.
  """
  pyplot = curves.pyplot()
  figure, axis = pyplot.subplots(figsize=(7, 6), layout='constrained')
  most, widest, points = 1.0, 1.0, []
  for index, (name, measured) in enumerate(networks.items()):
    rows, peers = measured['rows'], measured['peers']
    for label, marker, group in (
      (name, 'o', rows),
      (f'{name}, PyTorch', 'x', peers),
    ):
      if not group:
        continue
      ideal = [row['ideal'] for row in group]
      ratio = [row['ratio'] for row in group]
      axis.scatter(
        ideal,
        ratio,
        s=28,
        color=f'C{index}',
        marker=marker,
        alpha=0.7,
        label=label,
      )
      most, widest = max(most, *ideal, *ratio), max(widest, *ideal)
      points += [
        row for row in group if row['ratio'] > (1 + _FAR) * row['ideal']
      ]
  _name(axis, points, height=0.03 * most, away=0.03 * widest)
  limits = (0, 1.05 * most)
  axis.plot(limits, limits, color='gray', linewidth=1, zorder=0)
  axis.set(
    xlabel='ideal cost: gradients and forward passes, in SGD steps',
    ylabel='measured cost, in SGD steps',
    xlim=(0, 1.25 * widest),  # room for the names
    ylim=limits,
    title=f'Cost relative to SGD; names where {_FAR:.0%} above the ideal',
  )
  axis.grid(alpha=0.3)
  axis.legend(loc='upper left')
  figure.savefig(path, dpi=150)
  pyplot.close(figure)


def _name(axis, points, height: float, away: float) -> None:
  """Writes names right of points, stacked in each column."""
  tops = {}
  for row in sorted(points, key=lambda row: row['ratio']):
    column = round(row['ideal'], 1)
    at = max(row['ratio'], tops.get(column, -height) + height)
    tops[column] = at
    axis.annotate(
      row['name'],
      (row['ideal'], row['ratio']),
      xytext=(row['ideal'] + away, at),
      fontsize=7,
      va='center',
      arrowprops={'arrowstyle': '-', 'linewidth': 0.4, 'color': 'gray'},
    )


def growth(panels: Mapping[str, Mapping[str, Any]], path: pathlib.Path) -> None:
  """Plots each panel: cost relative to SGD at the same size, by method.

  Args:
    panels: results of `growth.py`, by panel.
    path: the PNG file to write.
  """
  pyplot = curves.pyplot()
  columns = min(3, len(panels))
  lines = -(-len(panels) // columns)
  figure, axes = pyplot.subplots(
    lines,
    columns,
    figsize=(4 * columns, 3.2 * lines),
    squeeze=False,
    sharey=True,
    layout='constrained',
  )
  for axis in axes.flat[len(panels) :]:
    axis.set_axis_off()
  for axis, (name, panel) in zip(axes.flat, panels.items(), strict=False):
    for index, (method, ratios) in enumerate(panel['ratios'].items()):
      axis.plot(
        panel['sizes'],
        [ratio[0] for ratio in ratios],
        'o-',
        color=f'C{index}',
        markersize=4,
        label=method,
      )
      axis.fill_between(
        panel['sizes'],
        [ratio[1] for ratio in ratios],
        [ratio[2] for ratio in ratios],
        color=f'C{index}',
        alpha=0.15,
        linewidth=0,
      )
    axis.set_xscale('log')
    axis.set_title(name)
    axis.grid(alpha=0.3)
  for axis in axes[:, 0]:
    axis.set_ylabel('relative to SGD')
  axes.flat[0].set_ylim(0)  # last, as plotting would rescale the shared axis
  axes.flat[0].legend(fontsize=8)
  figure.savefig(path, dpi=150)
  pyplot.close(figure)
