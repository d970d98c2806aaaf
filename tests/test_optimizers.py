"""bSAM and decoupled WSAM, which are optimizers.

Each is compared with a second implementation in NumPy.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import sam_optax
from tests import driving
from tests.methods import build
from tests.probe import Probe, probe
from tests.test_mistakes import assert_three_beats

ENTRIES = np.linspace(0.5, 2.0, 4).astype(np.float32)  # of a diagonal Hessian


# -- bSAM --------------------------------------------------------------------


def bowl(w, batch):
  """A quadratic loss that does not depend on the batch."""
  return jnp.ones_like(batch) * jnp.sum(jnp.asarray(ENTRIES) * w**2) / 2, None


def steps_of(method, number=8, entry='update'):
  """The params after each step on the bowl."""
  w = jnp.ones(4)
  state = method.init(w)
  for _ in range(number):
    if entry == 'update':
      grad_fn = lambda w: jnp.asarray(ENTRIES) * w
      step, state = method.update(grad_fn(w), state, w, grad_fn=grad_fn)
    else:
      _, step, state = method.value_and_grad(bowl, w, state, jnp.ones(2))
    w = w - step
    yield w, state


@pytest.mark.parametrize('entry', ['update', 'value_and_grad'])
@pytest.mark.parametrize('rho', [0.0, 0.2])
@pytest.mark.parametrize('decay', [0.0, 0.5])
def test_bsam_is_preconditioned_momentum(entry, rho, decay):
  # With so many examples there is no noise.
  size, beta1, beta2, damping = 1e14, 0.8, 0.7, 0.1
  method = sam_optax.bsam(
    0.2, size, rho, beta1, beta2, damping, prior_precision=decay * size
  )
  w, m, s = np.ones(4), np.zeros(4), np.ones(4)
  for actual, state in steps_of(method, entry=entry):
    g = ENTRIES * w
    pulled = ENTRIES * (w + rho * g / s) + decay * w
    m = beta1 * m + (1 - beta1) * pulled
    w = w - 0.2 * m / s  # the precision at the start of the step
    s = beta2 * s + (1 - beta2) * (np.sqrt(s) * np.abs(g) + damping + decay)
    np.testing.assert_allclose(actual, w, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(state.method.ascent.precision, s, rtol=1e-4)


def test_the_noise_of_bsam_shrinks_with_the_examples_and_the_precision():
  params = {'w': jnp.zeros([4000])}
  losses = lambda p, x: (x * jnp.sum(probe(p)['w']), None)
  for examples in (100, 10_000):
    method = sam_optax.bsam(0.0, examples, 0.0, beta2=0.0)
    Probe.points = []
    state = method.init(params)
    for _ in range(2):
      _, _, state = method.value_and_grad(losses, params, state, jnp.ones(2))
    first, _, second, _ = (np.std(p['w']) for p in Probe.points)
    assert first == pytest.approx(examples**-0.5, rel=0.05)
    # Gradient and precision were 1; now the precision is 1 plus the floor.
    precision = 1 + 0.1 + 10 / examples
    assert second == pytest.approx((examples * precision) ** -0.5, rel=0.05)


@pytest.mark.parametrize('dtype', [jnp.float16, jnp.bfloat16, jnp.float32])
@pytest.mark.parametrize('slope', [0.0, 1.0, -6e4])
def test_the_precision_is_positive_and_follows_the_gradient(dtype, slope):
  # In a narrow dtype the precision would remain 1, or overflow.
  method = sam_optax.bsam(0.1, 1000, damping=0.1)
  params = {'w': jnp.ones([3], dtype)}
  expected = 1.0
  for step in driving.drive(
    method,
    50,
    losses=driving.linear(slope),
    params=params,
    base=optax.set_to_zero(),
    how='device',
  ):
    target = np.sqrt(expected) * abs(slope) + 0.1 + 10 / 1000
    expected = 0.999 * expected + 0.001 * target
    precision = np.asarray(step.state.method.ascent.precision['w'], np.float64)
    np.testing.assert_allclose(precision, expected, rtol=1e-2)
    assert driving.is_finite(step.state)


# -- Decoupled WSAM ----------------------------------------------------------


def halving(step):
  return 0.1 * 0.5 ** jnp.asarray(step, jnp.float32)


@pytest.mark.parametrize('entry', ['update', 'value_and_grad'])
@pytest.mark.parametrize('rate', [0.1, halving])
@pytest.mark.parametrize(
  ('gamma', 'coupled'),
  [(0.5, sam_optax.sam(0.1)), (0.8, sam_optax.wsam(0.1, gamma=0.8))],
)
def test_with_plain_sgd_nothing_is_decoupled(entry, rate, gamma, coupled):
  base = optax.sgd(rate)
  method = sam_optax.wsam_decoupled(rate, 0.1, gamma, base)
  steps = driving.drive(method, entry=entry)
  others = driving.drive(coupled, entry=entry, base=base)
  driving.assert_close([s.params for s in steps], [s.params for s in others])
  plain = driving.drive(sam_optax.identity(), 6, entry=entry, base=base)
  assert np.abs(steps[-1].params['w'] - plain[-1].params['w']).max() > 1e-3


@pytest.mark.parametrize('entry', ['update', 'value_and_grad'])
def test_the_sharpness_term_has_no_momentum(entry):
  rho, gamma = 0.3, 0.8
  method = sam_optax.wsam_decoupled(0.05, rho, gamma)
  w, v = np.ones(4), np.zeros(4)
  for actual, _ in steps_of(method, entry=entry):
    g = ENTRIES * w
    psf = ENTRIES * (rho * g / np.linalg.norm(g))
    v = 0.9 * v + g
    w = w - 0.05 * v - 0.05 * gamma / (1 - gamma) * psf
    np.testing.assert_allclose(actual, w, rtol=1e-4, atol=1e-6)


@pytest.mark.usefixtures('standard_promotion')
def test_without_sharpness_it_is_any_base_optimizer():
  base = optax.adamw(0.1, weight_decay=0.1)
  method = sam_optax.wsam_decoupled(0.1, 0.1, gamma=0.0, base=base)
  steps = driving.drive(method)
  plain = driving.drive(sam_optax.identity(), base=base)
  assert driving.equal([s.params for s in steps], [s.params for s in plain])


def test_a_plain_step_has_no_old_correction():
  method = build('wsam_decoupled', base=optax.sgd(0.1))
  batch, ids = driving.batch_at(0)
  params = driving.start()
  given = driving.keywords(driving.fit, batch, ids)
  grads = given['grad_fn'](params)
  _, state = method.update(grads, method.init(params), params, **given)
  step, _ = method.update(grads, state, params, **given, perturb=False)
  driving.assert_close(step, jax.tree.map(lambda g: 0.1 * g, grads), atol=1e-8)


# -- Mistakes ----------------------------------------------------------------


@pytest.mark.parametrize(
  ('make', 'part'),
  [
    (lambda: sam_optax.bsam(0.1), 'no num_examples'),
    (lambda: sam_optax.bsam(-0.1, 4), 'learning_rate=-0.1'),
    (lambda: sam_optax.wsam_decoupled(-0.1), 'learning_rate=-0.1'),
    (lambda: sam_optax.wsam_decoupled(0.1, gamma=1.0), 'gamma=1.0'),
  ],
)
def test_the_constructor_names_a_missing_argument(make, part):
  with pytest.raises(ValueError) as error:
    make()
  assert_three_beats(error, part)
