"""High-resolution networks: branches of several strides side by side."""

import functools
import operator
from collections.abc import Sequence

import jax
from flax import nnx
from jax.typing import DTypeLike

from train.models import layers
from train.models.backbones.resnet import BasicBlock, Bottleneck

# As in HRNet's code for pose.
_kernel_init = nnx.initializers.normal(0.001)


class Fusion(nnx.Module):
  """Gives branches the sum of all of them, each brought to their size.

  From a branch of larger stride by a 1x1 convolution with BatchNorm and nearest
  neighbours, from one of smaller stride by 3x3 convolutions of stride 2 with
  BatchNorm, all but the last with ReLU and of unchanged width. ReLU follows the
  sum.

  Args:
    widths: channels of each branch.
    outputs: how many of the branches, from the first, get their sum.
    dtype: dtype of the convolutions (``None``: float32).
    rngs: the ``params`` stream initialises the kernels.
  """

  def __init__(
    self,
    widths: Sequence[int],
    outputs: int,
    dtype: DTypeLike | None = None,
    *,
    rngs: nnx.Rngs,
  ):
    conv = functools.partial(
      layers.ConvNorm, kernel_init=_kernel_init, dtype=dtype, rngs=rngs
    )
    self.outputs = outputs
    self.paths = nnx.List()
    for target in range(outputs):
      paths = nnx.List()
      for source, width in enumerate(widths):
        path = nnx.List()
        if source > target:
          path.append(conv(width, widths[target], 1, relu=False))
        for step in range(source, target):
          last = step == target - 1
          out_width = widths[target] if last else width
          path.append(conv(width, out_width, 3, 2, relu=not last))
        paths.append(path)
      self.paths.append(paths)

  def __call__(self, branches: Sequence[jax.Array]) -> list[jax.Array]:
    """Maps ``[batch, h, w, width]`` of each branch to the sums."""
    sums = []
    for target, paths in enumerate(self.paths):
      shape = branches[target].shape[:3]
      terms = []
      for source, path in enumerate(paths):
        x = branches[source]
        for layer in path:
          x = layer(x)
        if source > target:
          x = jax.image.resize(x, (*shape, x.shape[-1]), 'nearest')
        terms.append(x)
      sums.append(nnx.relu(functools.reduce(operator.add, terms)))
    return sums


class Stage(nnx.Module):
  """Modules of residual blocks on each branch and a fusion of the branches.

  Args:
    widths: channels of each branch.
    modules: how often blocks and fusion are repeated.
    blocks: basic blocks of each branch in a module.
    outputs: how many branches the last fusion gives.
    dtype: dtype of the convolutions (``None``: float32).
    rngs: the ``params`` stream initialises the kernels.
  """

  def __init__(
    self,
    widths: Sequence[int],
    modules: int,
    blocks: int,
    outputs: int,
    dtype: DTypeLike | None = None,
    *,
    rngs: nnx.Rngs,
  ):
    block = functools.partial(
      BasicBlock, dtype=dtype, kernel_init=_kernel_init, rngs=rngs
    )
    self.branches, self.fusions = nnx.List(), nnx.List()
    for module in range(modules):
      self.branches.append(
        nnx.List(
          nnx.List(block(width, width) for _ in range(blocks))
          for width in widths
        )
      )
      fused = outputs if module == modules - 1 else len(widths)
      self.fusions.append(Fusion(widths, fused, dtype, rngs=rngs))

  def __call__(self, inputs: Sequence[jax.Array]) -> list[jax.Array]:
    """Maps ``[batch, h, w, width]`` of each branch to the fused ones."""
    xs = list(inputs)
    for branches, fusion in zip(self.branches, self.fusions, strict=True):
      for index, branch in enumerate(branches):
        for block in branch:
          xs[index] = block(xs[index])
      xs = fusion(xs)
    return xs


class HRNet(nnx.Module):
  """HRNet for pose: its features have a quarter of the image's sides.

  A stem of two 3x3 convolutions of stride 2, four bottlenecks, and stages of
  two, three and four branches whose strides double from 4 on. The last fusion
  gives the first branch only. Without a head, HRNet-W32 has 28,535,552
  parameters and HRNet-W48 63,594,912.

  Kernels are normal with standard deviation 0.001, as in the authors' code
  without weights from ImageNet.

  Attributes:
    feature_widths: channels of the features.
    feature_strides: pixels of the image for one of the features'.

  Args:
    image_shape: ``(height, width, channels)`` of one image; sides that are
      multiples of 32.
    width: channels of the first branch, each later one has twice as many; 32 or
      48 in the paper.
    modules: modules of each stage.
    blocks: blocks of each branch in a module.
    stem_width: channels of the stem; the bottlenecks give four times as many.
    stem_blocks: bottlenecks.
    dtype: dtype of the convolutions (``None``: float32); BatchNorm and the sums
      are float32.
    rngs: the ``params`` stream initialises the kernels.

  References:
    Sun et al., `Deep High-Resolution Representation Learning for Human Pose
    Estimation <https://arxiv.org/abs/1902.09212>`_, 2019
  """

  def __init__(
    self,
    image_shape: Sequence[int],
    width: int = 32,
    modules: Sequence[int] = (1, 4, 3),
    blocks: int = 4,
    stem_width: int = 64,
    stem_blocks: int = 4,
    dtype: DTypeLike | None = None,
    *,
    rngs: nnx.Rngs,
  ):
    # The stem halves the sides twice, each further branch once more.
    multiple = 4 * 2 ** len(modules)
    if image_shape[0] % multiple or image_shape[1] % multiple:
      raise ValueError(
        f'Cannot build an HRNet for images of {image_shape[0]}x'
        f'{image_shape[1]} pixels: its last branch is {multiple} times smaller '
        'and meets the others pixel by pixel. Give sides that are multiples of '
        f'{multiple}.'
      )
    conv = functools.partial(
      layers.ConvNorm, kernel_init=_kernel_init, dtype=dtype, rngs=rngs
    )
    self.stem = nnx.List(
      conv(in_width, stem_width, 3, 2)
      for in_width in (image_shape[-1], stem_width)
    )
    self.bottlenecks = nnx.List(
      Bottleneck(
        stem_width if index == 0 else 4 * stem_width,
        stem_width,
        dtype=dtype,
        kernel_init=_kernel_init,
        rngs=rngs,
      )
      for index in range(stem_blocks)
    )
    self.transitions, self.stages = nnx.List(), nnx.List()
    before = [4 * stem_width]
    for stage, count in enumerate(modules):
      widths = [width * 2**branch for branch in range(stage + 2)]
      transition = nnx.List()
      for branch, out_width in enumerate(widths):
        path = nnx.List()
        if branch == len(before):  # New, from the one of largest stride.
          path.append(conv(before[-1], out_width, 3, 2))
        elif before[branch] != out_width:
          path.append(conv(before[branch], out_width))
        transition.append(path)
      self.transitions.append(transition)
      last = stage == len(modules) - 1
      outputs = 1 if last else len(widths)
      self.stages.append(
        Stage(widths, count, blocks, outputs, dtype, rngs=rngs)
      )
      before = widths
    self.feature_widths = (width,)
    self.feature_strides = (4,)

  def features(self, images: jax.Array) -> tuple[jax.Array, ...]:
    """Maps ``[batch, h, w, c]`` to one ``[batch, h / 4, w / 4, width]``."""
    x = images
    for layer in (*self.stem, *self.bottlenecks):
      x = layer(x)
    xs = [x]
    for transition, stage in zip(self.transitions, self.stages, strict=True):
      grown = []
      for branch, path in enumerate(transition):
        x = xs[min(branch, len(xs) - 1)]
        for layer in path:
          x = layer(x)
        grown.append(x)
      xs = stage(grown)
    return tuple(xs)
