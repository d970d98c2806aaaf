"""Folders, files, flags and configs that cannot be: words, and no harm."""

import json
import os
import signal
import subprocess
import sys
import threading

import jax
import pytest

from tests.test_program import ROOT, npz, tiny  # noqa: F401
from train import __main__ as train_command
from train import checks, command, variants, workdir
from train import config as train_config
from train.checks import ConfigError
from train.engine import checkpoint, log, preemption
from train.report import __main__ as report_command
from train.report import curves, results
from train.sweep import __main__ as sweep_command
from train.sweep import execute, jobs, plan


# Optax's cosine schedule divides an integer by a number.
@pytest.fixture(autouse=True)
def _standard_promotion(standard_promotion):
  yield


def in_three_beats(text, *parts):
  assert 'Traceback' not in text
  assert text.count('. ') >= 2 or text.count('; ') >= 1, text
  for part in parts:
    assert part in text


def snapshot(folder):
  return {
    str(path): path.read_bytes() if path.is_file() else None
    for path in folder.rglob('*')
  }


# What stands at the path given as --workdir, and a part of the refusal.
PLACES = {
  'a file': (lambda path: path.write_text('mine'), 'It is a file'),
  'in a file': (
    lambda path: path.parent.joinpath('run').write_text('mine'),
    'It is a file',
  ),
  'a broken link': (
    lambda path: path.symlink_to(path.parent / 'gone'),
    'It is a link to',
  ),
  'of somebody else': (
    lambda path: (path.mkdir(), (path / 'thesis.tex').write_text('mine')),
    "such as 'thesis.tex'",
  ),
  'of folders': (lambda path: (path / 'src').mkdir(parents=True), "'src'"),
  'a config of another program': (
    lambda path: (path.mkdir(), (path / 'config.json').write_text('{"a": 1}')),
    'not of a run',
  ),
  'a log that is a folder': (
    lambda path: (path / 'metrics.jsonl').mkdir(parents=True),
    'Its metrics.jsonl is a folder',
  ),
  'checkpoints that are a file': (
    lambda path: (path.mkdir(), (path / 'checkpoints').write_text('')),
    'Its checkpoints is a file',
  ),
  'a log without its config': (
    lambda path: (path.mkdir(), (path / 'metrics.jsonl').write_text('')),
    'config.json is missing',
  ),
  'a model without its run': (
    lambda path: (path / 'model').mkdir(parents=True),
    "It holds 'model'",
  ),
}


@pytest.mark.parametrize('name', PLACES)
def test_a_place_that_is_no_place_for_a_run(name, tmp_path):
  make, expected = PLACES[name]
  path = tmp_path / 'run'
  make(path)
  before = snapshot(tmp_path)
  if name == 'in a file':
    path = path / 'inner'
  with pytest.raises(ConfigError) as error:
    workdir.check(path, tiny())
  in_three_beats(str(error.value), f'Given workdir={path}', expected)
  assert snapshot(tmp_path) == before


@pytest.mark.parametrize('main', [train_command.main, sweep_command.main])
def test_a_place_is_refused_by_the_commands(main, npz, tmp_path, capsys):  # noqa: F811
  (tmp_path / 'file').write_text('mine')
  given = ['--config=tests/tiny_config.py', f'--config.data.name={npz}']
  given += ['--config.batch_size=8', f'--workdir={tmp_path / "file"}']
  assert main(given) == 1
  in_three_beats(capsys.readouterr().err, 'error: Given workdir=')


def test_a_folder_without_the_right_to_write(tmp_path, monkeypatch):
  monkeypatch.setattr(os, 'access', lambda *_: False)  # root may write anywhere
  with pytest.raises(ConfigError, match='You may not write in') as error:
    workdir.check(tmp_path / 'a' / 'b', tiny())
  in_three_beats(str(error.value))


@pytest.mark.parametrize('main', [train_command.main, sweep_command.main])
@pytest.mark.parametrize('given', ['', ' '])
def test_an_empty_workdir(main, given, capsys):
  with pytest.raises(SystemExit) as ended:
    main(['--config=tests/tiny_config.py', f'--workdir={given}'])
  assert ended.value.code == 2
  assert 'which names no folder; use a path' in capsys.readouterr().err


def test_a_home_is_the_home(monkeypatch, tmp_path):
  monkeypatch.setenv('HOME', str(tmp_path))
  assert command.folder('~/run') == tmp_path / 'run'


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
  """The folder of a finished run, as text files."""
  folder = tmp_path_factory.mktemp('sweep') / 'sgd' / '0'
  config = tiny('sgd', steps=4)
  with workdir.locked(folder, config), log.Log(folder):
    pass
  workdir.write_task(folder, 'classification', SCORE)
  result = dict.fromkeys((*results._NUMBERS, 'test_loss', 'test_accuracy'), 1.0)
  workdir.write(folder / 'result.json', json.dumps(result))
  return folder


SCORE = {'name': 'accuracy', 'unit': '%', 'higher_is_better': True}
DAMAGES = {
  'empty': b'',
  'cut': b'{"model": {"na',
  'a list': b'[1, 2]',
  'a number': b'3',
  'no text': b'\xff\xfe\x00\x01',
  'without its keys': b'{}',
}


@pytest.mark.parametrize('damage', DAMAGES)
def test_a_damaged_config_is_not_overwritten(damage, tmp_path):
  path = tmp_path / 'run' / 'config.json'
  path.parent.mkdir()
  path.write_bytes(DAMAGES[damage])
  for check in (workdir.check, workdir.check_same):
    with pytest.raises(ConfigError) as error:
      check(path.parent, tiny())
    in_three_beats(str(error.value), 'nothing is overwritten')
  assert path.read_bytes() == DAMAGES[damage]


@pytest.mark.parametrize('damage', DAMAGES)
@pytest.mark.parametrize('name', ['config.json', 'result.json', 'task.json'])
def test_a_report_of_damaged_files_says_so(
  name, damage, finished, tmp_path, capsys
):
  folder = finished.parent.parent
  before = (finished / name).read_bytes()
  try:
    (finished / name).write_bytes(DAMAGES[damage])
    status = report_command.main([str(folder), f'--workdir={tmp_path}'])
  finally:
    (finished / name).write_bytes(before)
  said = capsys.readouterr()
  assert 'Traceback' not in said.err and status == 0
  # A config is only shown; its keys may be those of another version.
  if (name, damage) != ('config.json', 'without its keys'):
    in_three_beats(said.err, f'warning: cannot use {finished / name}')
  if name == 'result.json':
    assert '0 of 1' in said.out


@pytest.mark.parametrize('damage', [b'3\n', b'{"a": 1}\n', b'[]\n', b'\xff\n'])
def test_a_damaged_log_is_read_up_to_the_damage(damage, tmp_path):
  whole = b'{"step": 1, "loss": 1.0}\n{"step": 2, "loss": 0.5}\n'
  (tmp_path / 'metrics.jsonl').write_bytes(whole + damage + whole)
  assert log.steps_logged(tmp_path) == 2
  assert list(curves.read(tmp_path).steps['loss']) == [1.0, 0.5]


@pytest.mark.parametrize('damage', DAMAGES)
def test_a_sweep_tries_again_after_a_damaged_failure(damage, tmp_path):
  (planned,) = plan.plan(
    variants.read('tests/tiny_config.py'), ['sgd'], 1, tmp_path
  )
  (planned.folder / 'checkpoints').mkdir(parents=True)
  (planned.folder / 'failure.json').write_bytes(DAMAGES[damage])
  execute._forgive(planned)
  assert not (planned.folder / 'failure.json').exists()


def test_a_sweep_counts_a_damaged_result_as_missing(tmp_path, capsys):
  (planned,) = plan.plan(
    variants.read('tests/tiny_config.py'), ['sgd'], 1, tmp_path
  )
  planned.folder.mkdir(parents=True)
  (planned.folder / 'result.json').write_text('{"ste')
  assert execute.missing([planned]) == 1
  assert 'not finished' in capsys.readouterr().err


def test_a_part_of_a_sweep_keeps_its_names(tmp_path):
  place = tmp_path / 'fsam' / 'data.label_noise=0.2' / '0'
  name = results._name
  for folder in (tmp_path, place.parent.parent, place.parent, place):
    assert name(place, folder, '0') == ('fsam', 'data.label_noise=0.2'), folder


# -- What the machine lacks --------------------------------------------------

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


# -- Signals -----------------------------------------------------------------


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


# -- Config files and flags --------------------------------------------------

FILES = {
  'no get_config': ('x = 1', 'has no get_config'),
  'no function': ('get_config = 3', 'has no get_config'),
  'a syntax error': ('def get_config(:', 'SyntaxError'),
  'an error at import': ('1 / 0', 'ZeroDivisionError'),
  'a missing module': ('import nothing_like_it', 'nothing_like_it'),
  'that raises': ('def get_config():\n  return {}[3]', 'KeyError: 3, line 2'),
  'that returns None': ('def get_config():\n  pass', 'returns NoneType'),
  'that returns a dict': ('def get_config():\n  return {}', 'returns dict'),
  'of another program': (
    'import ml_collections\n'
    'get_config = lambda: ml_collections.ConfigDict({"lr": 1})',
    'has no augment',
  ),
  'without variants': (
    'from train import config\ndef get_config():\n  return config.default()',
    'has no variants',
  ),
}


@pytest.mark.parametrize('name', FILES)
def test_a_config_file_that_makes_no_config(name, tmp_path):
  content, expected = FILES[name]
  path = tmp_path / 'own.py'
  path.write_text(content)
  given = f'{path}:sam' if name == 'without variants' else str(path)
  with pytest.raises(ConfigError) as error:
    variants.load(given)
  in_three_beats(str(error.value), expected, f'--config={path}')


@pytest.mark.parametrize('given', ['', '.', 'configs', 'README.md', 'no.py'])
def test_no_config_file(given):
  with pytest.raises(ConfigError) as error:
    variants.load(given)
  in_three_beats(str(error.value), f'--config={given}')


@pytest.mark.parametrize(
  ('setting', 'expected'),
  [
    ('epoch=3', 'epochs'),
    ('optimizer.learning_rat=3', 'learning_rate'),
    ('epochs=many', 'epochs'),
    ('epochs=1.5', 'epochs'),
    ('model.name.x=1', 'model.name.x'),
    ('method.name=samm', "Did you mean 'sam'"),
    ('augment.flip=perhaps', 'flip'),
  ],
)
def test_a_setting_that_cannot_be(setting, expected):
  with pytest.raises(ConfigError) as error:
    variants.load('tests/tiny_config.py', [f'--config.{setting}'])
  in_three_beats(str(error.value), expected)


def test_another_model_or_method_drops_the_options_of_the_first():
  settings = ['--config.model.name=wrn', '--config.model.depth=10']
  settings += ['--config.method.name=fsam', '--config.method.decay=0.5']
  config = variants.load('tests/tiny_config.py:arsam', settings)
  assert config.model.name == 'wrn' and config.model.depth == 10
  assert 'hidden' not in config.model
  assert config.method.decay == 0.5 and 'segment' not in config.method
  same = ['--config.model.name=mlp']
  assert variants.load('tests/tiny_config.py', same).model.hidden == (16,)


def test_a_number_takes_the_place_of_what_varies():
  config = train_config.default()
  rho = {'follows': 'steps', 'first': 0.1, 'last': 0.2}
  config.method = train_config.method('sam', rho=rho)
  config = variants.overridden(config, ['--config.method.rho=0.3'])
  assert config.method.rho == 0.3


def test_a_grid_over_what_a_method_lacks_runs_it_once(tmp_path, capsys):
  todo = plan.plan(
    variants.read('tests/tiny_config.py'),
    ['sgd', 'arsam'],
    2,
    tmp_path,
    plan.combinations(['method.rho=0.1,0.2']),
  )
  assert [run.name for run in todo if run.variant == 'sgd'] == [
    'sgd seed 0',
    'sgd seed 1',
  ]
  assert len([run for run in todo if run.variant == 'arsam']) == 4
  assert 'sgd has no method.rho' in capsys.readouterr().err
  with pytest.raises(ConfigError, match='method.rhoo'):
    plan.plan(
      variants.read('tests/tiny_config.py'),
      ['sgd', 'arsam'],
      1,
      tmp_path,
      plan.combinations(['method.rhoo=0.1']),
    )


def test_a_sweep_of_one_variant(tmp_path, monkeypatch, capsys):
  planned = []
  monkeypatch.setattr(execute, 'prepare', planned.extend)
  monkeypatch.setattr(execute, 'run_all', lambda *_, **__: None)
  monkeypatch.setattr(sweep_command.document, 'write', lambda *_: ('', []))
  given = [f'--workdir={tmp_path}', '--seeds=1']
  one = '--config=tests/tiny_config.py:arsam'
  assert sweep_command.main([one, '--methods=sgd', *given]) == 1
  in_three_beats(capsys.readouterr().err, '--methods=arsam,sgd')
  assert not planned
  sweep_command.main([one, *given])
  assert {run.variant for run in planned} == {'arsam'}


def test_a_warm_up_longer_than_the_run():
  config = tiny(steps=4)
  config.optimizer.warmup_steps = 5
  with pytest.raises(ConfigError) as error:
    train_config.check(config, 70)
  in_three_beats(str(error.value), 'warmup_steps=5', 'Use at most 4')
  config.optimizer.warmup_steps = 4
  assert train_config.check(config, 70) == 4


def test_a_log_can_be_followed(tmp_path):
  with log.Log(tmp_path) as lines:
    lines.test(1, {'loss': 1.0})
    assert log.steps_logged(tmp_path) == 1
    inode = (tmp_path / 'metrics.jsonl').stat().st_ino
  with log.Log(tmp_path, keep=1) as lines:
    lines.test(2, {'loss': 1.0})
    assert log.steps_logged(tmp_path) == 2
  assert (tmp_path / 'metrics.jsonl').stat().st_ino == inode


def test_other_errors_are_no_shortage():
  for error in (None, OSError(2, 'No such file'), ValueError('x')):
    assert checks.shortage(error) is None
