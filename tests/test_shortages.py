"""What the machine lacks, and signals: one message, and what is saved."""

import json
import signal
import subprocess
import sys
import threading

import jax
import pytest

from tests.tiny_runs import ROOT, npz_file, tiny  # noqa: F401
from tests.words import in_three_beats
from train import command, variants
from train.engine import checkpoint, preemption
from train.sweep import execute, jobs, plan

# Optax's cosine schedule divides an integer by a number.
pytestmark = pytest.mark.usefixtures('standard_promotion')


SHORTAGES = {
  'memory of a device': (
    jax.errors.JaxRuntimeError('RESOURCE_EXHAUSTED: Out of memory.\nmore'),
    'micro_batch',
  ),
  'memory of the machine': (MemoryError(), 'micro_batch'),
  'a full disk': (OSError(28, 'No space left on device'), 'free some space'),
  'a quota': (OSError(122, 'Disk quota exceeded'), 'free some space'),
  "TensorStore's full disk": (
    ValueError('RESOURCE_EXHAUSTED: Error writing: No space left on device'),
    'free some space',
  ),
}


@pytest.mark.parametrize('name', SHORTAGES)
def test_a_shortage_is_one_message(name, capsys, tmp_path):
  error, remedy = SHORTAGES[name]

  def fail():
    try:
      raise error
    except type(error) as inner:
      raise RuntimeError('in the background') from inner

  assert command.status_of(fail) == 1
  said = capsys.readouterr().err
  in_three_beats(said, remedy, 'The last whole checkpoint stays')
  assert said.count('\n') == 1
  (planned,) = plan.plan(
    variants.read('tests/tiny_config.py'), ['sgd'], 1, tmp_path
  )
  execute._write_failure(planned, error)
  failure = json.loads((planned.folder / 'failure.json').read_text())
  in_three_beats(failure['message'], remedy)


def test_another_error_keeps_its_traceback():
  def fail():
    raise RuntimeError('a mistake of ours')

  with pytest.raises(RuntimeError, match='of ours'):
    command.status_of(fail)


def test_a_thread_with_a_full_disk_is_quiet(capsys):
  for error, words in (
    (OSError(28, 'No space'), ''),
    (KeyError(1), 'KeyError'),
  ):
    preemption._report(
      threading.ExceptHookArgs((type(error), error, None, None))
    )
    said = capsys.readouterr().err
    assert words in said and bool(said) == bool(words)


def test_a_signal_is_noted_and_the_second_ends_at_once(monkeypatch):
  ended = []
  monkeypatch.setattr(preemption, '_end', ended.append)
  before = signal.signal(signal.SIGINT, signal.default_int_handler)
  try:
    with preemption.Preemption() as outer:
      with preemption.Preemption() as inner:
        signal.raise_signal(signal.SIGINT)
        assert inner.noted and not outer.noted and not ended
        signal.raise_signal(signal.SIGINT)
        assert ended == [signal.SIGINT]
      inner.pass_on()
      with pytest.raises(preemption.Stopped) as stopped:
        outer.stop_if_noted()
    assert stopped.value.status == 130
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
  finally:
    signal.signal(signal.SIGINT, before)


_WATCHED = """
import hashlib, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from train.engine import preemption
preemption.watch()
with preemption.Preemption() if sys.argv[1] == '2' else open('/dev/null'):
  print('ready', flush=True)
  # No Python runs meanwhile in this thread, as in a compilation.
  hashlib.pbkdf2_hmac('sha256', b'', b'', 2**31 - 1)
"""


@pytest.mark.parametrize('times', [1, 2])
def test_a_process_that_computes_ends_at_once(times):
  with subprocess.Popen(
    [sys.executable, '-c', _WATCHED, str(times)],
    cwd=ROOT,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  ) as process:
    assert process.stdout.readline() == 'ready\n'
    process.send_signal(signal.SIGINT)
    if times == 2:
      assert process.stderr.readline() == '\n'
      assert 'Once more ends' in process.stderr.readline()
      process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
  assert process.returncode == 130
  assert 'Ended by Ctrl-C' in said and 'Traceback' not in said


def test_a_run_without_checkpoints_stops_too():
  stops = checkpoint.Checkpoints.nowhere(total_steps=9)
  with pytest.raises(preemption.Stopped, match='nothing is saved'), stops:
    signal.raise_signal(signal.SIGTERM)
    stops.after_step(None, checkpoint.Progress(step=3), None)


def test_a_killed_worker_is_named(monkeypatch, capsys):
  monkeypatch.setattr(jobs.sys, 'executable', '/bin/sh')
  popen = subprocess.Popen
  monkeypatch.setattr(
    jobs.subprocess,
    'Popen',
    lambda *_, **options: popen(['/bin/sh', '-c', 'kill -9 $$'], **options),
  )
  jobs.run([], [{}])
  in_three_beats(capsys.readouterr().err, 'killed by signal 9', 'same command')
