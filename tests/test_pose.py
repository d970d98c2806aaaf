"""Targets, loss and prediction of pose."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from train.tasks import simcc
from train.tasks.simcc import Axes

# Of an axis of 64 pixels with two bins each.
SIZE, SPLIT = 64, 2


def _logits():
  return jnp.sin(0.1 * jnp.arange(128.0))


def _loss_of_one_axis(targets):
  """The other axis has the targets of a perfect prediction."""
  logits = _logits()[None, None]
  perfect = jax.nn.softmax(logits)
  return simcc.simcc_losses(
    Axes(logits, logits), Axes(targets[None, None], perfect), jnp.ones((1, 1))
  )


@pytest.mark.usefixtures('x64')
def test_the_gaussian_of_the_specification():
  target = simcc.simcc_targets(jnp.array(20.3), SIZE, SPLIT, 6)
  for place, value in (
    (40, 0.06615875791283529),
    (41, 0.06634278771899205),
    (30, 0.01396426715832745),
  ):
    np.testing.assert_allclose(target[place], value, rtol=1e-12)
  np.testing.assert_allclose(target.sum(), 0.9999999999965, rtol=1e-12)
  target = simcc.simcc_targets(jnp.array(20.3), SIZE, SPLIT, 6, rounded=True)
  np.testing.assert_allclose(target[40], 0.06557328601698999, rtol=1e-12)
  np.testing.assert_allclose(target[41], 0.06649038006690546, rtol=1e-12)
  # Cut off at the border, and left so.
  target = simcc.simcc_targets(jnp.array(1.0), SIZE, SPLIT, 6)
  np.testing.assert_allclose(target.sum(), 0.6617156806659416, rtol=1e-12)


@pytest.mark.usefixtures('x64')
def test_the_losses_of_the_specification():
  target = simcc.simcc_targets(jnp.array(20.3), SIZE, SPLIT, 6)
  np.testing.assert_allclose(
    _loss_of_one_axis(target), [0.019829409423107118], rtol=1e-11
  )
  target = simcc.smoothed_bins(jnp.array(20.3), SIZE, SPLIT, 0.2)
  np.testing.assert_allclose(target[41], 0.8, rtol=1e-12)
  np.testing.assert_allclose(target[0], 0.2 / 127, rtol=1e-12)
  np.testing.assert_allclose(
    _loss_of_one_axis(target), [0.03335136620816981], rtol=1e-11
  )


def test_the_loss_in_float32_and_its_gradient_where_targets_vanish():
  target = simcc.simcc_targets(jnp.array(20.3), SIZE, SPLIT, 1)
  assert target[-1] == 0
  loss = _loss_of_one_axis(simcc.simcc_targets(jnp.array(20.3), SIZE, SPLIT, 6))
  np.testing.assert_allclose(loss, [0.019829409423107118], rtol=1e-5)

  def total(logits):
    both = Axes(logits[None, None], logits[None, None])
    targets = Axes(target[None, None], target[None, None])
    return simcc.simcc_losses(both, targets, jnp.ones((1, 1))).sum()

  grad = jax.grad(total)(_logits())
  # Of softmax and cross entropy, for a target that sums to one.
  expected = 2 * (jax.nn.softmax(_logits()) - target) / 128
  np.testing.assert_allclose(grad, expected, atol=1e-7)


def test_joints_without_weight_count_in_the_denominator_only():
  key = jax.random.key(0)
  logits = Axes(*jax.random.normal(key, (2, 3, 4, 10)))
  targets = Axes(*jax.nn.softmax(jax.random.normal(key, (2, 3, 4, 10)) * 2))
  weights = jnp.array([[1.0, 1, 1, 1], [1, 0, 1, 0], [0, 0, 0, 0]])
  losses = simcc.simcc_losses(logits, targets, weights)
  all_joints = simcc.simcc_losses(logits, targets, jnp.ones((3, 4)))
  assert losses.shape == (3,) and losses[2] == 0
  np.testing.assert_allclose(losses[0], all_joints[0], rtol=1e-6)
  kept = jnp.array([0, 2])
  alone = simcc.simcc_losses(
    Axes(logits.x[:, kept], logits.y[:, kept]),
    Axes(targets.x[:, kept], targets.y[:, kept]),
    jnp.ones((3, 2)),
  )
  np.testing.assert_allclose(losses[1], alone[1] / 2, rtol=1e-6)


def test_which_joints_are_near_enough():
  places = jnp.array([
    [0.0, 0.0], [63.7, 31], [63.8, 31], [-0.2, 5], [-0.3, 5], [5, 31.7],
    [5, 31.8],
  ])  # fmt: skip
  np.testing.assert_array_equal(
    simcc.bins_inside(places, (64, 32), 2),
    [True, True, False, True, False, True, False],
  )
  places = jnp.array([[81.9, 5], [82.0, 5], [-19.9, 5], [-20, 5], [5, 50]])
  np.testing.assert_array_equal(
    simcc.window_reaches(places, (64, 32), 6), [True, False, True, False, False]
  )


def test_decoding_returns_the_coordinates():
  places = jnp.array([[[3.5, 20.0], [11.0, 0.5], [15.5, 23.5]]])
  targets = Axes(
    simcc.simcc_targets(places[..., 0], 16, 2, 1.5),
    simcc.simcc_targets(places[..., 1], 24, 2, 1.5),
  )
  assert targets.x.shape == (1, 3, 32) and targets.y.shape == (1, 3, 48)
  np.testing.assert_array_equal(simcc.decode(targets, 2), places)
  plain = Axes(
    simcc.smoothed_bins(places[..., 0], 16, 2, 0.2),
    simcc.smoothed_bins(places[..., 1], 24, 2, 0.2),
  )
  np.testing.assert_array_equal(simcc.decode(plain, 2), places)


@pytest.mark.parametrize('average', ['logits', 'probabilities'])
def test_a_mirrored_person_agrees_with_the_image(average):
  places = jnp.array([[[3.5, 20.0], [11.0, 4.5], [7.0, 23.0]]])
  pairs = ((0, 1),)
  # Pixels of the mirror image, left and right exchanged.
  mirrored = places.at[..., 0].set(15 - places[..., 0])
  mirrored = mirrored[:, jnp.array([1, 0, 2])]

  def logits(places):
    return Axes(
      jnp.log(simcc.simcc_targets(places[..., 0], 16, 2, 3)),
      jnp.log(simcc.simcc_targets(places[..., 1], 24, 2, 3)),
    )

  both = simcc.flip_average(
    logits(places), logits(mirrored), pairs=pairs, average=average
  )
  np.testing.assert_array_equal(simcc.decode(both, 2), places)
  expected = jax.nn.softmax(logits(places).x)
  # But for the last bin, which has nobody to take from.
  np.testing.assert_allclose(both.x[..., :-1], expected[..., :-1], atol=3e-3)
  np.testing.assert_allclose(
    both.y, jax.nn.softmax(logits(places).y), rtol=1e-5
  )
  apart = simcc.flip_average(
    logits(places), logits(mirrored), pairs=pairs, average=average, shift=False
  )
  assert np.abs(apart.x - expected).max() > 5e-3


def test_the_pairs_of_mpii_are_swapped_twice_to_nothing():
  order = simcc.swapped(16, simcc.MPII_PAIRS)
  np.testing.assert_array_equal(order[order], np.arange(16))
  np.testing.assert_array_equal(order[6:10], np.arange(6, 10))
  assert order[0] == 5 and order[15] == 10


@pytest.mark.parametrize(
  ('call', 'message'),
  [
    (lambda: simcc.simcc_targets(jnp.ones(2), 8, 2, 0), 'sigma=0'),
    (
      lambda: simcc.flip_average(
        Axes(jnp.ones((1, 16, 4)), jnp.ones((1, 16, 4))),
        Axes(jnp.ones((1, 16, 4)), jnp.ones((1, 16, 4))),
        average='mean',
      ),
      "Give 'logits' or 'probabilities'",
    ),
  ],
)
def test_what_cannot_be_used(call, message):
  with pytest.raises(ValueError, match=message):
    call()
