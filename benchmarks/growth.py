"""Measures how the cost of a step grows with the problem.

python -m benchmarks.growth

Times each method relative to SGD on problems of growing size, in turns in one
process. A rising line means that some part of the step grows faster than the
gradient. The networks are perceptrons, whose gradients are cheap, so that the
rest of a step shows. Writes growth.json and growth.png.
"""

import json
import pathlib
import sys

from absl import app, flags, logging

from benchmarks import measure, picture, sizes

_PANELS = flags.DEFINE_list(
  'panels', list(sizes.PANELS), f'Some of: {", ".join(sizes.PANELS)}.'
)
_MOST = flags.DEFINE_integer('most', None, 'Largest size to measure.', 1)
_ROUNDS = flags.DEFINE_integer(
  'rounds', 12, 'Least number of turns of each method.', 1
)
_MOST_ROUNDS = flags.DEFINE_integer(
  'most_rounds', 60, 'Greatest number of turns of each method.', 1
)
_WITHIN = flags.DEFINE_float(
  'within',
  0.03,
  'Take turns until the 95 % interval of each cost has this width relative to '
  'the cost.',
  0,
)
_STEPS = flags.DEFINE_integer(
  'steps',
  None,
  'Steps in a turn; by default as many as SGD takes in 0.25 s.',
  1,
)
_WORKDIR = flags.DEFINE_string(
  'workdir', 'runs/growth', 'Folder for the results; files there are replaced.'
)


def main(argv: list[str]) -> None:
  """Measures the panels; prints and writes them."""
  del argv
  logging.set_verbosity(logging.ERROR)
  for name in _PANELS.value:
    if name not in sizes.PANELS:
      raise app.UsageError(
        f'Given the panel {name!r}. There is no such panel. Use some of: '
        f'{", ".join(sizes.PANELS)}.'
      )
  workdir = pathlib.Path(_WORKDIR.value)
  workdir.mkdir(parents=True, exist_ok=True)
  rounds = measure.Rounds(
    _ROUNDS.value, max(_ROUNDS.value, _MOST_ROUNDS.value), _WITHIN.value
  )
  panels = {}
  for name in _PANELS.value:
    panel = {'sizes': [], 'milliseconds': [], 'unsettled': [], 'ratios': {}}
    panels[name] = panel
    for size, problem in sizes.PANELS[name].items():
      if _MOST.value is not None and size > _MOST.value:
        continue
      measured = sizes.measure_size(problem, rounds, _STEPS.value)
      panel['sizes'].append(size)
      for field in ('milliseconds', 'unsettled'):
        panel[field].append(measured[field])
      for method, ratio in measured['ratios'].items():
        panel['ratios'].setdefault(method, []).append(ratio)
      costs = ', '.join(
        f'{method} {ratio[0]:.2f}'
        + ' (not settled)' * (method in measured['unsettled'])
        for method, ratio in measured['ratios'].items()
      )
      print(
        f'{name} {size:,}: SGD {measured["milliseconds"]:.2f} ms, {costs}',
        flush=True,
      )
      # Written after each size: the last ones take minutes to compile.
      written = measure.environment() | {'panels': panels}
      (workdir / 'growth.json').write_text(json.dumps(written, indent=1) + '\n')
      picture.growth(panels, workdir / 'growth.png')
  print(f'wrote growth.json and growth.png to {workdir}')


if __name__ == '__main__':
  sys.exit(app.run(main))
