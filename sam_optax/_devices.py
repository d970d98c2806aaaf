"""What crosses devices: every collective of the library is in this file.

The same program runs on each device, on its own part of the batch. A step on
one device is a step on many with no axes: every function here is then the
identity, or nothing to do.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from sam_optax import _base


class Devices(NamedTuple):
  """Who takes part in a step.

  Attributes:
    axes: names of the axes of devices.
    local: whether each device, or each group of its examples, perturbs along its
      own gradient; otherwise all perturb along the mean one.
    groups: into how many groups each device's examples are split, None where
      they are not.
    group: the number of the group at hand.
  """

  axes: tuple[str, ...] = ()
  local: bool = False
  groups: int | None = None
  group: int | jax.Array = 0


ONE = Devices()


# Groups are an axis of `jax.vmap` without a name, reduced by the batching
# rules of these two: `jax.lax.psum` over a vmapped axis fails inside
# `jax.shard_map` with check_vma=True (jax 0.10.2).
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


def _varying(x: jax.Array) -> frozenset[str]:
  """Axes that x is known to differ along; empty where JAX does not track."""
  return jax.typeof(x).manual_axis_type.varying


def _is_tracked(axis: str) -> bool:
  """Whether JAX knows what differs along an axis: check_vma=True."""
  return axis in _varying(jax.lax.axis_index(axis))


def count(devices: Devices) -> int:
  """How many parts the batch is in."""
  groups = 1 if devices.groups is None else devices.groups
  return groups * (jax.lax.axis_size(devices.axes) if devices.axes else 1)


def index(devices: Devices) -> int | jax.Array:
  """The number of the part at hand."""
  if not devices.axes:
    return devices.group
  groups = 1 if devices.groups is None else devices.groups
  return jax.lax.axis_index(devices.axes) * groups + devices.group


def mean(devices: Devices, tree: _base.PyTree) -> _base.PyTree:
  """The mean over all parts, the same everywhere."""

  def over_all(x):
    if devices.groups is not None:
      x = _group_mean(x)
    # What is known to be equal everywhere is its own mean.
    axes = tuple(
      axis
      for axis in devices.axes
      if axis in _varying(x) or not _is_tracked(axis)
    )
    return jax.lax.pmean(x, axes) if axes else x

  return jax.tree.map(over_all, tree)


def synced_mean(devices: Devices, tree: _base.PyTree) -> _base.PyTree:
  """The mean, or the tree as it is where each perturbs along its own."""
  return tree if devices.local else mean(devices, tree)


def gather(devices: Devices, tree: _base.PyTree) -> _base.PyTree:
  """The rows [part] of all parts, [parts * part], the same everywhere."""

  def from_all(x):
    if devices.groups is not None:
      places = jnp.zeros((devices.groups, *x.shape), x.dtype)
      x = _group_sum(places.at[devices.group].set(x))
      x = x.reshape(-1, *x.shape[2:])
    if not devices.axes:
      return x
    return jax.lax.all_gather(
      vary(devices, x), devices.axes, tiled=True, to='invarying'
    )

  return jax.tree.map(from_all, tree)


def any_of(devices: Devices, flag: jax.Array) -> jax.Array:
  """Whether a boolean scalar holds anywhere."""
  if devices == ONE:
    return flag
  return jnp.any(gather(devices, flag.astype(jnp.int32)[None]) > 0)


def vary(devices: Devices, tree: _base.PyTree) -> _base.PyTree:
  """The same tree, as one that may differ from device to device.

  The gradient by parameters that are known to be equal everywhere is the sum
  over the devices (`jax.shard_map` with check_vma=True); by these it is the
  device's own, as everywhere else.
  """

  def own(x):
    axes = tuple(axis for axis in devices.axes if axis not in _varying(x))
    return jax.lax.pcast(x, axes, to='varying') if axes else x

  return jax.tree.map(own, tree)


def is_own(devices: Devices, tree: _base.PyTree) -> bool:
  """Whether a gradient is the device's own and not of all together."""
  tracked = [axis for axis in devices.axes if _is_tracked(axis)]
  return all(
    axis in _varying(leaf) for leaf in jax.tree.leaves(tree) for axis in tracked
  )


def _is_key(leaf: jax.Array) -> bool:
  return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def own_keys(devices: Devices, state: _base.State) -> _base.State:
  """The state with keys of this part's own, where each perturbs on its own."""
  if not devices.local:
    return state

  def fold(leaf):
    if not _is_key(leaf):
      return leaf
    return jax.random.fold_in(leaf, jnp.asarray(index(devices), jnp.uint32))

  return jax.tree.map(fold, state)


def joined(
  devices: Devices, own: _base.State, shared: Callable[[], _base.State]
) -> _base.State:
  """One state after each part moved its own.

  Its numbers are the means. Its counts and keys have none, so they are those of
  `shared()`, the state after a step on the mean gradient.
  """
  if not devices.local:
    return own

  def join(x, y):
    is_number = jnp.issubdtype(x.dtype, jnp.inexact)
    return mean(devices, x) if is_number else y

  return jax.tree.map(join, own, shared())


def choose(
  devices: Devices, positions: Callable[..., jax.Array], *values: jax.Array
) -> jax.Array:
  """Positions that a function of per-example values chooses, for `rows`.

  Each part chooses from its own examples, or all together from the whole batch
  and then each takes its share of those chosen.
  """
  if devices.local or not devices.axes:
    return positions(*values)
  chosen = positions(*gather(devices, values))
  share, rest = divmod(chosen.shape[0], count(devices))
  if rest:
    raise ValueError(
      f'Given a method that asks {chosen.shape[0]} examples of the whole '
      f'batch, on {count(devices)} devices. With perturbation="synced" each '
      'device takes an equal number of them. Change the batch size or the '
      'share that is kept, or use perturbation="local".'
    )
  return jax.lax.dynamic_slice_in_dim(chosen, index(devices) * share, share)


def rows(
  devices: Devices, positions: jax.Array, tree: _base.PyTree
) -> _base.PyTree:
  """The rows of every leaf at positions that `choose` gave."""
  if devices.axes and not devices.local:
    tree = gather(devices, tree)
  # NumPy's arrays take no traced positions.
  return jax.tree.map(lambda x: jnp.asarray(x)[positions], tree)
