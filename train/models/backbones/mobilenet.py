"""MobileNets of the first version."""

from collections.abc import Callable, Sequence

import jax
from flax import nnx
from jax.typing import DTypeLike

from train import checks
from train.models import layers

_ACTIVATIONS = {'relu': nnx.relu, 'relu6': nnx.relu6}


class SeparableBlock(nnx.Module):
  """A 3x3 convolution per channel, then a 1x1 one; each normed and activated.

  Args:
    in_width: number of input channels.
    width: number of output channels.
    stride: of the 3x3 convolution.
    dtype: dtype of the convolutions (``None``: float32).
    activation: after each BatchNorm.
    rngs: the ``params`` stream initialises the kernels.
  """

  def __init__(
    self,
    in_width: int,
    width: int,
    stride: int = 1,
    dtype: DTypeLike | None = None,
    activation: Callable[[jax.Array], jax.Array] = nnx.relu,
    *,
    rngs: nnx.Rngs,
  ):
    self.activation = activation
    self.conv1 = layers.conv3x3(
      in_width,
      in_width,
      strides=stride,
      feature_group_count=in_width,
      kernel_init=layers.torch_default,
      dtype=dtype,
      rngs=rngs,
    )
    self.norm1 = layers.norm(in_width, rngs=rngs)
    self.conv2 = layers.conv1x1(
      in_width,
      width,
      kernel_init=layers.torch_default,
      dtype=dtype,
      rngs=rngs,
    )
    self.norm2 = layers.norm(width, rngs=rngs)

  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps ``[batch, h, w, in_width]`` to ``[batch, h', w', width]``."""
    x = self.activation(self.norm1(self.conv1(x)))
    return self.activation(self.norm2(self.conv2(x)))


class MobileNet(nnx.Module):
  """MobileNetV1: 3x3 stem, stages of separable blocks, average pool, head.

  The stem has half the channels of the first stage. The first stage keeps the
  resolution, each later one halves it. The default is the network of
  kuangliu/pytorch-cifar (3,217,226 parameters for 10 classes). With
  ``stem_stride=2`` it is the paper's, for ImageNet; with
  ``activation='relu6', last_stride=2`` besides, that of vSAM's released code.

  Kernels are drawn as in the former: PyTorch's default, uniform with bound
  ``fan_in ** -0.5``. The head's bias is zero, our choice.

  Args:
    num_classes: number of logits, at least 1.
    image_shape: ``(height, width, channels)`` of one image.
    widths: channels of each stage.
    blocks: blocks of each stage, as many numbers as ``widths`` has.
    stem_stride: stride of the first convolution.
    activation: ``'relu'``, or ``'relu6'``, which is 6 where ReLU is above.
    last_stride: stride of the last block, times that of its stage.
    dtype: dtype of the convolutions (``None``: float32); BatchNorm and
      the head are float32.
    rngs: the ``params`` stream initialises the kernels.

  References:
    Howard et al., `MobileNets: Efficient Convolutional Neural Networks for
    Mobile Vision Applications <https://arxiv.org/abs/1704.04861>`_, 2017
  """

  def __init__(
    self,
    num_classes: int,
    image_shape: Sequence[int],
    widths: Sequence[int] = (64, 128, 256, 512, 1024),
    blocks: Sequence[int] = (1, 2, 2, 6, 2),
    stem_stride: int = 1,
    activation: str = 'relu',
    last_stride: int = 1,
    dtype: DTypeLike | None = None,
    *,
    rngs: nnx.Rngs,
  ):
    layers.check_stages('MobileNet', widths, blocks)
    self.activation = checks.pick('activation', activation, _ACTIVATIONS)
    checks.at_least('last_stride', last_stride, 1)
    in_width = widths[0] // 2
    self.stem_conv = layers.conv3x3(
      image_shape[-1],
      in_width,
      strides=stem_stride,
      kernel_init=layers.torch_default,
      dtype=dtype,
      rngs=rngs,
    )
    self.stem_norm = layers.norm(in_width, rngs=rngs)
    self.blocks = nnx.List()
    for stage, (width, depth) in enumerate(zip(widths, blocks, strict=True)):
      for index in range(depth):
        stride = 2 if stage > 0 and index == 0 else 1
        if len(self.blocks) == sum(blocks) - 1:
          stride *= last_stride
        self.blocks.append(
          SeparableBlock(
            in_width, width, stride, dtype, self.activation, rngs=rngs
          )
        )
        in_width = width
    self.head = nnx.Linear(
      in_width,
      num_classes,
      dtype=layers.LOGITS,
      kernel_init=layers.torch_default,
      rngs=rngs,
    )

  def __call__(self, images: jax.Array) -> jax.Array:
    """Maps ``[batch, h, w, c]`` to float32 logits ``[batch, classes]``."""
    x = self.activation(self.stem_norm(self.stem_conv(images)))
    for block in self.blocks:
      x = block(x)
    return self.head(x.mean(axis=(1, 2)))
