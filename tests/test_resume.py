"""A state that is saved and restored, by every common serializer."""

import functools

import flax.serialization
import jax
import jax.numpy as jnp
import optax
import orbax.checkpoint as ocp
import pytest

import sam_optax
from tests.pipelines import (
  RATE,
  RHO,
  assert_same,
  comparable,
  data,
  is_key,
  plain_losses,
  plain_params,
)

RESUMED = {
  'sam': lambda: sam_optax.sam(RHO),
  'fsam': lambda: sam_optax.fsam(RHO, decay=0.6),
  'rsam': lambda: sam_optax.rsam(RHO, gamma=0.1, key=5),
  'arsam': lambda: sam_optax.arsam(RHO, segment=2, warmup_steps=1, key=5),
  'ausam': lambda: sam_optax.ausam(RHO, num_examples=16, key=5),
}


@functools.partial(jax.jit, static_argnums=(0, 1))
def resumable_step(method, base, params, states, batch, example_ids):
  method_state, base_state = states
  _, grads, method_state = method.value_and_grad(
    plain_losses, params, method_state, batch, example_ids
  )
  updates, base_state = base.update(grads, base_state, params)
  return optax.apply_updates(params, updates), (method_state, base_state)


def run_resumable(method, base, carry, steps):
  for t in steps:
    # An epoch has two batches, so that examples are seen again.
    ids = jnp.arange(8) + 8 * (t % 2)
    carry = resumable_step(method, base, *carry, data(t % 2), ids)
  return carry


def start_resumable(method, base):
  params = plain_params()
  return params, (method.init(params), base.init(params))


def save_with_orbax(carry, make_target, directory):
  target = jax.eval_shape(make_target)
  with ocp.StandardCheckpointer() as checkpointer:
    checkpointer.save(directory / 'state', carry)
    checkpointer.wait_until_finished()
    return checkpointer.restore(directory / 'state', target)


def save_with_msgpack(carry, make_target, directory):
  # msgpack has no typed PRNG keys: it stores their data.
  target = make_target()
  path = directory / 'state.msgpack'
  path.write_bytes(flax.serialization.to_bytes(comparable(carry)))
  restored = flax.serialization.from_bytes(
    comparable(target), path.read_bytes()
  )
  return jax.tree.map(
    lambda x, like: (
      jax.random.wrap_key_data(jnp.asarray(x))
      if is_key(like)
      else jnp.asarray(x)
    ),
    restored,
    target,
  )


def save_with_state_dict(carry, make_target, directory):
  del directory  # in memory
  state_dict = flax.serialization.to_state_dict(carry)
  return flax.serialization.from_state_dict(make_target(), state_dict)


@functools.cache
def resumable_run(name):
  """(a step function, the initial state, halfway, at the end)."""
  method, base = RESUMED[name](), optax.sgd(RATE, momentum=0.9)
  go_on = functools.partial(run_resumable, method, base)
  start = functools.partial(start_resumable, method, base)
  halfway = go_on(start(), range(4))
  return go_on, start, halfway, go_on(halfway, range(4, 8))


@pytest.mark.parametrize(
  'save', [save_with_orbax, save_with_msgpack, save_with_state_dict]
)
@pytest.mark.parametrize('name', RESUMED)
def test_a_resumed_run_equals_an_uninterrupted_one(name, save, tmp_path):
  go_on, start, halfway, expected = resumable_run(name)
  restored = save(halfway, start, tmp_path)
  assert jax.tree.structure(restored) == jax.tree.structure(halfway)
  for leaf, like in zip(
    jax.tree.leaves(restored), jax.tree.leaves(halfway), strict=True
  ):
    assert leaf.dtype == like.dtype
  assert_same(restored, halfway)
  assert_same(go_on(restored, range(4, 8)), expected)
