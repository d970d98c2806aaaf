"""Vision transformers, pre-norm, with a class token or mean pooling."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from train import checks
from train.models import layers

_xavier = nnx.initializers.xavier_uniform()
_linear = functools.partial(
  nnx.Linear, kernel_init=_xavier, bias_init=nnx.initializers.normal(1e-6)
)


def _norm(width: int, rngs: nnx.Rngs) -> nnx.LayerNorm:
  return nnx.LayerNorm(width, epsilon=1e-6, dtype=jnp.float32, rngs=rngs)


class EncoderBlock(nnx.Module):
  """Attention and MLP, each normalised before and added after.

  Args:
    width: size of a token.
    heads: attention heads, a divisor of ``width``.
    mlp: size of the hidden layer.
    dropout: share dropped of both outputs and of the hidden layer.
    dtype: dtype of the products (``None``: float32); the sums are float32.
    rngs: ``params`` initialises the kernels, ``dropout`` draws the masks.
  """

  def __init__(
    self,
    width: int,
    heads: int,
    mlp: int,
    dropout: float = 0.0,
    dtype: DTypeLike | None = None,
    *,
    rngs: nnx.Rngs,
  ):
    self.norm1 = _norm(width, rngs)
    self.attention = nnx.MultiHeadAttention(
      heads, width, dtype=dtype, kernel_init=_xavier, decode=False, rngs=rngs
    )
    self.norm2 = _norm(width, rngs)
    self.fc1 = _linear(width, mlp, dtype=dtype, rngs=rngs)
    self.fc2 = _linear(mlp, width, dtype=dtype, rngs=rngs)
    self.dropout = nnx.List(layers.dropout(dropout, rngs) for _ in range(3))

  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps float32 tokens ``[batch, tokens, width]`` to the same shape."""
    y = self.dropout[0](self.attention(self.norm1(x)))
    x = x + y.astype(jnp.float32)
    y = self.dropout[1](nnx.gelu(self.fc1(self.norm2(x)), approximate=False))
    y = self.dropout[2](self.fc2(y))
    return x + y.astype(jnp.float32)


class ViT(nnx.Module):
  """A vision transformer.

  As options in a config, each with ``'name': 'vit'``:

  - ViT-Ti/16: ``'patch': 16, 'width': 192, 'heads': 3`` (the default)
  - ViT-S/16 and DeiT-S: ``'patch': 16, 'width': 384, 'heads': 6``
  - ViT-B/16: ``'patch': 16, 'width': 768, 'heads': 12``
  - ViT-Ti/4, for 32x32 images: ``'patch': 4, 'width': 192, 'heads': 3``

  The layers follow the paper and timm: a learned position for the
  class token too, exact GELU, LayerNorm with epsilon 1e-6. The initialisation
  is that of google-research/vision_transformer, on which R-SAM's code stands:
  Xavier uniform, query, key and value each by itself; LeCun-normal patches;
  positions normal with deviation 0.02; class token and head zero. A zero head
  lets no gradient through, so on the first step only the head moves.

  Both recipes start from ``head_bias=-10.0`` under a sigmoid loss: R-SAM's with
  ``representation=768, dropout=0.1`` (ViT-B/16), GSAM's, in big_vision, with
  ``pool='mean'``. Both have GELU in its tanh approximation, and big_vision has
  positions of deviation ``width ** -0.5`` and none for a class token.

  Args:
    num_classes: number of logits, at least 1.
    image_shape: ``(height, width, channels)`` of one image.
    patch: side of a patch, a divisor of height and width.
    width: size of a token.
    depth: number of blocks.
    heads: attention heads, a divisor of ``width``.
    mlp: size of the hidden layers (``None``: four times ``width``).
    dropout: share dropped after the positions, in each hidden layer and of
      each branch's output; attention weights are not dropped.
    pool: what the head reads: ``'token'`` (the class token) or ``'mean'`` (of
      all tokens; then there is no class token).
    representation: size of a tanh layer before the head (``None``: no layer).
    head_bias: initial value of the head's bias.
    remat: whether the backward pass keeps the tokens between the blocks only
      and computes each block anew: less memory for one more forward pass.
    dtype: dtype of the products (``None``: float32); LayerNorm, the sums and
      the head are float32.
    rngs: ``params`` initialises the kernels, ``dropout`` draws the masks.

  References:
    Dosovitskiy et al., `An Image is Worth 16x16 Words: Transformers for Image
    Recognition at Scale <https://arxiv.org/abs/2010.11929>`_, 2021

    Touvron et al., `Training data-efficient image transformers & distillation
    through attention <https://arxiv.org/abs/2012.12877>`_, 2021
  """

  def __init__(
    self,
    num_classes: int,
    image_shape: Sequence[int],
    patch: int = 16,
    width: int = 192,
    depth: int = 12,
    heads: int = 3,
    mlp: int | None = None,
    dropout: float = 0.0,
    pool: str = 'token',
    representation: int | None = None,
    head_bias: float = 0.0,
    remat: bool = False,
    dtype: DTypeLike | None = None,
    *,
    rngs: nnx.Rngs,
  ):
    rows, columns, channels = image_shape
    _check(rows, columns, patch, width, heads)
    self.pool = checks.pick('pool', pool, {'token': 'token', 'mean': 'mean'})
    self.patches = nnx.Conv(
      channels,
      width,
      kernel_size=(patch, patch),
      strides=patch,
      padding='VALID',
      dtype=dtype,
      rngs=rngs,
    )
    tokens = (rows // patch) * (columns // patch)
    if pool == 'token':
      self.token = nnx.Param(jnp.zeros((1, 1, width)))
      tokens += 1
    draw = nnx.initializers.normal(0.02)
    self.positions = nnx.Param(draw(rngs.params(), (1, tokens, width)))
    self.dropout = layers.dropout(dropout, rngs)
    self.blocks = nnx.List(
      EncoderBlock(width, heads, mlp or 4 * width, dropout, dtype, rngs=rngs)
      for _ in range(depth)
    )
    self.remat = remat
    self.norm = _norm(width, rngs)
    self.represents = representation is not None
    if representation is not None:
      self.representation = nnx.Linear(
        width, representation, dtype=dtype, rngs=rngs
      )
    self.head = nnx.Linear(
      representation or width,
      num_classes,
      dtype=layers.LOGITS,
      kernel_init=nnx.initializers.zeros,
      bias_init=nnx.initializers.constant(head_bias),
      rngs=rngs,
    )

  def __call__(self, images: jax.Array) -> jax.Array:
    """Maps ``[batch, h, w, c]`` to float32 logits ``[batch, classes]``."""
    x = self.patches(images).astype(jnp.float32)
    x = x.reshape(x.shape[0], -1, x.shape[-1])
    if self.pool == 'token':
      token = jnp.broadcast_to(self.token[...], (len(x), 1, x.shape[-1]))
      x = jnp.concatenate([token, x], axis=1)
    x = self.dropout(x + self.positions[...])
    run = EncoderBlock.__call__
    if self.remat:
      run = nnx.remat(run)
    for block in self.blocks:
      x = run(block, x)
    x = self.norm(x)
    x = x[:, 0] if self.pool == 'token' else x.mean(axis=1)
    if self.represents:
      x = jnp.tanh(self.representation(x))
    return self.head(x)


def _check(rows: int, columns: int, patch: int, width: int, heads: int) -> None:
  if rows % patch or columns % patch:
    raise ValueError(
      f'Cannot cut images of {rows}x{columns} pixels into patches of '
      f'patch={patch}: pixels would be left over. Give a divisor of height and '
      'width, such as patch=4 for 32x32 or patch=16 for 224x224.'
    )
  if width % heads:
    raise ValueError(
      f'Cannot build a ViT with width={width} and heads={heads}: each head '
      'takes an equal part of a token. Give a multiple of heads as width, such '
      'as width=192, heads=3.'
    )
