"""Checkpoints: a run stopped anywhere ends as one that never was."""

import json
import random
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from tests.runs import Killed, Program, kill, terminate
from tests.tiny_runs import ROOT, make_dataset, npz_file, tiny  # noqa: F401
from train import config as train_config
from train import run, workdir
from train.checks import ConfigError
from train.engine import checkpoint, log, loop
from train.engine.preemption import Stopped
from train.engine.step import TrainState

STEPS, EVERY = 40, 6  # epochs of 8 steps, so that checkpoints are within them
METHODS = {
  'arsam': {'segment': 5, 'warmup_steps': 5},
  'sam_infobatch': {'rho': 0.05},
}


# Optax's cosine schedule divides an integer by a number.
pytestmark = pytest.mark.usefixtures('standard_promotion')


class Checkpoints(checkpoint.Checkpoints):
  """Checkpoints that are there when a step is over, for what happens next."""

  def after_step(self, state, progress, records):
    super().after_step(state, progress, records)
    with self._writing():
      self._manager.wait_until_finished()


def go(program, folder, every=EVERY):
  """A run that goes on in a folder, as the command runs it."""
  with Checkpoints(
    folder / 'checkpoints', every, keep=2, lag=4, total_steps=STEPS
  ) as checkpoints:
    start = checkpoints.restore(program.init(0), log.steps_logged(folder))
    keep = start[1].step if start else 0
    with log.Log(folder, keep=keep) as lines:
      return program.run(0, lines, checkpoints, start)


def interrupted(program, folder, happening):
  """Goes on until nothing happens any more."""
  program.happening = dict(happening)
  while program.happening:  # but for what only takes time
    with pytest.raises((Killed, Stopped)):
      go(program, folder)
  return go(program, folder)


def final(folder, steps=STEPS):
  """What the run left in its folder, without the times."""
  with ocp.StandardCheckpointer() as checkpointer:
    path = folder.absolute() / 'checkpoints' / str(steps) / 'arrays'
    state = checkpointer.restore(path)['state']
  return (folder / 'metrics.jsonl').read_text(), state


def assert_equal(one, two):
  assert one[0] == two[0]
  jax.tree.map(np.testing.assert_array_equal, one[1], two[1])


TIMES = ('images_per_second', 'train_seconds', 'compile_seconds')


def without_times(result):
  return result._replace(**dict.fromkeys(TIMES, 0))


@pytest.fixture(scope='module')
def programs(tmp_path_factory):
  """For each method its program, its folder and result uninterrupted."""
  runs = {}
  with jax.numpy_dtype_promotion('standard'):
    for name, options in METHODS.items():
      config = tiny(steps=STEPS, log_every=4, ema_decay=0.9)
      config.method = train_config.method(name, **options)
      program = Program(config, make_dataset())
      folder = tmp_path_factory.mktemp(name)
      runs[name] = program, folder, go(program, folder, every=STEPS)
  return runs


@pytest.mark.parametrize(
  'happening',
  [
    pytest.param({3: kill, 15: kill, 29: kill}, id='killed'),
    pytest.param({3: terminate, 7: terminate, 8: terminate}, id='stopped'),
  ],
)
@pytest.mark.parametrize('name', METHODS)
def test_an_interrupted_run_ends_as_one_that_was_not(
  name, happening, programs, tmp_path
):
  program, folder, result = programs[name]
  again = interrupted(program, tmp_path, happening)
  assert without_times(again) == without_times(result)
  assert_equal(final(tmp_path), final(folder))
  kept = [int(path.name) for path in (tmp_path / 'checkpoints').iterdir()]
  assert len(kept) == 2 and STEPS in kept


def test_the_times_are_of_the_whole_run(programs, tmp_path):
  program, _, _ = programs['arsam']

  def compile_slowly():
    time.sleep(0.2)
    program.compile_seconds += 0.1

  begun = time.perf_counter()
  result = interrupted(
    program, tmp_path, {2: compile_slowly, STEPS - 2: terminate}
  )
  assert result.compile_seconds == pytest.approx(0.1)
  assert result.train_seconds > 0.1
  spent = time.perf_counter() - begun
  assert result.train_seconds + result.compile_seconds < spent


def test_a_state_comes_back_whole(programs, tmp_path):
  # Of another seed, so that a key which is not restored is seen.
  program, _, _ = programs['arsam']
  state, like = program.init(3), program.init(0)
  state, order = program.start_epoch(state, 3, 0)
  progress = checkpoint.Progress(1, 1, order, 1, 0.1, 0.2, {'loss': 1 / 3})
  records = loop.Records(log.Log.nowhere(), 8, lambda: 1.0, logged=1)
  expected = jax.device_get(checkpoint._to_arrays(state))
  with checkpoint.Checkpoints(tmp_path, 1, total_steps=1) as checkpoints:
    checkpoints.after_step(state, progress, records)
    restored, facts = checkpoints.restore(like, logged=1)
  assert isinstance(restored, TrainState)
  jax.tree.map(
    np.testing.assert_array_equal, checkpoint._to_arrays(restored), expected
  )
  # Of the same types too, or the step would be compiled another way.
  types = lambda state: jax.tree.map(jax.typeof, state)
  assert types(restored) == types(state)
  np.testing.assert_array_equal(facts.order, order)
  assert facts._replace(order=None) == progress._replace(order=None)


def largest(folder):
  files = [path for path in folder.rglob('*') if path.is_file()]
  return max(files, key=lambda path: path.stat().st_size)


def cut(folder):
  path = largest(folder / 'arrays')
  path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(folder):
  path = largest(folder / 'arrays' / 'ocdbt.process_0')
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 4
  path.write_bytes(content)


def change(folder):
  path = folder / 'progress' / 'metadata'
  facts = json.loads(path.read_text())
  path.write_text(json.dumps({**facts, 'position': facts['position'] - 1}))


def lose_log(folder):
  path = folder.parent.parent / 'metrics.jsonl'
  lines = path.read_text().splitlines(keepends=True)
  # The last record is cut off before the end of its line.
  path.write_text(''.join(lines[: int(folder.name) - 2])[:-1])


@pytest.mark.parametrize('damage', [cut, flip, change, lose_log])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(
  damage, programs, tmp_path, capfd
):
  program, folder, _ = programs['arsam']
  program.happening = {27: kill}
  with pytest.raises(Killed):
    go(program, tmp_path)
  before, last = sorted(
    (tmp_path / 'checkpoints').iterdir(), key=lambda path: int(path.name)
  )
  damage(last)
  capfd.readouterr()
  go(program, tmp_path)
  said = capfd.readouterr().err
  assert f'warning: cannot use {last}: ' in said
  assert f'resuming after step {before.name}' in said
  assert_equal(final(tmp_path), final(folder))


def test_checkpoints_that_are_all_damaged_are_left_alone(programs, tmp_path):
  program, _, _ = programs['arsam']
  program.happening = {14: terminate}
  with pytest.raises(Stopped):
    go(program, tmp_path)
  there = sorted((tmp_path / 'checkpoints').iterdir())
  for path in there:
    change(path)
  with pytest.raises(checkpoint.CheckpointError, match='None of its'):
    go(program, tmp_path)
  assert sorted((tmp_path / 'checkpoints').iterdir()) == there
  assert log.steps_logged(tmp_path) == 15


def test_a_full_disk_ends_the_run_and_leaves_the_last_checkpoint(
  programs, tmp_path, monkeypatch
):
  program, folder, _ = programs['arsam']

  def full(*arguments, **options):
    raise OSError(28, 'No space left on device')

  program.happening = {
    20: lambda: monkeypatch.setattr(ocp.CheckpointManager, 'save', full)
  }
  with pytest.raises(checkpoint.CheckpointError, match='No space left'):
    go(program, tmp_path)
  monkeypatch.undo()
  assert (tmp_path / 'checkpoints' / '12').exists()
  go(program, tmp_path)
  assert_equal(final(tmp_path), final(folder))


@pytest.fixture
def unfinished(npz, tmp_path):
  """The config of a run that began in a folder and has saved nothing yet."""
  config = tiny(data={'name': npz, 'dir': None})
  folder = tmp_path / 'run'
  with workdir.locked(folder, config), log.Log(folder) as lines:
    lines.test(1, {'loss': 1.0})
  return config, folder


def test_a_run_of_another_config_is_refused_with_the_differences(unfinished):
  config, folder = unfinished
  with config.unlocked():
    config.optimizer.learning_rate = 0.2
    config.method.segment = 6
    config.checkpoint.every = 7
    config.log_every = 1
  with pytest.raises(train_config.ConfigError) as error:
    run.run(config, folder)
  text = str(error.value)
  assert 'optimizer.learning_rate is 0.1 there and 0.2 here' in text
  assert 'method.segment is 5 there and 6 here' in text
  assert 'every is' not in text
  assert 'seed' not in text


def test_a_run_without_checkpoints_is_left_alone(unfinished):
  config, folder = unfinished
  config.checkpoint.every = 0
  with pytest.raises(ConfigError, match='no checkpoints to resume from'):
    run.run(config, folder)
  # Neither may a run that cannot be resumed be overwritten by one that could.
  workdir.write(folder / 'config.json', workdir._json(config))
  config.checkpoint.every = 5
  with pytest.raises(ConfigError, match='no checkpoints to resume from'):
    run.run(config, folder)


def test_a_folder_is_of_one_process_at_a_time(unfinished):
  config, folder = unfinished
  with workdir.locked(folder, config):
    with pytest.raises(train_config.ConfigError, match='Another process'):
      with workdir.locked(folder, config):
        pass


# So long that no process ends before its signal comes.
LONG = 1500


def start(folder, name, cache, every):
  environment = {
    'JAX_COMPILATION_CACHE_DIR': str(cache),
    'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
  }
  return subprocess.Popen(
    [
      *('env', *(f'{key}={value}' for key, value in environment.items())),
      *(sys.executable, '-m', 'train', f'--workdir={folder}'),
      *('--config=tests/tiny_config.py:arsam', f'--config.data.name={name}'),
      *(
        '--config.batch_size=8',
        f'--config.steps={LONG}',
        '--config.eval_every=9',
      ),
      f'--config.checkpoint.every={every}',
    ],
    cwd=ROOT,
    stdout=subprocess.DEVNULL,
    stderr=subprocess.PIPE,
    text=True,
  )


@pytest.mark.slow
def test_processes_killed_at_random_end_as_one_that_was_not(npz, tmp_path):
  cache, draw = tmp_path / 'cache', random.Random(0)
  plain, killed = tmp_path / 'plain', tmp_path / 'killed'
  config = tiny(steps=LONG, eval_every=9, log_every=10, mesh=(1,))
  config.data.update(name=npz, dir=None)
  config.checkpoint.every = LONG
  run.run(config, plain, bar=False)
  said = []
  for end in (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM):
    process = start(killed, npz, cache, every=10)
    # A moment in or after the next hundred steps, once something is saved.
    target = log.steps_logged(killed) + draw.randrange(1, 100)
    while process.poll() is None and (
      log.steps_logged(killed) < target
      or not any(x.name.isdigit() for x in (killed / 'checkpoints').glob('*'))
    ):
      time.sleep(0.01)
    time.sleep(draw.uniform(0, 0.1))
    process.send_signal(end)
    said.append(process.communicate(timeout=300)[1])
    expected = -9 if end == signal.SIGKILL else 143
    assert process.returncode == expected, said[-1]
  assert 'Run the same command again' in said[-1]
  last = start(killed, npz, cache, every=10)
  said.append(last.communicate(timeout=300)[1])
  assert last.returncode == 0
  assert sum('resuming after step' in text for text in said) == 3
  assert_equal(final(killed, LONG), final(plain, LONG))
  one, two = (
    json.loads((folder / 'result.json').read_text())
    for folder in (plain, killed)
  )
  for name in TIMES:
    del one[name], two[name]
  assert one == two
