"""The runs of AUSAM.

Beside each number stands its source: a section or table of the paper, the
released code (ajiaaa/AUSAM), or "our choice" where neither gives it. The sets
other than CIFAR are not in that code; vSAM (ajiaaa/vSAM) is a program of the
same authors that has Tiny-ImageNet.

The networks are those that the paper names. WRN-28-10 in the released code has
five blocks in a stage instead of four: `--config.model.depth=34` is that
network. The ResNets and the MobileNet for Tiny-ImageNet are vSAM's; whether the
paper trained these is not said.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from configs import dense, published, settings
from train import config as train_config


class Numbers(NamedTuple):
  """The hyperparameters of a network on a kind of images."""

  learning_rate: float
  weight_decay: float
  rho: float
  s_max: float  # the greatest weight in sampling
  esam: Mapping[str, float]


# ESAM's released code.
_ESAM_RESNET = {'rho': 0.05, 'beta': 0.6, 'gamma': 0.5}
_ESAM_WRN = {'rho': 0.1, 'beta': 0.5, 'gamma': 0.5}
_ESAM_PYRAMIDNET = {'rho': 0.2, 'beta': 0.5, 'gamma': 0.5}

_CIFAR = {  # paper: table 7
  'resnet18': Numbers(0.05, 1e-3, 0.1, 0.5, _ESAM_RESNET),
  'wrn28_10': Numbers(0.05, 1e-3, 0.1, 0.5, _ESAM_WRN),
  'pyramidnet110': Numbers(0.1, 5e-4, 0.2, 1.0, _ESAM_PYRAMIDNET),
}
_TINY = {  # paper: table 8
  # Learning rate and weight decay cannot be read: our choice, as on CIFAR.
  'resnet18': Numbers(0.05, 1e-3, 0.1, 0.5, _ESAM_RESNET),
  'resnet50': Numbers(0.1, 1e-3, 0.1, 1.0, _ESAM_RESNET),
  'mobilenet_v1': Numbers(0.05, 5e-4, 0.05, 1.0, _ESAM_RESNET),
}
# paper: table 10, and appendix B.4; ESAM is not in that table.
_QUANTIZED = Numbers(5e-3, 5e-4, 0.05, 0.5, _ESAM_RESNET)
_DENSE = {
  # paper: table 9; ESAM is not in it.
  'simcc_hrnet': Numbers(1e-3, 1e-4, 0.05, 1.0, _ESAM_RESNET),
  # Only ARSAM has these, without numbers. Learning rate and weight decay: their
  # codes, see `configs/dense.py`; the radius: our choice, that of pose.
  'pspnet': Numbers(0.01, 1e-4, 0.05, 1.0, _ESAM_RESNET),
  'deeplabv3plus': Numbers(0.01, 1e-4, 0.05, 1.0, _ESAM_RESNET),
}


def numbers(row: published.Row) -> Numbers:
  """The hyperparameters of a row."""
  if settings.bits(row) is not None:
    return _QUANTIZED
  if row.model in _DENSE:
    return _DENSE[row.model]
  if row.model == 'mobilenet_v1':
    # On CIFAR-10 it is only the start of quantised runs: our choice, as on
    # Tiny-ImageNet.
    return _TINY[row.model]
  table = _TINY if row.dataset == 'tiny_imagenet' else _CIFAR
  return table[row.model]


def batch_size(row: published.Row) -> int:
  """The examples of a step; 128 in section 4.1 of the paper."""
  return dense.BATCH_SIZES.get(row.model, 128)


def config(row: published.Row, **changes: Any) -> train_config.Config:
  """A run of AUSAM's tables.

  Args:
    row: what to train.
    **changes: arguments of its method other than the paper's.

  Returns:
    The config.
  """
  return training(row, {**arguments(row), **changes})


def arguments(row: published.Row) -> dict[str, Any]:
  """The arguments of the method of a row."""
  rho = numbers(row).rho
  # InfoBatch: its released code. A run of ours has the steps of whole epochs,
  # and so more of the pruned ones.
  infobatch = {'share': 0.5, 'delta': 0.875}
  ausam = {
    'rho': rho,
    # paper: section 4.1, or the table. Of pose and of quantised runs not given:
    # our choice, the same, and likewise `s_min`.
    'keep': row.setting.get('keep') or 0.5,
    's_min': 0.1,  # paper: section 4.1
    's_max': numbers(row).s_max,
    'ramp_epochs': 30,  # released code: train.py, --trans_epoch
  }
  return {
    'sgd': {},
    'adam': {},
    'sam': {'rho': rho},
    # k: paper, table 2; alpha: public ports; rho: our choice, that of SAM.
    'looksam': {'rho': rho, 'k': 5, 'alpha': 0.7},
    # The authors ran it by its released code (AUSAM: footnote 1 of table 2).
    'esam': {**numbers(row).esam, 'variant': 'code'},
    # SAF's released code.
    'saf': {'lam': 0.3, 'tau': 5.0, 'epochs_ago': 3, 'start_epoch': 5},
    'ausam': ausam,
    'ausam_1': {**ausam, 'history': 'last'},  # paper: appendix B.1
    # paper: section 4.4
    'sam_random': {'rho': rho, 'keep': row.setting.get('keep', 0.5)},
    'sam_infobatch': {
      'rho': rho,
      'loss': row.setting.get('loss', 'perturbed'),
      **infobatch,
    },
    'sgd_infobatch': infobatch,
  }[settings.named_method(row)]


def training(
  row: published.Row, arguments: Mapping[str, Any]
) -> train_config.Config:
  """All of a run but the arguments of its method, for ARSAM too.

  Args:
    row: what to train.
    arguments: of its method.

  Returns:
    The config.
  """
  config = settings.start(row, arguments)
  settings.quantize(config, row)
  config.batch_size = batch_size(row)
  recipe = dense.RECIPES.get(config.task)
  if recipe is not None:
    recipe(config, row, numbers(row).learning_rate)
    config.optimizer.weight_decay = numbers(row).weight_decay
    return config
  # paper: section 4.1. Of quantised runs not given: our choice, the same.
  config.epochs = 200
  # paper: tables 7 and 8, the same for SGD, and section 4.1 for the cosine;
  # momentum: released code, train.py.
  settings.sgd(config, numbers(row).learning_rate, numbers(row).weight_decay)
  config.label_smoothing = 0.1  # released code: train.py
  config.smoothing_over = 'wrong'  # released code: smooth_cross_entropy.py
  # paper: section 4.1 names cutout; the sizes, crop and flip: released code.
  settings.crop_flip_cutout(config)
  if row.dataset == 'cifar100':
    # released code: data/cifar.py, which has the statistics of CIFAR-10 here.
    config.augment.mean = tuple(x / 255 for x in (125.3, 123.0, 113.9))
    config.augment.std = tuple(x / 255 for x in (63.0, 62.1, 66.7))
  elif row.dataset == 'tiny_imagenet':
    # vSAM: data/tiny_imagenet.py. It enlarges the images to 224 pixels, and
    # does not crop them then; the crop of smaller ones is our choice.
    config.augment.mean = (0.4802, 0.4481, 0.3975)
    config.augment.std = (0.2770, 0.2691, 0.2821)
    if settings.pixels_of(row) > 64:
      config.augment.pad = 0
  # On CIFAR-10 the statistics of the set, as the released data/cifar.py: they
  # are computed where they are left out.
  settings.add_noise(config, row)
  return config
