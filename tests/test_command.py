"""Command lines: one way to parse them, and help that a stranger can use."""

import io
import os
import pathlib
import subprocess

import pytest

from train import __main__ as train_command
from train import command, config, keys, predict, variants, workdir
from train.checks import ConfigError
from train.report import __main__ as report_command
from train.sweep import __main__ as sweep_command
from train.tools import contact_sheet, demo, demos, prepare

COMMANDS = {
  'train': train_command,
  'train.sweep': sweep_command,
  'train.report': report_command,
  'train.prepare': prepare,
  'train.predict': predict,
  'train.tools.demo': demo,
  'train.tools.contact_sheet': contact_sheet,
}
TAKE_KEYS = ('train', 'train.sweep', 'train.tools.contact_sheet')


def test_a_name_that_is_no_unicode_is_shown(monkeypatch):
  content = io.BytesIO()
  monkeypatch.setattr('sys.stdout', io.TextIOWrapper(content, 'utf-8'))
  name = os.fsdecode(b'caf\xe9')
  assert command.status_of(lambda: print(f'é {name}', flush=True)) == 0
  assert content.getvalue().decode() == 'é caf\\udce9\n'


@pytest.mark.parametrize('name', COMMANDS)
def test_help_is_of_the_command_itself(name, capsys):
  with pytest.raises(SystemExit) as ended:
    COMMANDS[name].main(['--help'])
  assert ended.value.code == 0
  said = capsys.readouterr().out
  assert said.startswith(f'usage: python -m {name} ')
  assert f'Examples:\n  python -m {name}' in said
  usage, _, keys_of_config = said.partition('keys of the config:')
  assert len(usage.splitlines()) < 60
  assert bool(keys_of_config) == (name in TAKE_KEYS)
  assert 'absl' not in said
  # Lines are cut as they are written, for a terminal.
  assert max(map(len, said.splitlines())) <= 80


def test_help_has_the_meaning_of_every_key():
  known = workdir._flat(workdir.as_json(config.default()))
  own = {key for key in known if not key.startswith('method.')}
  assert {*keys.MEANINGS} == own | {'method.name'}
  for key in keys.MEANINGS:
    assert f'  {key}' in command._overrides()


@pytest.mark.parametrize('name', COMMANDS)
def test_every_flag_says_what_it_is(name):
  for action in COMMANDS[name]._parser()._actions:
    assert action.help, action


@pytest.mark.parametrize('name', ['train', 'train.sweep'])
def test_an_unknown_flag_is_refused(name, capsys, tmp_path):
  given = ['--config=tests/tiny_config.py', f'--workdir={tmp_path / "run"}']
  assert COMMANDS[name].main([*given, '--epochs=3']) == 1
  said = capsys.readouterr().err
  assert said.startswith("error: Given '--epochs=3'. There is no such flag.")
  assert not (tmp_path / 'run').exists()


def test_keys_of_the_config_are_set_in_any_form():
  parser = command.parser('train', 'Trains.', overrides=True)
  parser.add_argument('--config')
  given = [
    '--config.epochs=3',
    *('--config.batch_size', '16'),
    '--config=tests/tiny_config.py:arsam',
    '--config.augment.flip',
    '--config.data.first=(5, 6)',
    *('--config.data.name', 'a=b.npz'),
  ]
  args, settings = command.parse(parser, given)
  loaded = variants.load(args.config, settings)
  assert (loaded.epochs, loaded.batch_size) == (3, 16)
  assert loaded.augment.flip is True
  assert loaded.data.first == (5, 6)
  assert loaded.data.name == 'a=b.npz'
  assert loaded.method.name == 'arsam'
  for stray in (['3'], ['--config.epochs=3', '4']):
    with pytest.raises(ConfigError, match='There is no such flag'):
      command.parse(parser, stray)


@pytest.mark.parametrize(
  ('given', 'settings', 'expected'),
  [
    ('no/such.py', [], 'There is no such file'),
    ('tests/tiny_config.py:arsm', [], "Did you mean 'arsam'"),
    ('train/checks.py', [], 'has no get_config'),
    ('tests/tiny_config.py', ['--config.epochs=many'], 'epochs'),
    ('tests/tiny_config.py', ['--config.optimizr.clip=1'], 'optimizer'),
  ],
)
def test_a_config_that_cannot_be_loaded_is_refused(given, settings, expected):
  with pytest.raises(ConfigError) as error:
    variants.load(given, settings)
  assert expected in str(error.value)


def test_a_config_without_variants(tmp_path):
  path = tmp_path / 'plain.py'
  path.write_text(
    'from train import config\n\ndef get_config():\n  return config.default()\n'
  )
  assert variants.load(str(path)).epochs == 10
  with pytest.raises(ConfigError, match='has no variants'):
    variants.load(f'{path}:sam')


@pytest.mark.parametrize('name', demos.DEMOS)
def test_a_demonstration_has_a_config_with_its_rows(name):
  module = variants.read(demos.DEMOS[name].config)
  assert set(module['DEMO'].values()) <= set(module['VARIANTS'])
  for variant in module['DEMO'].values():
    module['get_config'](variant)


def test_an_unknown_demonstration_is_refused(capsys):
  assert demo.main(['--task=clasification']) == 1
  assert "Did you mean 'classification'" in capsys.readouterr().err


def test_make_demo_takes_a_task():
  root = pathlib.Path(__file__).parent.parent
  done = subprocess.run(
    ['make', '-n', 'demo', 'TASK=classification', 'METHODS=sgd,sam'],
    cwd=root,
    capture_output=True,
    text=True,
    check=True,
  )
  line = ' '.join(done.stdout.replace('\\\n', ' ').split())
  assert 'train.tools.demo --task=classification --methods=sgd,sam' in line
  for name in demos.DEMOS:
    assert name in (root / 'Makefile').read_text()
