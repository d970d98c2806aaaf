"""Pyramidal residual networks for small images."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from train.models import layers


class PyramidBlock(nnx.Module):
  """BatchNorm, convolution, BatchNorm, ReLU, convolution, BatchNorm.

  There is no ReLU before the first convolution nor after the sum. The shortcut
  has no parameters: new channels are zero, and at stride 2 it is the mean of
  2x2 pixels.

  Args:
    in_width: number of input channels.
    width: number of output channels, at least ``in_width``.
    stride: 1 or 2, of the first convolution and of the shortcut.
    dtype: dtype of the convolutions (``None``: float32).
    rngs: the ``params`` stream initialises the kernels.
  """

  def __init__(
    self,
    in_width: int,
    width: int,
    stride: int = 1,
    dtype: DTypeLike | None = None,
    *,
    rngs: nnx.Rngs,
  ):
    self.strided = stride != 1
    self.norm1 = layers.norm(in_width, rngs=rngs)
    self.conv1 = layers.conv3x3(
      in_width, width, strides=stride, dtype=dtype, rngs=rngs
    )
    self.norm2 = layers.norm(width, rngs=rngs)
    self.conv2 = layers.conv3x3(width, width, dtype=dtype, rngs=rngs)
    self.norm3 = layers.norm(width, rngs=rngs)

  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps ``[batch, h, w, in_width]`` to ``[batch, h', w', width]``."""
    y = self.conv1(self.norm1(x))
    y = self.norm3(self.conv2(nnx.relu(self.norm2(y))))
    if self.strided:
      # An odd last row or column is a mean of the pixels that there are.
      x = nnx.avg_pool(x, (2, 2), (2, 2), 'SAME', count_include_pad=False)
    missing = y.shape[-1] - x.shape[-1]
    return y + jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, missing)))


class PyramidNet(nnx.Module):
  """A PyramidNet of basic blocks: each block is a little wider than the last.

  A 3x3 convolution of 16 channels, three stages of ``(depth - 2) / 6`` blocks,
  whose channels grow by ``alpha`` in equal, rounded steps, BatchNorm, ReLU,
  average pool, dense head. The default is PyramidNet-110 with alpha 270:
  28,485,477 parameters for 10 classes, 28,511,307 for 100.

  Layers and initialisation follow dyhan0920/PyramidNet-PyTorch, which
  F-SAM's code copies: convolutions He-normal (fan out) without bias. The head
  is LeCun-normal with zero bias, our choice.

  Args:
    num_classes: number of logits, at least 1.
    image_shape: ``(height, width, channels)`` of one image.
    depth: 2 more than a multiple of 6.
    alpha: channels that the last block has more than the stem.
    dtype: dtype of the convolutions (``None``: float32); BatchNorm,
      the sums and the head are float32.
    rngs: the ``params`` stream initialises the kernels.

  References:
    Han et al., `Deep Pyramidal Residual Networks
    <https://arxiv.org/abs/1610.02915>`_, 2017
  """

  def __init__(
    self,
    num_classes: int,
    image_shape: Sequence[int],
    depth: int = 110,
    alpha: int = 270,
    dtype: DTypeLike | None = None,
    *,
    rngs: nnx.Rngs,
  ):
    per_stage = layers.blocks_per_stage('PyramidNet', depth, 2)
    self.stem_conv = layers.conv3x3(image_shape[-1], 16, dtype=dtype, rngs=rngs)
    self.stem_norm = layers.norm(16, rngs=rngs)
    self.blocks = nnx.List()
    in_width = 16
    for index in range(3 * per_stage):
      width = round(16 + (index + 1) * alpha / (3 * per_stage))
      stride = 2 if index in (per_stage, 2 * per_stage) else 1
      self.blocks.append(
        PyramidBlock(in_width, width, stride, dtype, rngs=rngs)
      )
      in_width = width
    self.norm = layers.norm(in_width, rngs=rngs)
    self.head = nnx.Linear(
      in_width, num_classes, dtype=layers.LOGITS, rngs=rngs
    )

  def __call__(self, images: jax.Array) -> jax.Array:
    """Maps ``[batch, h, w, c]`` to float32 logits ``[batch, classes]``."""
    x = self.stem_norm(self.stem_conv(images))
    for block in self.blocks:
      x = block(x)
    x = nnx.relu(self.norm(x))
    return self.head(x.mean(axis=(1, 2)))
