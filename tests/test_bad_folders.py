"""Folders and files of runs that cannot be: words, and no harm."""

import json
import os
import pathlib

import pytest

from tests.tiny_runs import ROOT, npz_file, tiny  # noqa: F401
from tests.words import in_three_beats, snapshot
from train import __main__ as train_command
from train import command, run, variants, workdir
from train.checks import ConfigError
from train.data.open import folder_of
from train.engine import log
from train.report import __main__ as report_command
from train.report import curves, results
from train.sweep import __main__ as sweep_command
from train.sweep import execute, plan
from train.tools import contact_sheet

# Optax's cosine schedule divides an integer by a number.
pytestmark = pytest.mark.usefixtures('standard_promotion')


# What stands at the path `run`, a part of the refusal, and, where it is not
# `run` itself, the path given as --workdir.
PLACES = {
  'a file': (lambda path: path.write_text('mine'), 'It is a file'),
  'in a file': (
    lambda path: path.write_text('mine'),
    'It is a file',
    'run/inner',
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
    lambda path: (path.mkdir(), (path / 'metrics.jsonl').write_text('{')),
    'config.json is missing',
  ),
  'a model without its run': (
    lambda path: (path / 'model').mkdir(parents=True),
    "It holds 'model'",
  ),
}


@pytest.mark.parametrize('name', PLACES)
def test_a_place_that_is_no_place_for_a_run(name, tmp_path):
  make, expected, *given = PLACES[name]
  make(tmp_path / 'run')
  path = tmp_path.joinpath(*given or ['run'])
  before = snapshot(tmp_path)
  with pytest.raises(ConfigError) as error:
    workdir.check(path, tiny())
  in_three_beats(str(error.value), f'Given workdir={path}', expected)
  assert snapshot(tmp_path) == before


@pytest.mark.parametrize('main', [train_command.main, sweep_command.main])
def test_a_place_is_refused_by_the_commands(main, npz, tmp_path, capsys):
  (tmp_path / 'file').write_text('mine')
  given = ['--config=tests/tiny_config.py', f'--config.data.name={npz}']
  given += ['--config.batch_size=8', f'--workdir={tmp_path / "file"}']
  assert main(given) == 1
  in_three_beats(capsys.readouterr().err, 'error: Given workdir=')


def test_a_place_among_the_images(tmp_path):
  config = tiny()
  config.data.name = str(tmp_path / 'photos')
  (tmp_path / 'photos' / 'train').mkdir(parents=True)
  images = folder_of(config.data)
  for place in ('photos/run', 'photos/train/run'):
    with pytest.raises(ConfigError) as error:
      workdir.check_apart(tmp_path / place, images)
    in_three_beats(str(error.value), 'in the folder of the data')
    # By the programs too, before they look for the images.
    planned = plan.PlannedRun('arsam', '', 0, tmp_path / place, config)
    for begin in (
      lambda planned: run.run(planned.config, planned.folder),
      lambda planned: execute.prepare([planned]),
    ):
      with pytest.raises(ConfigError, match='in the folder of the data'):
        begin(planned)
  workdir.check_apart(tmp_path / 'photos-run', images)


def test_a_place_with_the_name_of_a_set(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  config = tiny()
  for name, place in (('digits', 'digits'), ('cifar10', 'cifar10/sam/0')):
    config.data.name = name
    for _ in range(2):  # to resume it too
      workdir.check_apart(pathlib.Path(place), folder_of(config.data))
      with workdir.locked(pathlib.Path(place), config):
        pass
  # Images of people, whose folder TFDS could have as a name.
  (tmp_path / 'people' / 'annot').mkdir(parents=True)
  (tmp_path / 'people' / 'annot' / 'train.json').write_text('[]')
  config.data.name = 'people'
  with pytest.raises(ConfigError, match='in the folder of the data'):
    workdir.check_apart(pathlib.Path('people/run'), folder_of(config.data))


def test_a_run_that_failed_before_its_first_step_can_be_mended(tmp_path):
  with workdir.locked(tmp_path / 'run', tiny()), log.Log(tmp_path / 'run'):
    (tmp_path / 'run' / 'checkpoints').mkdir()
  config = tiny(seed=1)
  workdir.check(tmp_path / 'run', config)
  for name in ('checkpoints/5', 'metrics.jsonl'):
    path = tmp_path / 'run' / name
    if name == 'metrics.jsonl':
      path.write_text('{"step": 1}\n')
    else:
      path.mkdir()
    with pytest.raises(ConfigError, match='seed is 0 there and 1 here'):
      workdir.check(tmp_path / 'run', config)
    path.unlink() if path.is_file() else path.rmdir()


def test_a_sweep_in_the_folder_of_a_run(tmp_path, capsys):
  with workdir.locked(tmp_path / 'run', tiny()):
    pass
  before = snapshot(tmp_path)
  given = ['--config=tests/tiny_config.py', f'--workdir={tmp_path / "run"}']
  assert sweep_command.main(given) == 1
  in_three_beats(capsys.readouterr().err, 'the folder of one run')
  assert snapshot(tmp_path) == before


def test_a_sheet_in_a_file(tmp_path, capsys):
  (tmp_path / 'file').write_text('mine')
  assert contact_sheet.main([f'--workdir={tmp_path / "file"}']) == 1
  in_three_beats(capsys.readouterr().err, 'It is a file')
  assert (tmp_path / 'file').read_text() == 'mine'


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
@pytest.mark.parametrize(
  ('name', 'counted'),
  [
    ('config.json', '| sgd | 100.00 % |'),
    ('result.json', '0 of 1'),
    ('task.json', ''),
  ],
)
def test_a_report_of_damaged_files_says_so(
  name, counted, damage, finished, tmp_path, capsys
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
  assert counted in said.out


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
