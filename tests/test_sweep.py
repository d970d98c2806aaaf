"""Sweeps: every run as it would be alone, whatever happens in between."""

import json
import signal
import subprocess
import sys
import time

import pytest

from tests.tiny_runs import ROOT, npz_file, tiny  # noqa: F401
from train import run as one_run
from train import variants, workdir
from train.engine import log, loop
from train.sweep import __main__ as command
from train.sweep import execute, plan

CONFIG = 'tests/tiny_config.py'
MODULE = variants.read(CONFIG)


# Optax's cosine schedule divides an integer by a number.
pytestmark = pytest.mark.usefixtures('standard_promotion')


Program = loop.Program
PROGRAMS = {}


@pytest.fixture(autouse=True)
def _compiled_once(monkeypatch):
  """Gives all tests the same programs, which are of the same data."""

  def program(config, dataset):
    key = {**workdir.as_json(config), 'seed': None, 'data': None}
    key = json.dumps(key, sort_keys=True)
    if key not in PROGRAMS:
      PROGRAMS[key] = Program(config, dataset)
    return PROGRAMS[key]

  monkeypatch.setattr(loop, 'Program', program)


@pytest.fixture
def arguments(npz, tmp_path):
  """Those of a sweep of two variants, two seeds each."""
  return [
    f'--config={CONFIG}',
    f'--workdir={tmp_path / "sweep"}',
    '--seeds=2',
    f'--config.data.name={npz}',
    '--config.batch_size=8',
    '--config.steps=12',
    '--config.log_every=4',
    '--config.checkpoint.every=5',
  ]


@pytest.fixture
def trained(monkeypatch):
  """The folders that were trained in, in their order."""
  folders, train = [], one_run.run

  def spy(config, folder, *rest):
    folders.append(folder)
    return train(config, folder, *rest)

  monkeypatch.setattr(one_run, 'run', spy)
  return folders


def metrics(folder):
  return {
    str(path.parent.relative_to(folder)): path.read_text()
    for path in folder.rglob('metrics.jsonl')
  }


def result(folder):
  return json.loads((folder / 'result.json').read_text())


def test_every_run_is_as_it_would_be_alone(
  arguments,
  npz,
  tmp_path,
  monkeypatch,
  capsys,
):
  monkeypatch.setattr(loop, 'Program', Program)
  assert command.main(arguments) == 0
  folder = tmp_path / 'sweep'
  assert set(metrics(folder)) == {'sgd/0', 'sgd/1', 'arsam/0', 'arsam/1'}
  config = tiny(data={'name': npz, 'dir': None}, log_every=4, seed=1)
  config.checkpoint.every = 5
  one_run.run(config, tmp_path / 'alone')
  assert metrics(folder)['arsam/1'] == metrics(tmp_path / 'alone')['.']
  workdir.check_same(folder / 'arsam' / '1', config)
  # Compiled once for both seeds.
  assert result(folder / 'arsam' / '0')['compile_seconds'] > 0
  assert result(folder / 'arsam' / '1')['compile_seconds'] == 0
  said = capsys.readouterr().out
  table = json.loads((folder / 'table.json').read_text())
  assert [row['method'] for row in table['rows']] == ['sgd', 'arsam']
  assert (folder / 'table.md').read_text() in said
  assert (folder / 'curves.png').read_bytes().startswith(b'\x89PNG')


def test_what_is_finished_is_not_run_again(arguments, tmp_path, trained):
  assert command.main([*arguments, '--methods=arsam', '--seeds=1']) == 0
  before = metrics(tmp_path / 'sweep')
  assert command.main(arguments) == 0
  names = [str(path.relative_to(tmp_path / 'sweep')) for path in trained]
  # A seed of every variant, then the next seed.
  assert names == ['arsam/0', 'sgd/0', 'sgd/1', 'arsam/1']
  assert metrics(tmp_path / 'sweep')['arsam/0'] == before['arsam/0']
  assert command.main(arguments) == 0
  assert len(trained) == 4


@pytest.mark.parametrize(
  ('number', 'at', 'said'),
  [
    (signal.SIGINT, 8, 'after step 8 of 12, which is saved'),
    (signal.SIGTERM, 12, 'Run the same command again'),
  ],
)
def test_a_signal_saves_and_the_same_command_goes_on(
  number, at, said, arguments, tmp_path, trained, monkeypatch, capsys
):
  before = signal.getsignal(signal.SIGINT)
  command.main([*arguments, f'--workdir={tmp_path / "whole"}', '--seeds=1'])
  trained.clear()
  step, seen = Program.train_step, []

  def interrupted(self, state, *rest):
    seen.append(int(state.step))
    if len(seen) == at:
      signal.raise_signal(number)
    return step(self, state, *rest)

  monkeypatch.setattr(Program, 'train_step', interrupted)
  assert command.main([*arguments, '--seeds=1']) == 128 + number
  assert said in capsys.readouterr().err
  assert len(trained) == 1
  assert command.main([*arguments, '--seeds=1']) == 0
  assert seen == [*range(12), *range(12)]  # no step twice
  assert metrics(tmp_path / 'sweep') == metrics(tmp_path / 'whole')
  # Nobody else's handler stays changed.
  assert signal.getsignal(signal.SIGINT) is before
  assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_signal_before_the_first_step_stops_too(
  arguments, monkeypatch, trained, capsys
):
  def program(*_):
    signal.raise_signal(signal.SIGTERM)

  monkeypatch.setattr(loop, 'Program', program)
  assert command.main(arguments) == 143
  assert 'the same command' in capsys.readouterr().err
  assert not trained


@pytest.mark.slow
def test_processes_share_the_runs_and_stop_together(arguments, tmp_path):
  folder, whole = tmp_path / 'sweep', tmp_path / 'whole'
  longer = [
    *arguments,
    *('--seeds=1', '--config.steps=1000', '--config.eval_every=99'),
    '--config.checkpoint.every=400',
  ]
  process = subprocess.Popen(
    [sys.executable, '-m', 'train.sweep', *longer, '--jobs=2'],
    cwd=ROOT,
    stdout=subprocess.DEVNULL,
    stderr=subprocess.PIPE,
    text=True,
  )
  limit = time.monotonic() + 300
  steps = lambda: max(map(log.steps_logged, folder.glob('*/*')), default=0)
  while steps() < 5 and process.poll() is None:
    assert time.monotonic() < limit
    time.sleep(0.05)
  process.terminate()
  said = process.communicate(timeout=300)[1]
  assert process.returncode == 143, said
  assert 'of 1000, which is saved' in said
  assert command.main(longer) == 0
  assert command.main([*longer, f'--workdir={whole}']) == 0
  assert metrics(folder) == metrics(whole)


def test_a_run_that_fails_is_written_down_and_the_others_go_on(
  arguments, tmp_path, trained, capsys
):
  grid = [
    *arguments,
    '--grid=optimizer.learning_rate=1e30,0.1',
    '--config.optimizer.momentum=0.0',
    '--methods=sgd',
    '--seeds=1',
  ]
  assert command.main(grid) == 1
  folder = tmp_path / 'sweep' / 'sgd'
  bad, good = (
    folder / f'optimizer.learning_rate={value}' / '0' for value in ('1e30', 0.1)
  )
  failure = json.loads((bad / 'failure.json').read_text())
  assert failure['error'] == 'NotFinite'
  assert 'The loss is' in failure['message']
  assert result(good)['steps'] == 12
  said = capsys.readouterr()
  assert failure['message'] in said.out
  assert '1 failed' in said.out
  assert f'not finished: sgd optimizer.learning_rate=1e30 seed 0, {bad}' in (
    said.err
  )
  # It would fail again at the same step.
  assert command.main(grid) == 1
  assert len(trained) == 2


def test_a_config_that_cannot_be_built_may_be_mended(arguments, tmp_path):
  one = [*arguments, '--methods=sgd', '--seeds=1']
  wrong = '--config.model={"name": "mlp", "hiden": (8,)}'
  assert command.main([*one, wrong]) == 1
  folder = tmp_path / 'sweep' / 'sgd' / '0'
  assert 'hiden' in json.loads((folder / 'failure.json').read_text())['message']
  assert command.main([*one, wrong.replace('hiden', 'hidden')]) == 0
  assert result(folder)['steps'] == 12
  assert not (folder / 'failure.json').exists()


def test_a_run_that_the_machine_failed_is_tried_again(
  arguments, tmp_path, monkeypatch
):
  def full(*_):
    raise OSError(28, 'No space left on device')

  one = [*arguments, '--methods=sgd', '--seeds=1']
  with monkeypatch.context() as patched:
    patched.setattr(one_run, 'run', full)
    assert command.main(one) == 1
  folder = tmp_path / 'sweep' / 'sgd' / '0'
  assert 'No space' in (folder / 'failure.json').read_text()
  assert command.main(one) == 0
  assert not (folder / 'failure.json').exists()


@pytest.mark.parametrize('since', ['before', 'a moment ago'])
def test_a_run_in_another_process_is_passed_over(
  since, arguments, tmp_path, monkeypatch, capsys
):
  todo = [*arguments, '--methods=sgd']
  (run, _) = planned(todo, tmp_path)
  with workdir.locked(run.folder, run.config):
    if since == 'a moment ago':
      monkeypatch.setattr(workdir, 'is_busy', lambda folder: False)
    assert command.main(todo) == 1
  assert not (run.folder / 'metrics.jsonl').exists()
  assert result(run.folder.with_name('1'))['steps'] == 12
  assert capsys.readouterr().err.count('not finished: ') == 1
  assert not (run.folder / 'failure.json').exists()


def test_a_run_in_another_process_of_another_config_is_refused(
  arguments, tmp_path, trained, capsys
):
  todo = [*arguments, '--methods=sgd']
  (run, _) = planned([*todo, '--config.epochs=7'], tmp_path)
  with workdir.locked(run.folder, run.config):
    assert command.main(todo) == 1
  assert 'epochs is 7 there and ' in capsys.readouterr().err
  assert not trained


def test_what_another_sweep_trained_meanwhile_is_not_taken_for_ones_own(
  arguments, tmp_path, monkeypatch, capsys
):
  one = [*arguments, '--methods=sgd', '--seeds=1']
  assert command.main(one) == 0
  capsys.readouterr()
  monkeypatch.setattr(execute, 'prepare', lambda todo: None)
  assert command.main([*one, '--config.steps=13']) == 1
  said = capsys.readouterr().err
  # When it is passed over, and at the end.
  assert said.count('steps is 12 there and 13 here') == 2
  assert said.count('not finished: sgd seed 0') == 1


def planned(arguments, tmp_path):
  overrides = [a for a in arguments if a.startswith('--config.')]
  return plan.plan(MODULE, ['sgd'], 2, tmp_path / 'sweep', common=overrides)


def test_a_finished_run_of_another_config_is_refused(
  arguments, tmp_path, trained, capsys
):
  assert command.main([*arguments, '--methods=arsam', '--seeds=1']) == 0
  capsys.readouterr()
  other = '--config.optimizer.learning_rate=0.2'
  assert command.main([*arguments, other]) == 1
  said = capsys.readouterr().err
  assert 'optimizer.learning_rate is 0.1 there and 0.2 here' in said
  # All runs are looked at before the first one begins.
  assert len(trained) == 1
  assert not (tmp_path / 'sweep' / 'sgd').exists()
  harmless = ['--config.log_every=3', '--config.checkpoint.every=0']
  one = ['--methods=arsam', '--seeds=1']
  assert command.main([*arguments, *one, *harmless]) == 0


def test_a_grid_has_a_folder_for_each_combination(tmp_path):
  points = plan.combinations(['data.label_noise=0,0.2', 'data.name=a/b.npz'])
  todo = plan.plan(
    MODULE, ['sgd', 'arsam'], 1, tmp_path, points, ['--config.epochs=7']
  )
  folders = [str(run.folder.relative_to(tmp_path)) for run in todo]
  assert folders == [
    f'{variant}/data.label_noise={value}/data.name=a_b.npz/0'
    for value in ('0', '0.2')
    for variant in ('sgd', 'arsam')
  ]
  assert [run.config.data.label_noise for run in todo] == [0, 0, 0.2, 0.2]
  assert {run.config.epochs for run in todo} == {7}
  assert {run.config.data.name for run in todo} == {'a/b.npz'}
  assert todo[1].config.method.name == 'arsam'


def test_equal_values_are_one_point_of_a_grid(tmp_path, capsys):
  points = plan.combinations(['optimizer.learning_rate=0.1,0.10,1e-1,0.2'])
  todo = plan.plan(MODULE, ['sgd', 'arsam'], 2, tmp_path, points)
  names = [run.folder.relative_to(tmp_path).as_posix() for run in todo]
  assert names == [
    f'{variant}/optimizer.learning_rate={value}/{seed}'
    for value in ('0.1', '0.2')
    for seed in range(2)
    for variant in ('sgd', 'arsam')
  ]
  said = capsys.readouterr().err
  key = 'optimizer.learning_rate'
  assert f'{key}=0.10 is {key}=0.1: it is trained once.' in said
  assert said.count('trained once') == 2


def test_methods_may_be_patterns():
  module = {'VARIANTS': ['sgd', 'fsam', 'sam', 'asam']}
  assert variants.choose(module, 'sam,*sam') == ['sam', 'fsam', 'asam']
  assert variants.choose(module, None) == variants.choose(module, 'all')


@pytest.mark.parametrize(
  ('given', 'expected'),
  [
    (['--methods=sgdd'], "Did you mean 'sgd'"),
    (['--config=configs.digit'], 'Given --config=configs.digit'),
    (['--config=no/such.py'], 'no/such.py'),
    (['--config=train/config.py'], 'no VARIANTS'),
    (['--grid=epochs'], 'Given --grid=epochs.'),
    (['--grid=epochs=1,'], 'a value is empty'),
    (['--grid=seed=1,2'], 'with --seeds'),
    (['--config.seed=1'], 'with --seeds'),
    (['--config.epochs=1', '--grid=epochs=1,2'], 'Given epochs twice'),
    (['--grid=epochs=1', '--grid=epochs=2'], 'Given epochs twice'),
    (['--sedes=3'], "Given '--sedes=3'"),
    (['--config.epoch=1'], 'Did you mean "epochs"'),
    (['--config.batch_size=71'], 'Use at most 70'),
    (['--config.data.name=/no/such.npz'], '/no/such.npz'),
  ],
)
def test_what_cannot_be_is_said_before_anything_is_written(
  given, expected, arguments, tmp_path, capsys
):
  assert command.main([*arguments, *given]) == 1
  said = capsys.readouterr().err
  assert said.startswith('error: ')
  assert expected in said
  assert not (tmp_path / 'sweep').exists()
