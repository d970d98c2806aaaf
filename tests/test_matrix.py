"""The matrix: every method on every route in every precision.

The reference is one device with the whole batch in float32, whose parameters
are rounded after each step to the precision of the other dtype.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
import pytest

import sam_optax
from tests import driving, probe, routes
from tests.methods import METHODS, PERTURBING, method

# The last micro-batch is smaller than the others, both for a whole batch and
# for the chosen half.
MICRO_BATCH = 3


class Precision(NamedTuple):
  """A column of the table.

  Attributes:
    dtype: dtype of the parameters.
    stored: number of the dtype in `store`.
    scale: scale of the loss, in float16.
    rtol: relative tolerance.
    atol: absolute tolerance.
  """

  dtype: Any
  stored: int
  scale: float
  rtol: float
  atol: float


BFLOAT16 = 4 * float(jnp.finfo(jnp.bfloat16).eps)
FLOAT16 = 4 * float(jnp.finfo(jnp.float16).eps)
PRECISIONS = {
  'float32': Precision(jnp.float32, 0, 1.0, 1e-4, 1e-5),
  'bfloat16': Precision(jnp.bfloat16, 1, 1.0, 0, BFLOAT16),
  'float16': Precision(jnp.float16, 2, 1.0, 0, FLOAT16),
  'float16, scaled': Precision(jnp.float16, 2, 256.0, 0, FLOAT16),
}


class Route(NamedTuple):
  """A row of the table.

  Attributes:
    run: a route of `routes`.
    entry: 'update' or 'value_and_grad'.
    synced: whether the methods are wrapped by `parallel`.
    micro_batch: examples that the loss processes at a time; None for all.
    narrow: the same in a narrow precision.
  """

  run: Callable[..., Any]
  entry: str
  synced: bool = False
  micro_batch: int | None = None
  narrow: int | None = None


ROUTES = {
  'one device': Route(routes.on_one, 'update'),
  'accumulated': Route(routes.on_one, 'value_and_grad', False, MICRO_BATCH),
  'jit': Route(routes.in_jit, 'value_and_grad'),
  'shard_map': Route(routes.in_shard_map, 'update', True),
  'shard_map, unchecked': Route(routes.unchecked, 'update', True),
  'pmap': Route(routes.in_pmap, 'value_and_grad', True, narrow=1),
}


def store(params, number):
  """Rounds float32 parameters to the precision of a dtype."""

  def rounded(x):
    return jax.lax.select_n(
      number,
      x,
      jax.lax.reduce_precision(x, exponent_bits=8, mantissa_bits=7),
      jax.lax.reduce_precision(x, exponent_bits=5, mantissa_bits=10),
    )

  return jax.tree.map(rounded, params)


def counted(name, loss_fn):
  """The loss, with a probe that records under the name of the method."""
  return lambda params, batch: loss_fn(probe.probe(params, batch, name), batch)


def run_and_count(run, setting):
  """(the results, the sizes of the gradients that executed, by name)."""
  probe.reset()
  results = jax.block_until_ready(run(setting))
  sizes = {name: [] for name in METHODS}
  for name, size in probe.Probe.gradients:
    sizes[name].append(size)
  return results, sizes


@functools.cache
def reference_program():
  made = {name: method(name) for name in METHODS}
  run = routes.on_one(
    'value_and_grad',
    made,
    wrap=lambda name, loss_fn, _: counted(name, loss_fn),
    store=store,
  )
  return run


@functools.cache
def reference(stored):
  return run_and_count(reference_program(), jnp.int32(stored))


# One at a time: a program of all methods takes some 100 MB.
@functools.lru_cache(maxsize=1)
def program(route, dtype):
  """The compiled program of a route: scale of the loss -> results."""
  run, entry, synced, micro_batch, narrow = ROUTES[route]
  counts = micro_batch is not None
  if dtype != jnp.float32:
    micro_batch = narrow
  made = {name: method(name) for name in METHODS}
  scaled = dtype == jnp.float16
  if scaled:
    made = {name: sam_optax.if_finite(made[name]) for name in made}
  if synced:
    made = routes.wrapped(made, perturbation='synced')

  def wrap(name, loss_fn, scale):
    if counts:
      loss_fn = counted(name, loss_fn)
    if scaled:
      loss_fn = sam_optax.scale_loss(loss_fn, scale)
    if micro_batch is not None:
      loss_fn = sam_optax.accumulate(loss_fn, micro_batch)
    return loss_fn

  computed = jnp.float16 if scaled else jnp.float32
  return run(entry, made, dtype=dtype, computed=computed, wrap=wrap)


@functools.cache
def results(route, precision):
  dtype, stored, scale, *_ = PRECISIONS[precision]
  if (route, precision) == ('one device', 'float32'):
    return reference(stored)  # that the entry points agree is tested elsewhere
  return run_and_count(program(route, dtype), jnp.float32(scale))


def distance(x, y):
  return optax.tree.norm(
    jax.tree.map(lambda x, y: x.astype(jnp.float32) - y, x, y)
  )


# In the narrow precisions one column is enough for several: `jax.pmap` is an
# unchecked `jax.shard_map` itself, and there each device takes micro-batches.
NARROW = ('jit', 'shard_map', 'pmap')
# Cells of one program are neighbours, or it would be compiled for each.
CELLS = [
  *((route, 'float32') for route in ROUTES),
  *(
    (route, precision)
    for route in NARROW
    for precision in PRECISIONS
    if precision != 'float32'
  ),
]


@pytest.mark.slow
@pytest.mark.parametrize('name', METHODS)
@pytest.mark.parametrize(('route', 'precision'), CELLS)
def test_it_equals_one_device_in_float32(name, route, precision):
  dtype, stored, _, rtol, atol = PRECISIONS[precision]
  atol = atol * METHODS[name].rounding
  *expected, expected_loss = reference(stored)[0][name][0]
  *actual, loss = results(route, precision)[0][name][0]
  grads, params, _ = actual
  for leaf in jax.tree.leaves((grads, params)):
    assert leaf.dtype == dtype
  driving.assert_close(actual, expected, rtol, atol)
  if loss is not None:
    driving.assert_close(loss, expected_loss, rtol, atol)
  if name in PERTURBING:  # the second gradient was taken at other parameters
    base = reference(stored)[0]['identity'][0][0]
    assert distance(grads, expected[0]) < distance(base, expected[0]) / 4


@pytest.mark.parametrize('name', METHODS)
@pytest.mark.parametrize('route', ROUTES)
def test_its_state_equals_that_of_one_device(name, route):
  expected = reference(0)[0][name][1]
  driving.assert_close(results(route, 'float32')[0][name][1], expected)


@pytest.mark.parametrize('name', METHODS)
def test_micro_batches_equal_the_batch_to_six_digits(name):
  full, parts = reference(0), results('accumulated', 'float32')
  near = 1e-6 * METHODS[name].rounding
  driving.assert_close(parts[0][name][0], full[0][name][0], near, near)
  # As many examples in total, at most three at a time.
  assert sum(parts[1][name]) == sum(full[1][name]) > 0
  assert max(parts[1][name]) == MICRO_BATCH
