"""Whole runs of the program: interrupted ones, and sweeps of two seeds."""

import json
import signal

import pytest

from train.engine import loop
from train.engine.preemption import Stopped
from train.run import run
from train.sweep import execute, plan


class Killed(BaseException):
  """In the place of SIGKILL, where the process has to live on."""


def kill():
  raise Killed


def terminate():
  signal.raise_signal(signal.SIGTERM)


class Program(loop.Program):
  """A program to which things happen before some steps."""

  happening = {}

  def train_step(self, state, ids, *arguments):
    step = int(state.step)
    if step in self.happening:
      self.happening.pop(step)()
    return super().train_step(state, ids, *arguments)


def assert_resumes(program, folder, result, new_folder, stops):
  """Asserts that a run which is stopped ends as one that was not.

  Args:
    program: a `Program`.
    folder: of its whole run.
    result: of its whole run.
    new_folder: where it runs again.
    stops: the steps before which SIGTERM comes.
  """
  program.happening = dict.fromkeys(stops, terminate)
  while program.happening:
    with pytest.raises(Stopped):
      run(program.config, new_folder, program, bar=False)
  again = run(program.config, new_folder, program, bar=False)
  assert again.scores == result.scores
  for name in ('metrics.jsonl', 'model/model.safetensors'):
    one, other = (new_folder / name).read_bytes(), (folder / name).read_bytes()
    assert one == other, name


def of_two_seeds(config, folder):
  """A sweep of a config: (folders, results), compiled once for both seeds."""
  module = {'get_config': lambda variant: config.copy_and_resolve_references()}
  todo = plan.plan(module, ['one'], 2, folder)
  execute.prepare(todo)
  execute.run_all(todo)
  assert execute.missing(todo) == 0
  results = [
    json.loads((run.folder / 'result.json').read_text()) for run in todo
  ]
  assert results[0]['compile_seconds'] > 0 == results[1]['compile_seconds']
  assert results[0]['test_loss'] != results[1]['test_loss']
  return [run.folder for run in todo], results
