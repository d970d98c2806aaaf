"""ARSAM's probability: where it starts, what it follows, and its bounds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sam_optax
from sam_optax import cadence
from tests.words import in_three_beats

SEGMENT = 10
GRADIENT = jnp.array([1.0, 0.0])


def walk(part, growth, steps=400):
  """The states after steps that all perturb, with a PSF that grows."""

  def step_fn(state, step):
    # Where the gradient is 0, no digit of a small one is lost.
    psf = jnp.array([0.0, 0.1]) * growth ** step.astype(jnp.float32)
    state = part.update(GRADIENT, GRADIENT + psf, state, step)
    return state, state

  _, states = jax.lax.scan(step_fn, part.init(), jnp.arange(steps))
  return states


def probabilities(growth, steps=400, **bounds):
  part = cadence.autoregressive(1.0, 0.5, SEGMENT, warmup_steps=0, **bounds)
  states = walk(part, growth, steps)
  np.testing.assert_allclose(states.probability, states.samples / SEGMENT)
  return np.asarray(states.probability)


def test_it_falls_to_the_floor_and_rises_to_the_cap():
  for bounds, least, most in [
    ({}, 0.1, 1.0),
    ({'p_min': 0.3}, 0.3, 1.0),
    ({'p_max': 0.5}, 0.1, 0.5),
    ({'p_min': 0.25, 'p_max': 0.45}, 0.25, 0.45),
    ({'p_min': 1.0}, 1.0, 1.0),
    # Below one SAM step per segment there is nothing to measure.
    ({'p_min': 0.01, 'p_max': 0.02}, 0.1, 0.1),
  ]:
    start = cadence.autoregressive(segment=SEGMENT, **bounds).init()
    assert start.probability == np.float32(least)
    rising, falling = (probabilities(x, **bounds) for x in (1.1, 0.9))
    for found in (rising, falling):
      assert found.min() >= np.float32(least) - 1e-7
      assert found.max() <= np.float32(most) + 1e-7
    assert rising[-1] == pytest.approx(most)
    assert falling[-1] == pytest.approx(least)


@pytest.mark.parametrize('warmup', [5, 6, 7])
def test_the_segments_of_the_warm_up_change_nothing(warmup):
  part = cadence.autoregressive(1.0, 0.5, 2, warmup_steps=warmup)
  found = np.asarray(walk(part, 1.3, 10).probability)
  # A segment ends with each second step, and the first after the warm-up
  # counts.
  first = 2 * (warmup // 2 + 1)
  assert np.all(found[: first - 1] == 0.5)
  assert found[first - 1] > 0.5


def test_bounds_that_change_act_at_the_end_of_a_segment():
  later = lambda number: lambda step: jnp.where(step < 200, *number)
  found = probabilities(1.0, p_min=later((0.2, 0.6)))
  assert set(np.round(found[:209], 6)) == {np.float32(0.2).round(6)}
  assert set(np.round(found[209:], 6)) == {np.float32(0.6).round(6)}
  # The cap wins where they cross.
  found = probabilities(1.0, p_min=0.5, p_max=later((0.9, 0.3)))
  assert found[0] == np.float32(0.5) and found[-1] == np.float32(0.3)


@pytest.mark.parametrize(
  'make',
  [
    cadence.autoregressive,
    sam_optax.arsam,
    lambda **given: sam_optax.arsam_ausam(num_examples=9, **given),
  ],
)
def test_bounds_that_exclude_every_number_are_refused(make):
  make(p_min=0.5, p_max=0.5)
  make(p_min=0.5, p_max=lambda step: 0.1)
  with pytest.raises(ValueError) as caught:
    make(p_min=0.5, p_max=0.4)
  in_three_beats(str(caught.value), 'p_min=0.5 and p_max=0.4')
