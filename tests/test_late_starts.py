"""A method that begins late, or after the run has ended, is warned about."""

import inspect
import re

import pytest

import sam_optax
from tests.tiny_runs import npz_file, tiny  # noqa: F401
from train import config as train_config
from train import run as one_run
from train import variants
from train.engine import loop
from train.optim import method
from train.sweep import execute, plan


@pytest.mark.parametrize(
  ('name', 'options', 'first'),
  [
    ('late_sam', {'start': 8}, 8),
    ('mesa', {'start_epoch': 1}, 8),  # active after it, in epochs of 4 steps
    ('mesa', {'start_epoch': 0}, 4),
  ],
)
def test_it_is_the_first_step_that_counts(name, options, first):
  config = tiny()
  config.method = train_config.method(name, **options)
  said = [train_config.late_starts(config, n, 4) for n in (first, first + 1)]
  (text,), nothing = said
  ((key, value),) = options.items()
  assert text.startswith(f'Given method.{key}={value} in a run of {first} step')
  assert f'begins at step {first} ' in text and nothing == []


def test_a_warm_up_should_not_be_most_of_a_run():
  config = tiny()
  config.method = train_config.method('arsam', warmup_steps=8)
  (whole,) = train_config.late_starts(config, 8, 4)
  assert 'is not a part of this run' in whole
  for total in (9, 15):
    (most,) = train_config.late_starts(config, total, 4)
    start = f'Given method.warmup_steps=8 in a run of {total} steps. '
    assert most.startswith(start) and 'less than half of this run' in most
  assert train_config.late_starts(config, 16, 4) == []


def test_every_argument_that_names_a_beginning_is_known():
  named = {
    argument
    for make in sam_optax.METHODS.values()
    for argument in inspect.signature(make).parameters
    if re.search('start|begin|warm|after|first', argument)
  }
  assert named == set(method._BEGINNINGS)


def test_a_schedule_or_nothing_is_passed_over():
  config = tiny()
  for value in ({'follows': 'steps', 'first': 9.0, 'last': 9.0}, None):
    config.method = {'name': 'arsam', 'warmup_steps': value}
    assert train_config.late_starts(config, 2, 4) == []


def test_a_sweep_and_a_run_warn_once(npz, tmp_path, capsys, monkeypatch):
  module = variants.read('tests/tiny_config.py')
  changes = [f'data.name={npz}', 'batch_size=8', 'steps=3']
  todo = plan.plan(
    module,
    ['arsam'],
    2,
    tmp_path,
    common=[f'--config.{x}' for x in (*changes, 'method.warmup_steps=3')],
  )
  warning = 'warning: Given method.warmup_steps=3 in a run of 3 steps. '
  execute.prepare(todo)
  assert capsys.readouterr().err.count(warning) == 1

  class Begun(Exception):
    pass

  def begin(*arguments, **options):
    raise Begun

  monkeypatch.setattr(loop.Program, 'run', begin)
  with pytest.raises(Begun):
    one_run.run(todo[0].config, todo[0].folder, bar=False)
  assert capsys.readouterr().err.count(warning) == 1
