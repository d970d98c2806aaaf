"""The configuration of a run: its default, and what is built from it.

A file in `configs/` starts from `default()` and changes a few lines. The
config is locked, so a misspelt key is an error that names the nearest one.
Everything here fails before anything is written or compiled.
"""

from collections.abc import Mapping
from typing import Any

import ml_collections
from ml_collections import config_dict

import sam_optax
from train import checks
from train.checks import Config as Config
from train.checks import ConfigError as ConfigError
from train.optim.method import build_method as build_method
from train.optim.method import late_starts as late_starts
from train.optim.method import method as method
from train.optim.optimizer import build_optimizer as build_optimizer
from train.optim.optimizer import build_schedule as build_schedule

DTYPES = ('auto', 'float32', 'bfloat16')

# Sections whose keys are read by what they name, which refuses others itself.
OWN_KEYS = ('model', 'method', 'data.tests')


def default() -> Config:
  """The configuration that every file in `configs/` starts from."""
  config: Config = ml_collections.ConfigDict(
    {
      'task': 'classification',  # see train/tasks/__init__.py
      'seed': 0,
      'epochs': 10,
      # If set, the run ends after so many steps, whatever `epochs` says.
      'steps': config_dict.placeholder(int),
      'batch_size': 128,  # of all devices together
      # If set, gradients are summed over parts of the batch of at most so many
      # examples. BatchNorm normalises each part by itself; its running
      # statistics move once a step, by the mean over the parts. Each part draws
      # its own dropout masks.
      'micro_batch': config_dict.placeholder(int),
      # Of the network's arrays: 'float32', 'bfloat16', or 'auto', bfloat16 on
      # GPU and TPU. The parameters are float32. JAX multiplies float32 arrays
      # in TF32 on recent NVIDIA GPUs and in bfloat16 on TPUs, but with
      # JAX_DEFAULT_MATMUL_PRECISION=highest in the environment.
      'dtype': 'auto',
      # Of a test's batches, for the memory alone: the scores do not depend on
      # it but by rounding.
      'test_batch_size': 500,
      'eval_every': 1,  # epochs
      'log_every': 10,  # steps
      # Test images that are drawn with what is predicted for them, for
      # predictions.png and TensorBoard; 0 for none.
      'pictures': 8,
      # Steps, 0 for none: norms and cosines that cost gradients of their own,
      # see train/engine/measure.py.
      'measure_every': 0,
      # Steps, 0 for none; and how many of the last checkpoints stay.
      'checkpoint': {'every': 500, 'keep': 2},
      # Who takes the branches: 'host' picks a compiled step, 'device' runs
      # lax.cond; 'auto' is device, but for a network with convolutions on CPU,
      # where XLA runs their gradient in a cond 40 times slower.
      'branch': 'auto',
      # Many devices, see train/parallel/mesh.py. The route of a step: 'pmap',
      # 'shard_map' or 'jit'; None is pmap on all devices, but one device of a
      # CPU. And how many devices the rows of a batch are split over, by jit
      # also how many the parameters are: 4, or 4,2.
      'parallel': config_dict.placeholder(str),
      'mesh': config_dict.placeholder(tuple),
      # See sam_optax.parallel: 'local' or 'synced'; None is local, but by jit.
      'perturbation': config_dict.placeholder(str),
      'examples_per_perturbation': config_dict.placeholder(int),
      'data': {
        'name': 'digits',  # see train/data/memory.py
        'dir': config_dict.placeholder(str),
        # Only the first so many training and test images: (5000, 2000). A
        # folder is in the order of its classes, so that these are of a few.
        'first': config_dict.placeholder(tuple),
        # So many training images, drawn at random once for all runs, are tested
        # in place of the test set: to choose hyperparameters by.
        'validation': config_dict.placeholder(int),
        # The side in pixels to which images of many shapes are cut and resized:
        # their middle, or with crop 'inception' a random part of them. Of
        # people, the side that the network sees of each.
        'size': config_dict.placeholder(int),
        'crop': 'none',
        # With 'inception', the least share of the area (None: 0.08); and what
        # is tested: the middle square (None), or the middle of the whole image
        # squashed to a square ('squash').
        'crop_area': config_dict.placeholder(float),
        'test_crop': config_dict.placeholder(str),
        # Read from disk batch by batch (True), kept in memory (False), or
        # decided by size and crop (None): see train/data/open.py. And read by
        # how many processes, 0 for threads.
        'stream': config_dict.placeholder(bool),
        'workers': 0,
        # Further test sets, by name, at the end of the run: see DEFAULTS in
        # train/data/tests.py for the keys of each.
        'tests': {},
        # Symmetric noise on the training labels, see
        # train/tasks/label_noise.py: the share that is drawn anew, from 'all'
        # classes or the 'wrong' ones; and how many that are, a 'random' number,
        # as each example draws by itself, or the 'exact' share of the set.
        'label_noise': 0.0,
        'noise_over': 'all',
        'noise_count': 'random',
        'noise_seed': 0,
      },
      'model': {'name': 'resnet'},
      # See train/augment/pipeline.py and train/augment/mixup.py.
      'augment': {
        'pad': 0,
        'fill': 'zero',
        'flip': False,
        'randaugment_layers': 0,
        'randaugment_magnitude': 9,
        'cutout': 0,
        'cutout_probability': 0.5,
        'mixup': 0.0,
        # Each channel's, of pixels in [0, 1]; computed where None.
        'mean': config_dict.placeholder(tuple),
        'std': config_dict.placeholder(tuple),
      },
      # The second gradient source of the methods that have one: how many
      # examples (None for no such source), and whether the step's own batch
      # is among them.
      'reference': {
        'batch_size': config_dict.placeholder(int),
        'contains_batch': False,
      },
      'loss': 'softmax',  # or 'sigmoid'
      # The share of a label that goes over to 'all' classes, the true one
      # included, to the 'wrong' ones, or to 'each' (see train/tasks/losses.py).
      'label_smoothing': 0.0,
      'smoothing_over': 'all',
      # Test and keep moving averages of the parameters and of the statistics of
      # BatchNorm, with this decay per step.
      'ema_decay': 0.0,
      'optimizer': {
        'name': 'sgd',
        'learning_rate': 0.1,
        # Per step; or 'linear', 'poly', 'drops', 'constant'.
        'schedule': 'cosine',
        'end': 0.0,  # where the first three end, times the learning rate
        'power': 0.9,  # of 'poly': the rate falls as (1 - step / steps)**power
        # Other learning rates by the parameters' path: (('head', 10.0),) is ten
        # times the rate for all that is under `head` in the network.
        'multipliers': config_dict.placeholder(tuple),
        # Of 'drops': where, as shares of the steps, and what they multiply by.
        'drop_at': (0.3, 0.6, 0.8),
        'drop': 0.2,
        'warmup_steps': 0,
        'clip': config_dict.placeholder(float),  # the gradient's global norm
        'weight_decay': 5e-4,
        'decayed': 'all',  # or 'kernels', as sam_optax.kernels tells them
        'momentum': 0.9,
        'nesterov': False,
      },
      'method': method('sam'),
    }
  )
  return config.lock()


def from_saved(saved: Mapping[str, Any]) -> Config:
  """The config of a saved run, which an older version may have written.

  Args:
    saved: the config as its file has it.

  Returns:
    The config, not locked. Keys that the file lacks have their defaults, but
    those of the sections `OWN_KEYS`, which stay as they were saved.

  Raises:
    TypeError: if the config, or a section of it, is no mapping.
  """
  return ml_collections.ConfigDict(_completed(saved, default().to_dict(), ''))


def _completed(
  saved: Mapping[str, Any], default: Mapping[str, Any], path: str
) -> dict[str, Any]:
  """A section with the defaults of the keys that it lacks."""
  found = {**default, **saved}
  for key, value in default.items():
    inner = f'{path}.{key}' if path else key
    if key in saved and inner in OWN_KEYS:
      continue
    if isinstance(value, Mapping):
      found[key] = _completed(found[key], value, inner)
  return found


def pick_variant(variant: str, variants: dict[str, Any]) -> Any:
  """The row of a config file's table, or an error that lists the rows."""
  if variant not in variants and variant in sam_optax.METHODS:
    raise ConfigError(
      f'Given --config=FILE:{variant}. The file has no such variant, and '
      f'{variant} is a method, which needs none. Give --config=FILE '
      f'--config.method.name={variant}, and its arguments as '
      '--config.method.NAME=VALUE; or use one of the variants '
      f'{", ".join(variants)}.'
    )
  return checks.pick('the variant (--config=FILE:VARIANT)', variant, variants)


def compute_dtype(dtype: str, backend: str) -> str:
  """Resolves the dtype 'auto': float32 on CPUs, as bfloat16 is slower there."""
  if dtype != 'auto':
    return dtype
  return 'float32' if backend == 'cpu' else 'bfloat16'


def check(config: Config, num_examples: int) -> int:
  """Checks the numbers of a run, and gives its length.

  Args:
    config: the config of the run.
    num_examples: size of the training set.

  Returns:
    The number of steps.

  Raises:
    ConfigError: if a number cannot be used.
  """
  for name in (
    'epochs',
    'batch_size',
    'test_batch_size',
    'eval_every',
    'log_every',
  ):
    checks.at_least(name, config[name], 1)
  # NumPy's generators and JAX's keys take no other.
  for name, seed in (
    ('seed', config.seed),
    ('data.noise_seed', config.data.noise_seed),
  ):
    checks.between(name, seed, 0, 2**32 - 1, 'It seeds 32 bits')
  checks.at_least('pictures', config.pictures, 0)
  checks.at_least('checkpoint.every', config.checkpoint.every, 0)
  checks.at_least('measure_every', config.measure_every, 0)
  checks.at_least('checkpoint.keep', config.checkpoint.keep, 1)
  checks.pick(
    'branch', config.branch, dict.fromkeys(('auto', 'host', 'device'))
  )
  checks.pick('dtype', config.dtype, dict.fromkeys(DTYPES))
  if config.micro_batch is not None:
    checks.at_least('micro_batch', config.micro_batch, 1)
  if config.reference.batch_size is not None:
    _check_reference(config, num_examples)
  if not 0 <= config.ema_decay < 1:
    raise ConfigError(
      f'Given ema_decay={config.ema_decay}. It is what the average keeps of '
      'itself in a step. Use a value from 0 to below 1; 0 turns it off.'
    )
  if config.batch_size > num_examples:
    raise ConfigError(
      f'Given batch_size={config.batch_size}. The training set has only '
      f'{num_examples} examples, so there would be no step. Use at most '
      f'{num_examples}.'
    )
  steps = config.epochs * (num_examples // config.batch_size)
  if config.steps is not None:
    checks.at_least('steps', config.steps, 1)
    steps = config.steps
  if config.optimizer.warmup_steps > steps:
    raise ConfigError(
      f'Given optimizer.warmup_steps={config.optimizer.warmup_steps}. The run '
      f'has only {steps} steps, so that it would end before the learning rate '
      f'is reached. Use at most {steps}, or train longer.'
    )
  return steps


def _check_reference(config: Config, num_examples: int) -> None:
  """Refuses a second gradient source that would not be of what it says."""
  size = config.reference.batch_size
  checks.at_least('reference.batch_size', size, 1)
  given = f'Given reference.batch_size={size}'
  if size > num_examples:
    raise ConfigError(
      f'{given}. The training set has only {num_examples} examples, and each '
      f'is taken once. Use at most {num_examples}.'
    )
  if config.reference.contains_batch and size < config.batch_size:
    raise ConfigError(
      f'{given} with reference.contains_batch=True. A batch has '
      f'{config.batch_size} examples, which it cannot contain. Use '
      f'{config.batch_size} or more, or contains_batch=False.'
    )
