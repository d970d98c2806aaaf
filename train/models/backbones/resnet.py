"""Residual networks of basic or bottleneck blocks."""

import functools
import itertools
import math
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
    dilation: of the 3x3 convolutions.
    kernel_init: draws the kernels.
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
    dilation: int = 1,
    kernel_init: nnx.Initializer = layers.he_fan_out,
    rngs: nnx.Rngs,
  ):
    conv1x1, conv3x3 = (
      functools.partial(conv, kernel_init=kernel_init, dtype=dtype, rngs=rngs)
      for conv in (layers.conv1x1, layers.conv3x3)
    )
    # A dilated kernel reaches as much farther as its padding is wider.
    conv3x3 = functools.partial(
      conv3x3, padding=dilation, kernel_dilation=dilation
    )
    self.conv1 = conv3x3(in_width, width, strides=stride)
    self.norm1 = layers.norm(width, rngs=rngs)
    self.conv2 = conv3x3(width, width)
    self.norm2 = layers.norm(width, rngs=rngs)
    self.projects = stride != 1 or in_width != width
    if self.projects:
      self.shortcut_conv = conv1x1(in_width, width, strides=stride)
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
    dilation: of the 3x3 convolution.
    kernel_init: draws the kernels.
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
    dilation: int = 1,
    kernel_init: nnx.Initializer = layers.he_fan_out,
    rngs: nnx.Rngs,
  ):
    conv1x1, conv3x3 = (
      functools.partial(conv, kernel_init=kernel_init, dtype=dtype, rngs=rngs)
      for conv in (layers.conv1x1, layers.conv3x3)
    )
    # A dilated kernel reaches as much farther as its padding is wider.
    conv3x3 = functools.partial(
      conv3x3, padding=dilation, kernel_dilation=dilation
    )
    out_width = self.expansion * width
    self.conv1 = conv1x1(in_width, width)
    self.norm1 = layers.norm(width, rngs=rngs)
    self.conv2 = conv3x3(width, width, strides=stride)
    self.norm2 = layers.norm(width, rngs=rngs)
    self.conv3 = conv1x1(width, out_width)
    self.norm3 = layers.norm(out_width, rngs=rngs)
    self.projects = stride != 1 or in_width != out_width
    if self.projects:
      self.shortcut_conv = conv1x1(in_width, out_width, strides=stride)
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
_conv4x4 = functools.partial(layers.conv3x3, kernel_size=(4, 4), padding=0)
# The convolution, its stride, whether a pool follows, and whether two more
# convolutions do before, the last of them twice as wide.
_STEMS = {
  'cifar': (layers.conv3x3, 1, False, False),
  'tiny': (layers.conv3x3, 2, False, False),
  'patch': (_conv4x4, 4, False, False),
  'imagenet': (_conv7x7, 2, True, False),
  'deep': (layers.conv3x3, 2, True, True),
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

  Convolutions are without bias and, by default, He-normal (fan out), as in
  torchvision; the head is then LeCun-normal with zero bias, our choice. The
  PyTorch programs for CIFAR leave both to PyTorch: ``kernel_init='torch'``.
  BatchNorm keeps 0.9 of its running statistics per step with epsilon 1e-5; each
  scale starts at one, in a block's last too, where Google's code of SAM starts
  at zero. Parameters and statistics are float32.

  With an ``output_stride``, stages that would shrink the features further keep
  their size and have dilated kernels in place of strides, as PSPNet and DeepLab
  need; the parameters are the same ones.

  Attributes:
    feature_widths: channels of what each stage gives, see :meth:`features`.
    feature_strides: pixels of the image for one of the stage's.

  Args:
    num_classes: number of logits; with 0 there is no head, and features are all
      that the network gives.
    image_shape: ``(height, width, channels)`` of one image.
    widths: channels of each stage; a bottleneck block gives four times as many.
    blocks: blocks of each stage, as many numbers as ``widths`` has.
    block: ``'basic'`` or ``'bottleneck'``.
    stem: ``'cifar'`` (3x3 convolution), ``'tiny'`` (3x3 at stride 2: the
      features of a 64-pixel image are as large as CIFAR's, for a quarter of the
      work of ``'cifar'``; our choice), ``'patch'`` (4x4 at stride 4, as in a
      ViT: the cheapest on a CPU; our choice), ``'imagenet'`` (7x7 at stride 2,
      3x3 max-pool at stride 2) or ``'deep'`` (three 3x3 convolutions, the last
      twice as wide, as in PSPNet's code, and the same pool).
    output_stride: the greatest stride of a stage (``None``: what the strides
      make).
    first_dilation: dilation of the first block of a dilated stage: that of its
      ``'stage'``, as in PSPNet's code, or that of the ``'previous'`` one, as in
      torchvision.
    dtype: dtype of the convolutions (``None``: float32); BatchNorm,
      the sums and the head are float32.
    hidden: units of a dense layer with BatchNorm and ReLU before the head. It
      takes the features of all places; with 0 their mean goes to the head, as
      published. Our choice: a cheap network that can learn labels by heart.
    kernel_init: how the kernels of convolutions are drawn: ``'he_fan_out'`` or
      ``'he_fan_in'``, normal; or ``'torch'``, uniform with bound ``fan_in **
      -0.5``, and so are then the dense layers and the head's bias.
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
    output_stride: int | None = None,
    first_dilation: str = 'stage',
    dtype: DTypeLike | None = None,
    hidden: int = 0,
    kernel_init: str = 'he_fan_out',
    *,
    rngs: nnx.Rngs,
  ):
    layers.check_stages('ResNet', widths, blocks)
    checks.at_least('hidden', hidden, 0)
    kind = checks.pick('block', block, _BLOCKS)
    conv, stride, self.pools, deep = checks.pick('stem', stem, _STEMS)
    at_once = checks.pick(
      'first_dilation', first_dilation, {'stage': True, 'previous': False}
    )
    draw = checks.pick('kernel_init', kernel_init, layers.KERNEL_INITS)
    self.stem_conv = conv(
      image_shape[-1],
      widths[0],
      strides=stride,
      kernel_init=draw,
      dtype=dtype,
      rngs=rngs,
    )
    self.stem_norm = layers.norm(widths[0], rngs=rngs)
    in_width = widths[0]
    self.stem_rest = nnx.List()
    if deep:
      for width in (widths[0], 2 * widths[0]):
        self.stem_rest.append(
          layers.ConvNorm(
            in_width, width, kernel_init=draw, dtype=dtype, rngs=rngs
          )
        )
        in_width = width
    strides, dilations = _dilated(
      stride * (2 if self.pools else 1), len(widths), output_stride
    )
    self.blocks = nnx.List()
    for stage, (width, depth) in enumerate(zip(widths, blocks, strict=True)):
      dilation = dilations[stage]
      for index in range(depth):
        first = index == 0
        before = dilation if at_once or stage == 0 else dilations[stage - 1]
        self.blocks.append(
          kind(
            in_width,
            width,
            strides[stage] if first else 1,
            dtype,
            dilation=before if first else dilation,
            kernel_init=draw,
            rngs=rngs,
          )
        )
        in_width = kind.expansion * width
    self.depths = tuple(blocks)
    self.feature_widths = tuple(kind.expansion * width for width in widths)
    self.feature_strides = tuple(
      stride * (2 if self.pools else 1) * math.prod(strides[: stage + 1])
      for stage in range(len(widths))
    )
    self.has_head = num_classes > 0
    self.has_hidden = hidden > 0
    if self.has_hidden:
      places = math.prod(
        math.ceil(side / self.feature_strides[-1]) for side in image_shape[:2]
      )
      self.hidden = layers.linear(
        places * in_width,
        hidden,
        kernel_init,
        use_bias=False,
        dtype=dtype,
        rngs=rngs,
      )
      self.hidden_norm = layers.norm(hidden, rngs=rngs)
      in_width = hidden
    if self.has_head:
      self.head = layers.linear(
        in_width, num_classes, kernel_init, dtype=layers.LOGITS, rngs=rngs
      )

  def features(self, images: jax.Array) -> tuple[jax.Array, ...]:
    """Maps ``[batch, h, w, c]`` to what each stage gives.

    Each is ``[batch, h / stride, w / stride, width]``, rounded up, with the
    stage's own of ``feature_strides`` and ``feature_widths``.
    """
    x = nnx.relu(self.stem_norm(self.stem_conv(images)))
    for layer in self.stem_rest:
      x = layer(x)
    if self.pools:
      # After ReLU nothing is below the zeros around.
      x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
      x = nnx.max_pool(x, (3, 3), (2, 2))
    stages, blocks = [], iter(self.blocks)
    for depth in self.depths:
      for block in itertools.islice(blocks, depth):
        x = block(x)
      stages.append(x)
    return tuple(stages)

  def __call__(self, images: jax.Array) -> jax.Array:
    """Maps ``[batch, h, w, c]`` to float32 logits ``[batch, classes]``."""
    x = self.features(images)[-1]
    if self.has_hidden:
      x = self.hidden(x.reshape(len(x), -1))
      x = nnx.relu(self.hidden_norm(x))
    else:
      x = x.mean(axis=(1, 2))
    return self.head(x)


def _dilated(
  stem: int, stages: int, output_stride: int | None
) -> tuple[list[int], list[int]]:
  """Stride and dilation of each stage; the first has a stride of one."""
  reached, dilation = stem, 1
  strides, dilations = [1], [1]
  for _ in range(stages - 1):
    if output_stride is None or 2 * reached <= output_stride:
      reached *= 2
      strides.append(2)
    else:
      dilation *= 2
      strides.append(1)
    dilations.append(dilation)
  if output_stride is not None and reached != output_stride:
    least, most = stem, stem * 2 ** (stages - 1)
    raise ValueError(
      f'Cannot build a ResNet of {stages} stages with output_stride='
      f'{output_stride}: its strides can make any power of two between {least} '
      f'and {most}. Give one of them, or None.'
    )
  return strides, dilations
