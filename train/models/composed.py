"""A backbone with a head on its features."""

from collections.abc import Sequence
from typing import Any

import jax
from flax import nnx


class Composed(nnx.Module):
  """A network that gives what its head makes of its backbone's features.

  Args:
    backbone: has ``features``, from images to a tuple of features, the last one
      of the greatest stride.
    head: a function of the features and of the images' height and width, whose
      ``last_layers`` gives the layers that its outputs come from.
  """

  def __init__(self, backbone: nnx.Module, head: nnx.Module):
    self.backbone: Any = backbone
    self.head: Any = head

  def __call__(self, images: jax.Array) -> Any:
    """Maps ``[batch, h, w, c]`` to what the head gives."""
    return self.head(self.backbone.features(images), images.shape[1:3])

  def last_layers(self) -> Sequence[nnx.Module]:
    """The layers that the outputs come from, the head's."""
    return self.head.last_layers()
