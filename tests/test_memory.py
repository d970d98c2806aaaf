"""The memory of ascents and cadences: what enters it, and on which steps."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import sam_optax
from sam_optax import ascent, cadence
from tests import driving

GRADIENTS = np.float32([[1.0, -2.0], [3.0, 0.5], [-1.0, 1.0], [2.0, 2.0]])
PARAMS = np.float32([0.5, -1.0])


class Kept(NamedTuple):
  """A part with a memory of the first gradients.

  Attributes:
    ascent: a part.
    cadence: another.
    field: its field of the state.
    first: what the field is after the first step, by the first gradient.
    moved: (the field, a gradient) -> the field after a further step.
  """

  ascent: Callable[[], Any]
  cadence: Callable[[], Any]
  field: str
  first: Callable[[Any], Any]
  moved: Callable[[Any, Any], Any]


def radius(part):
  return ascent.chain(part, ascent.gradient(0.1))


def alternating():
  return cadence.every(2)


def moving(weight):
  return lambda old, new: (1 - weight) * old + weight * new


def precision(old, g):
  return 0.9 * old + 0.1 * (np.sqrt(old) * np.abs(g) + 0.2)


KEPT = {
  'friendly': Kept(
    lambda: radius(ascent.friendly(1.0, decay=0.6)),
    alternating,
    'ema',
    lambda g: g,
    moving(0.4),
  ),
  'friendly, as printed': Kept(
    lambda: radius(ascent.friendly(1.0, decay=0.6, variant='paper')),
    alternating,
    'ema',
    lambda g: 0.4 * g,
    moving(0.4),
  ),
  'average': Kept(
    lambda: radius(ascent.average(0.3)),
    alternating,
    'ema',
    lambda g: g,
    moving(0.3),
  ),
  'posterior': Kept(  # so many examples that there is no noise
    lambda: ascent.posterior(1e30, 0.1, beta=0.9, damping=0.2),
    alternating,
    'precision',
    lambda g: precision(np.ones_like(g), g),
    precision,
  ),
  'gradient_surge': Kept(
    lambda: ascent.gradient(0.1),
    lambda: cadence.between(cadence.gradient_surge(9, -9, -9, 0.7), 2, 3),
    'surge_mean',
    lambda g: 0.3 * np.sum(g**2),
    lambda old, g: 0.7 * old + 0.3 * np.sum(g**2),
  ),
}


@pytest.mark.parametrize('name', KEPT)
def test_a_memory_moves_by_the_first_gradient_of_every_step(name):
  row, params = KEPT[name], jnp.asarray(PARAMS)
  method = sam_optax.sharpness_aware(row.ascent(), row.cadence())
  state, expected, perturbed = method.init(params), None, []
  for gradient in GRADIENTS:
    grad_fn = lambda w, g=gradient: g + 5 * (w - params)
    _, state = method.update(
      jnp.asarray(gradient), state, params, grad_fn=grad_fn
    )
    if expected is None:
      expected = row.first(gradient)
    else:
      expected = row.moved(expected, gradient)
    found = optax.tree.get(state, row.field)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    perturbed.append(bool(state.perturbed))
  assert any(perturbed) and not all(perturbed)


# A direction that is zero although the gradient and the memory are not: an
# ascent, and the gradient that cancels its average m.
CANCELLED = {
  'friendly': (lambda: ascent.friendly(0.5, decay=0.5), lambda m: 0.5 * m),
  'friendly, as printed': (
    lambda: ascent.friendly(1.0, decay=0.5, variant='paper'),
    lambda m: m,
  ),
  'average': (lambda: ascent.average(0.5), lambda m: -m),
}
RADII = {
  'gradient': lambda: ascent.gradient(0.1),
  'adaptive': lambda: ascent.adaptive(0.1),
  'fisher': lambda: ascent.fisher(0.1),
  'unified': lambda: ascent.unified(0.1, 0.5),
}


@pytest.mark.parametrize(
  ('name', 'size'),
  [(name, 'gradient') for name in CANCELLED]
  + [('average', size) for size in RADII if size != 'gradient'],
)
def test_a_direction_of_zero_is_a_perturbation_of_zero(name, size):
  make, cancelling = CANCELLED[name]
  part, params = ascent.chain(make(), RADII[size]()), jnp.asarray(PARAMS)
  average = jnp.asarray(GRADIENTS[0])
  memory = ascent.AverageState(average, jnp.asarray(True))
  state = (memory, *part.init(params)[1:])

  def perturbation(gradient):
    return part.update(gradient, state, params, step=jnp.asarray(3))[0]

  gradient = cancelling(average)
  assert not np.any(perturbation(gradient))
  slope = jax.grad(lambda g: jnp.sum(perturbation(g)))(gradient)
  assert driving.is_finite(slope)
  assert np.any(perturbation(gradient + 1))


def test_friendly_leaves_out_what_is_rounding_noise():
  part = ascent.chain(ascent.friendly(1.0), ascent.gradient(0.1))
  params, average = jnp.asarray(PARAMS), GRADIENTS[0]
  memory = ascent.AverageState(jnp.asarray(average), jnp.asarray(True))
  # One bit of one entry differs, and then eight.
  for bits, perturbs in ((1, False), (8, True)):
    gradient = average + np.float32([bits * 2**-23, 0])
    assert np.any(gradient != average)
    found, _ = part.update(
      jnp.asarray(gradient), (memory, *part.init(params)[1:]), params
    )
    assert np.any(found) == perturbs


def test_looksam_without_a_radius_has_no_direction_to_look_at():
  # What is left of a gradient across itself is rounding noise, to which its
  # length would be given.
  method = sam_optax.looksam(0.0, k=2, alpha=0.7)
  plain = driving.trajectory(driving.drive(sam_optax.identity(), 4))
  driving.assert_close(driving.trajectory(driving.drive(method, 4)), plain)
