"""A multilayer perceptron: the smallest model that trains."""

import math
from collections.abc import Sequence

import jax
from flax import nnx
from jax.typing import DTypeLike

from train.models import layers


class MLP(nnx.Module):
  """Dense layers with ReLU between them, over the flattened image.

  Hidden kernels are He-normal (fan in), the head's LeCun-normal, biases zero;
  parameters are float32.

  Args:
    num_classes: number of logits, at least 1.
    image_shape: ``(height, width, channels)`` of one image.
    hidden: width of each hidden layer; empty gives a linear classifier.
    dtype: dtype of the hidden layers (``None``: float32); the head is float32.
    rngs: the ``params`` stream initialises the kernels.
  """

  def __init__(
    self,
    num_classes: int,
    image_shape: Sequence[int],
    hidden: Sequence[int] = (128, 128),
    dtype: DTypeLike | None = None,
    *,
    rngs: nnx.Rngs,
  ):
    sizes = (math.prod(image_shape), *hidden)
    self.hidden = nnx.List(
      nnx.Linear(
        fan_in,
        fan_out,
        dtype=dtype,
        kernel_init=nnx.initializers.he_normal(),
        rngs=rngs,
      )
      for fan_in, fan_out in zip(sizes[:-1], sizes[1:], strict=True)
    )
    self.head = nnx.Linear(
      sizes[-1], num_classes, dtype=layers.LOGITS, rngs=rngs
    )

  def __call__(self, images: jax.Array) -> jax.Array:
    """Maps ``[batch, h, w, c]`` to float32 logits ``[batch, classes]``."""
    x = images.reshape(images.shape[0], -1)
    for layer in self.hidden:
      x = nnx.relu(layer(x))
    return self.head(x)
