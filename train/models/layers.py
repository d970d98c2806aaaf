"""Convolutions, normalisation and pools as the published networks have them."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

he_fan_in = nnx.initializers.variance_scaling(2.0, 'fan_in', 'normal')
he_fan_out = nnx.initializers.variance_scaling(2.0, 'fan_out', 'normal')

# What PyTorch draws where its user says nothing: uniform up to
# ``fan_in ** -0.5``.
torch_default = nnx.initializers.variance_scaling(1 / 3, 'fan_in', 'uniform')

# How the kernels of convolutions are drawn, by the word in a config.
KERNEL_INITS = {
  'he_fan_in': he_fan_in,
  'he_fan_out': he_fan_out,
  'torch': torch_default,
}

# The dtype of the layers that give logits, whatever the others compute in: near
# logits would be equal in bfloat16, and argmax would take the first of them.
LOGITS = jnp.float32

# Padding is explicit because 'SAME' at stride 2 pads only the far side, which
# shifts the features by half a pixel from the networks whose results are
# published.
conv3x3 = functools.partial(
  nnx.Conv,
  kernel_size=(3, 3),
  padding=1,
  use_bias=False,
  kernel_init=he_fan_out,
)
conv1x1 = functools.partial(
  nnx.Conv,
  kernel_size=(1, 1),
  padding=0,
  use_bias=False,
  kernel_init=he_fan_out,
)

# Flax's 0.9 is PyTorch's 0.1: the share of the old value that is kept. The
# running variance is the biased one here and the unbiased one in PyTorch.
# Always float32: Flax would round the running statistics to the computation's
# dtype, and so evaluate another network than it trained.
norm = functools.partial(
  nnx.BatchNorm, momentum=0.9, epsilon=1e-5, dtype=jnp.float32
)


class ConvNorm(nnx.Module):
  """A square convolution without bias, BatchNorm, and ReLU.

  Args:
    in_width: number of input channels.
    width: number of output channels.
    kernel: side of the kernel, an odd number.
    stride: of the convolution.
    dilation: of the convolution; the padding keeps the size at stride 1.
    relu: whether there is a ReLU.
    kernel_init: draws the kernel.
    dtype: dtype of the convolution (``None``: float32).
    rngs: the ``params`` stream initialises the kernel.
  """

  def __init__(
    self,
    in_width: int,
    width: int,
    kernel: int = 3,
    stride: int = 1,
    dilation: int = 1,
    *,
    relu: bool = True,
    kernel_init: nnx.Initializer = he_fan_out,
    dtype: DTypeLike | None = None,
    rngs: nnx.Rngs,
  ):
    self.conv = nnx.Conv(
      in_width,
      width,
      (kernel, kernel),
      strides=stride,
      padding=dilation * (kernel // 2),
      kernel_dilation=dilation,
      use_bias=False,
      kernel_init=kernel_init,
      dtype=dtype,
      rngs=rngs,
    )
    self.norm = norm(width, rngs=rngs)
    self.relu = relu

  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps ``[batch, h, w, in_width]`` to ``[batch, h', w', width]``."""
    x = self.norm(self.conv(x))
    return nnx.relu(x) if self.relu else x


def torch_bias(fan_in: int) -> nnx.Initializer:
  """PyTorch's default for a bias: uniform up to ``fan_in ** -0.5``.

  Args:
    fan_in: how many numbers each output of the layer is a sum over.

  Returns:
    What draws the bias, whose shape alone does not tell the bound.
  """
  bound = fan_in**-0.5

  def draw(key, shape, dtype=jnp.float32):
    return jax.random.uniform(key, shape, dtype, -bound, bound)

  return draw


def linear(
  in_width: int,
  width: int,
  kernel_init: str,
  *,
  use_bias: bool = True,
  dtype: DTypeLike | None = None,
  rngs: nnx.Rngs,
) -> nnx.Linear:
  """A dense layer beside convolutions that are drawn in one of three ways.

  Args:
    in_width: number of inputs.
    width: number of outputs.
    kernel_init: the word for the convolutions. With ``'torch'`` kernel and bias
      of this layer are PyTorch's default too; otherwise the kernel is
      LeCun-normal and the bias zero.
    use_bias: whether there is a bias.
    dtype: of the layer (``None``: float32).
    rngs: the ``params`` stream initialises it.

  Returns:
    The layer.
  """
  as_torch = kernel_init == 'torch'
  return nnx.Linear(
    in_width,
    width,
    use_bias=use_bias,
    kernel_init=torch_default if as_torch else nnx.initializers.lecun_normal(),
    bias_init=torch_bias(in_width) if as_torch else nnx.initializers.zeros,
    dtype=dtype,
    rngs=rngs,
  )


def dropout(rate: float, rngs: nnx.Rngs) -> nnx.Dropout:
  """Dropout; at rate 0 without a random stream.

  So a model that drops nothing has no random state among its statistics.

  Args:
    rate: share that is dropped.
    rngs: ``dropout`` draws the masks.

  Returns:
    The layer.
  """
  return nnx.Dropout(rate, rngs=rngs if rate > 0 else None)


def check_stages(
  model: str, widths: Sequence[int], blocks: Sequence[int]
) -> None:
  """Checks that each stage has one width and one number of blocks.

  Args:
    model: name of the model, for the message.
    widths: channels of each stage.
    blocks: blocks of each stage.

  Raises:
    ValueError: if there is no stage or the lengths differ.
  """
  if not widths or len(widths) != len(blocks):
    raise ValueError(
      f'Cannot build a {model} with widths={tuple(widths)} and '
      f'blocks={tuple(blocks)}: each stage needs one width and one number of '
      'blocks. Give two sequences of one length, such as '
      'widths=(16, 32, 64), blocks=(1, 1, 1).'
    )


def blocks_per_stage(model: str, depth: int, outside: int) -> int:
  """How many blocks of two layers each of three stages has.

  Args:
    model: name of the model, for the message.
    depth: number of layers.
    outside: how many of them are in no block.

  Returns:
    The number of blocks.

  Raises:
    ValueError: if no number of blocks gives that depth.
  """
  blocks, rest = divmod(depth - outside, 6)
  if blocks < 1 or rest:
    near = outside + 6 * max(1, round((depth - outside) / 6))
    raise ValueError(
      f'Cannot build a {model} of depth={depth}: its three stages have equally '
      f'many blocks of two layers, and {outside} layers are in no block. Give '
      f'depth={near}, or another that is {outside} more than a multiple of 6.'
    )
  return blocks
