"""Counts what every method sends between devices.

python -m benchmarks.hlo.communication
python -m benchmarks.hlo.communication --rows=sam,fsam,arsam --devices=4

Compiles one step of each method for a small network on several CPU devices and
reads the operations between them from the optimized HLO. Nothing is timed. The
last table estimates, by arithmetic alone, the time of a step on rings of
devices. Writes communication.md and communication.json.
"""

import functools
import json
import pathlib

import jax
import tqdm
from absl import app, flags, logging

from benchmarks import measure, rows
from benchmarks.hlo import one_step, ring, traffic

_ROWS = flags.DEFINE_string(
  'rows', 'all', "Rows, comma-separated, or 'main' or 'all'."
)
_DEVICES = flags.DEFINE_integer('devices', 8, 'CPU devices to compile for.', 2)
_SIZES = flags.DEFINE_list(
  'sizes', ['8', '256', '4096'], 'Devices in each ring.'
)
_PARAMETERS = flags.DEFINE_integer(
  'parameters', 25_557_032, 'Parameters in the estimate; as in ResNet-50.', 1
)
_COMPUTE = flags.DEFINE_float(
  'compute', 0.1, 'Seconds for one gradient on one device.', 0
)
_BANDWIDTH = flags.DEFINE_float(
  'bandwidth', 50e9, 'Bytes per second that a device sends.', 1
)
_LATENCY = flags.DEFINE_float(
  'latency', 2e-6, 'Seconds for a message to the next device.', 0
)
_SHARE = flags.DEFINE_float(
  'share',
  0.25,
  'Fraction of perturbed steps, for methods that do not perturb on all.',
  0,
  1,
)
_WORKDIR = flags.DEFINE_string(
  'workdir', 'runs/communication', 'Folder for the results.'
)


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
  works = traffic.works(counted, _SHARE.value)
  sizes = [int(size) for size in _SIZES.value]
  text = traffic.report(counted, works, sizes, assumed)
  print(text, flush=True)
  workdir = pathlib.Path(_WORKDIR.value)
  workdir.mkdir(parents=True, exist_ok=True)
  (workdir / 'communication.md').write_text(text + '\n')
  written = measure.environment() | {
    'devices': len(devices),
    'rows': counted,
    'assumed': assumed._asdict(),
    'works': {name: work._asdict() for name, work in works.items()},
  }
  (workdir / 'communication.json').write_text(
    json.dumps(written, indent=1) + '\n'
  )
  print(f'wrote communication.md and communication.json to {workdir}')


if __name__ == '__main__':
  app.run(main)
