"""Residual networks of basic or bottleneck blocks."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from train import checks
from train.models import layers


class BasicBlock(nnx.Module):
  """Two 3x3 convolutions and a shortcut, ReLU after the sum.

  The post-activation block of He et al. 2015. The shortcut is the identity, or
  a 1x1 convolution with BatchNorm (their option B) where the shape changes.

  Args:
    in_width: number of input channels.
    width: number of output channels.
    stride: of the first convolution and of the shortcut.
    dtype: dtype of the convolutions (``None``: float32).
    rngs: the ``params`` stream initialises the kernels.
  """

  expansion = 1

  def __init__(
    self,
    in_width: int,
    width: int,
    stride: int = 1,
    dtype: DTypeLike | None = None,
    *,
    rngs: nnx.Rngs,
  ):
    self.conv1 = layers.conv3x3(
      in_width, width, strides=stride, dtype=dtype, rngs=rngs
    )
    self.norm1 = layers.norm(width, rngs=rngs)
    self.conv2 = layers.conv3x3(width, width, dtype=dtype, rngs=rngs)
    self.norm2 = layers.norm(width, rngs=rngs)
    self.projects = stride != 1 or in_width != width
    if self.projects:
      self.shortcut_conv = layers.conv1x1(
        in_width, width, strides=stride, dtype=dtype, rngs=rngs
      )
      self.shortcut_norm = layers.norm(width, rngs=rngs)

  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps ``[batch, h, w, in_width]`` to ``[batch, h', w', width]``."""
    y = nnx.relu(self.norm1(self.conv1(x)))
    y = self.norm2(self.conv2(y))
    if self.projects:
      x = self.shortcut_norm(self.shortcut_conv(x))
    return nnx.relu(x + y)


class Bottleneck(nnx.Module):
  """1x1, 3x3 and 1x1 convolutions and a shortcut, ReLU after the sum.

  The 3x3 convolution has the stride, as in torchvision and in Google's code of
  SAM; in He et al. 2015 the first one has it.

  Args:
    in_width: number of input channels.
    width: channels of the 3x3 convolution; the block gives four times as many.
    stride: of the 3x3 convolution and of the shortcut.
    dtype: dtype of the convolutions (``None``: float32).
    rngs: the ``params`` stream initialises the kernels.
  """

  expansion = 4

  def __init__(
    self,
    in_width: int,
    width: int,
    stride: int = 1,
    dtype: DTypeLike | None = None,
    *,
    rngs: nnx.Rngs,
  ):
    out_width = self.expansion * width
    self.conv1 = layers.conv1x1(in_width, width, dtype=dtype, rngs=rngs)
    self.norm1 = layers.norm(width, rngs=rngs)
    self.conv2 = layers.conv3x3(
      width, width, strides=stride, dtype=dtype, rngs=rngs
    )
    self.norm2 = layers.norm(width, rngs=rngs)
    self.conv3 = layers.conv1x1(width, out_width, dtype=dtype, rngs=rngs)
    self.norm3 = layers.norm(out_width, rngs=rngs)
    self.projects = stride != 1 or in_width != out_width
    if self.projects:
      self.shortcut_conv = layers.conv1x1(
        in_width, out_width, strides=stride, dtype=dtype, rngs=rngs
      )
      self.shortcut_norm = layers.norm(out_width, rngs=rngs)

  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps ``[batch, h, w, in_width]`` to ``[batch, h', w', 4 * width]``."""
    y = nnx.relu(self.norm1(self.conv1(x)))
    y = nnx.relu(self.norm2(self.conv2(y)))
    y = self.norm3(self.conv3(y))
    if self.projects:
      x = self.shortcut_norm(self.shortcut_conv(x))
    return nnx.relu(x + y)


_BLOCKS = {'basic': BasicBlock, 'bottleneck': Bottleneck}
_conv7x7 = functools.partial(layers.conv3x3, kernel_size=(7, 7), padding=3)
# The convolution, its stride, and whether a pool follows.
_STEMS = {
  'cifar': (layers.conv3x3, 1, False),
  'tiny': (layers.conv3x3, 2, False),
  'imagenet': (_conv7x7, 2, True),
}


class ResNet(nnx.Module):
  """A ResNet: stem, stages of residual blocks, average pool, dense head.

  The first stage keeps the resolution, each later one halves it. As options in
  a config, each with ``'name': 'resnet'``:

  - ResNet-18: ``'widths': (64, 128, 256, 512), 'blocks': (2, 2, 2, 2)``
  - ResNet-50: ``'widths': (64, 128, 256, 512), 'blocks': (3, 4, 6, 3),
    'block': 'bottleneck'``

  With the default stem the former is the one that the CIFAR literature trains
  (11,173,962 parameters for 10 classes).

  Convolutions are He-normal (fan out) without bias, as in torchvision.
  BatchNorm keeps 0.9 of its running statistics per step with epsilon 1e-5; each
  scale starts at one, in a block's last too, where Google's code of SAM starts
  at zero. The head is LeCun-normal with zero bias, our choice.
  Parameters and statistics are float32.

  Args:
    num_classes: number of logits, at least 1.
    image_shape: ``(height, width, channels)`` of one image.
    widths: channels of each stage; a bottleneck block gives four times as many.
    blocks: blocks of each stage, as many numbers as ``widths`` has.
    block: ``'basic'`` or ``'bottleneck'``.
    stem: ``'cifar'`` (3x3 convolution), ``'tiny'`` (3x3 at stride 2: the
      features of a 64-pixel image are as large as CIFAR's; our choice, since no
      paper says) or ``'imagenet'`` (7x7 at stride 2, 3x3 max-pool at stride 2).
    dtype: dtype of the convolutions and of the head (``None``: float32);
      BatchNorm, the sums and the logits are float32.
    rngs: the ``params`` stream initialises the kernels.

  References:
    He et al., `Deep Residual Learning for Image Recognition
    <https://arxiv.org/abs/1512.03385>`_, 2015
  """

  def __init__(
    self,
    num_classes: int,
    image_shape: Sequence[int],
    widths: Sequence[int] = (16, 32, 64),
    blocks: Sequence[int] = (1, 1, 1),
    block: str = 'basic',
    stem: str = 'cifar',
    dtype: DTypeLike | None = None,
    *,
    rngs: nnx.Rngs,
  ):
    layers.check_stages('ResNet', widths, blocks)
    kind = checks.pick('block', block, _BLOCKS)
    conv, stride, self.pools = checks.pick('stem', stem, _STEMS)
    self.stem_conv = conv(
      image_shape[-1], widths[0], strides=stride, dtype=dtype, rngs=rngs
    )
    self.stem_norm = layers.norm(widths[0], rngs=rngs)
    self.blocks = nnx.List()
    in_width = widths[0]
    for stage, (width, depth) in enumerate(zip(widths, blocks, strict=True)):
      for index in range(depth):
        stride = 2 if stage > 0 and index == 0 else 1
        self.blocks.append(kind(in_width, width, stride, dtype, rngs=rngs))
        in_width = kind.expansion * width
    self.head = nnx.Linear(in_width, num_classes, dtype=dtype, rngs=rngs)

  def __call__(self, images: jax.Array) -> jax.Array:
    """Maps ``[batch, h, w, c]`` to float32 logits ``[batch, classes]``."""
    x = nnx.relu(self.stem_norm(self.stem_conv(images)))
    if self.pools:
      # After ReLU nothing is below the zeros around.
      x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
      x = nnx.max_pool(x, (3, 3), (2, 2))
    for block in self.blocks:
      x = block(x)
    return self.head(x.mean(axis=(1, 2))).astype(jnp.float32)
