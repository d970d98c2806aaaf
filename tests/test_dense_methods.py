"""Every method on segmentation and pose: it traces, or is refused in words."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import digits
from tests import dense_networks, dense_sets
from train import config as train_config
from train import models
from train.engine import feed
from train.engine.step import Step
from train.tasks import segmentation

SETS = {'segmentation': dense_sets.scenes(8), 'pose': dense_sets.people(8)}
MODELS = {'segmentation': 'pixelwise', 'pose': 'rough'}
BATCH_SIZE = 4


# Optax's cosine schedule divides an integer by a number.
@pytest.fixture(autouse=True)
def _standard_promotion(standard_promotion, monkeypatch):
  for name, network in dense_networks.NETWORKS.items():
    monkeypatch.setitem(models._MODELS, name, network)
  yield


def config_of(task, variant, **section):
  config = digits.get_config(variant)
  config.update({'task': task, 'batch_size': BATCH_SIZE, 'steps': 4})
  config.model = {'name': MODELS[task]}
  config.augment.pad = 0
  if config.reference.batch_size is not None:
    config.reference.batch_size = BATCH_SIZE
  with config.unlocked():
    config[task] = section
  return config


def traced(step, dataset):
  """The shapes of a step's results."""
  model = step.model(0)
  rows = {name: jnp.asarray(x) for name, x in dataset.train.items()}
  ids = jnp.arange(BATCH_SIZE)
  wants = step.config.reference.batch_size is not None
  batch = feed.Batch(ids, feed.FullSet(rows), ids if wants else None)
  state = jax.eval_shape(step.init, model.params, model.statistics, 0)
  return jax.eval_shape(step.step, state, batch)


@pytest.mark.parametrize('task', SETS)
def test_every_method_trains_the_task_or_is_refused(task):
  refused = set()
  for variant in digits.VARIANTS:
    config = config_of(task, variant)
    try:
      step = Step(config, SETS[task])
    except train_config.ConfigError as error:
      # What was given, why not, and what would.
      assert str(error).startswith(f'Given method.name={config.method.name!r}')
      assert f'with task={task!r}. ' in str(error)
      assert 'Use another method, or a task with a class' in str(error)
      refused.add(variant)
      continue
    assert not step.method.reads_logits, variant
    state, record = traced(step, SETS[task])
    assert record['loss'].shape == () and state.step.shape == (), variant
  assert len(refused) == 2  # those that record logits of classes


SCENES = SETS['segmentation']


@pytest.mark.parametrize('variant', ['sam', 'ausam', 'esam', 'sam_infobatch'])
def test_a_method_that_compares_examples_gets_the_loss_of_each(variant):
  step = Step(config_of('segmentation', variant), SCENES)
  rng = np.random.default_rng(0)
  logits = jnp.asarray(rng.normal(size=(3, 12, 16, 4)), jnp.float32)
  masks = SCENES.train['mask'][:3].copy()
  masks[0, :9] = 255
  batch = {'mask': jnp.asarray(masks)}
  maps = dense_networks.Maps(logits)
  found = step.losses(maps, batch)
  means = {
    over: segmentation.pixel_losses(logits, batch['mask'], over=over)
    for over in ('batch', 'image')
  }
  assert np.abs(means['batch'] - means['image']).max() > 0.1
  over = 'image' if step.method.reads_losses else 'batch'
  np.testing.assert_allclose(found, means[over], rtol=1e-6)
  # One that is asked for by name is not changed, but refused.
  config = config_of('segmentation', variant, over='batch')
  if step.method.reads_losses:
    message = 'depend on the other examples of the batch. Leave them to'
    with pytest.raises(train_config.ConfigError, match=message):
      Step(config, SCENES)
  else:
    found = Step(config, SCENES).losses(maps, batch)
    np.testing.assert_allclose(found, means['batch'], rtol=1e-6)
  found = Step(config_of('segmentation', variant, over='image'), SCENES)
  np.testing.assert_allclose(
    found.losses(maps, batch), means['image'], rtol=1e-6
  )
