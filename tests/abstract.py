"""Networks that have shapes and no arrays, to count their parameters."""

import math

import jax
from flax import nnx

from train.models.streams import streams


def module(build):
  """Builds a module without arrays.

  Args:
    build: takes ``rngs`` and gives the module.
  """
  return nnx.eval_shape(lambda: build(rngs=streams(jax.random.key(0))))


def size(model):
  """The number of parameters of a module."""
  params = nnx.state(model, nnx.Param)
  return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
