"""Networks that have shapes and no arrays, to count their parameters."""

import math

import jax
import pytest
from flax import nnx


def module(build):
  """Builds a module without arrays.

  Args:
    build: takes ``rngs`` and gives the module.
  """
  with pytest.MonkeyPatch.context() as patch:
    # Flax counts the draws, and asks each count for its sharding. While it is
    # traced the answer is an error, whose text costs as much as all that was
    # traced before: HRNet-W32 takes ten times as long.
    patch.setattr(nnx.RngStream, '__call__', lambda self: self.key[...])
    return nnx.eval_shape(lambda: build(rngs=nnx.Rngs(0)))


def size(model):
  """The number of parameters of a module."""
  params = nnx.state(model, nnx.Param)
  return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
