"""What every method sends between devices, counted from compiled programs.

python -m benchmarks.communication
python -m benchmarks.communication --rows=sam,fsam,arsam --devices=4

One step of each method is compiled for a small network on the host's devices,
and the operations between them are read from the optimized HLO: nothing is
timed. Then, as arithmetic, what a step would take on rings of devices. Writes
communication.md and communication.json.
"""

import functools
import json
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import tqdm
from absl import app, flags, logging

from benchmarks import measure, one_step, ring, rows

_ROWS = flags.DEFINE_string(
  'rows', 'all', "Rows of the benchmark, comma-separated, 'main' or 'all'."
)
_DEVICES = flags.DEFINE_integer('devices', 8, 'Devices of the host.', 2)
_SIZES = flags.DEFINE_list('sizes', ['8', '256', '4096'], 'Rings of devices.')
_PARAMETERS = flags.DEFINE_integer(
  'parameters', 25_557_032, "Of the arithmetic's network; ResNet-50's.", 1
)
_COMPUTE = flags.DEFINE_float(
  'compute', 0.1, "Seconds for a gradient of a device's batch.", 0
)
_BANDWIDTH = flags.DEFINE_float(
  'bandwidth', 50e9, 'Bytes per second that a device sends.', 1
)
_LATENCY = flags.DEFINE_float(
  'latency', 2e-6, 'Seconds for a message to the next device.', 0
)
_SHARE = flags.DEFINE_float(
  'share', 0.25, 'Of the steps that look, where not all do.', 0, 1
)
_WORKDIR = flags.DEFINE_string(
  'workdir', 'runs/communication', 'Where the results go.'
)

# Whose steps the arithmetic is of.
_EXAMPLES = ('sgd', 'sam', 'fsam', 'arsam')


def table(
  counted: dict[str, Any], cell: Callable[[dict[str, Any]], str]
) -> str:
  """A Markdown table with a row for each method and a column for each route."""
  lines = [
    '| row | gradients | ' + ' | '.join(one_step.ROUTES) + ' |',
    '|---' * (2 + len(one_step.ROUTES)) + '|',
  ]
  for name, row in counted.items():
    steps = row['steps'].values()
    cells = [name, ', '.join(str(step['gradients']) for step in steps)]
    cells += [
      ', '.join(cell(step['routes'][route]) for step in steps)
      for route in one_step.ROUTES
    ]
    lines.append('| ' + ' | '.join(cells) + ' |')
  return '\n'.join(lines)


def copies(sent: dict[str, Any]) -> str:
  """Copies of the parameters, and the kilobytes of examples if there are any.

  What is gathered and what is reduced are apart where both happen.
  """
  counts = [f'{count:.2f}'.rstrip('0').rstrip('.') for count in _by_kind(sent)]
  extra = sent['other_bytes'] / 1000
  return ' + '.join(counts) + (f' ({extra:.1f} kB)' if extra >= 0.1 else '')


def _by_kind(sent: dict[str, Any]) -> Sequence[float]:
  kinds = sorted(sent['copies'], reverse=True)
  return [sent['copies'][kind] for kind in kinds] or [0.0]


def operations(sent: dict[str, Any]) -> str:
  """Operations that send parameters, and in them arrays; single numbers."""
  return f'{sent["operations"]} ({sent["arrays"]}) + {sent["scalars"]}'


def works(counted: dict[str, Any], share: float) -> dict[str, ring.Work]:
  """The mean step of the rows that the arithmetic is of."""
  made = {}
  for name in (name for name in _EXAMPLES if name in counted):
    steps = counted[name]['steps']
    shares = {kind: 1.0 for kind in steps}
    if len(steps) > 1:
      shares = {'look': share, 'skip': 1 - share}
    for route in ('local', 'synced'):
      made[f'{name}, {route}'] = ring.Work(
        sum(shares[kind] * steps[kind]['gradients'] for kind in steps),
        sum(
          shares[kind] * steps[kind]['routes'][route]['total'] for kind in steps
        ),
      )
  return made


def main(argv: list[str]) -> None:
  """Counts; prints and writes the tables."""
  del argv
  logging.set_verbosity(logging.ERROR)
  jax.config.update('jax_num_cpu_devices', _DEVICES.value)
  devices = jax.devices('cpu')[: _DEVICES.value]
  chosen = {
    name: spec
    for name, spec in rows.chosen(_ROWS.value).items()
    if spec.build is None
  }
  count = functools.partial(one_step.count, devices=devices)
  counted = {name: count(spec) for name, spec in tqdm.tqdm(chosen.items())}
  assumed = ring.Assumptions(
    _PARAMETERS.value, _COMPUTE.value, _BANDWIDTH.value, _LATENCY.value
  )
  summed = works(counted, _SHARE.value)
  sizes = [int(size) for size in _SIZES.value]
  text = '\n\n'.join(
    [
      '## Copies of the parameters that a step sends',
      table(counted, copies),
      '## Operations (arrays of parameters in them) + single numbers',
      table(counted, operations),
      '## Arithmetic, not a measurement: ms per step on a ring, and over the '
      'first row',
      ring.markdown(summed, sizes, assumed),
    ]
  )
  print(text, flush=True)
  workdir = pathlib.Path(_WORKDIR.value)
  workdir.mkdir(parents=True, exist_ok=True)
  (workdir / 'communication.md').write_text(text + '\n')
  written = measure.environment() | {
    'devices': len(devices),
    'rows': counted,
    'assumed': assumed._asdict(),
    'works': {name: work._asdict() for name, work in summed.items()},
  }
  (workdir / 'communication.json').write_text(
    json.dumps(written, indent=1) + '\n'
  )
  print(f'wrote communication.md and communication.json to {workdir}')


if __name__ == '__main__':
  app.run(main)
