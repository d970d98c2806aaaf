r"""Measures time and memory of every method, relative to SGD.

python -m benchmarks
python -m benchmarks --networks=resnet --rows=sam,arsam,ausam --rounds=40
python -m benchmarks --networks=resnet18,wrn --batch=1024 --dtype=bfloat16 \
  --dataset=cifar10

Prints a table per network, with the measured cost of each row beside its ideal
cost: the gradients and forward passes that the method needs. The rows take
turns of a few steps in one process, so that drift in the machine's speed
cancels, until every cost is known within 3 %; where it is not after
--most_rounds, the text below the table says so. Writes table.md, bench.json and
bench.png.
"""

import json
import os
import pathlib
import sys
from collections.abc import Iterable

# Leave memory of the accelerator for the rows of PyTorch.
os.environ.setdefault('XLA_PYTHON_CLIENT_PREALLOCATE', 'false')

import tqdm
from absl import app, flags, logging

from benchmarks import compare, measure, peers, picture, rows

_NETWORKS = flags.DEFINE_list(
  'networks',
  None,
  f'Some of {", ".join(rows.NETWORKS)}; by default those that this machine can '
  'measure in minutes.',
)
_ROWS = flags.DEFINE_string(
  'rows',
  None,
  "Rows, comma-separated, or 'main' or 'all'; by default those that this "
  'machine can measure in minutes.',
)
_BATCH = flags.DEFINE_integer(
  'batch', None, 'Images in a batch; by default fit for the machine.', 1
)
_SIDE = flags.DEFINE_integer(
  'side', 32, 'Height and width of the images, in pixels.', 1
)
_ROUNDS = flags.DEFINE_integer(
  'rounds', 12, 'Least number of turns of each row.', 1
)
_MOST_ROUNDS = flags.DEFINE_integer(
  'most_rounds', 60, 'Greatest number of turns of each row.', 1
)
_WITHIN = flags.DEFINE_float(
  'within',
  0.03,
  'Take turns until the 95 % interval of ideal / measured has this width '
  'relative to the value in every row.',
  0,
)
_STEPS = flags.DEFINE_integer(
  'steps',
  None,
  'Steps in a turn; by default as many as SGD takes in 0.25 s.',
  1,
)
_PROGRAM_STEPS = flags.DEFINE_integer(
  'program_steps',
  None,
  'Steps in a run of the whole program; by default two turns. Take 200 for a '
  'claim: a run has a constant cost.',
  1,
)
_DTYPE = flags.DEFINE_string(
  'dtype', None, 'Dtype of the computation, such as bfloat16.'
)
_DATASET = flags.DEFINE_string(
  'dataset', 'random', "'random', or a data set of the training program."
)
_PEERS = flags.DEFINE_bool(
  'peers', True, 'Whether to measure PyTorch too, if installed.'
)
_COMPILATIONS = flags.DEFINE_integer(
  'compilations', 1, 'Number of times that each row is compiled.', 1
)
_WORKDIR = flags.DEFINE_string(
  'workdir', 'runs/bench', 'Folder for the results; files there are replaced.'
)


def _say(line: str) -> None:
  print(line, file=sys.stderr, flush=True)


def _progress(rounds: Iterable[int]) -> Iterable[int]:
  return tqdm.tqdm(list(rounds), unit='round')


def main(argv: list[str]) -> None:
  """Measures the networks; prints and writes their tables."""
  del argv
  logging.set_verbosity(logging.ERROR)
  workdir = pathlib.Path(_WORKDIR.value)
  chosen = {}
  for name in _NETWORKS.value or rows.default_networks():
    if name not in rows.NETWORKS:
      raise app.UsageError(
        f'Given the network {name!r}. There is no such network. Use some of '
        f'{", ".join(rows.NETWORKS)}.'
      )
    network = rows.NETWORKS[name]
    try:
      wanted = rows.chosen(_ROWS.value or rows.default_rows(network))
    except ValueError as error:
      raise app.UsageError(str(error)) from error
    chosen[name] = compare.Settings(
      rows=wanted,
      batch=_BATCH.value or rows.default_batch(network),
      rounds=measure.Rounds(
        _ROUNDS.value,
        max(_ROUNDS.value, _MOST_ROUNDS.value),
        _WITHIN.value,
      ),
      steps=_STEPS.value,
      program_steps=_PROGRAM_STEPS.value,
      side=_SIDE.value,
      dataset=_DATASET.value,
      dtype=_DTYPE.value,
      peers=_PEERS.value,
      compilations=_COMPILATIONS.value,
    )
  workdir.mkdir(parents=True, exist_ok=True)
  result = measure.environment() | {
    'flags': {
      flag.name: flag.value
      for flag in flags.FLAGS.get_key_flags_for_module(sys.argv[0])
    },
    'networks': {},
  }
  tables, said = [], set()
  for name, settings in chosen.items():
    network = rows.NETWORKS[name]
    measured = compare.compare(network, settings, _say, _progress)
    result['networks'][name] = measured
    tables.append(compare.report(name, measured))
    print(f'\n{tables[-1]}\n', flush=True)
    absent = peers.missing(network.model) if _PEERS.value else None
    if absent is not None and absent not in said:
      print(f'{absent}\n', flush=True)
      said.add(absent)
    # Written after each network, so that a crash loses little.
    (workdir / 'table.md').write_text('\n\n'.join(tables) + '\n')
    (workdir / 'bench.json').write_text(json.dumps(result, indent=1) + '\n')
    picture.against_ideal(result['networks'], workdir / 'bench.png')
  print(f'wrote table.md, bench.json and bench.png to {workdir}')


if __name__ == '__main__':
  app.run(main)
