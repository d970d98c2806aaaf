"""What the tables of the papers share: data sets, networks and rows to train.

The names of networks, data sets and methods are those of the published rows,
see `configs/published/README.md`.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from configs import published
from train import config as train_config
from train.models.quantize import section


class Data(NamedTuple):
  """A data set as the tables use it."""

  name: str  # as `train/data/memory.py` takes it
  num_examples: int  # of the training split
  num_classes: int
  pixels: int  # a side of what the network sees
  stem: str = 'imagenet'  # of a ResNet, see its class in `train/models`
  large: bool = True  # photographs of many sizes, read from disk
  task: str = 'classification'


# The sizes are those that the authors of the sets publish.
DATA = {
  'cifar10': Data('cifar10', 50_000, 10, 32, 'cifar', large=False),
  'cifar100': Data('cifar100', 50_000, 100, 32, 'cifar', large=False),
  # The folder that the published archive unpacks to; the stem is that of
  # model/resnet_tinyimagenet.py in vSAM.
  'tiny_imagenet': Data(
    'tiny-imagenet-200', 100_000, 200, 64, 'cifar', large=False
  ),
  'imagenet': Data('imagenet2012', 1_281_167, 1000, 224),
  'stanford_cars': Data('cars196', 8144, 196, 224),
  'oxford_iiit_pet': Data('oxford_iiit_pet', 3680, 37, 224),
  'flowers102': Data('oxford_flowers102', 1020, 102, 224),
  # The folders of VOC 2012 and of MPII as the codes for these tasks have them.
  'voc2012': Data(
    'VOCdevkit/VOC2012', 10_582, 21, 513, large=False, task='segmentation'
  ),
  'mpii': Data('mpii', 22_246, 16, 256, large=False, task='pose'),
}

# Further test sets of networks that are trained on ImageNet.
TEST_SETS = {
  name: 'imagenet'
  for name in ('imagenet_real', 'imagenet_v2', 'imagenet_r', 'imagenet_c')
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
  # Kernels and head start as in the released codes of F-SAM, AUSAM and vSAM.
  'wrn28_10': {
    'name': 'wrn',
    'depth': 28,
    'width': 10,
    'kernel_init': 'he_fan_in',
    'zero_head': True,
  },
  # AUSAM's released code; not given in the papers.
  'pyramidnet110': {'name': 'pyramidnet', 'depth': 110, 'alpha': 270},
  # Kernels are drawn as in F-SAM's released code.
  'vgg16_bn': {'name': 'vgg', 'kernel_init': 'he_fan_out'},
  'mobilenet_v1': {'name': 'mobilenet'},
  # R-SAM's released code: the tanh layer before the head, dropout, head bias.
  # It has no ViT-S/16; ours differs in the size of a token only.
  'vit_b16': {
    'name': 'vit',
    'patch': 16,
    'width': 768,
    'heads': 12,
    'representation': 768,
    'dropout': 0.1,
    'head_bias': -10.0,
  },
  'vit_s16': {
    'name': 'vit',
    'patch': 16,
    'width': 384,
    'heads': 6,
    'representation': 384,
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
  # Not given: our choice. Of semseg's networks the one with ResNet-101 is
  # nearest to ARSAM's 78.89 (79.07 on the validation images), and of
  # DeepLabV3Plus-Pytorch's the one with ResNet-50 to its 77.12 (77.2). Both
  # codes start from these weights of ImageNet, as safetensors here, and draw
  # the heads as `kernel_init` says.
  'pspnet': {
    'name': 'pspnet',
    'blocks': (3, 4, 23, 3),
    'stem': 'deep',
    'output_stride': 8,
    'auxiliary_width': 256,
    'kernel_init': 'torch',
    'pretrained': 'resnet101_v2.safetensors',
  },
  'deeplabv3plus': {
    'name': 'deeplabv3plus',
    'blocks': (3, 4, 6, 3),
    'stem': 'imagenet',
    'output_stride': 16,
    'rates': (6, 12, 18),
    'convolutions': 1,
    'kernel_init': 'he_fan_in',
    'pretrained': 'resnet50.safetensors',
  },
  # The width is not given: our choice, the smaller one of SimCC's code.
  'simcc_hrnet': {
    'name': 'simcc_hrnet',
    'width': 32,
    'pretrained': 'hrnet_w32.safetensors',
  },
}

# Networks that see images of other sizes than those of the set, and of which
# sets; None for all of them.
_PIXELS = {
  'deit_s': (224, None),
  'mobilenet_v1': (224, 'tiny_imagenet'),
  'pspnet': (473, None),  # semseg: crops
}

# Methods that are called otherwise in sam_optax. The optimizers are themselves
# base optimizers, and their method never perturbs.
METHODS = {
  'sgd': 'identity',
  'sgd_momentum': 'identity',
  'rmsprop': 'identity',
  'adamw': 'identity',
  'adam': 'identity',
  'arsam_a': 'arsam',
  'ausam_1': 'ausam',
  'sgd_infobatch': 'infobatch',
}

# Tables of quantised networks: the bits of weights and of activations.
QUANTIZED = {
  ('arsam', '8'): (4, 4),  # paper: section 4.8
  ('ausam', '6'): (2, 4),  # paper: appendix B.4
  ('ausam', '10'): (2, 4),  # paper: appendix D, of the runs of table 6
}


def bits(row: published.Row) -> tuple[int, int] | None:
  """The bits of a row's weights and activations, None for a float network."""
  if row.setting.get('precision') == 'full':
    return None
  return QUANTIZED.get((row.paper, row.table))


def missing(row: published.Row) -> str | None:
  """Why a row is not trained here, None where it is."""
  if row.quoted_from:
    return f'quoted from another paper: {row.quoted_from}'
  return None


def trained(table: Mapping[str, published.Row]) -> dict[str, published.Row]:
  """The rows of a table that can be trained, each run once."""
  return {
    name: row
    for name, row in table.items()
    if missing(row) is None and row.dataset not in TEST_SETS
  }


def method_of(row: published.Row) -> str:
  """The name of the method of a row in sam_optax."""
  method = named_method(row)
  return METHODS.get(method, method)


def named_method(row: published.Row) -> str:
  """The method of a row as the paper names it.

  The float network beside quantised ones has none: SGD is our choice.
  """
  return row.method or ('sgd' if row.setting.get('precision') else 'unnamed')


def data_of(row: published.Row) -> Data:
  """The training set of a row; of the two that may share a row, the first."""
  return DATA[row.dataset.partition('+')[0]]


def pixels_of(row: published.Row) -> int:
  """The side of the images that the network of a row sees."""
  pixels, only = _PIXELS.get(row.model, (None, None))
  if pixels is None or only not in (None, row.dataset):
    pixels = data_of(row).pixels
  return row.setting.get('resolution') or pixels


def start(
  row: published.Row, arguments: Mapping[str, Any]
) -> train_config.Config:
  """A config whose data set, network, method and arithmetic are set.

  Arrays are float32 and on one device, whatever there is. Products have JAX's
  default precision for such arrays, TF32 on recent NVIDIA GPUs and bfloat16 on
  TPUs. The released programs of F-SAM (train.py; its `--half` is off), of AUSAM
  and of vSAM set no mixed precision and use one GPU; the texts of ARSAM and
  AUSAM name one RTX 3090, and no precision. For ARSAM's precision, and for the
  runs of F-SAM that are not in its code, this is our choice; of R-SAM see
  `configs/rsam.py`.

  Args:
    row: what to train.
    arguments: of its method, where they differ from the defaults.

  Returns:
    The config.
  """
  config = train_config.default()
  config.dtype = 'float32'
  config.mesh = (1,)
  options = dict(NETWORKS[row.model])
  images = data_of(row)
  if options['name'] == 'resnet':
    # The released codes of F-SAM, AUSAM and vSAM let PyTorch draw the kernels
    # of their ResNets. For ImageNet, F-SAM's takes torchvision's network.
    draw = 'torch' if images.stem == 'cifar' else 'he_fan_out'
    options.update(stem=images.stem, kernel_init=draw)
  pixels = pixels_of(row)
  if options['name'] == 'mobilenet' and pixels > 64:
    # vSAM: model/mobilenetv1.py. On CIFAR: our choice, the network of
    # kuangliu/pytorch-cifar.
    options.update(stem_stride=2, activation='relu6', last_stride=2)
  config.task = images.task
  config.model = options
  config.data.name = images.name
  if images.large:
    config.data.update(size=pixels, crop='inception')
  # Masks are moved with their images and never resized: the crop says it.
  elif pixels != images.pixels and images.task != 'segmentation':
    config.data.size = pixels
  config.method = train_config.method(method_of(row), **arguments)
  return config


def quantize(config: train_config.Config, row: published.Row) -> None:
  """Quantises the network of a row, from a float run of the same network.

  The float network is the row without a method; where its run lies is said by
  `--config.model.pretrained=FOLDER`.
  """
  both = bits(row)
  if both is not None:
    # Not given in the papers: the ends, and what holds of the steps. Those of
    # LSQ and of the released SAM classes, see `train/models/quantize`.
    config.model.quantize = section(*both)
    config.model.pretrained = f'runs/{row.model}-{row.dataset}'


def sgd(
  config: train_config.Config,
  learning_rate: float,
  weight_decay: float,
  momentum: float = 0.9,
) -> None:
  """SGD with a cosine per step to 0, as all of the papers have."""
  config.optimizer.update(
    name='sgd',
    learning_rate=learning_rate,
    weight_decay=weight_decay,
    momentum=momentum,
    nesterov=False,
    schedule='cosine',
  )


def crop_flip_cutout(config: train_config.Config) -> None:
  """Augmentation of the released CIFAR programs of F-SAM, AUSAM and vSAM."""
  config.augment.update(
    pad=4, fill='zero', flip=True, cutout=16, cutout_probability=0.5
  )


def add_noise(config: train_config.Config, row: published.Row) -> None:
  """Sets the label noise of a row that has any.

  Both papers (F-SAM: section 6.3.1, table 6; ARSAM: section 4.5, table 5) have
  symmetric noise, with the printed percentage of the labels flipped at random.
  Neither text says how many that are exactly, nor whether a new label may be
  the true one.
  """
  percent = row.setting.get('noise_percent')
  if percent is not None:
    config.data.update(
      label_noise=percent / 100,  # paper: the table
      # F-SAM: released code, utils.py: exactly so many examples, each with a
      # label of all classes. They follow the seed of a run there, and
      # data.noise_seed here. ARSAM: our choice, the same.
      noise_over='all',
      noise_count='exact',
    )


def steps_per_epoch(row: published.Row, batch_size: int) -> int:
  """Whole batches of an epoch.

  The released programs train on what is left as a smaller batch too: 391 steps
  of an epoch of CIFAR, where ours has 390.
  """
  return data_of(row).num_examples // batch_size
