"""Devices that draw from their own examples, compared with a loop over them.

In the first steps of `test_local_perturbations.py` every example is taken, so
here a step begins with scores.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import sam_optax
from sam_optax import _random, selection
from tests import driving
from tests.methods import BATCH_SIZE, EPOCH, NUM_EXAMPLES
from tests.routes import NUM_DEVICES, OWN_SIZE, P, mesh, plain_losses

# Some examples are left over from the batches of an epoch.
SIZE = NUM_EXAMPLES + BATCH_SIZE - 1
SCORES = jnp.asarray(
  np.random.default_rng(2).uniform(0.1, 1, SIZE), jnp.float32
)
S_MIN, S_MAX, RAMP, KEY = 0.1, 5.0, 4, 3
AT = jnp.arange(0, 16, 3)  # in the epochs 0 to 5, of which 4 are the ramp


class Drawing(NamedTuple):
  """A method that draws its examples.

  Attributes:
    make: the method.
    scores: float32 [SIZE], which it draws by; None for none.
  """

  make: Callable[[], sam_optax.SharpnessAware]
  scores: jax.Array | None = None


DRAWING = {
  'ausam': Drawing(
    lambda: sam_optax.ausam(
      0.1, SIZE, s_min=S_MIN, s_max=S_MAX, ramp_epochs=RAMP, key=KEY
    ),
    SCORES,
  ),
  'sam_random': Drawing(lambda: sam_optax.sam_random(0.1, key=KEY)),
}


def drawn_by_hand(scores, own_keys=True, epoch=EPOCH):
  """The ids that each device draws at each step: [steps, devices, kept]."""

  def draw(step, device):
    key = jax.random.key(KEY)
    key = jax.random.fold_in(key, device) if own_keys else key
    noisy = _random.gumbel(key, step, OWN_SIZE)
    own = device * OWN_SIZE + jnp.arange(OWN_SIZE)
    if scores is not None:
      age = (step // epoch).astype(jnp.float32)
      high = selection.ramp(age, RAMP, S_MIN, S_MAX)
      noisy += jnp.log(selection.draw_weights(scores[own], S_MIN, high))
    return own[jax.lax.top_k(noisy, OWN_SIZE // 2)[1]]

  devices = jnp.arange(NUM_DEVICES)
  on_all = lambda step: jax.vmap(lambda device: draw(step, device))(devices)
  return np.asarray(jax.vmap(on_all)(AT))


@jax.jit
def directions_by_hand(taken):
  """From the ids that devices take, [steps, devices, kept]."""
  (x, y), _ = driving.batch_at(0)
  params = driving.start()

  def own(ids):
    grad_fn = driving.grad_fn_of(plain_losses, (x[ids], y[ids]))
    pull = 0.1 / optax.tree.norm(grad_fn(params))
    return grad_fn(
      jax.tree.map(lambda w, g: w + pull * g, params, grad_fn(params))
    )

  each = jax.vmap(jax.vmap(own))(taken)
  return jax.tree.map(lambda x: jnp.mean(x, axis=1), each)


@functools.cache
def program():
  """How often examples were seen -> {name: directions}, each from one state."""
  made = {name: sam_optax.parallel(row.make()) for name, row in DRAWING.items()}
  params = driving.start()

  def of_method(name, step, batch, ids, seen):
    state = made[name].init(params)._replace(step=step)
    if DRAWING[name].scores is not None:
      table = state.selection._replace(
        rise_sum=DRAWING[name].scores * seen, rise_count=seen
      )
      state = state._replace(selection=table)
    return made[name].value_and_grad(plain_losses, params, state, batch, ids)[1]

  def run(batch, ids, seen):
    at = lambda step: {
      name: of_method(name, step, batch, ids, seen) for name in made
    }
    return jax.lax.map(at, AT)

  # If the devices did not agree, JAX would refuse what this returns as common.
  specs = P('batch'), P('batch'), P()
  mapped = jax.shard_map(run, mesh=mesh(), in_specs=specs, out_specs=P())
  return functools.partial(jax.jit(mapped), *driving.batch_at(0))


@pytest.mark.parametrize('name', DRAWING)
def test_devices_draw_as_a_loop_over_them(name):
  scores = DRAWING[name].scores
  drawn = drawn_by_hand(scores)
  found = program()(jnp.ones(SIZE))[name]
  driving.assert_close(found, directions_by_hand(drawn))
  # The comparison would notice one draw for all, and epochs of other lengths.
  assert np.any(drawn != drawn_by_hand(scores, own_keys=False))
  if scores is not None:
    others = drawn_by_hand(scores, epoch=NUM_EXAMPLES // OWN_SIZE)
    assert np.any(drawn != others)


def test_an_unseen_example_of_one_device_makes_all_take_all():
  found = program()(jnp.ones(SIZE).at[0].set(0))['ausam']
  whole = np.arange(BATCH_SIZE).reshape(1, NUM_DEVICES, OWN_SIZE)
  expected = directions_by_hand(np.repeat(whole, len(AT), axis=0))
  driving.assert_close(found, expected)
