"""The pictures of runs: scores, losses and SAM steps over the steps."""

import json
import pathlib
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from train.report import panels
from train.report.panels import COLORS as COLORS
from train.report.panels import Line, Lines
from train.report.panels import axis_label as axis_label
from train.report.panels import pyplot as pyplot
from train.tasks import Score

# Of a curve; a step's own loss says little, so that a point is a mean.
_POINTS = 100


class Curves(NamedTuple):
  """A run's records: for each name the values, one per step or test."""

  steps: Mapping[str, np.ndarray]
  tests: Mapping[str, np.ndarray]


Groups = Mapping[str, Sequence[Curves]]  # by label, a run per seed


def read(folder: pathlib.Path) -> Curves:
  """Reads the records in a run's folder, as far as they are whole."""
  steps, tests = defaultdict(list), defaultdict(list)
  for record in records(folder):
    is_test = any(name.startswith('test_') for name in record)
    columns = tests if is_test else steps
    for name, value in record.items():
      columns[name].append(value)
  arrays = lambda columns: {name: np.array(columns[name]) for name in columns}
  return Curves(arrays(steps), arrays(tests))


def records(folder: pathlib.Path) -> list[dict[str, Any]]:
  """The records of steps and of tests in a run's folder, while whole."""
  return list(_records(folder / 'metrics.jsonl'))


def _records(path: pathlib.Path) -> Iterator[dict[str, Any]]:
  if path.exists():
    with path.open('rb') as lines:
      for line in lines:
        try:
          record = json.loads(line)
        except ValueError:  # of a run that was killed, or is training
          return
        if not (isinstance(record, dict) and 'step' in record):
          return  # damaged
        yield record


def picture(
  groups: Groups,
  main: Score,
  title: str,
  path: pathlib.Path,
  cadence: bool = False,
) -> bool:
  """Draws runs over their steps.

  The main score, the training loss, and the SAM steps of those methods for
  which they are neither none nor all. More methods than colors are drawn as
  points instead: the score of each, and its gradients of a batch per step.

  Args:
    groups: for each label its runs; the others are drawn relative to the first.
    main: the score of the runs.
    title: what the runs are of.
    path: the PNG file to write.
    cadence: draw the probability of a SAM step in place of loss and SAM steps.

  Returns:
    Whether there was something to draw: a run that was tested.
  """
  groups = {
    label: [run for run in group if run.tests]
    for label, group in groups.items()
    if any(run.tests for run in group)
  }
  if not groups:
    return False
  plt = pyplot()
  if len(groups) > COLORS:
    figure = _draw_points(plt, groups, main)
  else:
    figure = _draw_lines(plt, groups, main, _panels(groups, cadence))
  figure.suptitle(title, wrap=True)
  figure.savefig(path, dpi=150)
  plt.close(figure)
  return True


_Panel = Callable[[Any, Mapping[str, str]], None]  # draws on an axis, by colors


def _draw_lines(
  plt: Any, groups: Groups, main: Score, below: Sequence[_Panel]
) -> Any:
  """The scores, and below or beside them the other panels."""
  count = len(groups)
  if panels.share_axes(count):
    width = 1 + len(below)
    figure = plt.figure(figsize=(5.6 * width, 4.2), layout='constrained')
    scores, *others = np.atleast_1d(figure.subfigures(1, width))
  else:
    heights = (2.3 * panels.rows_of(count) + 0.6, 3.4 if below else 0)
    size = (2.5 * panels.columns_of(count) + 0.8, sum(heights))
    figure = plt.figure(figsize=size, layout='constrained')
    if below:
      scores, rest = figure.subfigures(2, 1, height_ratios=heights)
      others = np.atleast_1d(rest.subfigures(1, len(below)))
    else:
      scores, others = figure, []
  _draw_scores(scores, groups, main)
  colors = panels.colors(groups)
  for place, draw in zip(others, below, strict=True):
    draw(place.subplots(), colors)
  return figure


def _panels(groups: Groups, cadence: bool) -> list[_Panel]:
  those = lambda test: {
    label: group for label, group in groups.items() if test(group[0].steps)
  }
  if cadence:
    adaptive = those(lambda steps: {'probability', 'ratio'} <= set(steps))
    draw = lambda axis, colors: _draw_probabilities(axis, adaptive, colors)
    return [draw] if adaptive else []
  some = those(lambda steps: 0 < np.mean(steps['perturbed']) < 1)
  losses = lambda axis, colors: _draw_losses(axis, groups, colors)
  shares = lambda axis, colors: _draw_shares(axis, some, colors)
  return [losses, shares] if some else [losses]


def _draw_scores(figure: Any, groups: Groups, main: Score) -> None:
  lines: Lines = {}
  for label, group in groups.items():
    runs = [run.tests for run in group]
    factor = main.shown(1.0)
    shown = [factor * run[f'test_{main.name}'] for run in runs]
    lines[label] = _over_seeds(runs[0]['step'], shown)
  is_share, note = main.unit == '%' and main.higher_is_better, ''
  if is_share:
    lines = panels.as_errors(lines)
  axes = panels.told_apart(figure, lines)
  if is_share:
    if panels.scale_shares(axes, lines):
      note = '\n(spaced by the error)'
  else:
    panels.scale(axes, lines)
  for axis in axes[:, 0]:
    axis.set_ylabel(axis_label(main) + note)
  for axis in axes[-1]:
    axis.set_xlabel('step')
  _title(
    figure, axes, f'Test {main.name}: mean and range over the seeds', lines
  )


def _title(figure: Any, axes: np.ndarray, text: str, lines: Lines) -> None:
  """A title over one axis, or over all of them."""
  if len(axes.flat) == 1:
    axes[0, 0].set_title(text)
  else:
    figure.suptitle(text + panels.explained(lines), fontsize='medium')


def _over_seeds(x: np.ndarray, values: Sequence[np.ndarray]) -> Line:
  """The mean of some curves, as far as they all go, and their range."""
  length = min(map(len, values))
  rows = np.stack([one[:length] for one in values])
  return Line(x[:length], rows.mean(0), rows.min(0), rows.max(0))


def _draw_losses(axis: Any, groups: Groups, colors: Mapping[str, str]) -> None:
  means = _draw_means(axis, groups, colors, 'loss', 1)
  panels.scale(np.array([[axis]]), means)
  axis.set(
    xlabel='step',
    ylabel='training loss',
    title='Training loss: mean over the seeds',
  )


def _draw_shares(axis: Any, groups: Groups, colors: Mapping[str, str]) -> None:
  _draw_means(axis, groups, colors, 'sam_fraction', 100)
  axis.set(
    xlabel='step',
    ylabel='SAM steps so far, % of the steps',
    ylim=(0, 102),
    title='SAM steps: mean over the seeds',
  )


def _draw_means(
  axis: Any, groups: Groups, colors: Mapping[str, str], name: str, factor: float
) -> Lines:
  """Draws the means over the seeds of what is logged at every step."""
  lines = {}
  for label, group in groups.items():
    found = _binned_alike(group, name)
    lines[label] = _over_seeds(found[0][0], [factor * y for _, y in found])
    line = lines[label]
    axis.plot(line.x, line.mean, color=colors[label], label=label, linewidth=2)
  axis.grid(alpha=0.3)
  # Beside the axis, where it covers no line.
  axis.legend(loc='upper left', bbox_to_anchor=(1, 1), fontsize='small')
  return lines


def _binned_alike(group, name: str) -> list[tuple[np.ndarray, np.ndarray]]:
  """Each run's steps and curve, as far as they all go."""
  length = min(len(run.steps['step']) for run in group)
  return [
    (_binned(run.steps['step'][:length]), _binned(run.steps[name][:length]))
    for run in group
  ]


def _binned(values: np.ndarray) -> np.ndarray:
  """The means of equal parts of a curve, fewer points than it has."""
  size = -(-len(values) // _POINTS)
  parts = np.split(values, range(size, len(values), size))
  return np.array([part.mean() for part in parts])


def _draw_probabilities(
  axis: Any, groups: Groups, colors: Mapping[str, str]
) -> None:
  ratio_axis = axis.twinx()
  for label, group in groups.items():
    steps = group[0].steps
    perturbed = steps['perturbed'].astype(bool)
    ratio_axis.plot(
      steps['step'][perturbed],
      steps['ratio'][perturbed],
      '.',
      color='gray',
      markersize=4,
    )
    axis.plot(
      steps['step'],
      100 * steps['probability'],
      color=colors[label],
      linewidth=2,
      label=f'{label}: sampling probability',
    )
    axis.plot(
      steps['step'],
      100 * steps['sam_fraction'],
      color=colors[label],
      linestyle='--',
      label=f'{label}: SAM steps so far',
    )
  axis.plot([], [], '.', color='gray', label='ratio ‖PSF‖/‖g‖ (right)')
  axis.set(
    xlabel='step',
    ylabel='probability, and SAM steps, %',
    ylim=(0, 102),
    title='On which steps: seed 0',
  )
  ratio_axis.set_ylabel('ratio ‖PSF‖/‖g‖')
  # Room above the dots for the legend.
  ratio_axis.set_ylim(0, 1.5 * ratio_axis.get_ylim()[1])
  axis.grid(alpha=0.3)
  axis.legend(loc='upper right')
  # The lines stay above the dots of the other axis.
  axis.set_zorder(ratio_axis.get_zorder() + 1)
  axis.patch.set_visible(False)


def _draw_points(plt, groups, main) -> Any:
  """A line per method, sorted by the mean: its seeds, its mean, its cost."""
  last = lambda group, part, name: [
    float(getattr(run, part)[name][-1]) for run in group
  ]
  scores = {
    name: [main.shown(x) for x in last(group, 'tests', f'test_{main.name}')]
    for name, group in groups.items()
  }
  # From the bottom up.
  labels = sorted(
    groups,
    key=lambda name: statistics.mean(scores[name]),
    reverse=not main.higher_is_better,
  )
  figure, (left, right) = plt.subplots(
    1,
    2,
    figsize=(9, 0.8 + 0.22 * len(groups)),
    sharey=True,
    width_ratios=(3, 1),
    layout='constrained',
  )
  for row, name in enumerate(labels):
    values = scores[name]
    left.plot(values, [row] * len(values), 'o', color='C0', alpha=0.35)
    left.plot(statistics.mean(values), row, '|', color='C0', markersize=12)
    gradients = last(groups[name], 'steps', 'batch_gradients')
    steps = last(groups[name], 'steps', 'step')
    right.plot(sum(gradients) / sum(steps), row, 'o', color='C1', clip_on=False)
  first = next(iter(groups))
  left.axvline(statistics.mean(scores[first]), color='0.3', linestyle='--')
  left.set_yticks(range(len(labels)), labels)
  left.set(
    xlabel=axis_label(main),
    title='Seeds and their mean, sorted by the mean: no ranking\n'
    f'where the seeds overlap (dashed: {first})',
  )
  right.set(
    xlabel='gradients of a batch\nper step', title='Cost', xlim=(0, None)
  )
  for axis in (left, right):
    axis.grid(alpha=0.3)
    axis.set_ylim(-0.7, len(labels) - 0.3)
  return figure
