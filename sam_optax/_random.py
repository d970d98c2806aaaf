"""Keys and draws: each step's draw depends on the state's key and step only.

So the same seed gives the same run, and a run resumed from a checkpoint draws
what the run without a break would have drawn.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sam_optax import _base, _check, _tree


def make_key(key: _base.Key) -> jax.Array:
  """A typed PRNG key of its own buffer, from an int seed or any key.

  The copy matters: a state that held the caller's key would delete it when
  the state is donated.
  """
  _check.key('key', key)
  if not isinstance(key, jax.Array | np.ndarray):
    return jax.random.key(key)
  if jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
    data, implementation = jax.random.key_data(key), jax.random.key_impl(key)
  elif key.ndim == 1:  # an old-style uint32 key
    data, implementation = key, None
  else:
    return jax.random.key(key)
  return jax.random.wrap_key_data(
    jnp.array(data, copy=True), impl=implementation
  )


# Counted down from here, so that the number of a key is never that of a step or
# of a device, which are folded into keys as well.
_LAST = 2**32 - 1


def distinct_keys(state: _base.State) -> _base.State:
  """The state of several parts, with another key for each copy of a key.

  Two parts with one key, such as the default of both, would draw the same
  numbers: whether a cadence perturbs would decide which examples a selection
  keeps. The first of them keeps its key, and a key without a copy stays bit for
  bit.

  Args:
    state: a tree of arrays; its typed keys are compared in order.

  Returns:
    A tree of the same structure.
  """
  leaves, structure = jax.tree.flatten(state)
  keys = []
  for place, leaf in enumerate(leaves):
    if not _tree.is_key(leaf) or leaf.ndim:
      continue
    equal = [leaf == key for key in keys if key.dtype == leaf.dtype]
    if equal:
      # Not a branch in Python: under `jit` the keys may be traced.
      other = jax.random.fold_in(leaf, _LAST - len(keys))
      leaf = jnp.where(functools.reduce(jnp.logical_or, equal), other, leaf)
      leaves[place] = leaf
    keys.append(leaf)
  return jax.tree.unflatten(structure, leaves)


def uniform(key: jax.Array, step: jax.Array) -> jax.Array:
  """This step's draw from U[0, 1)."""
  return jax.random.uniform(jax.random.fold_in(key, step))


def uniforms(key: jax.Array, step: jax.Array, size: int) -> jax.Array:
  """This step's draws from U[0, 1), [size]."""
  return jax.random.uniform(jax.random.fold_in(key, step), (size,))


def normal_like(
  key: jax.Array, step: jax.Array, tree: _base.PyTree
) -> _base.PyTree:
  """This step's standard normal draws, shaped as a tree, float32 or wider.

  Each number is a function of the key, the step, the place of its leaf in the
  tree and its own place in the leaf. So it is the same however the leaf is
  sharded, and no device needs another for its part. All of it is arithmetic on
  single elements, which XLA compiles into one loop per kernel, and per shape of
  the other leaves. `benchmarks/results` compares it with the generators of JAX.

  The draws have 23 bits, and those of wider leaves are cast from float32.
  """
  leaves, structure = jax.tree.flatten(tree)
  words = jax.random.bits(
    jax.random.fold_in(key, step), (len(leaves), 2), jnp.uint32
  )
  draws: list[Any] = [None] * len(leaves)
  for numbers in _compiled_together(leaves):
    found = _normals(words[np.asarray(numbers)], leaves[numbers[0]].shape)
    for row, number in enumerate(numbers):
      draws[number] = found[row].astype(_tree.wide(leaves[number].dtype))
  return jax.tree.unflatten(structure, draws)


def _compiled_together(leaves: Sequence[jax.Array]) -> list[list[int]]:
  """The numbers of the leaves in groups, each of which is one loop.

  Most leaves of a network are vectors of a few lengths, and compiling a loop
  takes the same time however short it is. Larger leaves of one shape may be
  sharded along different axes, and then a device would need another.
  """
  groups = {}
  for number, leaf in enumerate(leaves):
    alone = number if leaf.ndim > 1 else None
    groups.setdefault((leaf.shape, alone), []).append(number)
  return list(groups.values())


# Of Threefry-2x32, as in `jax.random`. Its authors found 13 rounds to pass all
# of their tests of randomness (Salmon et al., 2011, table 2); JAX makes 20.
_ROTATIONS = (13, 15, 26, 6, 17, 29, 16, 24)
_PARITY = 0x1BD11BDA
_NUM_ROUNDS = 13


def threefry(
  key: tuple[jax.Array, jax.Array], count: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array]:
  """Threefry-2x32 with 13 rounds: random bits from a key and a counter.

  Args:
    key: two words, uint32 scalars.
    count: two words, uint32 of any shape.

  Returns:
    Two words, uint32 of that shape.
  """
  schedule = (*key, key[0] ^ key[1] ^ jnp.uint32(_PARITY))
  x, y = count[0] + schedule[0], count[1] + schedule[1]
  for number in range(_NUM_ROUNDS):
    shift = _ROTATIONS[number % len(_ROTATIONS)]
    x = x + y
    y = ((y << shift) | (y >> (32 - shift))) ^ x
    if number % 4 == 3:
      group = number // 4 + 1
      x = x + schedule[group % 3]
      # The words of the key are scalars, and this sum is one.
      y = y + (schedule[(group + 1) % 3] + jnp.uint32(group))
  return x, y


def _place(shape: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
  """The place of each element: along the first axis, and within the others."""
  if not shape:
    return jnp.zeros([], jnp.uint32), jnp.zeros([], jnp.uint32)
  # By axis, because XLA can shard that; not by the reshape of a flat range.
  along = lambda axis: jax.lax.broadcasted_iota(jnp.uint32, shape, axis)
  rest, stride = jnp.zeros(shape, jnp.uint32), 1
  for axis in reversed(range(1, len(shape))):
    rest = rest + along(axis) * jnp.uint32(stride)
    stride *= shape[axis]
  return along(0), rest


# Compiled as a function of its own, so that JAX traces it once for each shape
# and not for each leaf: of R-SAM's step, tracing took a third of the time.
@functools.partial(jax.jit, static_argnames='shape')
def _normals(words: jax.Array, shape: tuple[int, ...]) -> jax.Array:
  """A row of standard normal draws for each row of words, uint32 [rows, 2]."""
  return jax.vmap(lambda pair: _normal(pair, shape))(words)


def _normal(words: jax.Array, shape: tuple[int, ...]) -> jax.Array:
  """Standard normal draws, float32, from two words of a key."""
  bits, _ = threefry((words[0], words[1]), _place(shape))
  # A float in [2, 4) by its bits, then an odd multiple of 2**-23 in (-1, 1):
  # never an end, and as often u as -u.
  float_bits = (bits >> 9) | jnp.uint32(0x40000000)
  u = jax.lax.bitcast_convert_type(float_bits, jnp.float32) - 3 + 2.0**-23
  return _quantile(u)


# Of u / z in powers of -log(1 - u^2), with the least relative error up to the
# greatest |u|: 2.8e-4. The draws have variance 0.99993 and kurtosis 3.0007.
_QUANTILE = (
  0.797659218,
  -0.207437456,
  0.0425725617,
  -0.00593640003,
  0.000543939241,
  -3.10884207e-05,
  9.98253199e-07,
  -1.36890632e-08,
)


def _quantile(u: jax.Array) -> jax.Array:
  """The normal number z with P(|Z| < |z|) = |u| and the sign of u.

  `jax.lax.erf_inv` takes a second polynomial for the tails and a root, and
  twice as long.
  """
  tail = -jnp.log((1 - u) * (1 + u))
  ratio = jnp.full_like(u, _QUANTILE[-1])
  for coefficient in reversed(_QUANTILE[:-1]):
    ratio = ratio * tail + coefficient
  # Divided at the end, and not multiplied by a polynomial of z / u: XLA repeats
  # cheap operations in every loop that reads their result, and a division is
  # not one of them. All bits would be drawn anew wherever the noise is read.
  return u / ratio


def gumbel(key: jax.Array, step: jax.Array, size: int) -> jax.Array:
  """This step's standard Gumbel draws, float32 [size]."""
  step_key = jax.random.fold_in(key, step)
  return jax.random.gumbel(step_key, (size,), jnp.float32)
