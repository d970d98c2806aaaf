"""Networks of segmentation and pose by name: a backbone and its head."""

from collections.abc import Sequence

from flax import nnx
from jax.typing import DTypeLike

from train.models.backbones.hrnet import HRNet
from train.models.backbones.resnet import ResNet
from train.models.composed import Composed
from train.models.heads.segmentation import DeepLabV3Plus, PSPNet
from train.models.heads.simcc import SimCC

_WIDTHS = (64, 128, 256, 512)
_BLOCKS = (3, 4, 6, 3)


def pspnet(
  num_classes: int,
  image_shape: Sequence[int],
  widths: Sequence[int] = _WIDTHS,
  blocks: Sequence[int] = _BLOCKS,
  block: str = 'bottleneck',
  stem: str = 'deep',
  output_stride: int = 8,
  first_dilation: str = 'stage',
  bins: Sequence[int] = (1, 2, 3, 6),
  head_width: int = 512,
  auxiliary_width: int = 256,
  dropout: float = 0.1,
  align_corners: bool = True,
  dtype: DTypeLike | None = None,
  kernel_init: str = 'he_fan_out',
  *,
  rngs: nnx.Rngs,
) -> Composed:
  """PSPNet on a ResNet: ResNet-50 by default, see the two classes."""
  backbone = ResNet(
    0,
    image_shape,
    widths,
    blocks,
    block,
    stem,
    output_stride,
    first_dilation,
    dtype,
    kernel_init=kernel_init,
    rngs=rngs,
  )
  head = PSPNet(
    backbone.feature_widths,
    num_classes,
    bins,
    head_width,
    auxiliary_width,
    dropout,
    align_corners,
    dtype,
    kernel_init=kernel_init,
    rngs=rngs,
  )
  return Composed(backbone, head)


def deeplabv3plus(
  num_classes: int,
  image_shape: Sequence[int],
  widths: Sequence[int] = _WIDTHS,
  blocks: Sequence[int] = _BLOCKS,
  block: str = 'bottleneck',
  stem: str = 'imagenet',
  output_stride: int = 16,
  first_dilation: str = 'previous',
  rates: Sequence[int] = (6, 12, 18),
  head_width: int = 256,
  low_width: int = 48,
  convolutions: int = 1,
  dropout: float = 0.1,
  decoder_dropout: Sequence[float] = (),
  align_corners: bool = False,
  dtype: DTypeLike | None = None,
  kernel_init: str = 'he_fan_out',
  *,
  rngs: nnx.Rngs,
) -> Composed:
  """DeepLabv3+ on a ResNet: ResNet-50 by default, see the two classes."""
  backbone = ResNet(
    0,
    image_shape,
    widths,
    blocks,
    block,
    stem,
    output_stride,
    first_dilation,
    dtype,
    kernel_init=kernel_init,
    rngs=rngs,
  )
  head = DeepLabV3Plus(
    backbone.feature_widths,
    num_classes,
    rates,
    head_width,
    low_width,
    convolutions,
    dropout,
    decoder_dropout,
    align_corners,
    dtype,
    kernel_init=kernel_init,
    rngs=rngs,
  )
  return Composed(backbone, head)


def simcc_hrnet(
  joints: int,
  split: int,
  image_shape: Sequence[int],
  width: int = 32,
  modules: Sequence[int] = (1, 4, 3),
  blocks: int = 4,
  stem_width: int = 64,
  stem_blocks: int = 4,
  dtype: DTypeLike | None = None,
  *,
  rngs: nnx.Rngs,
) -> Composed:
  """SimCC on an HRNet: HRNet-W32 by default, see the two classes."""
  backbone = HRNet(
    image_shape,
    width,
    modules,
    blocks,
    stem_width,
    stem_blocks,
    dtype,
    rngs=rngs,
  )
  head = SimCC(
    backbone.feature_widths,
    backbone.feature_strides,
    joints,
    image_shape,
    split,
    dtype,
    rngs=rngs,
  )
  return Composed(backbone, head)
