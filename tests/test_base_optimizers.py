"""The base optimizers, two steps each, against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import tiny_config
from train import config as train_config

RATE, DECAY = 0.5, 0.1
GRADIENTS = np.array([[1.0, -2.0], [3.0, 0.5]], np.float32)
START = np.array([4.0, -1.0], np.float32)


# Optax's schedules divide an integer by a number.
pytestmark = pytest.mark.usefixtures('standard_promotion')


def build(name, **changes):
  config = tiny_config.get_config('sgd')
  config.optimizer.update(
    name=name,
    learning_rate=RATE,
    weight_decay=DECAY,
    schedule='constant',
    **changes,
  )
  return train_config.build_optimizer(config, 10)


def descend(name, **changes):
  optimizer = build(name, **changes)
  params = {'w': jnp.array(START)}
  state = optimizer.init(params)
  for gradient in GRADIENTS:
    updates, state = optimizer.update({'w': jnp.array(gradient)}, state, params)
    params = jax.tree.map(jnp.add, params, updates)
  return params['w']


def rmsprop(w, momentum):
  second, velocity = np.zeros(2), np.zeros(2)
  for gradient in GRADIENTS:
    g = gradient + DECAY * w
    second = 0.9 * second + 0.1 * g**2
    velocity = momentum * velocity + RATE * g / np.sqrt(second + 1e-8)
    w = w - velocity
  return w


def adam(w, coupled):
  first, second = np.zeros(2), np.zeros(2)
  for step, gradient in enumerate(GRADIENTS, 1):
    g = gradient + coupled * DECAY * w
    first = 0.9 * first + 0.1 * g
    second = 0.999 * second + 0.001 * g**2
    scaled = (first / (1 - 0.9**step)) / (
      np.sqrt(second / (1 - 0.999**step)) + 1e-8
    )
    w = w - RATE * (scaled + (1 - coupled) * DECAY * w)
  return w


@pytest.mark.parametrize(
  ('name', 'changes', 'expected'),
  [
    ('rmsprop', {'momentum': 0.0}, rmsprop(START, 0.0)),
    ('rmsprop', {'momentum': 0.9}, rmsprop(START, 0.9)),
    ('adam', {}, adam(START, 1)),
    ('adamw', {}, adam(START, 0)),
  ],
)
def test_two_steps_by_hand(name, changes, expected):
  # 1 - 0.999 in float32 is off by 2e-5.
  np.testing.assert_allclose(descend(name, **changes), expected, rtol=1e-4)


@pytest.mark.parametrize('name', ['rmsprop', 'adam'])
def test_weight_decay_has_a_mask(name):
  optimizer = build(name, decayed='kernels')
  params = {'kernel': jnp.ones((1, 2)), 'bias': jnp.ones(2)}
  zeros = jax.tree.map(jnp.zeros_like, params)
  updates, _ = optimizer.update(zeros, optimizer.init(params), params)
  assert np.all(np.asarray(updates['kernel']) < 0)
  np.testing.assert_array_equal(updates['bias'], 0.0)


def test_without_momentum_nothing_is_kept_for_it():
  sizes = [
    len(jax.tree.leaves(build('rmsprop', momentum=m).init({'w': START})))
    for m in (0.0, 0.9)
  ]
  assert sizes[0] < sizes[1]


def test_an_optimizer_that_is_not_there():
  with pytest.raises(train_config.ConfigError, match="Did you mean 'rmsprop'"):
    build('rmsprob')
