"""The devices of a run: which rows each takes, and what they average.

A batch's rows are split over a mesh of devices, in order. By the routes `pmap`
and `shard_map` each device takes the step on its own rows, and what differs is
averaged; by `jit` the step is written for one device, and XLA splits it up.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import sam_optax
from train.checks import ConfigError

ROUTES = ('pmap', 'shard_map', 'jit')
# Of the mesh. Rows are split over both, parameters over the second.
AXES = ('data', 'shard')
_WHOLE = PartitionSpec()


class Devices(NamedTuple):
  """The devices of a run, and the route by which a step runs on them.

  Attributes:
    mesh: None for one device without any: then nothing here does anything.
    route: one of `ROUTES`.
    perturbation: 'local' or 'synced', see `sam_optax.parallel`.
    group: how many examples share one perturbation, None for all of a device.
      The groups of a device share what the network draws (dropout).
  """

  mesh: Mesh | None = None
  route: str = 'jit'
  perturbation: str = 'local'
  group: int | None = None

  # Of a tuple's own count nobody makes use.
  @property
  def count(  # pyright: ignore[reportIncompatibleMethodOverride]
    self,
  ) -> int:
    """The number of devices."""
    return 1 if self.mesh is None else self.mesh.size

  @property
  def _axes(self) -> tuple[str, ...]:
    """The axes that a step can average over: none where XLA splits it up."""
    own = self.mesh is not None and self.route != 'jit'
    return AXES[:1] if own else ()

  # What a step does on its own device.

  def parallel(self, method: sam_optax.SharpnessAware):
    """The method as these devices run it."""
    axes = self._axes or None
    if axes is None and self.group is None:
      return method
    try:
      return sam_optax.parallel(method, axes, self.perturbation, self.group)
    except ValueError as error:
      raise ConfigError(f'In perturbation: {error}') from error

  def own(self, tree: Any) -> Any:
    """A tree whose keys are the device's own, so that draws differ."""
    if not self._axes:
      return tree
    index = jax.lax.axis_index(self._axes).astype(jnp.uint32)
    fold = lambda x: jax.random.fold_in(x, index) if is_key(x) else x
    return jax.tree.map(fold, tree)

  def common(self, tree: Any, before: Any) -> Any:
    """Averages what each device computed from its own rows.

    Numbers are averaged: BatchNorm normalises by the rows at hand, a device's
    or a group's, and its running statistics are the means. By `jit` it
    normalises by the whole batch.

    Args:
      tree: the device's own; of groups, with an axis of groups before.
      before: the tree that it was made of, with the keys.

    Returns:
      A tree that is the same everywhere.
    """
    if not self._axes and self.group is None:
      return tree

    def one(x, before):
      if is_key(x):
        return before
      is_number = jnp.issubdtype(x.dtype, jnp.inexact)
      if self.group is not None:
        x = jnp.mean(x, axis=0) if is_number else x[0]
      if self._axes:
        # Counts are equal everywhere; by their maximum JAX knows it too.
        over_all = jax.lax.pmean if is_number else jax.lax.pmax
        x = over_all(x, self._axes)
      return x

    return jax.tree.map(one, tree, before)

  def mean(self, x: jax.Array) -> jax.Array:
    """The mean over devices of what each computed from its own rows."""
    return jax.lax.pmean(x, self._axes) if self._axes else x

  def spread(self, tree: Any) -> Any:
    """Spreads rows that were chosen from a batch over the devices again.

    By `jit` XLA would have every device take all of what was chosen. The rows
    of a group stay where they are, and so do those that cannot be split evenly.
    """
    if self.mesh is None or self.route != 'jit' or self.group is not None:
      return tree
    over_rows = self._sharding(self._over_rows)

    def place(x):
      if x.shape[0] % self.count:
        return x
      return jax.lax.with_sharding_constraint(x, over_rows)

    return jax.tree.map(place, tree)

  # What the host does.

  def compile(
    self,
    function: Callable[..., Any],
    arguments: Sequence[Any],
    split: Sequence[Any] | None = None,
  ) -> Callable[..., Any]:
    """Compiles a function; see `lower`."""
    return self.lower(function, arguments, split).compile()

  def lower(
    self,
    function: Callable[..., Any],
    arguments: Sequence[Any],
    split: Sequence[Any] | None = None,
    donated: Sequence[int] = (),
  ) -> Any:
    """Traces a function for arguments like these.

    Args:
      function: what to compile.
      arguments: placed as it will get them.
      split: for each argument whether `batch` placed its rows: a bool, or a
        tree of them that begins as the argument does; without it all devices
        do the same.
      donated: the numbers of the arguments whose memory it is given.

    Returns:
      What `compile` makes a function of, in any thread. What the function
      returns is placed as `place` does.
    """
    jit = functools.partial(jax.jit, donate_argnums=donated)
    if self.mesh is None:
      jitted = jit(function)
    elif split is None or self.route == 'jit':
      shapes = jax.eval_shape(function, *arguments)
      jitted = jit(function, out_shardings=self._shardings(shapes))
    elif self.route == 'shard_map':
      jitted = jit(self._mapped(function, split))
    else:
      jitted = jax.pmap(
        function,
        AXES[0],
        in_axes=jax.tree.map(lambda own: 0 if own else None, tuple(split)),
        out_axes=None,
        devices=list(self.mesh.devices.flat),
        donate_argnums=donated,
      )
    return jitted.lower(*arguments)

  def jit(self, function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of placed arguments, whose results every process can read."""
    if self.mesh is None:
      return jax.jit(function)
    return jax.jit(function, out_shardings=self._sharding(_WHOLE))

  def try_out(
    self,
    function: Callable[..., Any],
    arguments: Sequence[Any],
    split: Sequence[Any],
  ) -> None:
    """Traces a function as `compile` would, so that its errors are raised."""
    if self._axes:
      function = self._mapped(function, split)
    jax.eval_shape(function, *arguments)

  def own_rows(self, size: int) -> np.ndarray:
    """Which of so many rows the devices of this process take, in order."""
    if self.mesh is None:
      return np.arange(size)
    places = self._sharding(self._over_rows).addressable_devices_indices_map(
      (size,)
    )
    rows = [np.arange(size)[place] for place in places.values()]
    return np.unique(np.concatenate(rows))

  def batch(self, tree: Any, size: int | None = None) -> Any:
    """The rows of a step's batch, each on its device.

    Args:
      tree: all rows; or only `own_rows(size)`, if a size is given.
      size: of the whole batch.

    Returns:
      The rows as a step takes them by this route.
    """
    if self.mesh is None:
      return tree
    if self.route == 'pmap':
      count = self.count

      def split(x):
        return x.reshape(-1, (size or len(x)) // count, *x.shape[1:])

      tree, size = jax.tree.map(split, tree), size and count
    return self.split(tree, size)

  def split(self, tree: Any, size: int | None = None) -> Any:
    """Rows as `jit` takes them; their number is a multiple of the devices'."""
    return self._put(tree, self._over_rows, size)

  def copies(self, tree: Any) -> Any:
    """A copy on every device."""
    if self.mesh is None:
      return jax.device_put(tree)
    return self._put(tree, _WHOLE)

  def place(self, state: Any) -> Any:
    """A training state: copies, or parameters split over the second axis."""
    if self.mesh is None:
      return state
    return place(state, self._shardings(state))

  @property
  def _dimensions(self) -> int:
    return 0 if self.mesh is None else len(self.mesh.axis_names)

  @property
  def _over_rows(self) -> PartitionSpec:
    return PartitionSpec(AXES[: self._dimensions])

  def _put(self, tree, spec, size=None):
    if self.mesh is None:
      return tree
    own = None if size is None else _Own(self.own_rows(size), size)
    return jax.tree.map(lambda x: _put(x, self._sharding(spec), own), tree)

  def _sharding(self, spec: PartitionSpec) -> NamedSharding:
    mesh: Any = self.mesh
    return NamedSharding(mesh, spec)

  def _shardings(self, tree):
    """Where the arrays of a state go.

    What has several axes, as a kernel and all that is kept for it, is split
    along the longest of those that can be. Vectors are small, and some of them
    (a table of examples) are what the host decides by.
    """
    mesh: Any = self.mesh

    def sharding(x):
      spec: list[Any] = [None] * x.ndim
      if self._dimensions > 1 and x.ndim > 1:
        size = mesh.shape[AXES[1]]
        fits = [axis for axis in range(x.ndim) if x.shape[axis] % size == 0]
        if fits:
          spec[max(fits, key=lambda axis: x.shape[axis])] = AXES[1]
      return self._sharding(PartitionSpec(*spec))

    return jax.tree.map(sharding, tree)

  def _mapped(self, function, split):
    over_rows = PartitionSpec(AXES[0])
    return jax.shard_map(
      function,
      mesh=self.mesh,
      in_specs=jax.tree.map(
        lambda own: over_rows if own else _WHOLE, tuple(split)
      ),
      out_specs=_WHOLE,
    )


SINGLE_DEVICE = Devices()


def place(tree: Any, shardings: Any) -> Any:
  """A tree that the host has, as arrays for a step.

  Args:
    tree: arrays of this process, the same in all of them.
    shardings: of each array.

  Returns:
    The arrays, which may be donated.
  """
  there = jax.tree.map(_put, tree, shardings)
  # Copied on the devices: memory that NumPy owns cannot be given to a step.
  return jax.jit(_copy, out_shardings=shardings)(there)


def readable(tree: Any) -> Any:
  """Arrays of which every process can read the whole."""

  def read(x):
    if x.is_fully_addressable or x.is_fully_replicated:
      return x
    whole = NamedSharding(x.sharding.mesh, _WHOLE)
    return jax.jit(jnp.copy, out_shardings=whole)(x)

  return jax.tree.map(read, tree)


class _Own(NamedTuple):
  """The rows that a process has of an array."""

  rows: np.ndarray  # their numbers, ascending
  size: int  # how many there are in all processes


def _put(x: Any, sharding: NamedSharding, own: _Own | None = None) -> jax.Array:
  """Each device's part of an array, from the process that the device is of.

  Args:
    x: the array, or only some of its rows.
    sharding: where its parts go.
    own: which rows, None for all.

  Returns:
    The whole array.
  """
  x = x if is_key(x) else np.asarray(x)
  if own is None:
    return jax.make_array_from_callback(x.shape, sharding, lambda part: x[part])
  numbers = np.arange(own.size)
  here = lambda part: x[np.searchsorted(own.rows, numbers[part[0]])]
  shape = (own.size, *x.shape[1:])
  return jax.make_array_from_callback(shape, sharding, here)


def _copy(tree: Any) -> Any:
  def copy(x):
    if not is_key(x):
      return jnp.copy(x)
    data = jnp.copy(jax.random.key_data(x))
    return jax.random.wrap_key_data(data, impl=jax.random.key_impl(x))

  return jax.tree.map(copy, tree)


def is_key(leaf: Any) -> bool:
  """Whether an array is one of PRNG keys."""
  return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
