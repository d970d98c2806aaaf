r"""Draws a figure from runs, finished or not: numbers over steps or over a key.

Examples:
  python -m train.report.figures runs/norms --show=gradient_norm,psf_norm \
    --out=norms.png
  python -m train.report.figures runs/radius --over=method.rho --out=radius.png
  python -m train.report.figures runs/parts --over=variant --out=parts.png

Over the steps there is a panel for each name in --show, of what the runs have
logged in metrics.jsonl; those of --config.measure_every are in
train/engine/measure.py. Over a key of the config, or over the variants, the
main score after the last step is drawn, or the scores in --show; a run whose
config has no such key is a horizontal line. Lines are means over the seeds,
with their range. The numbers are printed too.
"""

import argparse
import functools
import statistics
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from train import checks, command
from train.report import alike, curves, panels, results, table
from train.report.panels import Line
from train.report.results import SavedRun

STEP, VARIANT = 'step', 'variant'
# Points of a line over the steps; each is a mean.
_POINTS = 40


def place(run: SavedRun, key: str) -> tuple[str, Any]:
  """Where a run is drawn.

  Args:
    run: the run.
    key: of the config, with dots; or 'variant' or 'step'.

  Returns:
    The label of its line, and the value of the key, None where the config has
    none; over the steps, None.
  """
  if key == STEP:
    return ' '.join(filter(None, run.kind[::-1])), None
  others = [x for x in run.overrides.split('/') if not x.startswith(f'{key}=')]
  if key == VARIANT:
    return ' '.join(filter(None, others)), run.variant
  label = ' '.join(filter(None, (run.variant, *others)))
  return label, _value(run.config, key)


def doubts(found: Sequence[SavedRun], key: str) -> list[str]:
  """Says which lines, or variants, are of runs of different configs.

  Args:
    found: the runs that are drawn.
    key: see `place`.

  Returns:
    A sentence for each.
  """
  groups: dict[str, list[SavedRun]] = {}
  for run in found:
    label, value = place(run, key)
    if key == VARIANT:  # Those of a line are not of one method.
      label = ' '.join(filter(None, (value, label)))
    groups.setdefault(label, []).append(run)
  said = [alike.doubt(label, group, key) for label, group in groups.items()]
  return [text for text in said if text is not None]


def over_steps(
  found: Sequence[SavedRun], names: Sequence[str], points: int = _POINTS
) -> dict[str, dict[str, list[tuple[np.ndarray, np.ndarray]]]]:
  """What runs have logged, as lines.

  Args:
    found: the runs.
    names: of the scalars in their logs.
    points: of a line at most, each the mean over a part of the steps.

  Returns:
    For each name and each kind of run the (steps, values) of its seeds; kinds
    that have not logged it are left out.

  Raises:
    ConfigError: if no run has logged it.
  """
  lines = {name: {} for name in names}
  logged = set()
  for run in found:
    records = curves.records(run.folder)
    label, _ = place(run, STEP)
    logged.update(*records)
    for name in names:
      rows = [(row['step'], row[name]) for row in records if name in row]
      if rows:
        steps, values = np.array(rows, float).T
        parts = range(0, len(rows), -(-len(rows) // points))
        means = lambda x, at=parts: (
          np.add.reduceat(x, at) / np.diff([*at, len(x)])
        )
        line = means(steps), means(values)
        lines[name].setdefault(label, []).append(line)
  for name in names:
    if not logged:
      raise checks.ConfigError(
        f'Given --show={name}. The runs have no scalars in their metrics.jsonl,'
        ' which a run writes while it trains. Give runs that have begun to'
        ' train, or --over=variant for their scores.'
      )
    if not lines[name]:
      # Raises: no run has it.
      checks.pick('--show', name, dict.fromkeys(sorted(logged)))
  return lines


def over_key(
  found: Sequence[SavedRun], key: str, name: str | None
) -> dict[str, dict[Any, list[float]]]:
  """The last scores of runs by the value of a key.

  Args:
    found: the runs; those without a result are left out.
    key: of the config, with dots; or 'variant'.
    name: of a score, None for the main one.

  Returns:
    For each kind of run, but for the key, the scores of its seeds by value;
    the value is None where the config has no such key.

  Raises:
    ConfigError: if no run has such a key or such a score.
  """
  lines = {}
  known = set()
  for run in found:
    if run.result is None or run.main is None:
      continue
    shown = run.main.shown if name in (None, run.main.name) else float
    scores = {
      entry.removeprefix('test_'): number
      for entry, number in run.result.items()
      if entry.startswith('test_')
    }
    score = checks.pick('--show', name or run.main.name, scores)
    label, value = place(run, key)
    known.add(value)
    here = lines.setdefault(label, {})
    here.setdefault(value, []).append(shown(score))
  if known <= {None}:
    raise checks.ConfigError(
      f'Given --over={key}. No finished run has this key in its config. Give '
      "a key such as method.rho, 'step' or 'variant', and finished runs."
    )
  return lines


def draw_over_steps(
  lines: Mapping[str, Mapping[str, Sequence[tuple[np.ndarray, np.ndarray]]]],
  title: str,
) -> Any:
  """Draws a panel for each name; returns the Matplotlib figure."""
  figure, axes = _panels(len(lines), title)
  labels = dict.fromkeys(label for here in lines.values() for label in here)
  colors = {label: f'C{number % 10}' for number, label in enumerate(labels)}
  for axis, (name, here) in zip(axes, lines.items(), strict=True):
    for label, runs in here.items():
      length = min(len(x) for x, _ in runs)
      values = np.stack([y[:length] for _, y in runs])
      ends = values.mean(0), values.min(0), values.max(0)
      line = Line(runs[0][0][:length], *ends)
      _line(axis, line, colors[label], label)
    axis.set(xlabel='step', title=name)
    axis.legend()
  return figure


def draw_over_key(
  lines: Mapping[str, Mapping[str, Mapping[Any, Sequence[float]]]],
  key: str,
  title: str,
) -> Any:
  """Draws a panel for each score; returns the Matplotlib figure.

  Over the variants there is one for each of the other overrides too.
  """
  if key == VARIANT:
    return _draw_variants(lines, title)
  figure, axes = _panels(len(lines), title)
  for axis, (name, here) in zip(axes, lines.items(), strict=True):
    for number, (label, by_value) in enumerate(here.items()):
      color, known = f'C{number % 10}', sorted(set(by_value) - {None})
      if None in by_value:
        mean = statistics.mean(by_value[None])
        axis.axhline(mean, color=color, linestyle='--', label=label)
      if known:
        # Not all values need have as many seeds.
        scores = [by_value[value] for value in known]
        ends = (np.array([*map(f, scores)]) for f in (np.mean, min, max))
        _line(axis, Line(np.array(known), *ends), color, label, marker='o')
    values = {x for by_value in here.values() for x in by_value}
    panels.scale_values(axis, values - {None})
    axis.set(xlabel=key, ylabel=name)
    axis.legend()
  return figure


def _draw_variants(lines, title) -> Any:
  """A row for each variant, the first on top: the seeds and their mean."""
  panels = [
    (name, label, by_variant)
    for name, here in lines.items()
    for label, by_variant in here.items()
  ]
  figure, axes = _panels(len(panels), title)
  for axis, (name, label, by_variant) in zip(axes, panels, strict=True):
    for row, values in enumerate(reversed(by_variant.values())):
      axis.plot(values, [row] * len(values), 'o', color='C0', alpha=0.35)
      axis.plot(statistics.mean(values), row, '|', color='C0', markersize=14)
    axis.set_yticks(range(len(by_variant)), [*reversed(by_variant)])
    axis.set(xlabel=name, title=label, ylim=(-0.7, len(by_variant) - 0.3))
  return figure


def _panels(count: int, title: str) -> tuple[Any, Sequence[Any]]:
  """A figure with so many axes, three in a row."""
  columns, rows = min(count, 3), -(-count // 3)
  figure, axes = curves.pyplot().subplots(
    rows,
    columns,
    figsize=(5.6 * columns, 4.2 * rows),
    squeeze=False,
    layout='constrained',
  )
  figure.suptitle(title, wrap=True)
  for number, axis in enumerate(axes.flat):
    axis.grid(alpha=0.3)
    axis.set_visible(number < count)
  return figure, axes.flat[:count]


def _line(axis, line: Line, color, label, **style) -> None:
  axis.plot(line.x, line.mean, color=color, label=label, **style)
  axis.fill_between(
    line.x, line.low, line.high, color=color, alpha=0.15, linewidth=0
  )


def _value(config: Mapping[str, Any], key: str) -> Any:
  """The number of a key, None where there is none."""
  section: Any = config
  for part in key.split('.'):
    section = section.get(part) if isinstance(section, Mapping) else None
  return section if isinstance(section, int | float) else None


def _table_over_steps(lines) -> str:
  """The first and the last point of each line, means over the seeds."""
  head = [
    'run',
    *(f'{name}, {end}' for name in lines for end in ('first', 'last')),
  ]
  labels = dict.fromkeys(label for here in lines.values() for label in here)
  number = lambda runs, at: (
    f'{statistics.mean(y[at] for _, y in runs):.4g}' if runs else '-'
  )
  return table.markdown(
    head,
    [
      [
        label,
        *(number(lines[n].get(label), at) for n in lines for at in (0, -1)),
      ]
      for label in labels
    ],
  )


def _table_over_key(lines) -> str:
  """The mean and the standard deviation of each point."""
  found = {
    value for here in lines.values() for x in here.values() for value in x
  }
  values = sorted(found - {None}, key=lambda x: (isinstance(x, str), x))
  values = [None, *values] if None in found else values

  def cell(scores):
    if not scores:
      return '-'
    spread = f' ± {statistics.stdev(scores):.2f}' if len(scores) > 1 else ''
    return f'{statistics.mean(scores):.2f}{spread}'

  rows = [
    [name, label or '-', *(cell(by_value.get(value)) for value in values)]
    for name, here in lines.items()
    for label, by_value in here.items()
  ]
  head = ['score', 'run', *('none' if x is None else str(x) for x in values)]
  return table.markdown(head, rows)


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command.

  Args:
    argv: its arguments; the process's by default.

  Returns:
    The exit status.
  """
  return command.status_of(functools.partial(_main, argv))


def _main(argv: Sequence[str] | None) -> None:
  args = _parser().parse_args(argv)
  found = results.read_all(args.folder)
  found.sort(key=lambda run: run.seed)
  if args.over != STEP:
    found = [run for run in found if run.result and run.main]
  alike.check_different((place(run, args.over), run) for run in found)
  names = args.show.split(',') if args.show else []
  if args.over == STEP:
    lines = over_steps(found, names or ['loss'], args.points)
    figure = draw_over_steps(lines, args.title)
    text = _table_over_steps(lines)
  else:
    scores = {name: over_key(found, args.over, name) for name in names}
    if not scores:
      label = curves.axis_label(results.main_of(found))
      scores = {label: over_key(found, args.over, None)}
    figure = draw_over_key(scores, args.over, args.title)
    text = _table_over_key(scores)
  args.out.parent.mkdir(parents=True, exist_ok=True)
  figure.savefig(args.out, dpi=110)
  curves.pyplot().close(figure)
  said = [f'\n{doubt}' for doubt in doubts(found, args.over)]
  print(text, *said, f'\nwrote {args.out}', sep='\n')


def _parser() -> argparse.ArgumentParser:
  parser = command.parser('train.report.figures', __doc__ or '')
  parser.add_argument(
    'folder',
    nargs='+',
    type=command.folder,
    metavar='FOLDER',
    help='the folder of a sweep or of a run',
  )
  parser.add_argument(
    '--out',
    required=True,
    type=command.folder,
    metavar='FILE',
    help='the PNG file to write',
  )
  parser.add_argument(
    '--over',
    default=STEP,
    metavar='KEY',
    help="'step' (the default), 'variant', or a key of the config",
  )
  parser.add_argument(
    '--show',
    metavar='NAMES',
    help='scalars of the log (default: loss), or scores (default: the main '
    'one), with commas',
  )
  parser.add_argument(
    '--points',
    type=command.count,
    default=_POINTS,
    metavar='N',
    help=f'points of a line over the steps (default: {_POINTS})',
  )
  parser.add_argument(
    '--title', default='', metavar='TEXT', help='above the figure'
  )
  return parser


if __name__ == '__main__':
  sys.exit(main())
