"""Arguments of a method that vary over a run."""

import numpy as np
import pytest

from configs import settings
from tests.config_files import FILES, build
from train import checks
from train import config as train_config
from train.optim import varying

# Optax's schedules divide an integer by a number.
pytestmark = pytest.mark.usefixtures('standard_promotion')


def rate(step):
  """Rises to 2 in two steps, and falls to 1 in eight more."""
  return np.where(step < 2, step, 2 - (step - 2) / 8)


def test_an_argument_follows_the_learning_rate():
  section = {'follows': 'learning_rate', 'first': 0.5, 'last': 0.1}
  rho = varying.build('rho', section, 2.0, rate, 10)
  np.testing.assert_allclose(
    [rho(2), rho(6), rho(10)], [0.5, 0.3, 0.1], rtol=1e-6
  )


def test_an_argument_follows_the_steps():
  section = {'follows': 'steps', 'first': 0.5, 'last': 2.5}
  gamma = varying.build('gamma', section, 2.0, rate, 10)
  np.testing.assert_allclose(
    [gamma(0), gamma(5), gamma(10)], [0.5, 1.5, 2.5], rtol=1e-6
  )


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'follows': 'learning_rat'}, "Did you mean 'learning_rate'"),
    ({'last': None}, 'first, follows, last'),
    ({'from': 1.0}, 'first, follows, last'),
    ({'first': 0.05}, 'method.rho.first=0.05'),
    ({'last': -1.0}, 'method.rho.last=-1.0'),
    ({'follows': 'steps', 'first': 0.0}, 'Use a number above 0'),
  ],
)
def test_an_argument_that_cannot_vary_so(change, message):
  section = {'follows': 'learning_rate', 'first': 0.5, 'last': 0.1} | change
  section = {key: x for key, x in section.items() if x is not None}
  config = FILES['fsam_table4'].get_config('resnet50-imagenet-sam')
  config.method = train_config.method('sam', rho=section)
  with pytest.raises(checks.ConfigError, match=message):
    build(config, settings.DATA['imagenet'])
