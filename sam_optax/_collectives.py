"""Communication between devices: every collective of the library.

The same program runs on each device, on its own part of the batch. On one
device every function here is the identity, or nothing to do.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from sam_optax import _base


class Collectives(NamedTuple):
  """The devices that take part in a step.

  Its two methods are the hooks that the spine calls; the functions of this
  module are for evaluations and selections. A shard is the part of the batch
  that one device has, or one group of its examples.

  Attributes:
    axes: names of the axes of devices.
    local: whether each shard perturbs along its own gradient; otherwise all
      perturb along the mean gradient. Groups are always local.
    groups: the number of groups that each device's examples are split into,
      None where they are not split.
    group: the number of the group at hand.
  """

  axes: tuple[str, ...] = ()
  local: bool = False
  groups: int | None = None
  group: int | jax.Array = 0

  def mean_of_own(self, tree: _base.PyTree) -> _base.PyTree:
    """The mean over shards that each have their own; else the tree itself."""
    return mean(self, tree) if self.local else tree

  def with_own_keys(self, state: _base.State) -> _base.State:
    """The state with keys of this shard's own, where each draws for itself."""
    if not self.local:
      return state

    def fold(leaf):
      if not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return leaf
      return jax.random.fold_in(leaf, jnp.asarray(index(self), jnp.uint32))

    return jax.tree.map(fold, state)


SINGLE_DEVICE = Collectives()


# Groups are an axis of `jax.vmap` without a name, reduced by the batching
# rules of these two: `jax.lax.psum` over a vmapped axis fails inside
# `jax.shard_map` with check_vma=True (jax 0.10.2). The rule answers to the
# innermost `vmap` that its argument depends on, so the argument must depend on
# the group: else a `vmap` of the caller, over runs, would be reduced instead,
# and `jax.grad` of the caller would meet a function that has no transpose.
@jax.custom_batching.custom_vmap
def _group_mean(x):
  return x


@_group_mean.def_vmap
def _group_mean_rule(size, is_mapped, x):
  del size, is_mapped
  return jnp.mean(x, axis=0), False


@jax.custom_batching.custom_vmap
def _group_sum(x):
  return x


@_group_sum.def_vmap
def _group_sum_rule(size, is_mapped, x):
  del size, is_mapped
  return jnp.sum(x, axis=0, dtype=x.dtype), False


def _by_group(collectives: Collectives, x: jax.Array) -> jax.Array:
  """X itself, as a value that depends on the group."""
  return jnp.where(jnp.asarray(collectives.group) >= 0, x, x)


def _varying(x: jax.Array) -> frozenset[str]:
  """Axes that x is known to differ along; empty where JAX does not track."""
  return jax.typeof(x).manual_axis_type.varying


def _is_tracked(axis: str) -> bool:
  """Whether JAX knows what differs along an axis: check_vma=True."""
  return axis in _varying(jax.lax.axis_index(axis))


def count(collectives: Collectives) -> int:
  """The number of shards."""
  groups = 1 if collectives.groups is None else collectives.groups
  return groups * (
    jax.lax.axis_size(collectives.axes) if collectives.axes else 1
  )


def index(collectives: Collectives) -> int | jax.Array:
  """The number of this shard, from 0."""
  if not collectives.axes:
    return collectives.group
  groups = 1 if collectives.groups is None else collectives.groups
  return jax.lax.axis_index(collectives.axes) * groups + collectives.group


def mean(collectives: Collectives, tree: _base.PyTree) -> _base.PyTree:
  """The mean over all shards, the same everywhere."""

  def over_all(x):
    if collectives.groups is not None:
      x = _group_mean(_by_group(collectives, x))
    # What is known to be equal everywhere is its own mean.
    axes = tuple(
      axis
      for axis in collectives.axes
      if axis in _varying(x) or not _is_tracked(axis)
    )
    return jax.lax.pmean(x, axes) if axes else x

  return jax.tree.map(over_all, tree)


def gather(collectives: Collectives, tree: _base.PyTree) -> _base.PyTree:
  """The rows of all shards, [shards * rows], the same everywhere."""

  def from_all(x):
    if collectives.groups is not None:
      places = jnp.zeros((collectives.groups, *x.shape), x.dtype)
      x = _group_sum(places.at[collectives.group].set(x))
      x = x.reshape(-1, *x.shape[2:])
    if not collectives.axes:
      return x
    return jax.lax.all_gather(
      vary(collectives, x), collectives.axes, tiled=True, to='invarying'
    )

  return jax.tree.map(from_all, tree)


def total(collectives: Collectives, number: jax.Array) -> jax.Array:
  """The sum of a scalar over all shards, the same everywhere."""
  return jnp.sum(gather(collectives, number[None]), dtype=number.dtype)


def any_of(collectives: Collectives, flag: jax.Array) -> jax.Array:
  """Whether a boolean scalar holds anywhere."""
  if not collectives.axes and collectives.groups is None:
    return flag
  return jnp.any(gather(collectives, flag.astype(jnp.int32)[None]) > 0)


def vary(collectives: Collectives, tree: _base.PyTree) -> _base.PyTree:
  """The same tree, typed as one that may differ between devices.

  In `jax.shard_map` with check_vma=True, the gradient by a value that is typed
  as equal on all devices is summed over them. By the retyped value it is the
  gradient of this device alone. Elsewhere this is the identity.
  """

  def own(x):
    axes = tuple(axis for axis in collectives.axes if axis not in _varying(x))
    return jax.lax.pcast(x, axes, to='varying') if axes else x

  return jax.tree.map(own, tree)


def is_own(collectives: Collectives, tree: _base.PyTree) -> bool:
  """Whether a gradient is the device's own and not of all together."""
  tracked = [axis for axis in collectives.axes if _is_tracked(axis)]
  return all(
    axis in _varying(leaf) for leaf in jax.tree.leaves(tree) for axis in tracked
  )


def choose(
  collectives: Collectives,
  positions: Callable[..., jax.Array],
  *values: jax.Array,
) -> jax.Array:
  """Positions that a function of per-example values chooses, for `rows`.

  Each shard chooses from its own examples, or all together choose from the
  whole batch, and each takes an equal share of the chosen examples.
  """
  if collectives.local or not collectives.axes:
    return positions(*values)
  chosen = positions(*gather(collectives, values))
  share, rest = divmod(chosen.shape[0], count(collectives))
  if rest:
    raise ValueError(
      f'Given a method that keeps {chosen.shape[0]} examples of the whole '
      f'batch, on {count(collectives)} devices. With perturbation="synced" '
      'each device takes an equal number of them. Change the batch size or the '
      'share that is kept, or use perturbation="local".'
    )
  return jax.lax.dynamic_slice_in_dim(chosen, index(collectives) * share, share)


def rows(
  collectives: Collectives, positions: jax.Array, tree: _base.PyTree
) -> _base.PyTree:
  """The rows of every leaf at positions that `choose` gave."""
  if collectives.axes and not collectives.local:
    tree = gather(collectives, tree)
  # NumPy's arrays take no traced positions.
  return jax.tree.map(lambda x: jnp.asarray(x)[positions], tree)
