"""SAF and MESA, which train on another loss.

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
from tests.test_mistakes import assert_three_beats

RATE = 0.5


def softmax(logits):
  powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
  return powers / powers.sum(axis=-1, keepdims=True)


# -- SAF ---------------------------------------------------------------------

PER_EPOCH, BATCH, CLASSES = 3, 4, 3
_RANDOM = np.random.default_rng(3)
INPUTS = _RANDOM.normal(size=(PER_EPOCH * BATCH, 5)).astype(np.float32)
LABELS = _RANDOM.integers(CLASSES, size=PER_EPOCH * BATCH)
START = _RANDOM.normal(size=(5, CLASSES)).astype(np.float32)


def classify(w, batch):
  """Linear classification."""
  inputs, labels = batch
  logits = inputs @ w
  losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
  return losses, {'logits': logits}


def epochs(number):
  """The ids of each batch, in a new order in each epoch."""
  shuffled = np.random.default_rng(4)
  for epoch in range(number):
    for ids in shuffled.permutation(len(INPUTS)).reshape(PER_EPOCH, BATCH):
      yield epoch, ids


def saf_by_hand(number, lam, tau, ago, begin, end):
  """The weights after each step; keeps the logits of every epoch."""
  w = START.astype(np.float64)
  kept = np.zeros([number, len(INPUTS), CLASSES])
  for epoch, ids in epochs(number):
    logits = INPUTS[ids] @ w
    slope = softmax(logits) - np.eye(CLASSES)[LABELS[ids]]
    if begin < epoch < end:
      earlier = kept[epoch - ago, ids]
      slope += lam * tau * (softmax(logits / tau) - softmax(earlier / tau))
    kept[epoch, ids] = logits
    w = w - RATE * INPUTS[ids].T @ slope / BATCH
    yield w


@pytest.mark.parametrize(
  ('ago', 'begin', 'end'), [(1, 0, None), (2, 1, 5), (3, 2, 4), (2, 3, None)]
)
def test_saf_descends_against_the_logits_of_epochs_ago(ago, begin, end):
  # The set has an example that fills no batch.
  size = len(INPUTS) + 1
  method = sam_optax.saf(
    size, CLASSES, 2.0, 3.0, ago, start_epoch=begin, stop_epoch=end
  )
  end = 6 if end is None else end
  step_fn = jax.jit(lambda *given: method.value_and_grad(classify, *given)[1:])
  w, state = jnp.asarray(START), method.init(jnp.asarray(START))
  expected = list(saf_by_hand(6, 2.0, 3.0, ago, begin, end))
  for (_, ids), by_hand in zip(epochs(6), expected, strict=True):
    batch = jnp.asarray(INPUTS[ids]), jnp.asarray(LABELS[ids])
    grads, state = step_fn(w, state, batch, jnp.asarray(ids))
    w = w - RATE * grads
    np.testing.assert_allclose(w, by_hand, rtol=1e-4, atol=1e-5)
  # The comparison would notice a wrong number of epochs.
  for other in [(ago + 1, begin, end), (ago, begin + 1, end)]:
    *_, last = saf_by_hand(6, 2.0, 3.0, *other)
    assert np.abs(last - expected[-1]).max() > 1e-3


def test_saf_counts_the_steps_of_an_epoch_with_a_smaller_last_batch():
  method = sam_optax.saf(
    10, CLASSES, epochs_ago=1, start_epoch=0, steps_per_epoch=3
  )
  step_fn = jax.jit(lambda *given: method.value_and_grad(classify, *given)[2])
  w, state = jnp.asarray(START), method.init(jnp.asarray(START))
  slots = []
  for _ in range(2):
    for ids in (range(4), range(4, 8), range(8, 10)):
      ids = jnp.asarray(ids)
      batch = jnp.asarray(INPUTS)[ids], jnp.asarray(LABELS)[ids]
      state = step_fn(w, state, batch, ids)
    slots.append(np.asarray(state.bank))
    w = w + 1
  first, second = slots
  # The first epoch fills slot 0, the second slot 1, of every example.
  assert np.all(np.any(first[:, 0], axis=1)) and not np.any(first[:, 1])
  np.testing.assert_array_equal(second[:, 0], first[:, 0])
  assert np.all(np.any(second[:, 1], axis=1))


# -- The epochs in which SAF and MESA are active -----------------------------


@pytest.mark.parametrize(
  ('name', 'epoch'), [('saf', {}), ('mesa', {'steps_per_epoch': 3})]
)
@pytest.mark.parametrize('entry', ['update', 'value_and_grad'])
def test_outside_its_epochs_it_is_the_base_optimizer(name, epoch, entry):
  # Both ends are excluded: of the epochs 0 to 3, only 2 is between 1 and 3.
  plain = driving.trajectory(driving.run('identity', entry))
  method = build(name, start_epoch=1, **epoch)
  steps = driving.trajectory(driving.drive(method, 9, entry=entry))
  assert driving.equal(steps[:6], plain[:6])
  assert not driving.equal(steps[6], plain[6])
  method = build(name, start_epoch=1, stop_epoch=2, **epoch)
  steps = driving.trajectory(driving.drive(method, 12, entry=entry))
  assert driving.equal(steps, plain)
  ending = build(name, start_epoch=1, stop_epoch=3, **epoch)
  last = driving.drive(ending, 12, entry=entry)
  batch, _ = driving.batch_at(9)
  grads = driving.grad_fn_of(driving.fit, batch)(last[8].params)
  assert driving.equal(last[9].grads, grads)
  assert not driving.equal(last[9].grads, plain[9][0])


# -- MESA --------------------------------------------------------------------


@pytest.mark.parametrize(
  ('changes', 'paid'),
  [
    ({'start_epoch': 1, 'stop_epoch': 4}, [0, 0, 1, 1, 0, 0]),
    ({'lam': 0.0}, [0] * 6),
  ],
)
def test_the_mesa_teacher_costs_nothing_while_inactive(changes, paid):
  calls = []

  def count(logits):
    calls.append(1)
    return np.asarray(logits)

  def teacher(params, batch):
    logits = driving.with_logits(driving.fit)(params, batch)[1]['logits']
    shape = jax.ShapeDtypeStruct(logits.shape, logits.dtype)
    return jax.pure_callback(count, shape, logits)

  method = build('mesa', teacher=teacher, **changes)
  seen = []
  for number in range(1, 7):
    calls.clear()
    driving.drive(method, number, how='device')
    seen.append(len(calls))
  assert seen == list(np.cumsum(paid))


def test_a_teacher_that_never_moves_is_the_network_at_the_start():
  method = build('mesa', decay=1.0, lam=2.0, tau=3.0)
  params = driving.start()
  losses = driving.with_logits(driving.fit)
  for number, step in enumerate(driving.drive(method, entry='value_and_grad')):
    assert driving.equal(step.state.average, driving.start())
    batch, _ = driving.batch_at(number)
    first, now = (
      softmax(np.asarray(losses(p, batch)[1]['logits'], np.float64) / 3)
      for p in (driving.start(), params)
    )
    kl = np.sum(first * np.log(first / now), axis=-1).mean()
    added = 2.0 * 3.0**2 * kl * (number > 0)
    assert float(step.loss - step.aux['loss']) == pytest.approx(added, abs=1e-5)
    params = step.params
  assert added > 1e-4


def test_a_teacher_without_memory_agrees():
  # It has the parameters of this step, not of the previous one.
  steps = driving.drive(
    build('mesa', decay=0.0, lam=9.0), entry='value_and_grad'
  )
  params = driving.start()
  for step, plain in zip(steps, driving.run('identity'), strict=False):
    assert driving.equal(step.state.average, params)
    driving.assert_close(step.grads, plain.grads)
    assert float(step.loss) == pytest.approx(float(step.aux['loss']), abs=1e-5)
    params = step.params


def test_no_gradient_flows_into_the_teacher():
  # With decay = 0 the teacher is the network itself. A gradient through both
  # would cancel; one through the network alone does not.
  logits = jnp.asarray([[1.0, -2.0]])
  both = lambda x: jnp.sum(sam_optax.trajectory.divergence(x, 2 * x, 1.0))
  expected = softmax(np.asarray(logits)) - softmax(np.asarray(2 * logits))
  np.testing.assert_allclose(jax.grad(both)(logits), expected, rtol=1e-5)


def test_the_teacher_of_narrow_params_moves():
  # In bfloat16 the average would never change: 2e-4 is below half of the
  # spacing of its numbers.
  w = jnp.ones([3], jnp.bfloat16)
  method = sam_optax.mesa()
  losses = lambda w, x: (jnp.sum(x * w[None], -1), {'logits': x * w[None]})
  state = method.init(w)
  for _ in range(10):
    _, grads, state = method.value_and_grad(
      losses, 2 * w, state, jnp.ones([2, 3], jnp.bfloat16)
    )
  assert grads.dtype == jnp.bfloat16
  expected = 2 - 0.9998**10
  np.testing.assert_allclose(state.average, expected, rtol=1e-6)


def test_logits_of_narrow_params_are_compared_in_float32():
  # In bfloat16, the difference of the logarithms would have two digits.
  logits = jnp.asarray([[1.0, 2.0, 3.0]], jnp.bfloat16)
  earlier = jnp.asarray([[1.0, 2.0, 3.5]], jnp.bfloat16)
  kl = sam_optax.trajectory.divergence(logits, earlier, 5.0)
  p, q = (softmax(np.asarray(x, np.float64) / 5) for x in (earlier, logits))
  assert kl.dtype == jnp.float32
  np.testing.assert_allclose(kl, np.sum(p * np.log(p / q), -1), rtol=1e-4)


# -- Mistakes ----------------------------------------------------------------


@pytest.mark.parametrize(
  ('make', 'part'),
  [
    (sam_optax.saf, 'num_examples=None'),
    (lambda: sam_optax.saf(num_examples=4), 'num_classes=None'),
    (lambda: sam_optax.saf(num_classes=4), 'num_examples=None'),
    (lambda: sam_optax.saf(4, 0), 'num_classes=0'),
  ],
)
def test_the_constructor_names_a_missing_argument(make, part):
  with pytest.raises(ValueError) as error:
    make()
  assert_three_beats(error, part)


@pytest.mark.parametrize('name', ['saf', 'mesa'])
@pytest.mark.parametrize(
  'aux',
  [None, {}, {'point': 1.0}, (1.0,)],
  ids=['none', 'empty', 'no', 'tuple'],
)
@pytest.mark.parametrize('entry', ['update', 'value_and_grad'])
def test_an_aux_without_logits_shows_the_loss(name, aux, entry):
  method, params = build(name), driving.start()
  batch, ids = driving.batch_at(0)
  losses = lambda params, batch: (driving.fit(params, batch)[0], aux)
  with pytest.raises(ValueError) as error:
    if entry == 'update':
      given = {'loss_fn': losses, 'batch': batch, 'example_ids': ids}
      method.update(params, method.init(params), params, **given)
    else:
      method.value_and_grad(losses, params, method.init(params), batch, ids)
  assert_three_beats(
    error, "no 'logits'", "{'logits': logits", 'value_and_grad'
  )


@pytest.mark.parametrize('name', ['saf', 'mesa'])
@pytest.mark.parametrize('missing', ['loss_fn', 'batch'])
def test_a_gradient_function_alone_is_an_error(name, missing):
  method, params = build(name), driving.start()
  losses = driving.with_logits(driving.fit)
  given = driving.keywords(losses, *driving.batch_at(0))
  del given[missing]
  with pytest.raises(ValueError) as error:
    method.update(params, method.init(params), params, **given)
  assert_three_beats(error, missing, 'value_and_grad(')
