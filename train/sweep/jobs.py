"""A sweep in several processes at once, each with a device of its own.

All of them visit the same runs and skip those that another one trains, so they
share nothing but the folders.
"""

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

import jax

from train.checks import ConfigError
from train.engine.preemption import Preemption
from train.sweep.plan import PlannedRun

_POLL = 0.1  # seconds between two looks at the processes

# In a process of its own, which gives the devices back when it ends. A TPU's
# devices that are one chip have the same coordinates.
_COUNT = """
import jax
chips = {getattr(device, 'coords', device.id) for device in jax.local_devices()}
print(jax.default_backend(), len(chips))
"""


def run(
  arguments: Sequence[str], environments: Sequence[Mapping[str, str]]
) -> None:
  """Runs the sweep's command in processes and waits for them.

  Args:
    arguments: of the command.
    environments: what each process has in its environment besides ours.

  Raises:
    Stopped: if a signal came; the processes were stopped and have saved.
  """
  processes: list[subprocess.Popen[bytes]] = []
  with Preemption() as preemption:
    for index, environment in enumerate(environments):
      worker = f'--worker={index}/{len(environments)}'
      processes.append(
        subprocess.Popen(
          [sys.executable, '-m', 'train.sweep', *arguments, worker],
          env={**os.environ, **environment},
          # Ctrl-C goes to us alone; they get the signal that they save at.
          start_new_session=True,
        )
      )
    while any(process.poll() is None for process in processes):
      if preemption.noted:
        for process in processes:
          process.terminate()
        for process in processes:
          process.wait()
      time.sleep(_POLL)
    preemption.stop_if_noted()
  for process in processes:
    # Its errors are its own to say, but not what ended it from outside.
    if process.returncode < 0:
      number = -process.returncode
      print(
        f'Given --jobs={len(processes)}. Process {process.pid} of them was '
        f'killed by signal {number} ({signal.strsignal(number)}), mostly '
        'because memory ran out. Run the same command again to resume its '
        'runs, with fewer --jobs if that is so.',
        file=sys.stderr,
      )


def environments(jobs: str) -> list[dict[str, str]]:
  """The environments in which each process sees one device.

  Args:
    jobs: how many processes, or 'all' for one on each device.

  Returns:
    The variables of each process.

  Raises:
    ConfigError: if there are fewer devices, or JAX cannot count them.
  """
  try:
    done = subprocess.run(
      [sys.executable, '-c', _COUNT], capture_output=True, text=True, check=True
    )
  except subprocess.CalledProcessError as error:
    *_, why = error.stderr.strip().splitlines() or ['it said nothing']
    raise ConfigError(
      f'Given --jobs={jobs}. JAX could not count the devices: {why}. Set '
      'JAX_PLATFORMS to a platform that this machine has, end what holds its '
      'devices, or leave out --jobs.'
    ) from error
  # Whatever a plugin of JAX says comes before.
  platform, number = done.stdout.split()[-2:]
  count = int(number) if jobs == 'all' else int(jobs)
  if platform == 'cpu':
    # Else every process would take all cores, and they would take turns.
    share = max(1, (os.cpu_count() or 1) // count)
    threads = os.environ.get('NPROC', str(share))
    return [{'NPROC': threads}] * count
  if count > int(number):
    raise ConfigError(
      f'Given --jobs={count}. There are only {number} {platform} devices, and '
      f'two runs on one would slow each other. Use at most --jobs={number}.'
    )
  return [_showing(platform, index) for index in range(count)]


def leave_devices() -> None:
  """Keeps this process on the CPU, since the devices are for the others.

  Otherwise it would hold memory of the first one, or a TPU as a whole, while
  the processes train. Call it before anything runs in JAX.
  """
  jax.config.update('jax_platforms', 'cpu')


def _showing(platform: str, index: int) -> dict[str, str]:
  name = 'TPU_VISIBLE_CHIPS' if platform == 'tpu' else 'CUDA_VISIBLE_DEVICES'
  # Ours may be only some of the machine's.
  visible = os.environ.get(name)
  variables = {name: visible.split(',')[index] if visible else str(index)}
  if platform == 'tpu':
    # The process is not one of several that make up a slice.
    variables['TPU_CHIPS_PER_PROCESS_BOUNDS'] = '1,1,1'
    variables['TPU_PROCESS_BOUNDS'] = '1,1,1'
  return variables


def share(
  todo: Sequence[PlannedRun], index: int, count: int
) -> list[PlannedRun]:
  """The order in which one of several processes visits the runs.

  Args:
    todo: all the runs.
    index: of the process.
    count: how many processes there are.

  Returns:
    All the runs, grouped by variant, since the runs of one share what is
    compiled. Each process begins with other variants.
  """
  kinds = dict.fromkeys(run.kind for run in todo)
  groups = [[run for run in todo if run.kind == kind] for kind in kinds]
  start = index * len(groups) // count
  return list(itertools.chain(*groups[start:], *groups[:start]))
