"""The pictures of runs: scores, losses and SAM steps over the steps."""

import functools
import json
import pathlib
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from train.tasks import Score

# As many as Matplotlib's default cycle has.
COLORS = 10
# Means further apart than this, as a ratio, are drawn on a logarithmic axis.
_FAR = 5
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

  The main score (the error, of a share that is to be high), the training loss,
  and the share of SAM steps of those methods for which it is neither none nor
  all. More methods than colors are drawn as points instead: the score of each,
  and its gradients per step.

  Args:
    groups: for each label its runs.
    main: the score of the runs.
    title: what the runs are of.
    path: the PNG file to write.
    cadence: draw the probability of a SAM step in place of loss and share.

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
    panels = _panels(groups, main, cadence)
    count = len(panels)
    figure, axes = plt.subplots(
      1, count, figsize=(6.4 * count, 4.4), squeeze=False, layout='constrained'
    )
    colors = {label: f'C{i}' for i, label in enumerate(groups)}
    for axis, (draw, shown) in zip(axes[0], panels, strict=True):
      draw(axis, shown, colors)
  figure.suptitle(title, wrap=True)
  figure.savefig(path, dpi=150)
  plt.close(figure)
  return True


def _panels(
  groups: Groups, main: Score, cadence: bool
) -> list[tuple[Callable[..., None], Groups]]:
  draw_scores = functools.partial(_draw_scores, main)
  those = lambda test: {
    label: group for label, group in groups.items() if test(group[0].steps)
  }
  adaptive = those(lambda steps: {'probability', 'ratio'} <= set(steps))
  if cadence:
    return [
      (draw_scores, groups),
      *([(_draw_probabilities, adaptive)] if adaptive else []),
    ]
  some = those(lambda steps: 0 < np.mean(steps['perturbed']) < 1)
  return [
    (draw_scores, groups),
    (_draw_losses, groups),
    *([(_draw_shares, some)] if some else []),
  ]


def axis_label(main: Score) -> str:
  """The label of an axis of scores."""
  return ', '.join(filter(None, (f'test {main.name}', main.unit)))


def pyplot() -> Any:
  """Imports Matplotlib, only when something is drawn, without a screen."""
  import matplotlib

  matplotlib.use('Agg')
  from matplotlib import pyplot

  return pyplot


def _draw_points(plt, groups, main) -> Any:
  """A line per method, the best first: its seeds, their mean, its cost."""
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
    evaluations = last(groups[name], 'steps', 'gradient_evaluations')
    steps = last(groups[name], 'steps', 'step')
    right.plot(
      sum(evaluations) / sum(steps), row, 'o', color='C1', clip_on=False
    )
  left.set_yticks(range(len(labels)), labels)
  left.set(xlabel=axis_label(main), title='Seeds and their mean')
  right.set(xlabel='gradients per step', title='Cost', xlim=(0, None))
  for axis in (left, right):
    axis.grid(alpha=0.3)
    axis.set_ylim(-0.7, len(labels) - 0.3)
  return figure


def _draw_scores(main, axis, groups, colors) -> None:
  # What is near 100 % is told apart by how far from it.
  is_share = main.unit == '%' and main.higher_is_better
  name = 'error' if is_share else main.name
  for method, group in groups.items():
    curves = []
    for run in group:
      shown = main.shown(run.tests[f'test_{main.name}'])
      curves.append((run.tests['step'], 100 - shown if is_share else shown))
    _draw_range(axis, curves, colors[method], method)
  _scale(axis, f'{{:g}} {main.unit}'.rstrip())
  axis.set(
    xlabel='step',
    ylabel=f'test error (100 % - {main.name})' if is_share else f'test {name}',
    title=f'Test {name}: mean and range over the seeds',
  )
  axis.grid(alpha=0.3)
  axis.legend()


def _draw_losses(axis, groups, colors) -> None:
  for label, group in groups.items():
    _draw_range(
      axis,
      _binned_alike(group, 'loss'),
      colors[label],
      label,
    )
  _scale(axis, '{:g}')
  axis.set(
    xlabel='step',
    ylabel='training loss',
    title='Training loss: mean and range over the seeds',
  )
  axis.grid(alpha=0.3)
  axis.legend()


def _draw_shares(axis, groups, colors) -> None:
  for label, group in groups.items():
    _draw_range(
      axis,
      [(x, 100 * share) for x, share in _binned_alike(group, 'sam_fraction')],
      colors[label],
      label,
    )
  axis.set(
    xlabel='step',
    ylabel='SAM steps so far, %',
    ylim=(0, 102),
    title='SAM steps: mean and range over the seeds',
  )
  axis.grid(alpha=0.3)
  axis.legend()


def _scale(axis, form: str) -> None:
  """A logarithmic axis where the values are far apart."""
  from matplotlib import ticker

  means = np.concatenate([line.get_ydata() for line in axis.lines])
  if means.min() > 0 and means.max() > _FAR * means.min():
    axis.set_yscale('log')
    axis.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axis.minorticks_off()
  axis.yaxis.set_major_formatter(lambda value, _: form.format(value))


def _draw_range(axis, lines, color, label) -> None:
  """Draws the mean of some lines, as far as they all go, and their range."""
  length = min(len(y) for _, y in lines)
  values = np.stack([y[:length] for _, y in lines])
  x = lines[0][0][:length]
  axis.plot(x, values.mean(0), color=color, label=label, linewidth=2)
  axis.fill_between(
    x, values.min(0), values.max(0), color=color, alpha=0.12, linewidth=0
  )


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


def _draw_probabilities(axis, groups, colors) -> None:
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
      steps['probability'],
      color=colors[label],
      linewidth=2,
      label=f'{label}: sampling probability',
    )
    axis.plot(
      steps['step'],
      steps['sam_fraction'],
      color=colors[label],
      linestyle='--',
      label=f'{label}: share of SAM steps so far',
    )
  axis.plot([], [], '.', color='gray', label='ratio ‖PSF‖/‖g‖ (right)')
  axis.set(
    xlabel='step',
    ylabel='probability',
    ylim=(0, 1.02),
    title='Cadence, seed 0',
  )
  ratio_axis.set_ylabel('ratio ‖PSF‖/‖g‖')
  # Room above the dots for the legend.
  ratio_axis.set_ylim(0, 1.5 * ratio_axis.get_ylim()[1])
  axis.grid(alpha=0.3)
  axis.legend(loc='upper right')
  # The lines stay above the dots of the other axis.
  axis.set_zorder(ratio_axis.get_zorder() + 1)
  axis.patch.set_visible(False)
