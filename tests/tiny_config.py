"""A config file of the tests: an MLP, seconds to train."""

from train import config as train_config

VARIANTS = {
  'sgd': ('identity', {}),
  'arsam': ('arsam', {'segment': 5, 'warmup_steps': 5}),
}
DEMO = {'SGD': 'sgd', 'ARSAM': 'arsam'}


def get_config(variant: str = 'sgd'):
  config = train_config.default()
  config.epochs = 2
  config.batch_size = 256
  config.model = {'name': 'mlp', 'hidden': (16,)}
  name, changes = train_config.pick_variant(variant, VARIANTS)
  config.method = train_config.method(name, **changes)
  return config
