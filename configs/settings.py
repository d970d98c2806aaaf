"""What the tables of the papers share: data sets, networks, rows.

A row's name is NETWORK-DATA-METHOD, such as `resnet18-cifar10-sam`, or with a
setting, `resnet18-cifar10-noise40-sam`.
"""

import itertools
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, TypeAlias

from train import config as train_config


class Data(NamedTuple):
  """A data set as the tables use it."""

  name: str  # as `train/data/memory.py` takes it
  num_examples: int  # of the training split
  num_classes: int
  pixels: int  # a side of what the network sees
  stem: str = 'imagenet'  # of a ResNet, see `train/models/resnet.py`
  large: bool = True  # photographs of many sizes, read from disk


# The sizes are those that the sets' authors publish.
DATA = {
  'cifar10': Data('cifar10', 50_000, 10, 32, 'cifar', large=False),
  'cifar100': Data('cifar100', 50_000, 100, 32, 'cifar', large=False),
  # The folder that the published archive unpacks to. 64 pixels fit in memory.
  'tiny': Data('tiny-imagenet-200', 100_000, 200, 64, 'tiny', large=False),
  'imagenet': Data('imagenet2012', 1_281_167, 1000, 224),
  # As a network pretrained on ImageNet sees them.
  'cifar10_224': Data('cifar10', 50_000, 10, 224),
  'cifar100_224': Data('cifar100', 50_000, 100, 224),
  'dogs': Data('stanford_dogs', 12_000, 120, 224),
  'cars': Data('cars196', 8144, 196, 224),
  'pets': Data('oxford_iiit_pet', 3680, 37, 224),
  'flowers': Data('oxford_flowers102', 1020, 102, 224),
}

_WIDTHS = (64, 128, 256, 512)
NETWORKS: Mapping[str, Mapping[str, Any]] = {
  'resnet18': {'name': 'resnet', 'widths': _WIDTHS, 'blocks': (2, 2, 2, 2)},
  'resnet50': {
    'name': 'resnet',
    'widths': _WIDTHS,
    'blocks': (3, 4, 6, 3),
    'block': 'bottleneck',
  },
  'wrn28_10': {'name': 'wrn', 'depth': 28, 'width': 10},
  'pyramidnet110': {'name': 'pyramidnet', 'depth': 110, 'alpha': 270},
  'vgg16bn': {'name': 'vgg'},
  'mobilenet': {'name': 'mobilenet'},
  # R-SAM's released code: the tanh layer before the head, dropout, head bias.
  'vit_b16': {
    'name': 'vit',
    'patch': 16,
    'width': 768,
    'heads': 12,
    'representation': 768,
    'dropout': 0.1,
    'head_bias': -10.0,
  },
  # The weights that F-SAM's released code starts from, in timm's format.
  'deit_s': {
    'name': 'vit',
    'patch': 16,
    'width': 384,
    'heads': 6,
    'pretrained': 'deit_small_patch16_224.safetensors',
  },
}


# A method's name and its arguments; and those of a table by row.
Method: TypeAlias = tuple[str, dict[str, Any]]
Methods: TypeAlias = Mapping[str, Method]


class Row(NamedTuple):
  """What a row's name says."""

  network: str  # of NETWORKS
  data: str  # of DATA
  method: str  # of the table's own methods, as is the setting
  setting: str = ''


def grid(
  networks: Iterable[str],
  sets: Iterable[str],
  methods: Iterable[str],
  settings: Iterable[str] = ('',),
) -> dict[str, Row]:
  """The rows of a table by name, in the order in which they are printed."""
  rows = [
    Row(network, data, method, setting)
    for network, data, setting, method in itertools.product(
      networks, sets, settings, methods
    )
  ]
  names = [
    (row.network, row.data, *filter(None, [row.setting]), row.method)
    for row in rows
  ]
  return {'-'.join(name): row for name, row in zip(names, rows, strict=True)}


def start(row: Row, method: Method) -> train_config.Config:
  """A config whose data set, network and method are set, and nothing else."""
  config = train_config.default()
  options = dict(NETWORKS[row.network])
  images = DATA[row.data]
  if options['name'] == 'resnet':
    options['stem'] = images.stem
  elif options['name'] == 'mobilenet' and images.stem == 'tiny':
    # As the ResNets' stem: features as large as CIFAR's. Our choice.
    options['stem_stride'] = 2
  config.model = options
  config.data.name = images.name
  if images.large:
    config.data.update(size=images.pixels, crop='inception')
  name, arguments = method
  config.method = train_config.method(name, **arguments)
  return config


def sgd(
  config: train_config.Config, learning_rate: float, weight_decay: float
) -> None:
  """Momentum 0.9 and a cosine per step to 0, as all of the papers have."""
  config.optimizer.update(
    name='sgd',
    learning_rate=learning_rate,
    weight_decay=weight_decay,
    momentum=0.9,
    nesterov=False,
    schedule='cosine',
  )


def crop_flip_cutout(config: train_config.Config) -> None:
  """What the released CIFAR programs of F-SAM, AUSAM and vSAM share."""
  config.augment.update(
    pad=4, fill='zero', flip=True, cutout=16, cutout_probability=0.5
  )


def steps_per_epoch(data: str, batch_size: int) -> int:
  """Whole batches of an epoch."""
  return DATA[data].num_examples // batch_size
