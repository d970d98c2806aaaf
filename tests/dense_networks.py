"""The least networks that segmentation and pose can train, and small ones."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from tests import abstract
from train import models
from train.models import layers
from train.models.heads.segmentation import Maps
from train.models.heads.simcc import Coordinates


class Pixelwise(nnx.Module):
  """A hidden layer on each 3x3 pixels, with BatchNorm or without."""

  def __init__(self, num_classes, image_shape, norm=True, dtype=None, *, rngs):
    hidden = layers.ConvNorm if norm else layers.conv3x3
    self.hidden = hidden(image_shape[-1], 8, dtype=dtype, rngs=rngs)
    self.classes = nnx.Conv(8, num_classes, (1, 1), dtype=dtype, rngs=rngs)

  def __call__(self, images):
    return Maps(self.classes(self.hidden(images)).astype(jnp.float32))


class Rough(nnx.Module):
  """A dense layer for each axis, on means of 8x8 pixels."""

  def __init__(
    self, joints, split, image_shape, norm=True, dtype=None, *, rngs
  ):
    height, width, channels = image_shape
    places = (height // 8) * (width // 8) * channels
    self.joints = joints
    self.norm = layers.norm(places, rngs=rngs) if norm else lambda x: x
    self.x, self.y = (
      nnx.Linear(places, joints * side * split, dtype=dtype, rngs=rngs)
      for side in (width, height)
    )

  def __call__(self, images):
    batch, height, width, channels = images.shape
    cells = images.reshape(batch, height // 8, 8, width // 8, 8, channels)
    flat = self.norm(cells.mean((2, 4)).reshape(batch, -1))
    return Coordinates(
      *(
        layer(flat).reshape(batch, self.joints, -1).astype(jnp.float32)
        for layer in (self.x, self.y)
      )
    )


# By name, beside the networks of the program.
NETWORKS = {'pixelwise': Pixelwise, 'rough': Rough}

# With features as small as they can be and every stage of its own.
SMALL = functools.partial(
  models.ResNet,
  num_classes=0,
  image_shape=(33, 41, 3),
  widths=(4, 6, 8, 12),
  blocks=(1, 2, 1, 1),
  block='bottleneck',
  stem='imagenet',
)


def seeded(build):
  """A module whose parameters are all away from zero."""
  graphdef, state = nnx.split(abstract.module(build))
  rng = np.random.default_rng(0)

  def drawn(leaf):
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
      return jax.random.key(0)
    if jnp.issubdtype(leaf.dtype, jnp.integer):  # A count of draws.
      return jnp.zeros(leaf.shape, leaf.dtype)
    if leaf.ndim == 1:  # Scales and variances are positive.
      return jnp.asarray(rng.uniform(0.5, 1.5, leaf.shape), leaf.dtype)
    fan_in = max(1, math.prod(leaf.shape[:-1]))
    return jnp.asarray(rng.normal(size=leaf.shape) / fan_in**0.5, leaf.dtype)

  return nnx.merge(graphdef, jax.tree.map(drawn, nnx.to_pure_dict(state)))
