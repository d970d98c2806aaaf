"""Local perturbations, compared with a loop over devices by hand."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import sam_optax
from sam_optax import _random
from tests import driving
from tests.methods import METHODS, method
from tests.routes import (
  NUM_DEVICES,
  NUM_STEPS,
  OWN_SIZE,
  in_pmap,
  in_shard_map,
  losses,
  on_one,
  steps,
  unchecked,
  wrapped,
)

_, unravel = jax.flatten_util.ravel_pytree(driving.start())


def ravel(tree):
  return jax.flatten_util.ravel_pytree(tree)[0]


@jax.jit
def own_gradient(w, batch):
  mean = lambda w: jnp.mean(losses(unravel(w), batch)[0])
  return jax.grad(mean)(w)


def unit(x):
  return x / jnp.linalg.norm(x)


def mean(vectors):
  return sum(vectors) / len(vectors)


def across(x, axis):
  return x - jnp.vdot(x, unit(axis)) * unit(axis)


# A rule maps (gradient functions, point, memory, step) to (direction, new
# memory, whether it perturbed), with the arguments of its row in THE TABLE.


def by_sam(grads, w, kept, step):
  return mean([g(w + 0.1 * unit(g(w))) for g in grads]), kept, True


def by_gsam(grads, w, kept, step):
  def own(g):
    perturbed = g(w + 0.1 * unit(g(w)))
    return perturbed - 0.4 * across(g(w), perturbed)

  return mean([own(g) for g in grads]), kept, True


def by_fsam(grads, w, kept, step, sigma=1.0):
  kept = jnp.zeros_like(w) if kept is None else kept
  direction = mean([g(w + 0.1 * unit(g(w) - sigma * kept)) for g in grads])
  share = 1.0 if step == 0 else 0.4
  return direction, kept + share * (mean([g(w) for g in grads]) - kept), True


def by_fsam_as_printed(grads, w, kept, step):
  old = jnp.zeros_like(w) if kept is None else kept
  kept = 0.6 * old + 0.4 * mean([g(w) for g in grads])
  perturbed = [g(w + 0.1 * unit(g(w) - 0.8 * kept)) for g in grads]
  return mean(perturbed), kept, True


def by_vasso(grads, w, kept, step):
  kept = jnp.zeros_like(w) if kept is None else kept
  share = 1.0 if step == 0 else 0.6
  own = lambda gradient: kept + share * (gradient - kept)
  direction = mean([g(w + 0.1 * unit(own(g(w)))) for g in grads])
  return direction, own(mean([g(w) for g in grads])), True


def by_rsam(grads, w, kept, step):
  directions = []
  for device, g in enumerate(grads):
    params = unravel(w)
    key = jax.random.fold_in(jax.random.key(0), device)
    draws = _random.normal_like(key, jnp.int32(step), params)
    noise = ravel(sam_optax.ascent.kernel_noise(draws, params, 0.1))
    directions.append(g(w + 0.1 * unit(noise + 2.0 * g(w + noise))))
  return mean(directions), kept, True


def by_looksam(grads, w, kept, step):
  gradient = mean([g(w) for g in grads])
  if step % 2:
    return gradient + 0.7 * jnp.linalg.norm(gradient) * unit(kept), kept, False
  perturbed = by_sam(grads, w, None, step)[0]
  return perturbed, across(perturbed, gradient), True


def by_arsam(grads, w, kept, step):
  psf, age, ratio, change, samples = kept or (jnp.zeros_like(w), 9, 0, 0, 1)
  gradient = mean([g(w) for g in grads])
  draw = jax.random.uniform(jax.random.fold_in(jax.random.key(0), step))
  perturb = step < 1 or bool(draw < samples / 2)
  direction = gradient + psf if age < 1 else gradient
  age += 1
  if perturb:
    direction, age = by_sam(grads, w, None, step)[0], 0
    psf, last = direction - gradient, ratio
    ratio = jnp.linalg.norm(psf) / jnp.linalg.norm(gradient)
    if last:
      change = 0.9 * change + 0.1 * (ratio - last) / last
  if step % 2:
    samples = jnp.clip(samples * (1 + 0.2 * jnp.clip(change, -1, 1)), 1, 2)
  return direction, (psf, age, ratio, change, samples), perturb


def by_aesam(grads, w, kept, step):
  mu, variance = (0.0, 1e-10) if kept is None else kept
  gradient = mean([g(w) for g in grads])
  squared = jnp.sum(gradient**2)
  mu = 0.9 * mu + 0.1 * squared
  variance = 0.9 * variance + 0.1 * (squared - mu) ** 2
  perturb = squared >= mu + (1 - 2 * step / 12) * jnp.sqrt(variance)
  direction = by_sam(grads, w, None, step)[0] if perturb else gradient
  return direction, (mu, variance), bool(perturb)


class ByHand(NamedTuple):
  """A method by hand.

  Attributes:
    rule: its rule.
    synced_differs: whether synced perturbations change these few steps; None
      for a method that is not in THE TABLE.
  """

  rule: Callable[..., Any]
  synced_differs: bool | None = True


RULES = {
  'sam': ByHand(by_sam),
  'gsam': ByHand(by_gsam),
  'fsam': ByHand(by_fsam),
  'fsam as printed': ByHand(by_fsam_as_printed, synced_differs=None),
  'vasso': ByHand(by_vasso),
  'rsam': ByHand(by_rsam),
  'looksam': ByHand(by_looksam),
  'arsam': ByHand(by_arsam),
  'aesam': ByHand(by_aesam, synced_differs=False),
}


def by_hand(rule):
  params, kept, directions, flags = driving.start(), None, [], []
  base_state = driving.BASE.init(params)
  (x, y), _ = steps()
  for step in range(NUM_STEPS):
    grads = [
      lambda w, part=slice(k * OWN_SIZE, (k + 1) * OWN_SIZE), t=step: (
        own_gradient(w, (x[t, part], y[t, part]))
      )
      for k in range(NUM_DEVICES)
    ]
    direction, kept, perturbed = rule(grads, ravel(params), kept, step)
    directions.append(direction)
    flags.append(perturbed)
    updates, base_state = driving.BASE.update(
      unravel(direction), base_state, params
    )
    params = optax.apply_updates(params, updates)
  return jnp.stack(directions), flags


IN_TABLE = [name for name in RULES if name in METHODS]


@functools.cache
def synced():
  return on_one('value_and_grad', {name: method(name) for name in IN_TABLE})()


@functools.cache
def local(route):
  made = {name: method(name) for name in IN_TABLE}
  made['fsam as printed'] = sam_optax.fsam(
    0.1, sigma=0.8, decay=0.6, variant='paper'
  )
  return {
    'shard_map': lambda made: in_shard_map('update', made),
    'shard_map, unchecked': lambda made: unchecked('value_and_grad', made),
    'pmap': lambda made: in_pmap('update', made),
  }[route](wrapped(made))()


@pytest.mark.parametrize('name', RULES)
@pytest.mark.parametrize('route', ['shard_map', 'shard_map, unchecked', 'pmap'])
def test_local_perturbations_equal_a_loop_over_devices(name, route):
  expected, expected_flags = by_hand(RULES[name].rule)
  (grads, _, perturbed, _), _ = local(route)[name]
  actual = jax.vmap(ravel)(grads)
  np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)
  np.testing.assert_array_equal(perturbed, expected_flags)
  if RULES[name].synced_differs:
    others = synced()[name][0][0]
    assert not np.allclose(ravel(others), ravel(grads), rtol=1e-3)
