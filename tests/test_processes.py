"""Several real processes of the program, as users start them."""

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
from tests.test_program import ROOT, make_dataset, npz, tiny  # noqa: F401
from train import log, loop
from train.log import Log

STEPS = 240
SECONDS = 120  # a hang fails


# Optax's cosine schedule divides an integer by a number.
@pytest.fixture(autouse=True)
def _standard_promotion(standard_promotion):
  yield


def free_port():
  with socket.socket() as listening:
    listening.bind(('localhost', 0))
    return listening.getsockname()[1]


class Pair:
  """Two processes of one run.

  Args:
    folder: the run's folder; the second process has one of its own, which
      stays empty.
    name: of the data set.
    cache: of compiled steps.
    *arguments: overrides of the config.
  """

  def __init__(self, folder, name, cache, *arguments):
    environment = {
      'JAX_COMPILATION_CACHE_DIR': str(cache),
      'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
    }
    port = free_port()
    self.processes = [
      subprocess.Popen(
        [
          *('env', *(f'{key}={value}' for key, value in environment.items())),
          *(sys.executable, '-m', 'train'),
          *(
            '--config=tests/tiny_config.py:arsam',
            f'--coordinator=localhost:{port}',
          ),
          *('--num_processes=2', f'--process_id={index}'),
          f'--workdir={folder if index == 0 else folder.with_name("other")}',
          f'--config.data.name={name}',
          *('--config.batch_size=8', f'--config.steps={STEPS}'),
          *('--config.log_every=4', '--config.eval_every=9'),
          '--config.checkpoint.every=20',
          *arguments,
        ],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
      )
      for index in range(2)
    ]

  def __enter__(self):
    return self

  def __exit__(self, *exception):
    for process in self.processes:
      process.kill()
      process.communicate()

  def wait_for(self, folder, steps):
    end = time.monotonic() + SECONDS
    while log.steps_logged(folder) < steps:
      assert time.monotonic() < end
      assert all(process.poll() is None for process in self.processes)
      time.sleep(0.005)

  def ends(self):
    """(status, stdout, stderr) of each."""
    texts = [process.communicate(timeout=SECONDS) for process in self.processes]
    return [
      (process.returncode, *text)
      for process, text in zip(self.processes, texts, strict=True)
    ]


def lines(folder):
  text = (folder / 'metrics.jsonl').read_text()
  return [json.loads(line) for line in text.splitlines()]


def test_two_processes_are_one_run(npz, tmp_path):  # noqa: F811
  cache = tmp_path / 'cache'
  whole, broken = tmp_path / 'whole' / 'run', tmp_path / 'broken' / 'run'
  with Pair(whole, npz, cache) as pair:
    (first, said, _), (second, nothing, _) = pair.ends()
  assert (first, second) == (0, 0)
  # One reads and writes, for a person too.
  assert 'test accuracy' in said and 'test accuracy' not in nothing
  assert not whole.with_name('other').exists()
  assert json.loads((whole / 'result.json').read_text())['devices'] == 2

  # One process with both devices.
  config = tiny(steps=STEPS, log_every=4, eval_every=9, mesh=(2,))
  config.parallel = 'pmap'
  with Log(tmp_path / 'one') as written:
    loop.Program(config, make_dataset()).run(0, written)
  assert lines(tmp_path / 'one') == lines(whole)

  # The second dies, and the first does not wait for it for ever.
  with Pair(broken, npz, cache) as pair:
    pair.wait_for(broken, 50)
    pair.processes[1].send_signal(signal.SIGKILL)
    (first, _, said), (second, *_) = pair.ends()
  assert (first, second) == (1, -signal.SIGKILL)
  assert 'Run the same command again' in said and 'Traceback' not in said

  # Told to stop, whichever of them, both stop after the same step.
  with Pair(broken, npz, cache) as pair:
    pair.wait_for(broken, log.steps_logged(broken) + 20)
    pair.processes[1].send_signal(signal.SIGTERM)
    (first, _, said), (second, *_) = pair.ends()
  assert (first, second) == (143, 143)
  assert 'going on after step' in said
  assert 'which is saved. Run the same command again' in said
  assert not (broken / 'result.json').exists()

  with Pair(broken, npz, cache) as pair:
    assert [end[0] for end in pair.ends()] == [0, 0]
  (one, state), (two, again) = final(whole, STEPS), final(broken, STEPS)
  assert one == two
  jax.tree.map(np.testing.assert_array_equal, state, again)


@pytest.mark.parametrize(
  ('flags', 'expected'),
  [
    (
      ['--coordinator=localhost:1'],
      'Given no --num_processes and no --process',
    ),
    (['--distributed'], '--coordinator=HOST:PORT'),
  ],
)
def test_processes_that_cannot_find_each_other_say_what_is_missing(
  flags, expected
):
  done = subprocess.run(
    [
      *(sys.executable, '-m', 'train', '--workdir=nowhere', *flags),
      '--config=tests/tiny_config.py',
    ],
    cwd=ROOT,
    capture_output=True,
    text=True,
    timeout=SECONDS,
  )
  assert done.returncode == 1
  assert done.stderr.startswith('error: Given ') and expected in done.stderr
  assert 'Traceback' not in done.stderr
