"""The recipes of the papers' tables, and their methods' numbers.

Beside each number stands where it comes from; "our choice" where the paper
does not print it or its appendix could not be had.
"""

from typing import Any, NamedTuple

from configs import settings
from train import config as train_config

# What torchvision's and timm's networks expect.
_IMAGENET = {'mean': (0.485, 0.456, 0.406), 'std': (0.229, 0.224, 0.225)}


# F-SAM


class Friendly(NamedTuple):
  """The numbers of F-SAM's paper for a network on CIFAR."""

  decay: float = 0.6  # chosen among 0.6, 0.9 and 0.95
  epochs: int = 200


FRIENDLY = {
  'vgg16bn': Friendly(),
  'resnet18': Friendly(),
  'wrn28_10': Friendly(decay=0.9),
  'pyramidnet110': Friendly(decay=0.9, epochs=300),
}


def friendly_methods(row: settings.Row) -> settings.Methods:
  """F-SAM's methods on CIFAR."""
  decay = FRIENDLY[row.network].decay
  rho = {'cifar10': 0.1, 'cifar100': 0.2}[row.data]  # F-SAM's paper
  adaptive = {
    'rho': {'cifar10': 2.0, 'cifar100': 4.0}[row.data],  # F-SAM's paper
    'eta': 0.0,  # F-SAM utils.py
    'adapt_all': True,  # F-SAM utils.py
  }
  return {
    'sgd': ('identity', {}),
    'sam': ('sam', {'rho': rho}),
    'asam': ('asam', adaptive),
    # F-SAM recommends 0.1; eta is not published there: our choice.
    'fishersam': ('fishersam', {'rho': 0.1, 'eta': 1.0}),
    # sigma: the paper's only value.
    'fsam': ('fsam', {'rho': rho, 'sigma': 1.0, 'decay': decay}),
    'fasam': ('fasam', {**adaptive, 'sigma': 1.0, 'decay': decay}),
  }


def friendly(row: settings.Row, **changes: Any) -> train_config.Config:
  """F-SAM on CIFAR.

  Args:
    row: what to train.
    **changes: arguments of its method other than the table's.

  Returns:
    The config.
  """
  name, arguments = friendly_methods(row)[row.method]
  config = settings.start(row, (name, arguments | changes))
  config.epochs = FRIENDLY[row.network].epochs
  config.batch_size = 128  # F-SAM's paper
  # F-SAM's paper: what is not SGD decays twice as much.
  settings.sgd(config, 0.05, 5e-4 if row.method == 'sgd' else 1e-3)
  settings.crop_flip_cutout(config)
  # F-SAM utils.py: the same for CIFAR-100.
  config.augment.mean = (0.4914, 0.4822, 0.4465)
  config.augment.std = (0.2023, 0.1994, 0.2010)
  return config


def photographs(
  row: settings.Row, methods: settings.Methods
) -> train_config.Config:
  """What F-SAM's ImageNet and fine-tuning runs have in common.

  Inception's crop and the flip are our choice: the released program has the
  CIFAR sets only.

  Args:
    row: what to train.
    methods: the table's.

  Returns:
    The config.
  """
  config = settings.start(row, methods[row.method])
  config.batch_size = 128  # F-SAM's paper, for both
  config.augment.update(flip=True, **_IMAGENET)
  return config


# ARSAM and AUSAM


class Accelerated(NamedTuple):
  """ARSAM's and AUSAM's numbers for a network on a kind of images.

  ARSAM's appendix could not be had. Its baselines' rows are those of AUSAM,
  digit for digit, so these are AUSAM's.
  """

  learning_rate: float
  weight_decay: float
  rho: float
  s_max: float  # AUSAM's greatest weight
  esam: dict[str, float]  # the numbers of ESAM's released code


_ESAM_RESNET = {'rho': 0.05, 'beta': 0.6, 'gamma': 0.5}
ACCELERATED = {
  # AUSAM table 7.
  ('resnet18', 'cifar'): Accelerated(0.05, 1e-3, 0.1, 0.5, _ESAM_RESNET),
  ('wrn28_10', 'cifar'): Accelerated(
    0.05, 1e-3, 0.1, 0.5, {'rho': 0.1, 'beta': 0.5, 'gamma': 0.5}
  ),
  ('pyramidnet110', 'cifar'): Accelerated(
    0.1, 5e-4, 0.2, 1.0, {'rho': 0.2, 'beta': 0.5, 'gamma': 0.5}
  ),
  # AUSAM table 8. The learning rate and the decay of ResNet-18, and ESAM's
  # numbers on these images, are not published: our choice, as on CIFAR.
  ('resnet18', 'tiny'): Accelerated(0.05, 1e-3, 0.1, 0.5, _ESAM_RESNET),
  ('resnet50', 'tiny'): Accelerated(0.1, 1e-3, 0.1, 1.0, _ESAM_RESNET),
  ('mobilenet', 'tiny'): Accelerated(0.05, 5e-4, 0.05, 1.0, _ESAM_RESNET),
}

# ARSAM's paper: of the probability of a SAM step, by data set.
ARSAM_ALPHA = {'cifar10': 0.2, 'cifar100': 0.4, 'tiny': 0.8}


def accelerated_numbers(row: settings.Row) -> Accelerated:
  """The numbers of a row's network on its images."""
  return ACCELERATED[row.network, settings.DATA[row.data].stem]


def arsam(row: settings.Row, **changes: Any) -> settings.Method:
  """ARSAM's name and arguments in a row."""
  arguments = {
    'rho': accelerated_numbers(row).rho,  # AUSAM tables 7 and 8
    'alpha': ARSAM_ALPHA[row.data],
    'beta': 0.9,  # ARSAM's paper
    'segment': 50,  # ARSAM's paper
    # Not published: our choice, the first three epochs as in vSAM's code.
    'warmup_steps': 3 * settings.steps_per_epoch(row.data, 128),
    'horizon': 2,  # ARSAM, the remark after theorem 3
  }
  return 'arsam', arguments | changes


def ausam(row: settings.Row, **changes: Any) -> settings.Method:
  """AUSAM's name and arguments in a row."""
  numbers = accelerated_numbers(row)
  arguments = {
    'rho': numbers.rho,  # AUSAM tables 7 and 8
    'keep': 0.5,  # AUSAM's paper; or 0.6
    's_min': 0.1,  # AUSAM tables 7 and 8
    's_max': numbers.s_max,  # AUSAM tables 7 and 8
    'ramp_epochs': 30,  # AUSAM train.py, --trans_epoch
  }
  return 'ausam', arguments | changes


def accelerated_methods(row: settings.Row) -> settings.Methods:
  """The methods of ARSAM's and AUSAM's comparisons."""
  numbers = accelerated_numbers(row)
  rho = numbers.rho
  return {
    'sgd': ('identity', {}),
    'sam': ('sam', {'rho': rho}),
    'sam_5': ('sam_k', {'rho': rho, 'k': 5}),
    # k: both papers; alpha: public ports. The radius is SAM's: our choice.
    'looksam_5': ('looksam', {'rho': rho, 'k': 5, 'alpha': 0.7}),
    'esam': ('esam', numbers.esam),
    # SAF's released code.
    'saf': ('saf', {'lam': 0.3, 'tau': 5.0, 'epochs_ago': 3, 'start_epoch': 5}),
    # Not published here: our choice, and SAM's radius.
    'aesam': (
      'aesam',
      {'rho': rho, 'lambda1': -1.0, 'lambda2': 1.0, 'decay': 0.9},
    ),
    'arsam': arsam(row),
    'ausam': ausam(row),
    'ausam_keep0.6': ausam(row, keep=0.6),
  }


def accelerated(
  row: settings.Row, **others: settings.Method
) -> train_config.Config:
  """ARSAM's and AUSAM's training.

  Args:
    row: what to train.
    **others: methods that are not those of `accelerated_methods`.

  Returns:
    The config.
  """
  numbers = accelerated_numbers(row)
  config = settings.start(
    row, {**accelerated_methods(row), **others}[row.method]
  )
  config.epochs = 200  # ARSAM's and AUSAM's papers
  config.batch_size = 128  # ARSAM's and AUSAM's papers
  settings.sgd(config, numbers.learning_rate, numbers.weight_decay)
  # AUSAM and vSAM train.py.
  config.label_smoothing = 0.1
  config.smoothing_over = 'wrong'
  settings.crop_flip_cutout(config)
  # AUSAM data/cifar.py computes those of CIFAR-10, as leaving them out does.
  if row.data == 'cifar100':
    config.augment.mean = tuple(x / 255 for x in (125.3, 123.0, 113.9))
    config.augment.std = tuple(x / 255 for x in (63.0, 62.1, 66.7))
  elif row.data == 'tiny':
    # vSAM data/tiny_imagenet.py, which enlarges the images to 224 pixels and
    # neither crops nor cuts: here they stay as they are, and are cut as the
    # papers say. The crop is our choice.
    config.augment.mean = (0.4802, 0.4481, 0.3975)
    config.augment.std = (0.2770, 0.2691, 0.2821)
  return config


def add_noise(config: train_config.Config, setting: str) -> None:
  """Label noise: 'noise40' is 40 % of the labels, drawn anew.

  Drawn from all classes, as F-SAM's utils.py does.
  """
  config.data.label_noise = int(setting.removeprefix('noise')) / 100
  config.data.noise_over = 'all'


# R-SAM


def smoothed(
  row: settings.Row, methods: settings.Methods
) -> train_config.Config:
  """R-SAM on CIFAR.

  Args:
    row: what to train.
    methods: the table's.

  Returns:
    The config.
  """
  config = settings.start(row, methods[row.method])
  config.epochs = 200  # R-SAM's paper
  config.batch_size = 128  # R-SAM's paper
  # SGD with momentum: R-SAM's paper. Its numbers are not published: our
  # choice, those of F-SAM's CIFAR runs.
  settings.sgd(config, 0.05, 5e-4 if row.method == 'sgd' else 1e-3)
  # "Basic augmentation": R-SAM's paper.
  config.augment.update(pad=4, fill='zero', flip=True)
  return config


def rsam(rho: Any, **changes: Any) -> settings.Method:
  """R-SAM's name and arguments; gamma and lam are its released code's."""
  gamma = {'follows': 'steps', 'first': 5e-4, 'last': 2.5e-3}
  return 'rsam', {'rho': rho, 'gamma': gamma, 'lam': 2.0} | changes


def vit_from_scratch(
  row: settings.Row, methods: settings.Methods
) -> train_config.Config:
  """R-SAM's ViT on ImageNet: its run.sh and train.py.

  Args:
    row: what to train.
    methods: the table's.

  Returns:
    The config.
  """
  config = settings.start(row, methods[row.method])
  config.batch_size = 4096
  config.steps = 93_834  # 300 epochs
  config.loss = 'sigmoid'
  config.label_smoothing = 1e-4
  config.smoothing_over = 'each'
  config.optimizer.update(
    name='adamw',
    learning_rate=3e-3,
    weight_decay=0.3,
    decayed='all',
    warmup_steps=10_000,
    schedule='linear',
    end=0.01,  # 3e-5
    clip=1.0,
  )
  config.augment.update(flip=True, mean=(0.5,) * 3, std=(0.5,) * 3)
  return config
