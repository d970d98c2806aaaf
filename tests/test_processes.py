"""Several real processes of the program, as users start them."""

import contextlib
import json
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from tests.test_checkpoint import final
from tests.tiny_runs import ROOT, npz_file, tiny  # noqa: F401
from train import run
from train.config import ConfigError
from train.engine import log
from train.parallel import processes

STEPS = 240
SECONDS = 300  # a hang fails


# Optax's cosine schedule divides an integer by a number.
pytestmark = pytest.mark.usefixtures('standard_promotion')


def command(*arguments, config='tests/tiny_config.py'):
  return [sys.executable, '-m', 'train', f'--config={config}', *arguments]


@contextlib.contextmanager
def started(command, **environment):
  """A process that does not outlive the test."""
  settings = [f'{key}={value}' for key, value in environment.items()]
  process = subprocess.Popen(
    ['env', *settings, *command],
    cwd=ROOT,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )
  try:
    yield process
  finally:
    process.kill()
    process.communicate()


def free_port():
  with socket.socket() as listening:
    listening.bind(('localhost', 0))
    return listening.getsockname()[1]


@contextlib.contextmanager
def pair(folder, name):
  """Two processes of one run; the second is given a folder of its own."""
  arguments = [
    f'--coordinator=localhost:{free_port()}',
    '--num_processes=2',
    f'--config.data.name={name}',
    '--config.batch_size=8',
    f'--config.steps={STEPS}',
    '--config.log_every=4',
    '--config.eval_every=9',
    '--config.checkpoint.every=20',
  ]
  with contextlib.ExitStack() as stack:
    yield [
      stack.enter_context(
        started(
          command(
            *arguments,
            f'--process_id={index}',
            f'--workdir={own}',
            config='tests/tiny_config.py:arsam',
          ),
          # Compiled once for all the pairs.
          JAX_COMPILATION_CACHE_DIR=folder.parent / 'cache',
          JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0,
        )
      )
      for index, own in enumerate((folder, folder.parent / 'other'))
    ]


def wait_for(folder, steps, running):
  """Returns when so many steps are logged."""
  end = time.monotonic() + SECONDS
  while log.steps_logged(folder) < steps:
    assert time.monotonic() < end
    assert all(process.poll() is None for process in running)
    time.sleep(0.005)


def ends(running):
  """(status, stdout, stderr) of each."""
  texts = [process.communicate(timeout=SECONDS) for process in running]
  return [
    (process.returncode, *text)
    for process, text in zip(running, texts, strict=True)
  ]


@pytest.mark.slow
def test_two_processes_are_one_run(npz, tmp_path):
  broken = tmp_path / 'broken'
  # The second dies, and the first does not wait for it for ever.
  with pair(broken, npz) as two:
    wait_for(broken, 50, two)
    two[1].send_signal(signal.SIGKILL)
    (first, _, said), (second, *_) = ends(two)
  assert (first, second) == (1, -signal.SIGKILL)
  assert 'Run the same command again' in said and 'Traceback' not in said

  # Whichever is told to stop, both stop after the same step, and save.
  with pair(broken, npz) as two:
    wait_for(broken, log.steps_logged(broken) + 20, two)
    two[1].send_signal(signal.SIGTERM)
    (first, _, said), (second, *_) = ends(two)
  assert (first, second) == (143, 143)
  assert 'resuming after step' in said
  assert 'which is saved. Run the same command again' in said
  assert not (broken / 'result.json').exists()

  with pair(broken, npz) as two:
    (first, said, _), (second, nothing, _) = ends(two)
  assert (first, second) == (0, 0)
  # One reads and writes, for a person too.
  assert 'test accuracy' in said and 'test accuracy' not in nothing
  assert not (tmp_path / 'other').exists()
  assert json.loads((broken / 'result.json').read_text())['devices'] == 2

  # One process with both devices, which nothing happens to.
  whole = tmp_path / 'whole'
  config = tiny(steps=STEPS, log_every=4, eval_every=9, mesh=(2,))
  config.parallel = 'pmap'
  config.data.update(name=npz, dir=None)
  config.checkpoint.every = 20
  run.run(config, whole, bar=False)
  one, other = final(whole, STEPS), final(broken, STEPS)
  assert one[0] == other[0]
  jax.tree.map(np.testing.assert_array_equal, one[1], other[1])


def test_a_process_named_by_hand_needs_all_that_names_it():
  with pytest.raises(ConfigError, match='no --num_processes and no --process'):
    processes.start(False, 'localhost:1', None, None)


def test_without_a_cluster_that_is_said():
  with started(command('--workdir=nowhere', '--distributed')) as process:
    _, said = process.communicate(timeout=SECONDS)
  assert process.returncode == 1
  assert said.startswith('error: Given --distributed. ')
  assert '--coordinator=HOST:PORT' in said
  assert 'Traceback' not in said


def test_an_interrupted_run_is_saved(npz, tmp_path):
  arguments = (f'--workdir={tmp_path / "run"}', f'--config.data.name={npz}')
  arguments += ('--config.batch_size=8', '--config.epochs=10000')
  # Tests that a shell started in the background ignore it, and so would this.
  before = signal.signal(signal.SIGINT, signal.default_int_handler)
  with started(command(*arguments)) as process:
    signal.signal(signal.SIGINT, before)
    wait_for(tmp_path / 'run', 20, [process])
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=SECONDS)
  assert process.returncode == 130
  assert 'is saved. Run the same command again to resume' in said
  assert 'Traceback' not in said
