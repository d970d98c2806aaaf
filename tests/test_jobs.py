"""Sweeps in several processes: which runs and which device each has."""

import types

import pytest

from tests.words import in_three_beats
from train.config import ConfigError
from train.sweep import __main__ as command
from train.sweep import execute, jobs, plan


@pytest.fixture
def arguments(tmp_path):
  return [
    '--config=tests/tiny_config.py',
    f'--workdir={tmp_path / "sweep"}',
    '--jobs=2',
  ]


def test_each_process_begins_with_other_variants():
  todo = [
    plan.PlannedRun(variant, '', seed, None, None)
    for seed in range(2)
    for variant in 'abc'
  ]
  shares = [jobs.share(todo, index, 2) for index in range(2)]
  names = [''.join(f'{r.variant}{r.seed}' for r in share) for share in shares]
  assert names == ['a0a1b0b1c0c1', 'b0b1c0c1a0a1']


@pytest.mark.parametrize(
  ('found', 'ours', 'given', 'expected'),
  [
    ('gpu 4', {}, '2', [{'CUDA_VISIBLE_DEVICES': str(i)} for i in (0, 1)]),
    (
      'gpu 2',
      {'CUDA_VISIBLE_DEVICES': '3,7'},
      'all',
      [{'CUDA_VISIBLE_DEVICES': '3'}, {'CUDA_VISIBLE_DEVICES': '7'}],
    ),
    (
      'tpu 4',
      {'TPU_VISIBLE_CHIPS': '2'},
      '1',
      [
        {
          'TPU_VISIBLE_CHIPS': '2',
          'TPU_CHIPS_PER_PROCESS_BOUNDS': '1,1,1',
          'TPU_PROCESS_BOUNDS': '1,1,1',
        }
      ],
    ),
    ('cpu 1', {'NPROC': '5'}, '3', [{'NPROC': '5'}] * 3),
  ],
)
def test_each_process_sees_a_device_of_its_own(
  found, ours, given, expected, monkeypatch
):
  for name in expected[0]:
    monkeypatch.delenv(name, raising=False)
  for name, value in ours.items():
    monkeypatch.setenv(name, value)
  answer = types.SimpleNamespace(stdout=f'{found}\n')
  monkeypatch.setattr(jobs.subprocess, 'run', lambda *_, **__: answer)
  assert jobs.environments(given) == expected


def test_more_processes_than_devices_are_refused(monkeypatch):
  answer = types.SimpleNamespace(stdout='gpu 2\n')
  monkeypatch.setattr(jobs.subprocess, 'run', lambda *_, **__: answer)
  with pytest.raises(ConfigError, match='Use at most --jobs=2'):
    jobs.environments('3')


def test_the_devices_are_left_to_the_processes(arguments, monkeypatch):
  done = []

  def note(name, value=None):
    return lambda *_, **__: done.append(name) or value

  answer = types.SimpleNamespace(stdout='a plugin says\ngpu 2\n')
  monkeypatch.setattr(jobs.subprocess, 'run', note('count', answer))
  monkeypatch.setattr(
    jobs.jax.config, 'update', lambda *setting: done.append(setting)
  )
  monkeypatch.setattr(execute, 'prepare', note('prepare'))
  monkeypatch.setattr(jobs, 'run', note('run'))
  monkeypatch.setattr(command.results, 'read', note('read'))
  monkeypatch.setattr(command.document, 'write', note('write', ('', [])))
  assert command.main(arguments) == 1
  assert done[:4] == ['count', ('jax_platforms', 'cpu'), 'prepare', 'run']


def test_devices_that_cannot_be_counted(
  arguments, monkeypatch, tmp_path, capsys
):
  monkeypatch.setenv('JAX_PLATFORMS', 'tpu')
  monkeypatch.setattr(jobs, '_COUNT', 'raise RuntimeError("no tpu here")')
  assert command.main(arguments) == 1
  in_three_beats(
    capsys.readouterr().err, 'Given --jobs=2', 'RuntimeError: no tpu here'
  )
  assert not (tmp_path / 'sweep').exists()
