"""Segmentation and pose as whole runs: resumed, swept, reported, spread."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import dense_networks, dense_sets, driving, runs
from tests.runs import Program
from train import config as train_config
from train import models
from train.augment import affine
from train.engine import loop
from train.report import __main__ as report
from train.run import run
from train.sweep import execute

SETS = {'segmentation': dense_sets.scenes(24), 'pose': dense_sets.people(24)}
MODELS = {'segmentation': 'pixelwise', 'pose': 'rough'}
MAIN = {'segmentation': 'miou', 'pose': 'pckh_0.5'}
STEPS = 8


@pytest.fixture(scope='module', autouse=True)
def _settings():
  with pytest.MonkeyPatch.context() as patch:
    for name, network in dense_networks.NETWORKS.items():
      patch.setitem(models._MODELS, name, network)
    # The sets are no files.
    patch.setattr(execute, 'dataset', lambda run: SETS[run.config.task])
    # Optax's cosine schedule divides an integer by a number.
    with jax.numpy_dtype_promotion('standard'):
      yield


def config_of(task, **changes):
  config = train_config.default()
  config.update({
    'task': task,
    'batch_size': 8,
    'test_batch_size': 8,
    'steps': STEPS,
    'log_every': 4,
    'mesh': (1,),
    'method': {'rho': 0.01},
    'optimizer': {'learning_rate': 0.1},
  })  # fmt: skip
  config.model = {'name': MODELS[task]}
  if task == 'pose':
    config.optimizer.update(name='adam', learning_rate=0.05)
  config.update(changes)
  return config


def records(folder):
  lines = (folder / 'metrics.jsonl').read_text().splitlines()
  return list(map(json.loads, lines))


@pytest.fixture(scope='module', params=SETS)
def trained(request, tmp_path_factory):
  """A run: its program, its folder and its result."""
  config = config_of(request.param)
  program = Program(config, SETS[request.param])
  folder = tmp_path_factory.mktemp('runs') / 'whole'
  return program, folder, run(config, folder, program, bar=False)


def test_a_run_learns_and_says_its_scores(trained):
  program, folder, result = trained
  lines = records(folder)
  losses = [line['loss'] for line in lines if 'loss' in line]
  assert losses[-1] < losses[0]
  tested = lines[-1]
  for name, score in result.scores.items():
    assert tested[f'test_{name}'] == score, name
  assert MAIN[program.config.task] in result.scores
  written = json.loads((folder / 'result.json').read_text())
  assert written['test_loss'] == result.scores['loss']


def test_an_interrupted_run_ends_as_one_that_was_not(trained, tmp_path):
  runs.assert_resumes(*trained, tmp_path / 'run', stops=(2, 5))


def test_a_sweep_has_a_report_in_the_unit_of_the_task(
  trained, tmp_path, capsys
):
  config = trained[0].config.copy_and_resolve_references()
  config.steps = 2
  config.checkpoint.every = 0
  folders, results = runs.of_two_seeds(config, tmp_path)
  capsys.readouterr()
  assert report.main(list(map(str, folders))) == 0
  said = capsys.readouterr().out
  assert f'test {MAIN[config.task]}' in said and 'accuracy' not in said
  scores = [100 * result[f'test_{MAIN[config.task]}'] for result in results]
  assert f'{np.mean(scores):.2f}' in said


def stepped(config, count=2):
  """The losses of some steps, and the sums of the test after them."""
  program = loop.Program(config, SETS[config.task])
  state, order = program.start_epoch(program.init(0), 0, 0)
  losses = []
  for after, record in program.steps(state, order[:count]):
    losses.append(np.asarray(record['loss']))
    state = after
  params = jax.device_get(state.params)
  return params, losses, program.test(state)


def whole_image(key, source, size, **options):
  """A crop at the upper left instead of a drawn one."""
  del key, size, options
  batch = len(source)
  return affine.crop_scaled(
    jnp.ones(batch),
    jnp.zeros((batch, 2)),
    source.astype(jnp.float32),
    jnp.zeros(batch),
    jnp.zeros(batch, bool),
  )


@pytest.mark.parametrize('task', SETS)
def test_many_devices_step_as_one(task, monkeypatch):
  # A device draws its own augmentation, and BatchNorm sees its examples alone.
  monkeypatch.setattr(affine, 'draw_crops', whole_image)
  found = []
  for changes in (
    {'mesh': (4,), 'parallel': 'pmap', 'perturbation': 'synced'},
    {'mesh': (1,)},
  ):
    config = config_of(task, **changes)
    with config.unlocked():
      config[task] = {
        'segmentation': {'over': 'image'},
        'pose': {'scale': 0.0, 'rotation': 0.0, 'flip': False},
      }[task]
      config.model.norm = False
    found.append(stepped(config))
  many, one = found
  driving.assert_close(many[:2], one[:2])
  assert many[2] == pytest.approx(one[2], rel=1e-4)


@pytest.mark.parametrize('task', SETS)
def test_bfloat16_is_of_the_products_alone(task):
  (params, losses, scores), (_, expected, _) = (
    stepped(config_of(task, dtype=dtype)) for dtype in ('bfloat16', 'float32')
  )
  assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(params))
  difference = np.abs(np.asarray(losses) - expected)
  assert 0 < difference.max() < 0.05 * np.max(expected)
  assert np.isfinite(list(scores.values())).all()
