"""The models that the training program knows by name.

A new model is one file beside this one and one row of ``_MODELS``: a class, or
a function that returns a module, that takes ``image_shape``, ``rngs``, the
outputs of its task, such as ``num_classes``, and its options by keyword.
"""

import functools
import inspect
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
from flax import nnx

from train import checks
from train.models import dense
from train.models import quantize as quantization
from train.models.backbones.hrnet import HRNet as HRNet
from train.models.backbones.mlp import MLP as MLP
from train.models.backbones.mobilenet import MobileNet as MobileNet
from train.models.backbones.pyramidnet import PyramidNet as PyramidNet
from train.models.backbones.resnet import ResNet as ResNet
from train.models.backbones.vgg import VGG as VGG
from train.models.backbones.vit import ViT as ViT
from train.models.backbones.wrn import WideResNet as WideResNet
from train.models.composed import Composed
from train.models.functional import Functional as Functional
from train.models.functional import functional as functional
from train.models.streams import streams
from train.models.weights.saved import load_run as load_run
from train.models.weights.timm import load_timm_vit as load_timm_vit
from train.models.weights.torch import load_torch as load_torch

_MODELS: Mapping[str, Callable[..., nnx.Module]] = {
  'deeplabv3plus': dense.deeplabv3plus,
  'mlp': MLP,
  'mobilenet': MobileNet,
  'pspnet': dense.pspnet,
  'pyramidnet': PyramidNet,
  'resnet': ResNet,
  'simcc_hrnet': dense.simcc_hrnet,
  'vgg': VGG,
  'vit': ViT,
  'wrn': WideResNet,
}

# What tasks ask of a network.
_OUTPUTS = {
  'num_classes': 'classes',
  'joints': 'joints',
  'split': 'bins',
}


def names() -> tuple[str, ...]:
  """Returns the names that :func:`create` knows, sorted."""
  return tuple(sorted(_MODELS))


def create(
  name: str,
  *,
  image_shape: Sequence[int],
  seed: int,
  pretrained: str | None = None,
  quantize: quantization.Settings | None = None,
  **options: Any,
) -> nnx.Module:
  """Builds a model, freshly initialised or with weights trained before.

  Args:
    name: one of :func:`names`.
    image_shape: ``(height, width, channels)`` of one image.
    seed: of the initialisation and of the model's random streams.
    pretrained: folder of a finished run of the program, whose network is this
      one in float; or the path of a ``.safetensors`` file of weights that
      others trained, for a ViT, or for a ResNet or HRNet, also as the backbone
      of another network: see `train/models/weights`; ``None`` for neither.
    quantize: how to quantise its convolutions and dense layers, whose steps are
      then to be started (see `Functional.start`); ``None`` for not at all.
    **options: what the task asks for, ``num_classes`` (at least 1), or
      ``joints`` and ``split``; and the model's own arguments, such as
      ``widths`` or ``dtype``.

  Returns:
    A module that maps float images ``[batch, h, w, c]`` to float32 logits: of
    classification ``[batch, num_classes]``, of segmentation and pose see
    `train/models/heads`.

  Raises:
    ValueError: if the name, an option, the image shape, the folder or the file
      cannot be used.
  """
  build = checks.pick('name', name, _MODELS)
  if len(image_shape) != 3 or min(image_shape) < 1:
    raise ValueError(
      f'Cannot create {name!r} for images of shape {tuple(image_shape)}: a '
      'model needs three positive sizes. Give (height, width, channels), such '
      'as (32, 32, 3).'
    )
  # The metaclass of NNX hides the signature of a class itself.
  declared = build.__init__ if isinstance(build, type) else build
  parameters = set(inspect.signature(declared).parameters)
  _check_outputs(name, options, parameters)
  known = parameters - {'self', 'image_shape', 'rngs', *_OUTPUTS}
  for option in options:
    if option not in parameters - {'self', 'image_shape', 'rngs'}:
      raise ValueError(
        f'Cannot create {name!r} with the option {option!r}: this model does '
        f'not have it. {checks.nearest(option, sorted(known))}'
      )
  graphdef, state = _initialise(
    jax.random.key(seed),
    build,
    tuple(image_shape),
    tuple((option, _hashable(value)) for option, value in options.items()),
    quantize,
  )
  model = nnx.merge(graphdef, state)
  if pretrained is None:
    return model
  is_file = pretrained.endswith('.safetensors') or os.path.isfile(pretrained)
  if not is_file:
    return load_run(model, pretrained, quantization.is_own)
  _load_file(model, name, pretrained)
  return model


# One program draws all the parameters, once for all seeds. It runs too seldom
# to be worth optimising: 1.3 s on a CPU, against 8 s for compiling every
# parameter's draw by itself.
@functools.partial(
  jax.jit,
  static_argnums=(1, 2, 3, 4),
  compiler_options={'xla_backend_optimization_level': 0},
)
def _initialise(
  key: jax.Array,
  build: Callable[..., nnx.Module],
  image_shape: tuple[int, ...],
  options: tuple[tuple[str, Any], ...],
  quantize: quantization.Settings | None,
) -> tuple[Any, Any]:
  model = build(image_shape=image_shape, rngs=streams(key), **dict(options))
  if quantize is not None:
    quantization.wrap(model, image_shape, quantize)
  return nnx.split(model)


def _load_vit(model: nnx.Module, path: str) -> None:
  # A step of a quantiser is in no file.
  params = nnx.state(model, nnx.All(nnx.Param, nnx.Not(quantization.StepSize)))
  weights = load_timm_vit(nnx.to_pure_dict(params), path)
  nnx.replace_by_pure_dict(params, weights)
  nnx.update(model, params)


# How the weights of a file get into a network.
_READERS: Mapping[type, Callable[[Any, str], Any]] = {
  HRNet: load_torch,
  ResNet: load_torch,
  ViT: _load_vit,
}


def _load_file(model: nnx.Module, name: str, path: str) -> None:
  """Gives a network, or its backbone, the weights of a file."""
  backbone = model.backbone if isinstance(model, Composed) else model
  read = _READERS.get(type(backbone))
  if read is None:
    raise ValueError(
      f'Cannot load {path!r} into {name!r}: the names of its layers in files '
      'of others are not known. Give the folder of a run of this program, or '
      f'use a model with one of {", ".join(x.__name__ for x in _READERS)}.'
    )
  read(backbone, path)


def _check_outputs(
  name: str, options: Mapping[str, Any], parameters: Iterable[str]
) -> None:
  """Refuses a model of another task."""
  given = [output for output in _OUTPUTS if output in options]
  needed = [output for output in _OUTPUTS if output in parameters]
  if given != needed:
    asked, has = (
      ' and '.join(_OUTPUTS[output] for output in outputs) or 'nothing'
      for outputs in (given, needed)
    )
    raise ValueError(
      f'Cannot create {name!r} where the task asks for {asked}: this model '
      f'gives {has}. Choose a model of the task, or the task of the model, and '
      f'give {" and ".join(needed)}.'
    )


def _hashable(value: Any) -> Any:
  return tuple(value) if isinstance(value, list) else value
