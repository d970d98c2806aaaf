"""Heads that give a class for each pixel."""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from train import checks
from train.models import layers, resize


class Maps(NamedTuple):
  """Logits of each pixel.

  Attributes:
    logits: float32 ``[batch, h, w, classes]``, as large as the image.
    auxiliary: likewise, of the auxiliary head, which helps in training alone;
      or ``None``.
  """

  logits: jax.Array
  auxiliary: jax.Array | None = None


class Classifier(nnx.Module):
  """A 3x3 convolution with BatchNorm and ReLU, dropout, 1x1 to the classes.

  Args:
    in_width: number of input channels.
    width: channels in between.
    num_classes: number of classes.
    dropout: share of the channels that is dropped, whole ones.
    dtype: dtype of the first convolution (``None``: float32).
    kernel_init: how the layers are drawn, see `PSPNet`.
    rngs: ``params`` initialises, ``dropout`` drops.
  """

  def __init__(
    self,
    in_width: int,
    width: int,
    num_classes: int,
    dropout: float = 0.1,
    dtype: DTypeLike | None = None,
    kernel_init: str = 'he_fan_out',
    *,
    rngs: nnx.Rngs,
  ):
    self.hidden = _conv_norms(kernel_init, dtype, rngs)(in_width, width)
    self.dropout = nnx.Dropout(
      dropout, broadcast_dims=(1, 2), rngs=rngs if dropout else None
    )
    self.classes = _classes(width, num_classes, kernel_init, rngs)

  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps ``[batch, h, w, in_width]`` to logits ``[batch, h, w, classes]``."""
    return self.classes(self.dropout(self.hidden(x)))


class PSPNet(nnx.Module):
  """The pyramid pooling of PSPNet, for a backbone of output stride 8.

  The last features are averaged to 1, 2, 3 and 6 bins a side; each of these
  becomes a quarter as wide, is resized again, and stands beside the features
  before the classes. With its backbone ResNet-50, stem ``'deep'``, it has
  49,081,578 parameters for 21 classes.

  Args:
    feature_widths: channels of each stage of the backbone.
    num_classes: number of classes.
    bins: averages a side.
    width: channels before the classes.
    auxiliary_width: channels of the auxiliary head, which stands on the last
      stage but one; 0 for none.
    dropout: share of the channels that is dropped before the classes.
    align_corners: how features are resized, see ``resize.bilinear``; true in
      the author's code.
    dtype: dtype of the convolutions (``None``: float32); BatchNorm and the
      convolutions that give logits are float32.
    kernel_init: how the kernels of convolutions are drawn, as in a `ResNet`;
      the author's code leaves them and the biases to PyTorch, ``'torch'``. By
      default the layers that give logits are drawn as PyTorch does too, with
      zero bias.
    rngs: ``params`` initialises, ``dropout`` drops.

  References:
    Zhao et al., `Pyramid Scene Parsing Network
    <https://arxiv.org/abs/1612.01105>`_, 2017
  """

  def __init__(
    self,
    feature_widths: Sequence[int],
    num_classes: int,
    bins: Sequence[int] = (1, 2, 3, 6),
    width: int = 512,
    auxiliary_width: int = 256,
    dropout: float = 0.1,
    align_corners: bool = True,
    dtype: DTypeLike | None = None,
    kernel_init: str = 'he_fan_out',
    *,
    rngs: nnx.Rngs,
  ):
    in_width = feature_widths[-1]
    pooled = in_width // len(bins)
    self.bins = tuple(bins)
    self.align_corners = align_corners
    conv_norm = _conv_norms(kernel_init, dtype, rngs)
    self.pools = nnx.List(conv_norm(in_width, pooled, 1) for _ in bins)
    self.classifier = Classifier(
      in_width + pooled * len(bins),
      width,
      num_classes,
      dropout,
      dtype,
      kernel_init,
      rngs=rngs,
    )
    self.has_auxiliary = auxiliary_width > 0
    if self.has_auxiliary:
      self.auxiliary = Classifier(
        feature_widths[-2],
        auxiliary_width,
        num_classes,
        dropout,
        dtype,
        kernel_init,
        rngs=rngs,
      )

  def __call__(
    self, features: Sequence[jax.Array], shape: Sequence[int]
  ) -> Maps:
    """Maps the features of the stages to logits of an image's height, width."""
    x = features[-1]
    context = [x]
    for bins, layer in zip(self.bins, self.pools, strict=True):
      pooled = layer(resize.average_pool(x, bins))
      context.append(
        resize.bilinear(pooled, x.shape[1:3], self.align_corners).astype(
          x.dtype
        )
      )
    logits = self.classifier(jnp.concatenate(context, axis=-1))
    logits = _upsampled(logits, shape, self.align_corners)
    if not self.has_auxiliary:
      return Maps(logits)
    auxiliary = self.auxiliary(features[-2])
    return Maps(logits, _upsampled(auxiliary, shape, self.align_corners))

  def last_layers(self) -> Sequence[nnx.Module]:
    """The layers that the logits come from, the auxiliary ones too."""
    auxiliary = [self.auxiliary.classes] if self.has_auxiliary else []
    return [self.classifier.classes, *auxiliary]


class DeepLabV3Plus(nnx.Module):
  """The atrous pyramid of DeepLabv3 and the decoder of DeepLabv3+.

  The last features go through a 1x1 and three dilated 3x3 convolutions and
  through their own mean; the decoder puts them beside those of the first stage.
  With its backbone ResNet-50 it has 39,761,845 parameters for 21 classes and
  one convolution in the decoder, 40,352,181 for two.

  Args:
    feature_widths: channels of each stage of the backbone.
    num_classes: number of classes.
    rates: dilations; (6, 12, 18) at output stride 16, (12, 24, 36) at 8. Where
      one is above the side of the features, only the middle of its kernel
      counts: take smaller ones for small images.
    width: channels of each branch and of the decoder.
    low_width: channels that the first stage's features are reduced to.
    convolutions: 3x3 convolutions of the decoder: 2 in the paper, 1 in
      VainF/DeepLabV3Plus-Pytorch.
    dropout: share that is dropped after the pyramid, number by number.
    decoder_dropout: likewise after each convolution of the decoder.
    align_corners: how features are resized, see ``resize.bilinear``.
    dtype: dtype of the convolutions (``None``: float32); BatchNorm and the
      convolutions that give logits are float32.
    kernel_init: how the kernels of convolutions are drawn, see `PSPNet`. In
      VainF/DeepLabV3Plus-Pytorch all are ``'he_fan_in'``, those that give
      logits too, whose bias is left to PyTorch.
    rngs: ``params`` initialises, ``dropout`` drops.

  References:
    Chen et al., `Encoder-Decoder with Atrous Separable Convolution for Semantic
    Image Segmentation <https://arxiv.org/abs/1802.02611>`_, 2018
  """

  def __init__(
    self,
    feature_widths: Sequence[int],
    num_classes: int,
    rates: Sequence[int] = (6, 12, 18),
    width: int = 256,
    low_width: int = 48,
    convolutions: int = 1,
    dropout: float = 0.1,
    decoder_dropout: Sequence[float] = (),
    align_corners: bool = False,
    dtype: DTypeLike | None = None,
    kernel_init: str = 'he_fan_out',
    *,
    rngs: nnx.Rngs,
  ):
    drops = tuple(decoder_dropout) or (0.0,) * convolutions
    if convolutions < 1 or len(drops) != convolutions:
      raise ValueError(
        f'Cannot build a decoder of convolutions={convolutions} with '
        f'decoder_dropout={tuple(decoder_dropout)}: each convolution has one '
        'dropout. Give 1 or more convolutions and as many numbers, or none.'
      )
    in_width = feature_widths[-1]
    self.align_corners = align_corners
    conv_norm = _conv_norms(kernel_init, dtype, rngs)
    self.branches = nnx.List([conv_norm(in_width, width, 1)])
    for rate in rates:
      self.branches.append(conv_norm(in_width, width, dilation=rate))
    self.pool = conv_norm(in_width, width, 1)
    self.project = conv_norm(width * (len(rates) + 2), width, 1)
    self.dropout = layers.dropout(dropout, rngs)
    self.low = conv_norm(feature_widths[0], low_width, 1)
    self.decoder = nnx.List()
    before = width + low_width
    for _ in drops:
      self.decoder.append(conv_norm(before, width))
      before = width
    self.decoder_dropout = nnx.List(layers.dropout(x, rngs) for x in drops)
    self.classes = _classes(width, num_classes, kernel_init, rngs)

  def __call__(
    self, features: Sequence[jax.Array], shape: Sequence[int]
  ) -> Maps:
    """Maps the features of the stages to logits of an image's height, width."""
    x, low = features[-1], features[0]
    context = [branch(x) for branch in self.branches]
    mean = self.pool(x.mean(axis=(1, 2), keepdims=True))
    context.append(jnp.broadcast_to(mean, context[0].shape))
    x = self.dropout(self.project(jnp.concatenate(context, axis=-1)))
    x = resize.bilinear(x, low.shape[1:3], self.align_corners)
    x = jnp.concatenate([x, self.low(low)], axis=-1)
    for layer, drop in zip(self.decoder, self.decoder_dropout, strict=True):
      x = drop(layer(x))
    return Maps(_upsampled(self.classes(x), shape, self.align_corners))

  def last_layers(self) -> Sequence[nnx.Module]:
    """The layer that the logits come from."""
    return [self.classes]


def _conv_norms(
  kernel_init: str, dtype: DTypeLike | None, rngs: nnx.Rngs
) -> Callable[..., layers.ConvNorm]:
  draw = checks.pick('kernel_init', kernel_init, layers.KERNEL_INITS)
  return functools.partial(
    layers.ConvNorm, kernel_init=draw, dtype=dtype, rngs=rngs
  )


def _classes(
  width: int, num_classes: int, kernel_init: str, rngs: nnx.Rngs
) -> nnx.Conv:
  kernel, bias = layers.KERNEL_INITS[kernel_init], layers.torch_bias(width)
  if kernel_init == 'he_fan_out':
    # It would start with logits of several units where there are few classes.
    kernel, bias = layers.torch_default, nnx.initializers.zeros
  return layers.conv1x1(
    width,
    num_classes,
    use_bias=True,
    kernel_init=kernel,
    bias_init=bias,
    dtype=layers.LOGITS,
    rngs=rngs,
  )


def _upsampled(
  logits: jax.Array, shape: Sequence[int], align_corners: bool
) -> jax.Array:
  return resize.bilinear(logits, shape, align_corners)
