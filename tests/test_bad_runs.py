"""Runs that cannot be: words, before anything is written or lost."""

import json
import re

import jax.numpy as jnp
import numpy as np
import pytest

from tests.tiny_runs import make_dataset, npz_file, run_command, tiny  # noqa: F401
from tests.words import in_three_beats
from train import __main__ as train_command
from train import config as train_config
from train import run
from train.checks import DataError
from train.engine import loop
from train.engine.log import Log
from train.engine.records import NotFinite, Records

# Optax's cosine schedule divides an integer by a number.
pytestmark = pytest.mark.usefixtures('standard_promotion')


BAD = {
  'negative rho': (['method', 'rho'], -0.1, 'rho=-0.1'),
  'unknown method': (['method', 'name'], 'arsm', "Did you mean 'arsam'"),
  'unknown model': (['model', 'name'], 'mpl', "Did you mean 'mlp'"),
  'unknown optimizer': (['optimizer', 'name'], 'sgdd', "Did you mean 'sgd'"),
  'unknown schedule': (['optimizer', 'schedule'], 'cos', 'cosine'),
  'negative learning rate': (['optimizer', 'learning_rate'], -1.0, '-1.0'),
  'batch too large': (['batch_size'], 71, 'Use at most 70'),
  'no batch': (['batch_size'], 0, 'batch_size=0'),
  'no epoch': (['epochs'], 0, 'epochs=0'),
  'negative seed': (['seed'], -1, 'seed=-1'),
  'seed beyond 32 bits': (['seed'], 2**32, 'from 0 to 4294967295'),
  'label smoothing': (['label_smoothing'], 1.0, 'label_smoothing=1.0'),
  'unknown fill': (['augment', 'fill'], 'zeros', 'zero'),
  'no micro-batch': (['micro_batch'], 0, 'micro_batch=0'),
  'unknown dtype': (['dtype'], 'float16', "'bfloat16'"),
  'unknown branch': (['branch'], 'cpu', 'host'),
  'missing data': (['data', 'name'], '/no/such/file.npz', '/no/such/file.npz'),
  'unknown data': (['data', 'name'], 'cifar11', 'cifar'),
}


@pytest.mark.parametrize('name', BAD)
def test_a_bad_config_fails_before_anything_is_written(name, npz, tmp_path):
  keys, value, expected = BAD[name]
  config = tiny(data={'name': npz, 'dir': str(tmp_path / 'tfds')})
  section = config
  for key in keys[:-1]:
    section = section[key]
  section[keys[-1]] = value
  folder = tmp_path / 'run'
  with pytest.raises((train_config.ConfigError, DataError)) as error:
    run.run(config, folder)
  assert expected in str(error.value)
  # Given, why not, what would work.
  assert len(re.findall(r'[.:] ', str(error.value))) >= 2
  assert not folder.exists()


def test_a_method_without_its_second_batch(npz, tmp_path):
  config = tiny(data={'name': npz, 'dir': None})
  config.method = train_config.method('sam_db', rho=0.1)
  folder = tmp_path / 'run'
  with pytest.raises(train_config.ConfigError) as error:
    run.run(config, folder)
  in_three_beats(str(error.value), "'sam_db' without reference.batch_size")
  assert not folder.exists()
  # Of a step too, for who calls it.
  program = loop.Program(config, make_dataset())
  with pytest.raises(train_config.ConfigError, match='reference.batch_size=8'):
    program.train_step(program.init(0), np.arange(8, dtype=np.int32))


def test_a_table_smaller_than_the_data_set_is_refused(npz, tmp_path):
  config = tiny(data={'name': npz, 'dir': None})
  config.method = train_config.method('ausam', num_examples=69)
  with pytest.raises(train_config.ConfigError, match='70 examples'):
    run.run(config, tmp_path / 'run')
  config.method.num_examples = 70
  run.run(config, tmp_path / 'run')


def test_an_argument_that_the_method_lacks_is_refused():
  with pytest.raises(train_config.ConfigError, match="Did you mean 'decay'"):
    train_config.method('fsam', decai=0.5)


def test_a_folder_with_a_run_is_left_alone(npz, tmp_path):
  config = tiny(data={'name': npz, 'dir': None})
  folder = tmp_path / 'run'
  run.run(config, folder)
  before = (folder / 'metrics.jsonl').read_bytes()
  with pytest.raises(train_config.ConfigError, match='already holds a run'):
    run.run(config, folder)
  assert (folder / 'metrics.jsonl').read_bytes() == before


def test_a_loss_that_is_no_number_stops_the_run():
  config = tiny()
  config.optimizer.learning_rate = 1e30
  config.optimizer.momentum = 0.0
  with pytest.raises(NotFinite, match='Lower'):
    loop.Program(config, make_dataset()).run(seed=0)
  # Before a second step could show it in the training loss.
  config.steps = 1
  with pytest.raises(NotFinite, match='test loss is .* at step 1'):
    loop.Program(config, make_dataset()).run(seed=0)


def test_the_bar_says_that_it_compiles_until_the_first_step(capsys):
  program = loop.Program(tiny('sgd'), make_dataset())
  shown = []
  for seed in range(2):
    with Log(None, 12) as log:
      program.run(seed, log)
    shown.append(capsys.readouterr().err.split('\r'))
  first, second = shown
  waiting = [i for i, bar in enumerate(first) if 'compiling' in bar]
  assert waiting
  after = first[waiting[-1] + 1]
  assert ' 0/12 ' in first[waiting[-1]] and ' 0/12 ' in after
  assert not any('compiling' in bar for bar in second)  # it is done by then


def test_the_steps_before_a_loss_that_is_no_number_are_logged(tmp_path):
  losses = [1.0, 2.0, np.nan, 3.0]
  with Log(tmp_path) as log:
    records = Records(log, batch_size=1, seconds=lambda: 1.0, logged=4)
    for loss in losses:
      records.add({'loss': jnp.asarray(loss)})
    with pytest.raises(NotFinite, match='nan at step 7'):
      records.flush()
  lines = (tmp_path / 'metrics.jsonl').read_text().splitlines()
  assert [json.loads(line) for line in lines] == [
    {'step': 5, 'loss': 1.0},
    {'step': 6, 'loss': 2.0},
  ]


WRONG = [
  (['--config.method.rhoo=1'], 'Did you mean "rho"'),
  (['--config.optimizr.clip=1'], 'Did you mean "optimizer"'),
  (['--config.method.segment=0'], 'Given segment=0'),
  (['--config=tests/tiny_config.py:arsm'], "Did you mean 'arsam'"),
]


def command_line(npz, folder, *arguments):
  return [
    '--config=tests/tiny_config.py:arsam',
    f'--config.data.name={npz}',
    '--config.batch_size=8',
    f'--workdir={folder}',
    *arguments,
  ]


@pytest.mark.parametrize(('arguments', 'expected'), WRONG)
def test_the_command_says_what_is_wrong_and_fails(
  arguments, expected, npz, tmp_path, capsys
):
  folder = tmp_path / 'run'
  assert train_command.main(command_line(npz, folder, *arguments)) == 1
  said = capsys.readouterr().err
  assert said.startswith('error: ')
  assert expected in said
  assert not folder.exists()


def test_its_process_ends_with_a_status_and_without_a_traceback(npz, tmp_path):
  arguments, expected = WRONG[0]
  done = run_command(*command_line(npz, tmp_path / 'run', *arguments))
  assert done.returncode == 1
  assert 'Traceback' not in done.stderr
  assert done.stderr.strip().startswith('error: ')
  assert expected in done.stderr
