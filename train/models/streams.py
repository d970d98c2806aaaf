"""The random keys of a network that is built while it is traced."""

from typing import Any

import jax
from flax import nnx


class _Draws(nnx.RngStream):
  """Flax's stream with a count that is a number, and no array.

  Flax asks the array of each new count for its sharding. While it is traced the
  answer is an error, whose text costs as much as all that was traced before, so
  that the cost of building a network grows with the square of its layers.
  """

  def __init__(self, key: jax.Array, tag: str):
    super().__init__(key, tag=tag)
    self.drawn = 0

  def __call__(self) -> jax.Array:
    key = jax.random.fold_in(self.key[...], self.drawn)
    self.drawn += 1
    return key

  def fork(
    self, *, split: int | tuple[int, ...] | None = None
  ) -> nnx.RngStream:
    """A stream of its own, for a layer that draws while it is used."""
    del split
    return nnx.RngStream(self(), tag=self.tag)


def streams(key: jax.Array) -> nnx.Rngs:
  """The streams of ``nnx.Rngs(key)``, for building a network inside `jit`.

  Args:
    key: of all streams.

  Returns:
    Streams that draw the same keys.
  """
  rngs: Any = nnx.Rngs(key)
  rngs.default = _Draws(key, tag='default')
  return rngs
