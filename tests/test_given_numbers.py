"""Parts, numbers and keys are checked when a method is built."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import sam_optax
from sam_optax import ascent, cadence, descent, selection
from tests import driving
from tests.given import (
  refused,
  traced,
)
from tests.methods import METHODS, NUM_EXAMPLES, build, method

# -- Parts --------------------------------------------------------------------

SWAPPED = {
  'the cadence as the descent': (
    lambda: {'descent': cadence.every(2)},
    'as the descent',
  ),
  'the descent as the cadence': (
    lambda: {'cadence': descent.perturbed()},
    'as the cadence',
  ),
  'a selection as the cadence': (
    lambda: {'cadence': selection.uniformly()},
    'as the cadence',
  ),
  'an ascent as the selection': (
    lambda: {'selection': ascent.gradient(0.1)},
    'as the selection',
  ),
  'a number as the cadence': (lambda: {'cadence': 2}, 'as the cadence'),
  'a method as the ascent': (
    lambda: {'ascent': sam_optax.sam()},
    'a whole method as the ascent',
  ),
  'a cadence as the ascent': (
    lambda: {'ascent': cadence.every(2)},
    'as the ascent',
  ),
  'a number as the ascent': (lambda: {'ascent': 0.05}, 'a float as the ascent'),
  'a maker of cadences': (
    lambda: {'cadence': cadence.bernoulli},
    'bernoulli as the cadence',
  ),
  'a maker of ascents': (
    lambda: {'ascent': ascent.gradient},
    'gradient as the ascent',
  ),
}


@pytest.mark.parametrize('swapped', SWAPPED)
def test_a_part_in_a_wrong_place_is_refused(swapped):
  make, said = SWAPPED[swapped]
  with refused(said, 'sharpness_aware('):
    sam_optax.sharpness_aware(**({'ascent': ascent.gradient(0.1)} | make()))


@pytest.mark.parametrize(
  ('arguments', 'options'),
  [
    ((optax.sgd(0.1), optax.sgd(0.05)), {}),
    ((optax.adam(1e-3),), {'rho': 0.05}),
    ((), {'optimizer': optax.sgd(0.1), 'adv_optimizer': optax.sgd(0.05)}),
    ((optax.sgd(0.1), optax.sgd(0.05)), {'sync_period': 2}),
  ],
)
def test_a_call_as_in_optax_contrib_is_explained(arguments, options):
  with refused('an optimizer', 'optax.chain(sam_optax.sam(rho=0.05)'):
    sam_optax.sam(*arguments, **options)


@pytest.mark.parametrize('flag', ['perturb', 'full_batch'])
@pytest.mark.parametrize('bad', ['yes', 1, jnp.ones(2, jnp.bool_)])
def test_a_decision_is_a_bool(flag, bad):
  tx, (batch, ids) = method('ausam'), driving.batch_at(0)
  params, decided = driving.start(), {'perturb': True, 'full_batch': True}
  state = tx.init(params)
  with refused('`perturb` or `full_batch`', 'True or False'):
    tx.value_and_grad(
      driving.fit, params, state, batch, ids, **(decided | {flag: bad})
    )


# -- Numbers and keys ---------------------------------------------------------


@pytest.mark.parametrize(
  ('name', 'number'),
  [(name, number) for name in METHODS for number in METHODS[name].numbers],
)
def test_an_array_out_of_range_is_refused(name, number):
  minimum = METHODS[name].numbers[number].minimum
  for bad in (jnp.asarray(jnp.nan), np.asarray(np.nan)):
    with refused(f'{number}='):
      build(name, **{number: bad})
  if np.isfinite(minimum):
    with refused(f'{number}='):
      build(name, **{number: jnp.asarray(minimum - 1)})
  for bad in (jnp.ones(2), np.ones([1]), [0.1], (0.1,), {}, True, optax.sgd(1)):
    with refused(number):
      build(name, **{number: bad})


@pytest.mark.parametrize(
  ('name', 'number'),
  [(n, a) for n, r in METHODS.items() for a in r.numbers if r.numbers[a].whole],
)
def test_a_fraction_of_what_is_counted_is_refused(name, number):
  for bad in (2.5, jnp.asarray(2.5), np.float32(2.5)):
    with refused(f'{number}=', 'whole number'):
      build(name, **{number: bad})


def test_a_span_that_ends_before_it_starts_is_refused():
  for make in (
    lambda: sam_optax.late_sam(start=10, stop=5),
    lambda: cadence.between(cadence.every(2), 3, 2),
    lambda: cadence.between(cadence.every(2), jnp.asarray(3), 2),
  ):
    with refused('start=', 'stop=', 'before it starts'):
      make()
  for make in (sam_optax.mesa, build):
    arguments = ('saf',) if make is build else ()
    with refused('start_epoch=', 'stop_epoch=', 'before it starts'):
      make(*arguments, start_epoch=5, stop_epoch=4)
  sam_optax.late_sam(start=10, stop=10)
  sam_optax.late_sam(start=10, stop=0)  # says: never


def test_a_schedule_gives_one_number():
  tx = sam_optax.sam(rho=lambda step: jnp.ones(3))
  with refused('a schedule', '(3,)'):
    traced(tx)


KEYS = {
  'a string': 'seed',
  'a float': 0.5,
  'a bool': True,
  'nothing': None,
  'a float array': jnp.ones(2),
  'several keys': jax.random.split(jax.random.key(0)),
  'raw keys': jnp.zeros([2, 2], jnp.uint32),
  'a long raw key': jnp.zeros(4, jnp.uint32),
  'signed': jnp.zeros(2, jnp.int32),
}


@pytest.mark.parametrize(
  'name', [n for n, row in METHODS.items() if 'key' in row.options]
)
@pytest.mark.parametrize('kind', KEYS)
def test_a_key_of_another_kind_is_refused(name, kind):
  with refused('key', 'jax.random.key(0)'):
    build(name, key=KEYS[kind])


@pytest.mark.parametrize(
  'key', [3, np.int64(3), jnp.asarray(3), np.asarray(3), -1]
)
def test_a_seed_may_be_any_integer(key):
  state = build('ss_sam', key=key).init(driving.start())
  assert state.cadence.key == jax.random.key(int(key))


def test_static_arguments_of_injected_hyperparams_are_named():
  make = optax.inject_hyperparams(sam_optax.ausam)
  tx, params = make(num_examples=NUM_EXAMPLES, rho=0.1), driving.start()
  with refused('num_examples', "static_args=('num_examples',)"):
    jax.jit(lambda: tx.init(params))()
