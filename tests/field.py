"""Shared by the tests of faults that other implementations have."""

import jax.numpy as jnp

import sam_optax

START = jnp.array([1.0, -2.0])
RHO = 0.1


def loss(w):
  return jnp.sum(w**4) / 4


THREE = {
  'sam': lambda: sam_optax.sam(RHO),
  'fsam': lambda: sam_optax.fsam(RHO, decay=0.6),
  # From the second step on the branch is random: all devices must draw the
  # same.
  'arsam': lambda: sam_optax.arsam(
    RHO, segment=2, warmup_steps=1, horizon=1, key=3
  ),
}
