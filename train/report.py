"""From runs to a table and a picture."""

import json
import pathlib
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from train import loop

# As many as Matplotlib's default cycle has.
_COLORS = 10


class Run(NamedTuple):
  """One run as it was written to its folder."""

  result: loop.Result
  steps: list[dict[str, Any]]  # the records of training steps
  tests: list[dict[str, Any]]  # the records of tests


def read(folder: pathlib.Path, result: loop.Result) -> Run:
  """Reads a run's records from its folder."""
  lines = (folder / 'metrics.jsonl').read_text().splitlines()
  records = [json.loads(line) for line in lines]
  return Run(
    result,
    steps=[record for record in records if 'loss' in record],
    tests=[record for record in records if 'test_accuracy' in record],
  )


def table(runs: Mapping[str, Sequence[Run]]) -> str:
  """A Markdown table, a row per label; speeds are medians over the seeds.

  Args:
    runs: for each label its runs, one per seed. The first label is what the
      speeds are relative to.

  Returns:
    The table.
  """
  lines = [
    '| method | test accuracy | gradients/step | images/s | relative speed |',
    '|---|---|---|---|---|',
  ]
  speeds = {
    label: statistics.median(run.result.images_per_second for run in group)
    for label, group in runs.items()
  }
  reference = next(iter(speeds.values()))
  for label, group in runs.items():
    accuracies = [100 * run.result.test_accuracy for run in group]
    accuracy = f'{statistics.mean(accuracies):.2f} %'
    if len(group) > 1:
      accuracy += f' ± {statistics.stdev(accuracies):.2f}'
    evaluations = statistics.mean(
      run.result.gradient_evaluations_per_step for run in group
    )
    lines.append(
      f'| {label} | {accuracy} | {evaluations:.2f} | {speeds[label]:,.0f} '
      f'| {speeds[label] / reference:.2f} |'
    )
  return '\n'.join(lines)


def picture(
  runs: Mapping[str, Sequence[Run]], title: str, path: pathlib.Path
) -> None:
  """Draws test error over steps, and the probability of those that adapt it.

  More methods than colors are drawn as points instead: each one's test accuracy
  and its gradients per step.

  Args:
    runs: for each label its runs, one per seed.
    title: what the runs are of.
    path: the PNG file to write.
  """
  import matplotlib

  matplotlib.use('Agg')
  from matplotlib import pyplot as plt

  if len(runs) > _COLORS:
    figure = _draw_points(plt, runs)
    figure.suptitle(title)
    figure.savefig(path, dpi=150)
    plt.close(figure)
    return
  adaptive = {
    label: group
    for label, group in runs.items()
    if 'probability' in group[0].steps[0]
  }
  count = 2 if adaptive else 1
  figure, axes = plt.subplots(
    1, count, figsize=(6.4 * count, 4.4), squeeze=False, layout='constrained'
  )
  colors = {label: f'C{i}' for i, label in enumerate(runs)}
  _draw_errors(axes[0, 0], runs, colors)
  if adaptive:
    _draw_probabilities(axes[0, 1], adaptive, colors)
  figure.suptitle(title)
  figure.savefig(path, dpi=150)
  plt.close(figure)


def _draw_points(plt, runs) -> Any:
  """A line per method, the best first: its seeds, their mean, its cost."""
  accuracies = {
    label: [100 * run.result.test_accuracy for run in group]
    for label, group in runs.items()
  }
  labels = sorted(runs, key=lambda label: statistics.mean(accuracies[label]))
  figure, (left, right) = plt.subplots(
    1,
    2,
    figsize=(9, 0.8 + 0.22 * len(runs)),
    sharey=True,
    width_ratios=(3, 1),
    layout='constrained',
  )
  for row, label in enumerate(labels):
    values = accuracies[label]
    left.plot(values, [row] * len(values), 'o', color='C0', alpha=0.35)
    left.plot(statistics.mean(values), row, '|', color='C0', markersize=12)
    right.plot(
      statistics.mean(
        run.result.gradient_evaluations_per_step for run in runs[label]
      ),
      row,
      'o',
      color='C1',
    )
  left.set_yticks(range(len(labels)), labels)
  left.set(xlabel='test accuracy, %', title='Seeds and their mean')
  right.set(xlabel='gradients per step', title='Cost', xlim=(0, None))
  for axis in (left, right):
    axis.grid(alpha=0.3)
    axis.set_ylim(-0.7, len(labels) - 0.3)
  return figure


def _draw_errors(axis, runs, colors) -> None:
  for label, group in runs.items():
    steps = [test['step'] for test in group[0].tests]
    errors = [[100 * (1 - t['test_accuracy']) for t in r.tests] for r in group]
    mean = [statistics.mean(column) for column in zip(*errors, strict=True)]
    axis.plot(steps, mean, color=colors[label], label=label, linewidth=2)
    axis.fill_between(
      steps,
      [min(column) for column in zip(*errors, strict=True)],
      [max(column) for column in zip(*errors, strict=True)],
      color=colors[label],
      alpha=0.12,
      linewidth=0,
    )
  axis.set_yscale('log')
  ticks = (0.5, 1, 2, 5, 10, 20, 50, 90)
  axis.set_yticks(ticks, [f'{tick:g} %' for tick in ticks])
  axis.minorticks_off()
  axis.set(
    xlabel='step',
    ylabel='test error',
    title='Test error: mean and range over the seeds',
  )
  axis.grid(alpha=0.3)
  axis.legend()


def _draw_probabilities(axis, runs, colors) -> None:
  ratio_axis = axis.twinx()
  for label, group in runs.items():
    run = group[0]
    steps = [record['step'] for record in run.steps]
    looked = [record for record in run.steps if record['looked']]
    ratio_axis.plot(
      [record['step'] for record in looked],
      [record['ratio'] for record in looked],
      '.',
      color='gray',
      markersize=4,
    )
    axis.plot(
      steps,
      [record['probability'] for record in run.steps],
      color=colors[label],
      linewidth=2,
      label=f'{label}: sampling probability',
    )
    axis.plot(
      steps,
      [record['look_share'] for record in run.steps],
      color=colors[label],
      linestyle='--',
      label=f'{label}: share of SAM steps so far',
    )
  axis.plot([], [], '.', color='gray', label='ratio ‖PSF‖/‖g‖ (right)')
  axis.set(
    xlabel='step',
    ylabel='probability',
    ylim=(0, 1.02),
    title='When to look, seed 0',
  )
  ratio_axis.set_ylabel('ratio ‖PSF‖/‖g‖')
  # Room above the dots for the legend.
  ratio_axis.set_ylim(0, 1.5 * ratio_axis.get_ylim()[1])
  axis.grid(alpha=0.3)
  axis.legend(loc='upper right')
  # The lines stay above the dots of the other axis.
  axis.set_zorder(ratio_axis.get_zorder() + 1)
  axis.patch.set_visible(False)
