r"""What every method costs over SGD, in time and in memory.

python -m benchmarks
python -m benchmarks --networks=resnet --rows=sam,arsam,ausam --rounds=40
python -m benchmarks --networks=resnet18,wrn --batch=1024 --dtype=bfloat16 \
  --dataset=cifar10

Prints a table per network; a row's cost stands beside what the method must pay
in gradients and forward passes, so that what is lost shows. The rows take turns
in one process, a few steps each, so that a machine whose speed drifts slows
them alike. Writes table.md, bench.json and bench.png.
"""

import json
import os
import pathlib
import sys
from collections.abc import Iterable

# PyTorch's rows need a part of the accelerator's memory too.
os.environ.setdefault('XLA_PYTHON_CLIENT_PREALLOCATE', 'false')

import tqdm
from absl import app, flags, logging

from benchmarks import compare, measure, peers, picture, rows

_NETWORKS = flags.DEFINE_list(
  'networks',
  None,
  f'Some of {", ".join(rows.NETWORKS)}; by default what the machine can '
  'measure in minutes.',
)
_ROWS = flags.DEFINE_string(
  'rows',
  None,
  "Rows, comma-separated, 'main' or 'all'; by default what the machine can "
  'measure of each network in minutes.',
)
_BATCH = flags.DEFINE_integer(
  'batch', None, 'Images in a batch; by default what suits the machine.', 1
)
_SIDE = flags.DEFINE_integer('side', 32, 'Pixels on a side.', 1)
_ROUNDS = flags.DEFINE_integer('rounds', 12, 'Turns of each row.', 1)
_STEPS = flags.DEFINE_integer(
  'steps', None, 'Steps in a turn; by default a quarter second of SGD.', 1
)
_DTYPE = flags.DEFINE_string(
  'dtype', None, "The computation's dtype, such as bfloat16."
)
_DATASET = flags.DEFINE_string(
  'dataset', 'random', "'random', or a data set of the training program."
)
_PEERS = flags.DEFINE_bool('peers', True, "PyTorch's rows, if it is there.")
_COMPILATIONS = flags.DEFINE_integer(
  'compilations', 1, 'How many times each row is compiled, in turns.', 1
)
_WORKDIR = flags.DEFINE_string(
  'workdir', 'runs/bench', 'Where the results go; what is there is replaced.'
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
      rounds=_ROUNDS.value,
      steps=_STEPS.value,
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
    tables.append(compare.markdown(name, measured))
    print(f'\n{tables[-1]}\n', flush=True)
    absent = peers.missing(network.model) if _PEERS.value else None
    if absent is not None and absent not in said:
      print(f'{absent}\n', flush=True)
      said.add(absent)
    # After each network, so that what is measured is not lost.
    (workdir / 'table.md').write_text('\n\n'.join(tables) + '\n')
    (workdir / 'bench.json').write_text(json.dumps(result, indent=1) + '\n')
    picture.against_ideal(result['networks'], workdir / 'bench.png')
  print(f'wrote table.md, bench.json and bench.png to {workdir}')


if __name__ == '__main__':
  app.run(main)
