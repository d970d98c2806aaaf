r"""Measures how long each method takes to its first step, relative to SGD.

python -m benchmarks.compilation
python -m benchmarks.compilation --network=resnet --rows=sam,arsam --times=5

The time runs from the call of the first step to its end, on a program that has
compiled nothing: it is what a user waits for. A method of several programs
takes its first step when that step's own program is ready, and `all` is the
time until the others are ready too. The rows take turns.
"""

import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
from absl import app, flags, logging

from benchmarks import measure, program, rows

_NETWORK = flags.DEFINE_enum(
  'network', 'resnet18', list(rows.NETWORKS), 'The network.'
)
_ROWS = flags.DEFINE_string(
  'rows',
  'sam,fsam,rsam,rgsam,lpfsgd,arsam,ausam',
  "Rows, comma-separated, or 'main' or 'all'.",
)
_BATCH = flags.DEFINE_integer('batch', 8, 'Images in a batch.', 1)
_SIDE = flags.DEFINE_integer('side', 32, 'Height and width in pixels.', 1)
_TIMES = flags.DEFINE_integer('times', 3, 'Compilations of each row.', 1)


class Waiting(NamedTuple):
  """The seconds of a row, one number for each time it was compiled."""

  first_step: list[float]
  all: list[float]


def wait_for(row: program.ProgramRow) -> tuple[float, float]:
  """Takes the first step of a row.

  Args:
    row: a row that took no step yet.

  Returns:
    The seconds to the end of the first step, and those until every program
    that was begun is compiled.
  """
  # Nor may another row have traced anything that this one uses.
  jax.clear_caches()
  start = time.perf_counter()
  row.take_step()
  first_step = time.perf_counter() - start
  compiled = row.program.compiled
  del compiled
  return first_step, time.perf_counter() - start


def table(waiting: Mapping[str, Waiting]) -> str:
  """The medians of the rows, and of their ratios to SGD in the same turn."""
  lines = [
    '| row | first step, s | over SGD | all, s | over SGD |',
    '|---|---|---|---|---|',
  ]
  sgd = waiting['sgd']
  for name, row in waiting.items():
    cells = [name]
    for seconds, reference in zip(row, sgd, strict=True):
      ratio = measure.ratio(seconds, reference).value
      cells += [f'{statistics.median(seconds):.1f}', f'{ratio:.2f}']
    lines.append(f'| {" | ".join(cells)} |')
  return '\n'.join(lines)


def main(argv: Sequence[str]) -> None:
  """Compiles the rows in turns and prints their table."""
  del argv
  logging.set_verbosity(logging.ERROR)
  try:
    specs = rows.chosen(_ROWS.value)
  except ValueError as error:
    raise app.UsageError(str(error)) from error
  model = dict(rows.NETWORKS[_NETWORK.value].model)
  dataset = program.random_dataset(4 * _BATCH.value, _SIDE.value)
  waiting = {name: Waiting([], []) for name in specs}
  for turn in range(_TIMES.value):
    for name, spec in specs.items():
      config = program.make_config(spec, model, _BATCH.value)
      found = wait_for(program.ProgramRow(spec, config, dataset))
      for seconds, one in zip(waiting[name], found, strict=True):
        seconds.append(one)
      print(
        f'{turn + 1} of {_TIMES.value}: {name} {found[0]:.1f} s',
        file=sys.stderr,
        flush=True,
      )
  print(table(waiting))


if __name__ == '__main__':
  app.run(main)
