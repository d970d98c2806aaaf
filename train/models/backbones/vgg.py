"""VGG networks with BatchNorm."""

from collections.abc import Sequence

import jax
from flax import nnx
from jax.typing import DTypeLike

from train import checks
from train.models import layers


class ConvNorm(nnx.Module):
  """A 3x3 convolution with bias, BatchNorm, ReLU.

  Args:
    in_width: number of input channels.
    width: number of output channels.
    dtype: dtype of the convolution (``None``: float32).
    kernel_init: draws the kernel.
    rngs: the ``params`` stream initialises the kernel.
  """

  def __init__(
    self,
    in_width: int,
    width: int,
    dtype: DTypeLike | None = None,
    *,
    kernel_init: nnx.Initializer = layers.torch_default,
    rngs: nnx.Rngs,
  ):
    self.conv = layers.conv3x3(
      in_width,
      width,
      use_bias=True,
      kernel_init=kernel_init,
      dtype=dtype,
      rngs=rngs,
    )
    self.norm = layers.norm(width, rngs=rngs)

  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps ``[batch, h, w, in_width]`` to ``[batch, h, w, width]``."""
    return nnx.relu(self.norm(self.conv(x)))


class VGG(nnx.Module):
  """A VGG: 3x3 convolutions with BatchNorm and ReLU, max-pools, dense head.

  Each stage ends in a 2x2 max-pool. What is left is averaged, one pixel of a
  32x32 image. The default is VGG-16 with one dense layer instead of three, as
  in kuangliu/pytorch-cifar: 14,728,266 parameters for 10 classes, biases of the
  convolutions included, which BatchNorm takes out again.

  By default kernels are drawn as there: PyTorch's default, uniform with bound
  ``fan_in ** -0.5``. Biases are zero, our choice.

  Args:
    num_classes: number of logits, at least 1.
    image_shape: ``(height, width, channels)`` of one image.
    widths: channels of each stage.
    blocks: convolutions of each stage, as many numbers as ``widths`` has.
    dtype: dtype of the convolutions (``None``: float32); BatchNorm and
      the head are float32.
    kernel_init: how the kernels of convolutions are drawn, as in a `ResNet`;
      the head is drawn the same in any case.
    rngs: the ``params`` stream initialises the kernels.

  References:
    Simonyan and Zisserman, `Very Deep Convolutional Networks for Large-Scale
    Image Recognition <https://arxiv.org/abs/1409.1556>`_, 2014
  """

  def __init__(
    self,
    num_classes: int,
    image_shape: Sequence[int],
    widths: Sequence[int] = (64, 128, 256, 512, 512),
    blocks: Sequence[int] = (2, 2, 3, 3, 3),
    dtype: DTypeLike | None = None,
    kernel_init: str = 'torch',
    *,
    rngs: nnx.Rngs,
  ):
    layers.check_stages('VGG', widths, blocks)
    if min(image_shape[:2]) < 2 ** len(widths):
      raise ValueError(
        f'Cannot build a VGG of {len(widths)} stages for images of '
        f'{image_shape[0]}x{image_shape[1]} pixels: each stage halves them, so '
        f'nothing would be left. Give fewer stages, or images of at least '
        f'{2 ** len(widths)} pixels a side.'
      )
    draw = checks.pick('kernel_init', kernel_init, layers.KERNEL_INITS)
    self.stages = nnx.List()
    in_width = image_shape[-1]
    for width, depth in zip(widths, blocks, strict=True):
      stage = nnx.List()
      for _ in range(depth):
        stage.append(
          ConvNorm(in_width, width, dtype, kernel_init=draw, rngs=rngs)
        )
        in_width = width
      self.stages.append(stage)
    self.head = nnx.Linear(
      in_width,
      num_classes,
      dtype=layers.LOGITS,
      kernel_init=layers.torch_default,
      rngs=rngs,
    )

  def __call__(self, images: jax.Array) -> jax.Array:
    """Maps ``[batch, h, w, c]`` to float32 logits ``[batch, classes]``."""
    x = images
    for stage in self.stages:
      for layer in stage:
        x = layer(x)
      x = nnx.max_pool(x, (2, 2), (2, 2))
    return self.head(x.mean(axis=(1, 2)))
