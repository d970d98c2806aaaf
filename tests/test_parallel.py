"""Many devices: every method on four of them, against one or against a loop.

`jax.pmap` and `jax.shard_map` differ in whose gradient a gradient is, and
plain `jax.jit` on a sharded batch needs no wrapper at all.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import sam_optax
from tests import driving
from tests.methods import BATCH_SIZE, METHODS, NUM_CLASSES, method

NUM_DEVICES, NUM_STEPS = 4, 4
OWN_SIZE = BATCH_SIZE // NUM_DEVICES
P = PartitionSpec


def mesh(shape=(NUM_DEVICES,), names=('batch',)):
  return jax.make_mesh(
    shape,
    names,
    devices=jax.devices()[:NUM_DEVICES],
    axis_types=(AxisType.Auto,) * len(shape),
  )


def losses(params, batch):
  """Least squares; as logits, something that follows the outputs."""
  x, y = batch
  outputs = jnp.tanh(x @ params['w'] + params['b'][0]) + params['b'][1]
  logits = outputs[:, None] * jnp.arange(NUM_CLASSES, dtype='float32')[None]
  return (outputs - y) ** 2, {'logits': logits}


def plain_losses(params, batch):
  return losses(params, batch)[0], None


def train(method, door, params, state, batches, ids):
  """Some steps on the batches that are given: all of them, or a device's."""
  base = driving.base_of(method)
  loss_fn = losses if method.reads_logits else plain_losses
  every = (jnp.asarray(driving.X), jnp.asarray(driving.Y))

  def step(carry, examples):
    params, state, base_state = carry
    batch, ids = examples
    given = driving.keywords(loss_fn, batch, ids)
    given['reference_grad_fn'] = driving.grad_fn_of(loss_fn, every)
    if door == 'update':
      loss = jnp.zeros([])
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
    carry = optax.apply_updates(params, updates), state, base_state
    return carry, (grads, loss, carry[0])

  (_, state, _), trajectory = jax.lax.scan(
    step, (params, state, base.init(params)), (batches, ids)
  )
  return trajectory, state


def steps():
  """[steps, batch] of examples and of their ids."""
  batches, ids = zip(*map(driving.batch_at, range(NUM_STEPS)), strict=True)
  return jax.tree.map(lambda *x: jnp.stack(x), *batches), jnp.stack(ids)


def on_one(method, door):
  params = driving.start()
  run = functools.partial(train, method, door)
  return jax.jit(run)(params, method.init(params), *steps())


def in_pmap(method, door):
  params = driving.start()
  shards = jax.tree.map(
    lambda x: x.reshape(NUM_STEPS, NUM_DEVICES, OWN_SIZE, *x.shape[2:]),
    steps(),
  )
  results = jax.pmap(
    functools.partial(train, method, door),
    'batch',
    in_axes=(None, None, 1, 1),
    devices=jax.devices()[:NUM_DEVICES],
  )(params, method.init(params), *shards)
  for device in range(1, NUM_DEVICES):
    assert driving.equal(
      *(jax.tree.map(lambda x: x[i], results) for i in (0, device))
    )
  return jax.tree.map(lambda x: x[0], results)


def in_shard_map(
  method, door, check_vma=True, shape=(NUM_DEVICES,), names=('batch',)
):
  params = driving.start()
  run = jax.shard_map(
    functools.partial(train, method, door),
    mesh=mesh(shape, names),
    in_specs=(P(), P(), P(None, names), P(None, names)),
    out_specs=P(),
    check_vma=check_vma,
  )
  return jax.jit(run)(params, method.init(params), *steps())


def in_jit(method, door):
  params = driving.start()
  sharding = NamedSharding(mesh(), P(None, 'batch'))
  run = jax.jit(functools.partial(train, method, door))
  return run(params, method.init(params), *jax.device_put(steps(), sharding))


DOORS = ('update', 'value_and_grad')
ROUTES = {
  'pmap': (in_pmap, 'update', True),
  'shard_map': (in_shard_map, 'update', True),
  'shard_map_unchecked': (
    functools.partial(in_shard_map, check_vma=False),
    'value_and_grad',
    True,
  ),
  'jit': (in_jit, 'value_and_grad', False),
}


@functools.cache
def expected(name, door):
  return on_one(method(name), door)


@pytest.mark.parametrize('name', METHODS)
@pytest.mark.parametrize('route', ROUTES)
def test_four_devices_agree_with_one(name, route):
  run, door, is_wrapped = ROUTES[route]
  made = method(name)
  if is_wrapped:
    made = sam_optax.parallel(made, perturbation='synced')
  driving.assert_close(run(made, door), expected(name, door))
