"""Every combination of an ascent, a cadence and a descent trains on images.

Combinations that make no sense are refused at construction.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn import datasets

import sam_optax
from sam_optax import ascent, cadence, descent

STEPS = 20

ASCENTS = {
  'gradient': lambda: ascent.gradient(0.05),
  'adaptive': lambda: ascent.adaptive(0.1),
  'fisher': lambda: ascent.fisher(0.05),
  'unified': lambda: ascent.unified(0.05, 0.5),
  'multi_step': lambda: ascent.multi_step(0.05, 2),
  'friendly': lambda: optax.chain(ascent.friendly(), ascent.gradient(0.05)),
  'average': lambda: optax.chain(ascent.average(), ascent.adaptive(0.1)),
  'only': lambda: optax.chain(
    ascent.only({'kernel': True, 'bias': False}), ascent.gradient(0.05)
  ),
  'random_mask': lambda: optax.chain(
    ascent.random_mask(), ascent.gradient(0.05)
  ),
  'random': lambda: ascent.random(ascent.gradient(0.05)),
  'gaussian': lambda: ascent.gaussian(0.01, draws=2),
  'posterior': lambda: ascent.posterior(1000),
}
CADENCES = {
  'every': lambda: cadence.every(2),
  'bernoulli': lambda: cadence.bernoulli(0.5),
  'autoregressive': lambda: cadence.autoregressive(segment=2, warmup_steps=2),
  'quota': lambda: cadence.quota(segment=2, warmup_steps=2, blocks=1),
  'gradient_surge': lambda: cadence.gradient_surge(STEPS),
  'between': lambda: cadence.between(cadence.every(1), 5, 15),
}
DESCENTS = {
  'perturbed': lambda: descent.perturbed(),
  'reuse_psf': lambda: descent.reuse_psf(),
  'reuse_psf_fading': lambda: descent.reuse_psf(decay=0.7),
  'reuse_psf_of_blend': lambda: descent.reuse_psf(of=descent.blend(0.8)),
  'surrogate_gap': lambda: descent.surrogate_gap(0.1),
  'look_direction': lambda: descent.look_direction(0.5),
  'blend': lambda: descent.blend(0.8),
  'rescaled': lambda: descent.rescaled(),
}

# If the ascent takes the first gradient away from the parameters, a cadence
# that decides by this gradient has none to descend along in a plain step.
SENSELESS = {('random', 'gradient_surge'), ('posterior', 'gradient_surge')}


@functools.cache
def digits():
  images, labels = datasets.load_digits(return_X_y=True)
  return np.float32(images[:640] / 16), np.float32(np.eye(10)[labels[:640]])


def losses(params, batch):
  """Squares, whose gradient compiles in half the time of a softmax's."""
  images, labels = batch
  outputs = images @ params['kernel'] + params['bias'][None]
  return jnp.sum(jnp.square(outputs - labels), -1)


@pytest.mark.slow
@pytest.mark.parametrize('where', ASCENTS)
@pytest.mark.parametrize('when', CADENCES)
def test_every_descent_trains_the_digits(where, when):
  if (where, when) in SENSELESS:
    with pytest.raises(ValueError, match='Use a cadence'):
      sam_optax.sharpness_aware(ASCENTS[where](), CADENCES[when]())
    return
  methods = [
    sam_optax.sharpness_aware(ASCENTS[where](), CADENCES[when](), make())
    for make in DESCENTS.values()
  ]
  params = {'kernel': jnp.full((64, 10), 0.01), 'bias': jnp.zeros(10)}
  images, labels = digits()
  batches = (images.reshape(STEPS, 32, 64), labels.reshape(STEPS, 32, 10))

  # One compilation for all descents of a pair.
  @jax.jit
  def train():
    results = []
    for method in methods:

      def step(carry, batch, method=method):
        params, state = carry
        loss = lambda params: jnp.mean(losses(params, batch))
        value, grads = jax.value_and_grad(loss)(params)
        grads, state = method.update(
          grads, state, params, grad_fn=jax.grad(loss)
        )
        params = jax.tree.map(lambda w, g: w - 0.03 * g, params, grads)
        return (params, state), value

      start = (params, method.init(params))
      (_, state), values = jax.lax.scan(step, start, batches)
      results.append((values, state.sam_fraction))
    return results

  for values, share in train():
    assert np.all(np.isfinite(values))
    assert np.mean(values[-3:]) < 0.75 * values[0]
    assert 0 < share < 1


def test_a_composition_needs_the_memory_of_its_parts():
  # The state has one field per part, and nothing else.
  params = {'kernel': jnp.ones((3, 2)), 'bias': jnp.ones(2)}
  parts = itertools.product(ASCENTS.values(), DESCENTS.values())
  for make_ascent, make_descent in parts:
    part, descends = make_ascent(), make_descent()
    method = sam_optax.sharpness_aware(part, descent=descends)
    state = jax.eval_shape(method.init, params)
    expected = (
      jax.eval_shape(part.init, params),
      jax.eval_shape(descends.init, params),
    )
    assert (state.ascent, state.descent) == expected
