"""Config files and flags that cannot be: words."""

import pytest

from tests.tiny_runs import ROOT, make_dataset, npz_file, tiny  # noqa: F401
from tests.words import in_three_beats
from train import checks, run, variants
from train import config as train_config
from train.checks import ConfigError
from train.engine import log
from train.engine.step import Step
from train.sweep import __main__ as sweep_command
from train.sweep import execute, plan
from train.tools import demo

# Optax's cosine schedule divides an integer by a number.
pytestmark = pytest.mark.usefixtures('standard_promotion')


FILES = {
  'no get_config': ('x = 1', 'has no get_config'),
  'no function': ('get_config = 3', 'has no get_config'),
  'a syntax error': ('def get_config(:', 'SyntaxError'),
  'an error at import': ('1 / 0', 'ZeroDivisionError'),
  'a missing module': ('import nothing_like_it', 'nothing_like_it'),
  'that raises': (
    'def get_config():\n  return {}[3]',
    'KeyError in line 2: 3. ',
  ),
  'that exits': ('def get_config():\n  exit(3)', 'SystemExit in line 2: 3. '),
  'an exit at import': ('exit(3)', 'SystemExit'),
  'variants that are none': ('VARIANTS = 3', 'Its VARIANTS is a int'),
  'no published numbers': ('PUBLISHED = [90]', 'Its PUBLISHED is a list'),
  'a bare number': ("PUBLISHED = {'a': 90}", 'Write (90, None)'),
  'a title that is none': ('TABLE = 3', 'Its TABLE is a int'),
  'a demo that is none': ("DEMO = ('a',)", 'Its DEMO is a tuple'),
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
    ':sam',
  ),
}


@pytest.mark.parametrize('name', FILES)
def test_a_config_file_that_makes_no_config(name, tmp_path):
  content, expected, *variant = FILES[name]
  path = tmp_path / 'own.py'
  path.write_text(content)
  with pytest.raises(ConfigError) as error:
    variants.load(''.join([str(path), *variant]))
  in_three_beats(str(error.value), expected, f'--config={path}')


SECTIONS = {
  "data={**config.data.to_dict(), 'validaton': 9}": "Did you mean 'validation'",
  "augment={'flip': True}": "The section 'augment' of its config has no cut",
  "checkpoint={'every': 5}": 'config.checkpoint.update(',
  'lable_smoothing=0.3': "Did you mean 'label_smoothing'",
}


@pytest.mark.parametrize('section', SECTIONS)
def test_a_section_that_is_assigned(section, tmp_path):
  path = tmp_path / 'own.py'
  key, _, value = section.partition('=')
  path.write_text(
    'from train import config as c\n'
    'def get_config():\n'
    '  config = c.default()\n'
    "  config.model = {'name': 'mlp', 'hidden': (8,)}\n"
    '  with config.unlocked():\n'
    "    config.pose = {'sigma': 1.5}\n"
    f'    config.{key} = {value}\n'
    '  return config\n'
  )
  with pytest.raises(ConfigError) as error:
    variants.load(str(path))
  in_three_beats(str(error.value), f'--config={path}', SECTIONS[section])


def test_a_key_that_nothing_reads_in_a_config_of_python(tmp_path):
  config = tiny()
  with config.unlocked():
    config.optimizer.momentun = 0.5
  with pytest.raises(ConfigError) as error:
    run.run(config, tmp_path / 'run')
  in_three_beats(str(error.value), "Did you mean 'momentum'")
  assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize('given', ['', '.', 'configs', 'README.md', 'no.py'])
def test_no_config_file(given):
  with pytest.raises(ConfigError) as error:
    variants.load(given)
  in_three_beats(str(error.value), f'--config={given}')


@pytest.mark.parametrize(
  ('setting', 'expected'),
  [
    ('epoch=3', '\'epoch\'. Did you mean "epochs" instead of "epoch"? Its'),
    ('optimizer.learning_rat=3', 'learning_rate'),
    ('epochs=many', 'epochs'),
    ('epochs=1.5', 'epochs'),
    ('model.name.x=1', 'model.name.x'),
    ('method.name=samm', "Did you mean 'sam'"),
    ('augment.flip=perhaps', 'flip'),
    ('augment={"flip": True}', "The section 'augment' of its config has no"),
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


@pytest.mark.parametrize(
  ('setting', 'expected'),
  [
    ('optimizer.learning_rate=nan', 'no finite number'),
    ('optimizer.weight_decay=inf', 'no finite number'),
    ('optimizer.momentum=1.0', 'optimizer.momentum=1.0'),
    ('optimizer.momentum=nan', 'optimizer.momentum=nan'),
    ('model={"hidden": (8,)}', 'It has no name'),
    ('model={"name": "mlp", "hidden": "big"}', 'No network can be built'),
    ('model={"name": "mlp", "hidden": (-8,)}', 'No network can be built'),
  ],
)
def test_a_run_that_cannot_be_computed(setting, expected):
  settings = [f'--config.{setting}', '--config.batch_size=8']
  config = variants.load('tests/tiny_config.py', settings)
  with pytest.raises(ConfigError) as error:
    Step(config, make_dataset())
  in_three_beats(str(error.value), expected)


def test_a_demonstration_of_no_methods(tmp_path, capsys):
  (tmp_path / 'own.py').write_text('VARIANTS = {}')
  given = [f'--config={tmp_path / "own.py"}', f'--workdir={tmp_path / "demo"}']
  assert demo.main(given) == 1
  in_three_beats(capsys.readouterr().err, 'has no DEMO', '--methods=')


def test_none_takes_the_place_of_what_may_be_none():
  config = train_config.default()
  config.data.size, config.steps = 64, 3
  given = ['--config.data.size=None', '--config.steps=None']
  config = variants.overridden(config, given)
  assert config.data.size is None and config.steps is None
  assert variants.overridden(config, ['--config.steps=5']).steps == 5
  with pytest.raises(ConfigError, match='epochs'):
    variants.overridden(config, ['--config.epochs=None'])


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
