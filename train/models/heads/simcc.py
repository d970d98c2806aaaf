"""Heads that say where the joints are."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from train.models import layers


class Coordinates(NamedTuple):
  """Logits of each bin of both axes.

  Attributes:
    x: float32 ``[batch, joints, width * split]``.
    y: float32 ``[batch, joints, height * split]``.
  """

  x: jax.Array
  y: jax.Array


class SimCC(nnx.Module):
  """The head of SimCC: a map for each joint, and a dense layer for each axis.

  The joints share the two dense layers. SA-SimCC has this head too, and other
  targets and another loss. With its backbone HRNet-W32 it has 32,731,408
  parameters for 256x256 pixels, two bins a pixel and the 16 joints of MPII.

  Kernels of the convolution are normal with standard deviation 0.001, as in
  HRNet's code; the dense ones as PyTorch's default, with zero bias, our choice.

  Args:
    feature_widths: channels of each stage of the backbone.
    feature_strides: strides of each stage of the backbone.
    joints: number of joints.
    image_shape: ``(height, width, ...)`` of one image, whole multiples of the
      last stride.
    split: bins for a pixel.
    dtype: dtype of the convolution (``None``: float32); the dense layers are
      float32.
    rngs: the ``params`` stream initialises the kernels.

  References:
    Li et al., `SimCC: a Simple Coordinate Classification Perspective for Human
    Pose Estimation <https://arxiv.org/abs/2107.03332>`_, 2022
  """

  def __init__(
    self,
    feature_widths: Sequence[int],
    feature_strides: Sequence[int],
    joints: int,
    image_shape: Sequence[int],
    split: int = 2,
    dtype: DTypeLike | None = None,
    *,
    rngs: nnx.Rngs,
  ):
    height, width = image_shape[:2]
    stride = feature_strides[-1]
    if height % stride or width % stride:
      raise ValueError(
        f'Cannot build a head for images of {height}x{width} pixels: the '
        f'features are {stride} times smaller, and the dense layers need their '
        f'exact size. Give multiples of {stride}.'
      )
    places = (height // stride) * (width // stride)
    self.maps = layers.conv1x1(
      feature_widths[-1],
      joints,
      use_bias=True,
      kernel_init=nnx.initializers.normal(0.001),
      dtype=dtype,
      rngs=rngs,
    )
    self.x, self.y = (
      nnx.Linear(
        places,
        size * split,
        kernel_init=layers.torch_default,
        dtype=layers.LOGITS,
        rngs=rngs,
      )
      for size in (width, height)
    )

  def __call__(
    self, features: Sequence[jax.Array], shape: Sequence[int]
  ) -> Coordinates:
    """Maps the features of the stages to logits; the shape is known before."""
    del shape
    maps = self.maps(features[-1])
    flat = jnp.moveaxis(maps, -1, 1).reshape(*maps.shape[::3], -1)
    return Coordinates(self.x(flat), self.y(flat))

  def last_layers(self) -> Sequence[nnx.Module]:
    """The layers that the logits come from, one for each axis."""
    return [self.x, self.y]
