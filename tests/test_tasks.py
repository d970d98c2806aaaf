"""A task is a row: another one trains without a change of the engine."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.tiny_runs import make_dataset, npz_file, records, tiny  # noqa: F401
from train import config as train_config
from train import run, tasks
from train.augment import pipeline
from train.engine import loop
from train.report import __main__ as report
from train.sweep import __main__ as sweep
from train.tasks import Score, Task

# Optax's cosine schedule divides an integer by a number.
pytestmark = pytest.mark.usefixtures('standard_promotion')


def brightness(config, dataset):
  """Regression: how bright an image is, from its normalised pixels."""
  options = config.augment.to_dict()
  options.pop('mixup')
  normalisation = pipeline.normalisation(
    options.pop('mean'), options.pop('std'), dataset
  )
  options['mean'], options['std'] = normalisation
  augment = pipeline.from_options(options, dataset)

  def prepare(key, rows):
    pixels = rows['image'].astype(jnp.float32) / 255
    target = jnp.mean(pixels, axis=(1, 2, 3))
    return {'image': augment(key, rows['image']), 'target': target}

  def errors(outputs, batch):
    return jnp.abs(outputs[:, 0] - batch['target'])

  def losses(outputs, batch):
    return errors(outputs, batch) ** 2

  return Task(
    fields={},
    outputs=lambda dataset: {'num_classes': 1},
    prepare=prepare,
    losses=losses,
    scalars=lambda outputs, batch: {
      'error': jnp.mean(errors(outputs, batch)),
      'level': jnp.mean(outputs),
    },
    sums=lambda outputs, batch, valid: {
      'loss': jnp.sum(losses(outputs, batch) * valid),
      'error': jnp.sum(errors(outputs, batch) * valid),
      'count': jnp.sum(valid),
    },
    scores=lambda sums: {
      name: float(sums[name] / sums['count']) for name in ('loss', 'error')
    },
    main=Score('error', 'levels', higher_is_better=False),
    normalisation=normalisation,
  )


@pytest.fixture(autouse=True)
def _known(monkeypatch):
  monkeypatch.setitem(tasks.TASKS, 'brightness', brightness)


def of_brightness(method, **changes):
  config = tiny('sgd', task='brightness', **changes)
  config.method = train_config.method(method[0], **method[1])
  config.optimizer.learning_rate = 0.005
  config.augment.pad = 1
  return config


@pytest.mark.parametrize(
  'method',
  [
    ('sam', {'rho': 0.01}),
    ('fsam', {'rho': 0.01}),
    ('arsam', {'rho': 0.01, 'segment': 5, 'warmup_steps': 5}),
    # By the losses of single examples.
    ('ausam', {'rho': 0.01}),
    ('esam', {'rho': 0.01}),
    ('sam_infobatch', {'rho': 0.01}),
  ],
  ids=lambda method: method[0],
)
def test_another_task_trains_with_every_kind_of_method(method):
  config = of_brightness(method, steps=60)
  dataset = make_dataset()
  program = loop.Program(config, dataset)
  before = program.test(program.init(0))
  result = program.run(seed=0)
  assert result.main.name == 'error'
  assert set(result.scores) == {'loss', 'error'}
  assert result.scores['error'] < 0.6 * before['error']


def test_its_scores_are_of_every_test_image_once():
  dataset = make_dataset(test=501)
  config = of_brightness(('sam', {'rho': 0.01}))
  program = loop.Program(config, dataset)
  state = program.init(seed=0)
  outputs, _ = program.step.apply(
    state.params,
    state.statistics,
    pipeline.normalise(
      dataset.test['image'], *pipeline.statistics(dataset.train['image'])
    ),
    False,
  )
  target = dataset.test['image'].mean(axis=(1, 2, 3)) / 255
  errors = np.abs(np.asarray(outputs)[:, 0] - target)
  scores = program.test(state)
  assert scores['error'] == pytest.approx(errors.mean(), rel=1e-5)
  assert scores['loss'] == pytest.approx((errors**2).mean(), rel=1e-5)


@pytest.mark.parametrize('route', ['pmap', 'shard_map', 'jit'])
def test_on_devices_it_is_the_run_of_one(route):
  method = ('sam', {'rho': 0.01})
  alone = of_brightness(method, steps=5)
  many = of_brightness(method, steps=5, mesh=(4,), parallel=route)
  many.perturbation = 'synced'
  # Devices draw their own augmentation.
  alone.augment.pad = many.augment.pad = 0
  one, other = (
    loop.Program(config, make_dataset()).run(seed=0) for config in (alone, many)
  )
  assert other.scores == pytest.approx(one.scores, rel=1e-4)


def test_its_run_is_written_and_reported(npz, tmp_path, capsys):
  config = of_brightness(('sam', {'rho': 0.01}))
  config.data.name = npz
  folder = tmp_path / 'run'
  result = run.run(config, folder)
  assert 'test error' in run.summary(result, folder)
  assert ' levels\n' in run.summary(result, folder)
  capsys.readouterr()
  steps = [line for line in records(folder) if 'loss' in line]
  assert {'error', 'level', 'perturbed'} <= set(steps[0])
  saved = json.loads((folder / 'result.json').read_text())
  assert saved['test_error'] == result.scores['error']
  assert records(folder)[-1]['test_error'] == result.scores['error']
  assert report.main([str(folder)]) == 0
  said = capsys.readouterr().out
  assert 'test error' in said and 'accuracy' not in said
  assert f'{result.scores["error"]:.2f} levels' in said
  assert (folder / 'curves.png').exists()


def test_a_sweep_of_it_says_its_score(npz, tmp_path, capsys):
  given = [
    '--config=tests/tiny_config.py',
    f'--workdir={tmp_path}',
    '--methods=sgd',
    '--seeds=1',
    f'--config.data.name={npz}',
    '--config.task=brightness',
    '--config.steps=3',
    '--config.batch_size=8',
    '--config.optimizer.learning_rate=0.02',
  ]
  assert sweep.main(given) == 0
  said = capsys.readouterr().out
  assert ' levels in ' in said and 'accuracy' not in said


def test_an_unknown_task_is_refused():
  config = tiny(task='clasification')
  with pytest.raises(
    train_config.ConfigError, match="Did you mean 'classification'"
  ):
    loop.Program(config, make_dataset())


def test_a_set_without_the_fields_of_the_task_is_refused(monkeypatch):
  def masked(config, dataset):
    row = brightness(config, dataset)
    return row._replace(fields={'mask': tasks.Field((8, 8), 'uint8', 255)})

  monkeypatch.setitem(tasks.TASKS, 'masked', masked)
  with pytest.raises(train_config.ConfigError, match='lack mask'):
    loop.Program(tiny(task='masked'), make_dataset())


def test_classification_by_hand():
  task = tasks.create(tiny(), make_dataset())
  assert task.outputs(make_dataset()) == {'num_classes': 10}
  logits = jnp.zeros((3, 10)).at[jnp.arange(3), jnp.array([4, 0, 7])].set(9.0)
  rows = {
    'image': jnp.zeros((3, 8, 8, 1), jnp.uint8),
    'label': jnp.array([4, 1, 7]),
  }
  batch = task.prepare(None, rows)
  assert task.scalars(logits, batch)['accuracy'] == pytest.approx(2 / 3)
  # The last row only fills up the batch.
  sums = jax.device_get(task.sums(logits, batch, jnp.array([1.0, 1.0, 0.0])))
  scores = task.scores(sums)
  each = np.asarray(task.losses(logits, batch))
  assert scores['accuracy'] == 0.5
  assert scores['loss'] == pytest.approx(each[:2].mean())
  assert task.main.text(scores['accuracy']) == '50.00 %'
