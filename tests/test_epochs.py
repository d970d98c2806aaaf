"""Examples left out of whole epochs: who, with what weight, and the loop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sam_optax
from sam_optax import ascent, cadence, selection
from tests import driving, methods, tiny_config
from tests.tiny_runs import make_dataset
from train import config as train_config
from train.engine import loop

LOSSES = np.float32([0.1, 5.0, 0.2, 0.3, 4.0, 0.15, 0.4, 0.5])
LOW = LOSSES < LOSSES.mean()
WITH_EPOCHS = [
  name
  for name in methods.METHODS
  if methods.method(name).start_epoch is not None
]


def infobatch(**changes):
  options = {'num_examples': driving.NUM_EXAMPLES, 'total_steps': 12, 'key': 0}
  return sam_optax.sam_infobatch(0.1, **(options | changes))


@pytest.mark.parametrize('share', [0.5, 0.3, 0.7, 0.0])
def test_a_share_of_the_low_is_left_out_and_the_others_make_up_for_it(share):
  noise = jnp.asarray(np.random.default_rng(0).permutation(8), jnp.float32)
  weights = np.asarray(selection.prune(jnp.asarray(LOSSES), noise, share))
  count = int((1 - share) * LOW.sum())  # the released code's
  kept = np.argsort(np.where(LOW, noise, np.inf))[:count]
  expected = np.where(LOW, 0, 1).astype(np.float32)
  expected[kept] = 1 / (1 - share)
  np.testing.assert_allclose(weights, expected, rtol=1e-6)


@pytest.mark.parametrize('value', [0.1, 3.0, 1e-30])
def test_nobody_is_below_the_mean_of_equal_losses(value):
  # In float32 a mean of many equal numbers may be above all of them.
  weights = selection.prune(jnp.full(1437, value), jnp.arange(1437.0), 0.5)
  assert np.all(np.asarray(weights) == 1)


def test_the_weights_have_mean_1_over_the_draws():
  state = selection.by_loss(8, key=1).init()
  state = state._replace(last_loss=jnp.asarray(LOSSES))
  start = selection.by_loss(8).pruning.start_epoch
  weights = jax.vmap(lambda step: start(state, step).weight)(jnp.arange(4000))
  mean = np.asarray(weights).mean(axis=0)
  np.testing.assert_allclose(mean, 1, atol=0.06)
  assert np.all(mean[~LOW] == 1) and np.all(mean[LOW] != 1)


def test_the_seed_and_the_step_make_the_draw():
  start = jax.jit(selection.by_loss(64).pruning.start_epoch)

  def draw(key, step):
    state = selection.by_loss(64, key=key).init()
    state = state._replace(last_loss=jnp.arange(64.0))
    return np.asarray(start(state, step).weight)

  assert np.all(draw(0, 5) == draw(0, 5))
  assert np.any(draw(0, 5) != draw(1, 5))
  assert np.any(draw(0, 5) != draw(0, 6))


@pytest.mark.parametrize('loss', ['perturbed', 'clean'])
@pytest.mark.parametrize('perturbs', [True, False])
def test_the_chosen_loss_is_recorded(loss, perturbs):
  part = selection.by_loss(driving.NUM_EXAMPLES, loss=loss)
  when = cadence.every(1) if perturbs else cadence.never()
  method = sam_optax.sharpness_aware(ascent.gradient(0.1), when, selection=part)
  params, (batch, ids) = driving.start(), driving.batch_at(1)
  _, _, state = method.value_and_grad(
    driving.fit, params, method.init(params), batch, ids
  )
  grads = driving.grad_fn_of(driving.fit, batch)(params)
  norm = np.sqrt(sum(np.sum(np.square(g)) for g in jax.tree.leaves(grads)))
  there = jax.tree.map(lambda w, g: w + 0.1 * g / norm, params, grads)
  expected = np.full(driving.NUM_EXAMPLES, 3.0)
  if perturbs or loss == 'clean':
    point = there if loss == 'perturbed' else params
    expected[np.asarray(ids)] = driving.fit(point, batch)[0]
  recorded = state.selection.last_loss
  np.testing.assert_allclose(recorded, expected, rtol=1e-5)


@pytest.mark.parametrize('entry', ['update', 'value_and_grad'])
def test_both_passes_weigh_the_losses(entry):
  method, params = infobatch(), driving.start()
  batch, ids = driving.batch_at(0)
  weight = jnp.asarray([0.0, 2, 1, 1, 2, 0, 1, 1] * 3)
  state = method.init(params)
  state = state._replace(selection=state.selection._replace(weight=weight))
  mean_loss = lambda p: jnp.mean(weight[:8] * driving.fit(p, batch)[0])
  gradient = jax.grad(mean_loss)(params)
  norm = np.sqrt(sum(np.sum(np.square(g)) for g in jax.tree.leaves(gradient)))
  there = jax.tree.map(lambda w, g: w + 0.1 * g / norm, params, gradient)
  if entry == 'update':
    given = driving.keywords(driving.fit, batch, ids)
    grads, _ = method.update(gradient, state, params, **given)
  else:
    (loss, _), grads, _ = method.value_and_grad(
      driving.fit, params, state, batch, ids
    )
    assert loss == pytest.approx(float(mean_loss(params)), rel=1e-6)
  driving.assert_close(grads, jax.grad(mean_loss)(there))


def test_an_epoch_follows_the_last_losses_and_the_end_is_whole():
  method, params = infobatch(total_steps=8, delta=0.75), driving.start()
  state, seen = method.init(params), []
  for step in range(12):
    if step % 3 == 0:
      state, weights = method.start_epoch(state)
      assert state.step == step
      seen.append(np.asarray(weights))
    batch, ids = driving.batch_at(step)
    _, _, state = method.value_and_grad(driving.fit, params, state, batch, ids)
  first, second, third, fourth = seen
  low = np.asarray(state.selection.last_loss)
  low = low < low.mean()
  assert np.all(first == 1)  # nothing is known yet
  assert np.sum(second == 0) == np.sum(low) - np.sum(low) // 2 > 0
  assert np.all(second[~low] == 1)
  assert np.all(third == 1) and np.all(fourth == 1)  # from 0.75 * 8 steps on


@pytest.mark.parametrize('name', WITH_EPOCHS)
def test_weights_scale_the_first_gradient(name):
  # The weights of an epoch act with any cadence.
  method, params = methods.method(name), driving.start()
  batch, ids = driving.batch_at(0)
  weight = jnp.asarray([0.0, 2, 1, 1, 2, 0, 1, 1] * 3)
  state = method.init(params)
  state = state._replace(selection=state.selection._replace(weight=weight))
  mean_loss = lambda p: jnp.mean(weight[:8] * driving.fit(p, batch)[0])
  (loss, _), grads, _ = method.value_and_grad(
    driving.fit, params, state, batch, ids, perturb=False
  )
  assert loss == pytest.approx(float(mean_loss(params)), rel=1e-6)
  driving.assert_close(grads, jax.grad(mean_loss)(params))


def test_a_method_that_never_perturbs_prunes_by_the_clean_losses():
  method = methods.build('infobatch', key=0)
  params = driving.start()
  state = method.init(params)
  expected = np.zeros(driving.NUM_EXAMPLES, np.float32)
  for step in range(3):
    batch, ids = driving.batch_at(step)
    expected[np.asarray(ids)] = driving.fit(params, batch)[0]
    _, _, state = method.value_and_grad(driving.fit, params, state, batch, ids)
  _, weights = method.start_epoch(state)
  low = expected < expected.mean()
  weights = np.asarray(weights)
  assert np.all(weights[~low] == 1)
  assert np.sum(weights[low] == 2) == np.sum(low) // 2 > 0
  assert state.gradient_evaluations == 3


def test_without_a_share_every_epoch_is_sams():
  method, sam = infobatch(share=0.0), sam_optax.sam(0.1)
  params, ours = driving.start(), None
  ours, theirs = method.init(params), sam.init(params)
  for step in range(6):
    if step % 3 == 0:
      ours, weights = method.start_epoch(ours)
      assert np.all(np.asarray(weights) == 1)
    batch, ids = driving.batch_at(step)
    results = [
      m.value_and_grad(driving.fit, params, s, batch, ids)
      for m, s in ((method, ours), (sam, theirs))
    ]
    (_, grads, ours), (_, expected, theirs) = results
    assert driving.equal(grads, expected)


@pytest.mark.parametrize(
  'wrong',
  [
    {'share': 1.0},
    {'share': -0.1},
    {'delta': 1.1},
    {'loss': 'both'},
    {'num_examples': None},
    {'total_steps': None},
    {'total_steps': 0},
  ],
  ids=str,
)
def test_what_cannot_be_is_refused_when_it_is_built(wrong):
  with pytest.raises(ValueError, match=next(iter(wrong))):
    infobatch(**wrong)


@pytest.mark.parametrize('name', WITH_EPOCHS)
@pytest.mark.usefixtures('standard_promotion')
def test_the_program_draws_its_batches_from_those_that_stay(name):
  config = tiny_config.get_config()
  config.update({'batch_size': 8, 'steps': 12})
  config.method = train_config.method(name)
  program = loop.Program(config, make_dataset())
  state, order = program.start_epoch(program.init(seed=0), 0, 0)
  assert order.shape == (8, 8)
  for ids in order:
    state, _ = program.train_step(state, ids)
  state, order = program.start_epoch(state, 0, 1)
  weight = np.asarray(state.method.selection.weight)
  assert 35 <= np.sum(weight > 0) < 70
  assert len(order) == np.sum(weight > 0) // 8
  assert np.all(weight[order] > 0)
  assert len(np.unique(order)) == order.size
  assert program.run(seed=0).steps == 12
