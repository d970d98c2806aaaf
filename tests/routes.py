"""The routes of a few steps: one device, or four devices in one of three ways.

In `jax.pmap` and `jax.shard_map` a gradient is of one device or of all, and
plain `jax.jit` on a sharded batch needs no wrapper. One program runs all the
given methods, because compiling one program per method takes three times as
long.

A route maps (entry, methods by name, options of `together`) to a function
`run`, and `run(setting)` returns {name: (trajectory, state)}.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import sam_optax
from tests import driving
from tests.methods import BATCH_SIZE, NUM_CLASSES

NUM_DEVICES, NUM_STEPS = 4, 4
OWN_SIZE = BATCH_SIZE // NUM_DEVICES
P = PartitionSpec


def mesh(shape=(NUM_DEVICES,), names=('batch',)):
  size = int(np.prod(shape))
  return jax.make_mesh(
    shape,
    names,
    devices=jax.devices()[:size],
    axis_types=(AxisType.Auto,) * len(shape),
  )


def losses(params, batch, dtype=jnp.float32):
  """Least squares, with logits that follow the outputs."""
  params, (x, y) = jax.tree.map(lambda x: x.astype(dtype), (params, batch))
  outputs = jnp.tanh(x @ params['w'] + params['b'][0]) + params['b'][1]
  logits = outputs[:, None] * jnp.arange(NUM_CLASSES, dtype=dtype)[None]
  errors = (outputs - y).astype(jnp.float32)
  return errors**2, {'logits': logits.astype(jnp.float32)}


def plain_losses(params, batch, dtype=jnp.float32):
  return losses(params, batch, dtype)[0], None


def train(entry, method, loss_fn, params, state, batches, ids, store):
  """Trains on the given batches: whole batches, or the part of a device."""
  base = driving.base_of(method)

  def step(carry, examples):
    params, state, base_state = carry
    batch, ids = examples
    given = driving.keywords(loss_fn, batch, ids)
    if entry == 'update':
      loss = None
      grads, state = method.update(
        given['grad_fn'](params), state, params, **given
      )
    else:
      (loss, _), grads, state = method.value_and_grad(
        loss_fn,
        params,
        state,
        batch,
        ids,
        reference_grad_fn=given['reference_grad_fn'],
      )
    updates, base_state = base.update(grads, base_state, params)
    params = store(optax.apply_updates(params, updates))
    perturbed = driving.inner(state).perturbed
    return (params, state, base_state), (grads, params, perturbed, loss)

  params = store(params)
  (_, state, _), trajectory = jax.lax.scan(
    step, (params, state, base.init(params)), (batches, ids)
  )
  return trajectory, state


def steps():
  """(examples, ids), with leaves of shape [steps, batch, ...]."""
  batches, ids = zip(*map(driving.batch_at, range(NUM_STEPS)), strict=True)
  return jax.tree.map(lambda *x: jnp.stack(x), *batches), jnp.stack(ids)


def together(
  entry,
  made,
  dtype=jnp.float32,
  computed=jnp.float32,
  wrap=lambda name, loss_fn, setting: loss_fn,
  store=lambda params, setting: params,
):
  """Makes a program that trains with each of some methods.

  Args:
    entry: 'update' or 'value_and_grad'.
    made: the methods by name.
    dtype: dtype of the parameters.
    computed: dtype in which the loss is computed.
    wrap: (name, loss function, setting) -> loss function.
    store: (params, setting) -> params, applied after each step.

  Returns:
    (the program, all of its arguments except the setting).
  """
  params = driving.start(dtype)
  states = {name: made[name].init(params) for name in made}

  def run(params, states, batches, ids, setting):
    results = {}
    for name, method in made.items():
      plain = losses if method.reads_logits else plain_losses
      loss_fn = functools.partial(plain, dtype=computed)
      results[name] = train(
        entry,
        method,
        wrap(name, loss_fn, setting),
        params,
        states[name],
        batches,
        ids,
        lambda params: store(params, setting),
      )
    return results

  return run, (params, states, *steps())


def on_one(entry, made, **options):
  run, arguments = together(entry, made, **options)
  compiled = jax.jit(run)
  return lambda setting=0: compiled(*arguments, setting)


def in_jit(entry, made, **options):
  run, (params, states, *examples) = together(entry, made, **options)
  sharding = NamedSharding(mesh(), P(None, 'batch'))
  examples = jax.device_put(examples, sharding)
  compiled = jax.jit(run)
  return lambda setting=0: compiled(params, states, *examples, setting)


def in_pmap(entry, made, **options):
  run, (params, states, *examples) = together(entry, made, **options)
  shards = jax.tree.map(
    lambda x: x.reshape(NUM_STEPS, NUM_DEVICES, OWN_SIZE, *x.shape[2:]),
    examples,
  )
  mapped = jax.pmap(
    run,
    'batch',
    in_axes=(None, None, 1, 1, None),
    devices=jax.devices()[:NUM_DEVICES],
  )

  def on_first(setting=0):
    # NumPy takes the part of a device without a program for each array.
    results = driving.on_host(mapped(params, states, *shards, setting))
    first, *others = (
      jax.tree.map(lambda x, k=k: x[k], results) for k in range(NUM_DEVICES)
    )
    assert all(driving.equal(other, first) for other in others)
    return first

  return on_first


def in_shard_map(
  entry, made, check_vma=True, shape=(NUM_DEVICES,), names=('batch',), **options
):
  # With check_vma=True, these out_specs prove that gradients and states are the
  # same on all devices.
  run, arguments = together(entry, made, **options)
  examples = P(None, names)
  mapped = jax.shard_map(
    run,
    mesh=mesh(shape, names),
    in_specs=(P(), P(), examples, examples, P()),
    out_specs=P(),
    check_vma=check_vma,
  )
  compiled = jax.jit(mapped)
  return lambda setting=0: compiled(*arguments, setting)


unchecked = functools.partial(in_shard_map, check_vma=False)


def wrapped(made, *args, **options):
  """The methods, each wrapped by `parallel`."""
  return {
    name: sam_optax.parallel(made[name], *args, **options) for name in made
  }


def assert_agree(results, expected):
  (*results, loss), state = results
  (*expected, expected_loss), expected_state = expected
  driving.assert_close((results, state), (expected, expected_state))
  if loss is not None and expected_loss is not None:
    driving.assert_close(loss, expected_loss)
