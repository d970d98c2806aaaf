"""Layers that compute with quantised weights and inputs.

A layer keeps its class and the paths of its parameters; the quantiser takes the
place of the layer's ``promote_dtype``, which Flax calls with the input and the
kernel before each use. Its two steps are the parameters
``promote_dtype/weight_step`` and ``promote_dtype/input_step`` of the layer.
"""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from flax import nnx

from train.models.quantize.lsq import (
  Codes,
  codes,
  encode,
  gradient_scale,
  lsq,
)
from train.models.quantize.settings import Settings

_LAYERS = (nnx.Conv, nnx.Linear, nnx.LinearGeneral)

# Of a layer: the names and numbers that lead to it.
Path: TypeAlias = tuple[Any, ...]


class StepSize(nnx.Param[jax.Array]):
  """The step of a quantiser."""


class Signed(nnx.Variable[jax.Array]):
  """Whether a quantiser's inputs may be negative: int32, 0 or 1."""


class Quantiser(nnx.Module):
  """Quantises the input and the kernel of one layer.

  Its steps are 1 and its input is taken to be positive until it is started, see
  `train.models.quantize.with_steps`. Whether the input is negative somewhere is
  an array and not a part of the program, so that runs on different first
  batches share what is compiled.

  Args:
    weights: bits of the kernel.
    activations: bits of the input.
    count_batch: see `Settings`.
    promote: the layer's own ``promote_dtype``, called after.
  """

  def __init__(
    self,
    weights: int,
    activations: int,
    count_batch: bool,
    promote: Callable[..., Any],
  ):
    self.weight_step = StepSize(jnp.ones((), jnp.float32))
    self.input_step = StepSize(jnp.ones((), jnp.float32))
    self.signed = Signed(jnp.zeros((), jnp.int32))
    self.weight_codes = codes(weights, signed=True)
    self.activations = activations
    self.count_batch = count_batch
    self.promote = promote

  @property
  def input_codes(self) -> Codes:
    """The codes of the input, as float32 scalars."""
    both = (codes(self.activations, signed=signed) for signed in (True, False))
    choose = functools.partial(jnp.where, self.signed[...] > 0)
    return Codes(
      *(choose(*map(jnp.float32, pair)) for pair in zip(*both, strict=True))
    )

  def __call__(self, arrays: Sequence[Any], *, dtype: Any) -> Any:
    """Maps ``(inputs, kernel, bias)`` to what the layer computes with."""
    inputs, kernel, *others = arrays
    count = inputs.size if self.count_batch else inputs[0].size
    input_codes = self.input_codes
    inputs = lsq(
      inputs,
      self.input_step[...],
      **input_codes._asdict(),
      scale=gradient_scale(count, input_codes.high),
    )
    kernel = lsq(
      kernel,
      self.weight_step[...],
      **self.weight_codes._asdict(),
      scale=gradient_scale(kernel.size, self.weight_codes.high),
    )
    return self.promote((inputs, kernel, *others), dtype=dtype)


def wrap(
  model: nnx.Module, image_shape: Sequence[int], settings: Settings
) -> nnx.Module:
  """Gives every convolution and dense layer of a model a quantiser, in place.

  Args:
    model: any model of the program. BatchNorm, biases, sums and pools stay in
      float.
    image_shape: height, width and channels.
    settings: how to quantise.

  Returns:
    The model itself.

  Raises:
    ValueError: if the model has no such layer or is quantised already.
  """
  layers = dict(_layers(model))
  if not layers:
    raise ValueError(
      f'Cannot quantise a {type(model).__name__}: it has no convolution and no '
      'dense layer. Give a model that has one.'
    )
  if quantisers(model):
    raise ValueError(
      f'Cannot quantise this {type(model).__name__}: it is quantised already, '
      'and a layer has one quantiser. Build the float model again.'
    )
  order = _order_of_use(model, image_shape)
  bits = dict.fromkeys(order, (settings.weights, settings.activations))
  for path in (order[0], *_last(model, layers, order)):
    bits[path] = (settings.ends, settings.ends)
  for path in order:
    layer = layers[path]
    quantiser = Quantiser(
      *bits[path], settings.count_batch, layer.promote_dtype
    )
    # It has arrays, and what was there before had none.
    layer.promote_dtype = nnx.data(quantiser)
  return model


def quantisers(model: nnx.Module) -> dict[Path, Quantiser]:
  """The quantisers of a model by the path of their layer; empty in float."""
  return {
    path: layer.promote_dtype
    for path, layer in _layers(model)
    if isinstance(layer.promote_dtype, Quantiser)
  }


def is_own(name: str) -> bool:
  """Whether the flat name of an array is one of a quantiser."""
  return '.promote_dtype.' in name


def in_training(model: nnx.Module) -> Any:
  """A view that normalises by the batch and drops nothing."""
  return nnx.view(
    model,
    use_running_average=False,
    deterministic=True,
    raise_if_not_found=False,
  )


def use(
  model: Any, images: Any, before: Callable[[Path, Any, Any], None]
) -> None:
  """Calls a model, and a function before the use of each layer.

  Args:
    model: any model; it is of no use afterwards.
    images: as the model takes them.
    before: is given the layer's path, its ``promote_dtype`` and the arrays that
      this is called with.
  """

  def watched(path, promote, arrays, *, dtype):
    before(path, promote, arrays)
    return promote(arrays, dtype=dtype)

  for path, layer in dict(_layers(model)).items():
    promote = layer.promote_dtype
    # Past the module's own setter, for which a module is data.
    vars(layer)['promote_dtype'] = functools.partial(watched, path, promote)
  model(images)


def flipped(
  params: Any, others: Any, codes_of: Mapping[Path, Codes]
) -> jax.Array:
  """The share of the weights whose code is another one in other parameters.

  It says how much of a perturbation the quantised network sees: a weight that
  stays between the same two borders of rounding has not moved.

  Args:
    params: parameters of a quantised model, a nested dict.
    others: likewise, such as at the perturbed point.
    codes_of: the codes of each layer's kernel by the layer's path:
      ``{path: q.weight_codes for path, q in quantisers(model).items()}``.

  Returns:
    A float32 scalar in [0, 1].
  """
  changed, total = jnp.zeros((), jnp.float32), 0
  for path, kernel_codes in codes_of.items():
    before, after = (
      _encoded(at(tree, path), kernel_codes) for tree in (params, others)
    )
    changed += jnp.sum(before != after, dtype=jnp.float32)
    total += before.size
  return changed / total


def at(tree: Any, path: Path) -> Any:
  """The subtree at a path."""
  for name in path:
    tree = tree[name]
  return tree


def _encoded(layer: Any, kernel_codes: Codes) -> jax.Array:
  step = layer['promote_dtype']['weight_step']
  return encode(layer['kernel'], step, *kernel_codes)


def _layers(model: nnx.Module) -> Iterator[tuple[Path, Any]]:
  for path, module in nnx.iter_modules(model):
    if isinstance(module, _LAYERS):
      yield path, module


def _last(
  model: Any, layers: Mapping[Path, Any], order: Sequence[Path]
) -> Sequence[Path]:
  """The paths of the layers that give a model's outputs.

  A model of several outputs names them itself, since the last one in the order
  of use is only one of them, or gives an output that helps in training alone.
  """
  if not hasattr(model, 'last_layers'):
    return order[-1:]
  last = {id(layer) for layer in model.last_layers()}
  return [path for path in order if id(layers[path]) in last]


def _order_of_use(model: nnx.Module, image_shape: Sequence[int]) -> list[Path]:
  """The paths of the layers that a model uses, in the order of their use."""
  order = {}
  graphdef, state = nnx.split(in_training(model))

  def trace(state, images):
    use(
      nnx.merge(graphdef, state),
      images,
      lambda path, promote, arrays: order.setdefault(path),
    )

  images = jax.ShapeDtypeStruct((2, *image_shape), jnp.float32)
  jax.eval_shape(trace, nnx.to_pure_dict(state), images)
  return list(order)
