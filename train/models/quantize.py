"""Quantisation with learned step sizes (LSQ), for any of the models.

A quantised layer computes with weights and inputs that take only ``2 ** bits``
values each. The parameters stay in float, and gradients pass the rounding as
if it were not there. The step between two values is a parameter too.

A layer keeps its class and the paths of its parameters; the quantiser takes the
place of the layer's ``promote_dtype``, which Flax calls with the input and the
kernel before each use. Its two steps are the parameters
``promote_dtype/weight_step`` and ``promote_dtype/input_step`` of the layer.
"""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from flax import nnx

# A step below this is this one: with a step of zero nothing is left to learn.
_SMALLEST_STEP = 1e-8
_LAYERS = (nnx.Conv, nnx.Linear, nnx.LinearGeneral)

# Of a layer: the names and numbers that lead to it.
Path: TypeAlias = tuple[Any, ...]


class Codes(NamedTuple):
  """The least and the greatest integer that a value is rounded to."""

  low: int
  high: int


def codes(bits: int, signed: bool) -> Codes:
  """The integers of a quantiser.

  Args:
    bits: 2 to 16 if signed, else 1 to 16.
    signed: ``-2 ** (bits - 1)`` to ``2 ** (bits - 1) - 1``, as for weights; or
      0 to ``2 ** bits - 1``, as for what ReLU gives.

  Returns:
    The least and the greatest one.

  Raises:
    ValueError: if the bits are out of range.
  """
  least = 2 if signed else 1
  if not least <= bits <= 16:
    kind = 'signed' if signed else 'unsigned'
    raise ValueError(
      f'Cannot quantise to {bits} bits: {kind} codes need at least {least}, '
      'and float32 holds no more than 16 exactly enough. Give a number of bits '
      f'from {least} to 16, such as 4.'
    )
  if signed:
    return Codes(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
  return Codes(0, 2**bits - 1)


def gradient_scale(count: int, high: int) -> float:
  """The factor ``1 / sqrt(count * high)`` on the gradient of a step.

  With it a step changes, relative to its size, about as much as the tensor
  that it quantises.

  Args:
    count: number of weights for the step of weights; for the step of inputs
      the number of features of one example, or with the batch's.
    high: the greatest code.

  Returns:
    The factor.
  """
  return (count * high) ** -0.5


def initial_step(v: jax.Array, high: int | jax.Array) -> jax.Array:
  """The step to start from, ``2 mean(|v|) / sqrt(high)``.

  Args:
    v: the weights, or the inputs of a first batch.
    high: the greatest code.

  Returns:
    A scalar of ``v``'s dtype, above 0.
  """
  step = 2 * jnp.mean(jnp.abs(v)) / jnp.sqrt(jnp.asarray(high, v.dtype))
  return jnp.maximum(step, _SMALLEST_STEP)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _lsq(
  v: jax.Array, s: jax.Array, low: int, high: int, scale: float
) -> jax.Array:
  del scale
  step = _positive(s)
  return jnp.round(jnp.clip(v / step, low, high)) * step


def _forward(v, s, low, high, scale):
  return _lsq(v, s, low, high, scale), (v, s)


def _backward(low, high, scale, saved, upstream):
  v, s = saved
  relative = v / _positive(s)
  # Written out: the gradient of jnp.clip at a tie is one half, and ties are
  # common, such as every zero that ReLU gives.
  inside = (low < relative) & (relative < high)
  by_step = jnp.where(
    inside,
    jnp.round(relative) - relative,
    jnp.where(relative <= low, float(low), float(high)),
  )
  total = jnp.sum(upstream * by_step)
  # Of max(|s|, smallest), which a perturbation may have made of s.
  total = jnp.where(s < 0, -total, total)
  return jnp.where(inside, upstream, 0.0), scale * total


_lsq.defvjp(_forward, _backward)


def lsq(
  v: jax.Array, s: jax.Array, *, low: int, high: int, scale: float
) -> jax.Array:
  r"""Quantises values to multiples of a learned step.

  .. math::
    \hat v = s \, \mathrm{round}(\mathrm{clip}(v / s, low, high))

  Halves round to even. The gradient of ``v`` is the upstream one where
  ``low < v / s < high`` and 0 elsewhere. The gradient of ``s`` is the upstream
  one times ``round(v / s) - v / s`` there, times ``low`` below and ``high``
  above, summed, and multiplied by ``scale``.

  The step is used as ``max(|s|, 1e-8)``, so that it is positive wherever an
  optimizer or a perturbation moves it; the gradient of a negative ``s`` is that
  of its absolute value.

  Args:
    v: float, any shape.
    s: the step, a float scalar, in whose dtype the codes are computed: float32
      or more.
    low: least code, 0 or below.
    high: greatest code, 1 or above.
    scale: factor on the gradient of ``s``, see :func:`gradient_scale`.

  Returns:
    The quantised values, of ``v``'s shape and dtype.

  References:
    Esser et al., `Learned Step Size Quantization
    <https://arxiv.org/abs/1902.08153>`_, 2020
  """
  if jnp.ndim(s):
    raise ValueError(
      f'Cannot quantise with steps of shape {jnp.shape(s)}: a tensor has one '
      'step. Give a scalar.'
    )
  # In bfloat16 the codes of 8 bits are no longer apart.
  quantised: Any = _lsq(v.astype(s.dtype), s, low, high, scale)
  return quantised.astype(v.dtype)


def _positive(s: jax.Array) -> jax.Array:
  return jnp.maximum(jnp.abs(s), _SMALLEST_STEP)


class Quantiser(nnx.Module):
  """Quantises the input and the kernel of one layer.

  Args:
    weight_step: first step of the kernel, a float32 scalar.
    input_step: likewise of the input.
    weight_codes: codes of the kernel.
    input_codes: codes of the input.
    count_batch: whether the number of features that scales the gradient of the
      input's step counts the whole batch, as in most ports, or one example.
      With the batch, the factor changes where a method computes a gradient of
      half a batch, and with the number of devices.
    promote: the layer's own ``promote_dtype``, called after.
  """

  def __init__(
    self,
    weight_step: jax.Array,
    input_step: jax.Array,
    weight_codes: Codes,
    input_codes: Codes,
    count_batch: bool,
    promote: Callable[..., Any],
  ):
    self.weight_step = nnx.Param(weight_step)
    self.input_step = nnx.Param(input_step)
    self.weight_codes = weight_codes
    self.input_codes = input_codes
    self.count_batch = count_batch
    self.promote = promote

  def __call__(self, arrays: Sequence[Any], *, dtype: Any) -> Any:
    """Maps ``(inputs, kernel, bias)`` to what the layer computes with."""
    inputs, kernel, *others = arrays
    count = inputs.size if self.count_batch else inputs[0].size
    inputs = lsq(
      inputs,
      self.input_step[...],
      **self.input_codes._asdict(),
      scale=gradient_scale(count, self.input_codes.high),
    )
    kernel = lsq(
      kernel,
      self.weight_step[...],
      **self.weight_codes._asdict(),
      scale=gradient_scale(kernel.size, self.weight_codes.high),
    )
    return self.promote((inputs, kernel, *others), dtype=dtype)


def quantize(
  model: nnx.Module,
  images: jax.Array,
  *,
  weights: int,
  activations: int,
  ends: int = 8,
  count_batch: bool = False,
) -> nnx.Module:
  """Quantises every convolution and dense layer of a model, in place.

  One pass over a batch sets the steps, layer by layer: each layer sees what
  the quantised layers before it give. BatchNorm normalises by the batch in this
  pass, and its running statistics stay as they are. The weights stay as they
  are, so load those of a float network before.

  An input that is negative anywhere in that batch gets signed codes, as after
  the images' normalisation or after BatchNorm without ReLU; any other gets
  unsigned ones.

  Args:
    model: any model of the program. BatchNorm, biases, sums and pools stay in
      float.
    images: float ``[batch, h, w, c]``, a first batch as the model takes it.
    weights: bits of the kernels.
    activations: bits of the layers' inputs.
    ends: bits of either in the first and in the last layer that is used.
    count_batch: see :class:`Quantiser`.

  Returns:
    The model itself.

  Raises:
    ValueError: if the model has no such layer or is quantised already, or the
      bits cannot be used.
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
  starts = _Starts(model, {})
  jax.eval_shape(starts, starts.arrays, images)
  bits = dict.fromkeys(starts.order, (weights, activations))
  bits[starts.order[0]] = bits[starts.order[-1]] = (ends, ends)
  starts = _Starts(model, bits)
  first = jax.jit(starts)(starts.arrays, images)
  for path, start in zip(starts.order, first, strict=True):
    weight_bits, input_bits = bits[path]
    layer = layers[path]
    quantiser = Quantiser(
      start.weight_step,
      start.input_step,
      codes(weight_bits, signed=True),
      codes(input_bits, signed=bool(start.signed)),
      count_batch,
      layer.promote_dtype,
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
  for path, (low, high) in codes_of.items():
    before, after = (
      _codes_of(_at(tree, path), low, high) for tree in (params, others)
    )
    changed += jnp.sum(before != after, dtype=jnp.float32)
    total += before.size
  return changed / total


def _codes_of(layer: Any, low: int, high: int) -> jax.Array:
  step = _positive(layer['promote_dtype']['weight_step'])
  return jnp.round(jnp.clip(layer['kernel'] / step, low, high))


def _at(tree: Any, path: Path) -> Any:
  for name in path:
    tree = tree[name]
  return tree


def _layers(model: nnx.Module) -> Iterator[tuple[Path, Any]]:
  for path, module in nnx.iter_modules(model):
    if isinstance(module, _LAYERS):
      yield path, module


class _Start(NamedTuple):
  """The steps of a layer before training, and whether its input is signed."""

  weight_step: jax.Array
  input_step: jax.Array
  signed: jax.Array


class _Starts:
  """From images to the start of each layer, in the order of their use.

  Its bits may lack a layer, which then computes in float.
  """

  def __init__(self, model: nnx.Module, bits: Mapping[Path, tuple[int, int]]):
    view = nnx.view(
      model,
      use_running_average=False,
      deterministic=True,
      raise_if_not_found=False,
    )
    self.graphdef, state = nnx.split(view)
    # Arrays alone: the model's own statistics must not move.
    self.arrays = nnx.to_pure_dict(state)
    self.bits = bits

  def __call__(self, arrays: Any, images: jax.Array) -> list[_Start]:
    model: Any = nnx.merge(self.graphdef, arrays)
    self.order = []
    starts = []
    for path, layer in _layers(model):
      layer.promote_dtype = functools.partial(
        self._start, starts, path, layer.promote_dtype
      )
    model(images)
    return starts

  def _start(self, starts, path, promote, arrays, *, dtype):
    inputs, kernel, *others = arrays
    signed = jnp.any(inputs < 0)
    weight_step, input_step = jnp.ones(()), jnp.ones(())
    if path in self.bits:
      weight_bits, input_bits = self.bits[path]
      kernel, weight_step = _rounded(kernel, codes(weight_bits, True))
      inputs, input_step = jax.lax.cond(
        signed,
        lambda x: _rounded(x, codes(input_bits, True)),
        lambda x: _rounded(x, codes(input_bits, False)),
        inputs,
      )
    if path not in self.order:  # A second use of it starts alike.
      self.order.append(path)
      starts.append(_Start(weight_step, input_step, signed))
    return promote((inputs, kernel, *others), dtype=dtype)


def _rounded(v: jax.Array, both: Codes) -> tuple[jax.Array, jax.Array]:
  """Quantises with the first step, and gives it."""
  step = initial_step(v.astype(jnp.float32), both.high)
  return lsq(v, step, **both._asdict(), scale=1.0), step
