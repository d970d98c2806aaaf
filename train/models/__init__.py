"""The models that the training program knows by name.

A new model is one file beside this one and one row of ``_MODELS``: a class, or
a function that returns a module, that takes ``num_classes``, ``image_shape``
and ``rngs``, and its options by keyword.
"""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from flax import nnx

from train import checks
from train.models.backbones.mlp import MLP as MLP
from train.models.backbones.mobilenet import MobileNet as MobileNet
from train.models.backbones.pyramidnet import PyramidNet as PyramidNet
from train.models.backbones.resnet import ResNet as ResNet
from train.models.backbones.vgg import VGG as VGG
from train.models.backbones.vit import ViT as ViT
from train.models.backbones.wrn import WideResNet as WideResNet
from train.models.functional import Functional as Functional
from train.models.functional import functional as functional
from train.models.weights.timm import load_timm_vit as load_timm_vit

_MODELS: Mapping[str, Callable[..., nnx.Module]] = {
  'mlp': MLP,
  'mobilenet': MobileNet,
  'pyramidnet': PyramidNet,
  'resnet': ResNet,
  'vgg': VGG,
  'vit': ViT,
  'wrn': WideResNet,
}


def names() -> tuple[str, ...]:
  """Returns the names that :func:`create` knows, sorted."""
  return tuple(sorted(_MODELS))


def create(
  name: str,
  *,
  num_classes: int,
  image_shape: Sequence[int],
  seed: int,
  pretrained: str | None = None,
  **options: Any,
) -> nnx.Module:
  """Builds a model, freshly initialised or with the weights of a file.

  Args:
    name: one of :func:`names`.
    num_classes: number of logits, at least 1.
    image_shape: ``(height, width, channels)`` of one image.
    seed: of the initialisation and of the model's random streams.
    pretrained: path of a file of weights for :func:`load_timm_vit` (``None``:
      no file).
    **options: the model's own arguments, such as ``widths`` or ``dtype``.

  Returns:
    A module that maps float images ``[batch, h, w, c]`` to float32 logits
    ``[batch, num_classes]``.

  Raises:
    ValueError: if the name, an option, the image shape or the file cannot be
      used.
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
  known = set(inspect.signature(declared).parameters)
  known -= {'self', 'num_classes', 'image_shape', 'rngs'}
  for option in options:
    if option not in known:
      raise ValueError(
        f'Cannot create {name!r} with the option {option!r}: this model does '
        f'not have it. {checks.nearest(option, sorted(known))}'
      )
  graphdef, state = _initialise(
    jax.random.key(seed),
    build,
    num_classes,
    tuple(image_shape),
    tuple((option, _hashable(value)) for option, value in options.items()),
  )
  model = nnx.merge(graphdef, state)
  if pretrained is not None:
    params = nnx.state(model, nnx.Param)
    weights = load_timm_vit(nnx.to_pure_dict(params), pretrained)
    nnx.replace_by_pure_dict(params, weights)
    nnx.update(model, params)
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
  num_classes: int,
  image_shape: tuple[int, ...],
  options: tuple[tuple[str, Any], ...],
) -> tuple[Any, Any]:
  return nnx.split(
    build(
      num_classes=num_classes,
      image_shape=image_shape,
      rngs=nnx.Rngs(key),
      **dict(options),
    )
  )


def _hashable(value: Any) -> Any:
  return tuple(value) if isinstance(value, list) else value
