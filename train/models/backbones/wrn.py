"""Wide residual networks for small images."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from train import checks
from train.models import layers


class WideBlock(nnx.Module):
  """BatchNorm, ReLU and a 3x3 convolution, twice, and a shortcut.

  The shortcut is the identity, or a 1x1 convolution of the normalised input
  where the number of channels changes.

  Args:
    in_width: number of input channels.
    width: number of output channels.
    stride: of the first convolution and of the shortcut.
    dropout: share dropped before the second convolution.
    dtype: dtype of the convolutions (``None``: float32).
    kernel_init: draws the kernels.
    rngs: ``params`` initialises the kernels, ``dropout`` draws the masks.
  """

  def __init__(
    self,
    in_width: int,
    width: int,
    stride: int = 1,
    dropout: float = 0.0,
    dtype: DTypeLike | None = None,
    *,
    kernel_init: nnx.Initializer = layers.he_fan_out,
    rngs: nnx.Rngs,
  ):
    conv1x1, conv3x3 = (
      functools.partial(conv, kernel_init=kernel_init, dtype=dtype, rngs=rngs)
      for conv in (layers.conv1x1, layers.conv3x3)
    )
    self.norm1 = layers.norm(in_width, rngs=rngs)
    self.conv1 = conv3x3(in_width, width, strides=stride)
    self.norm2 = layers.norm(width, rngs=rngs)
    self.dropout = layers.dropout(dropout, rngs)
    self.conv2 = conv3x3(width, width)
    self.projects = stride != 1 or in_width != width
    if self.projects:
      self.shortcut_conv = conv1x1(in_width, width, strides=stride)

  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps ``[batch, h, w, in_width]`` to ``[batch, h', w', width]``."""
    y = nnx.relu(self.norm1(x))
    if self.projects:
      x = self.shortcut_conv(y)
    y = self.dropout(nnx.relu(self.norm2(self.conv1(y))))
    return x.astype(jnp.float32) + self.conv2(y).astype(jnp.float32)


class WideResNet(nnx.Module):
  """A wide ResNet for small images: WRN-depth-width.

  A 3x3 convolution of 16 channels, three stages of ``(depth - 4) / 6`` blocks
  of 16, 32 and 64 times ``width`` channels, BatchNorm, ReLU, average pool,
  dense head. The default is WRN-28-10.

  The default initialisation follows Google's code of SAM and the common PyTorch
  implementation: convolutions He-normal (fan out) without bias. The head is
  LeCun-normal with zero bias, our choice. Google's shortcuts are zero-padded
  averages instead, without parameters. The networks that the released codes of
  F-SAM, AUSAM and vSAM call WideResNet-28-10 have five blocks in a stage
  instead of four: they are ``depth=34, kernel_init='he_fan_in',
  zero_head=True`` here.

  Args:
    num_classes: number of logits, at least 1.
    image_shape: ``(height, width, channels)`` of one image.
    depth: 4 more than a multiple of 6.
    width: factor of the channels.
    dropout: share dropped between a block's convolutions.
    dtype: dtype of the convolutions (``None``: float32); BatchNorm,
      the sums and the head are float32.
    kernel_init: how the kernels of convolutions are drawn, as in a `ResNet`.
    zero_head: whether the head's kernel starts at zero, and its bias too.
    rngs: ``params`` initialises the kernels, ``dropout`` draws the masks.

  References:
    Zagoruyko and Komodakis, `Wide Residual Networks
    <https://arxiv.org/abs/1605.07146>`_, 2016
  """

  def __init__(
    self,
    num_classes: int,
    image_shape: Sequence[int],
    depth: int = 28,
    width: int = 10,
    dropout: float = 0.0,
    dtype: DTypeLike | None = None,
    kernel_init: str = 'he_fan_out',
    zero_head: bool = False,
    *,
    rngs: nnx.Rngs,
  ):
    blocks = layers.blocks_per_stage('wide ResNet', depth, 4)
    draw = checks.pick('kernel_init', kernel_init, layers.KERNEL_INITS)
    self.stem_conv = layers.conv3x3(
      image_shape[-1], 16, kernel_init=draw, dtype=dtype, rngs=rngs
    )
    self.blocks = nnx.List()
    in_width = 16
    for stage in range(3):
      for index in range(blocks):
        out_width = 16 * 2**stage * width
        stride = 2 if stage > 0 and index == 0 else 1
        self.blocks.append(
          WideBlock(
            in_width,
            out_width,
            stride,
            dropout,
            dtype,
            kernel_init=draw,
            rngs=rngs,
          )
        )
        in_width = out_width
    self.norm = layers.norm(in_width, rngs=rngs)
    head = functools.partial(layers.linear, kernel_init=kernel_init)
    if zero_head:
      head = functools.partial(nnx.Linear, kernel_init=nnx.initializers.zeros)
    self.head = head(in_width, num_classes, dtype=layers.LOGITS, rngs=rngs)

  def __call__(self, images: jax.Array) -> jax.Array:
    """Maps ``[batch, h, w, c]`` to float32 logits ``[batch, classes]``."""
    x = self.stem_conv(images).astype(jnp.float32)
    for block in self.blocks:
      x = block(x)
    x = nnx.relu(self.norm(x))
    return self.head(x.mean(axis=(1, 2)))
