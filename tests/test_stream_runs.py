"""Runs on streamed sets: the same as on sets in memory."""

import jax
import numpy as np
import pytest

from tests import driving, test_checkpoint
from tests.image_folders import (
  cropped,
  options,
  same_folder,  # noqa: F401
  varied_folder,  # noqa: F401
)
from tests.tiny_runs import records, tiny
from train import config as train_config
from train import run as one_run
from train.data.open import open_set
from train.engine import loop
from train.parallel import devices

# Optax's cosine schedule divides an integer by a number.
pytestmark = pytest.mark.usefixtures('standard_promotion')


def run(config, folder):
  config.data.label_noise = 0.3
  config.checkpoint.every = 0
  one_run.run(config, folder)
  return records(folder)


@pytest.mark.parametrize(
  'method',
  [
    # Of these the first chooses from the batch, and the second needs a
    # gradient for its decision.
    pytest.param(('ausam', {'rho': 0.1}, 'device'), id='chosen'),
    pytest.param(('aesam', {'rho': 0.1}, 'host'), id='decided'),
  ],
)
def test_a_streamed_run_is_one_from_memory(method, same, tmp_path):
  name, arguments, branch = method
  config = tiny(steps=9, branch=branch)
  config.method = train_config.method(name, **arguments)
  runs = []
  for streams in (False, True):
    config.data.update({'name': same, 'stream': streams})
    runs.append(run(config, tmp_path / str(streams)))
  assert runs[0] == runs[1]


@pytest.mark.parametrize('route', devices.ROUTES)
def test_a_streamed_run_on_devices_is_one_from_memory_on_one(route, same):
  config = tiny(steps=5)
  config.data.update({'name': same, 'stream': False, 'label_noise': 0.3})
  alone = trained(config)
  config.data.stream = True
  config.update({'parallel': route, 'mesh': (2,)})
  config.perturbation = 'synced'
  driving.assert_close(trained(config), alone)


def trained(config):
  program = loop.Program(config, open_set(config.data))
  state, order = program.start_epoch(program.init(0), 0, 0)
  order = np.concatenate([order] * 5)[:5]
  *_, (state, record) = program.steps(state, order)
  scores = np.asarray(list(program.test(state).values()))
  return jax.device_get((state.params, record, scores))


def test_a_streamed_run_that_was_killed_ends_as_one_that_was_not(
  varied, tmp_path
):
  config = tiny(steps=test_checkpoint.STEPS, log_every=4)
  program = test_checkpoint.Program(config, cropped(varied))
  # Every epoch has crops of its own: 40 steps are 13 epochs of three and one.
  asked, train = [], program.feed.train
  with pytest.MonkeyPatch.context() as patch:
    ask = lambda order, *draw: asked.append((len(order), *draw))
    patch.setattr(
      program.feed, 'train', lambda *given: ask(*given) or train(*given)
    )
    program.run(seed=3)
  assert asked == [*((3, 3, epoch) for epoch in range(13)), (1, 3, 13)]
  whole, parts = tmp_path / 'whole', tmp_path / 'parts'
  test_checkpoint.go(program, whole)
  kill, terminate = test_checkpoint.kill, test_checkpoint.terminate
  # Epochs have three steps: in the first, within a later one, between two.
  test_checkpoint.interrupted(
    program, parts, {2: kill, 16: kill, 23: terminate}
  )
  one, two = test_checkpoint.final(whole), test_checkpoint.final(parts)
  test_checkpoint.assert_equal(one, two)


def test_a_reference_gradient_needs_a_set_in_memory(same):
  config = tiny()
  config.method = train_config.method('sam_db')
  config.reference.batch_size = 4
  streamed = open_set(options(same, stream=True))
  with pytest.raises(train_config.ConfigError, match='data.stream=False'):
    loop.Program(config, streamed)
