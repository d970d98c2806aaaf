"""Numbers and keys are checked when a method is built."""

import fractions
import inspect
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import sam_optax
from sam_optax import cadence, schedules
from tests import driving
from tests.given import (
  SAM,
  START,
  assert_refused_or_right,
  refused,
  same,
  step_of,
  traced,
)
from tests.methods import METHODS, NUM_EXAMPLES, build


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


# What the makers of parts need before any number.
NEEDED = {
  'cadence': cadence.every(2),
  'learning_rate': 0.1,
  'lr_max': 0.1,
  'lr_min': 0.0,
  'num_examples': NUM_EXAMPLES,
  'rho': 0.1,
  'rho_max': 0.2,
  'rho_min': 0.1,
  'total_steps': 9,
}


PARTS = 'Ascent|Transformation|Cadence|Descent|Selection|Schedule'


def fixed_numbers():
  """(maker, its other arguments, argument): the numbers that do not vary."""
  rows = [(row.make, row.options) for row in METHODS.values()]
  for module in (
    *(sam_optax.ascent, sam_optax.cadence, sam_optax.descent),
    *(sam_optax.selection, schedules),
  ):
    for make in vars(module).values():
      made = inspect.isfunction(make) and inspect.signature(make)
      if made and re.search(PARTS, str(made.return_annotation)):
        needed = {k: x for k, x in NEEDED.items() if k in made.parameters}
        rows.append((make, needed))
  return [
    pytest.param(make, options, name, id=f'{make.__name__}-{name}')
    for make, options in rows
    for name, argument in inspect.signature(make).parameters.items()
    if re.fullmatch(
      r'(_base\.Number|float|int)( \| None)?', str(argument.annotation)
    )
  ]


@pytest.mark.parametrize(('make', 'options', 'name'), fixed_numbers())
def test_a_schedule_for_a_number_that_does_not_vary_is_refused(
  make, options, name
):
  with refused('a schedule for', name, 'Pass a number'):
    make(**(options | {name: lambda step: 1}))


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


@pytest.mark.parametrize(
  ('name', 'argument'),
  [
    (name, argument)
    for name, row in METHODS.items()
    for argument in row.static_args
    if argument in row.numbers
  ],
)
def test_a_static_number_that_is_traced_is_named(name, argument):
  def make(value):
    build(name, **{argument: value})

  with refused(argument, f"static_args=('{argument}',)"):
    jax.eval_shape(make, METHODS[name].value(argument))


# -- One call each ------------------------------------------------------------


INF = float('inf')


def rho(schedule):
  return lambda: traced(sam_optax.sam(rho=schedule))


CALLS = {
  'an infinite radius': (lambda: sam_optax.sam(INF), ('rho=inf',)),
  'an infinite radius of JAX': (
    lambda: sam_optax.sam(jnp.asarray(jnp.inf)),
    ('rho=',),
  ),
  'a complex radius': (lambda: sam_optax.sam(0.05 + 0j), ('rho=',)),
  'no radius': (lambda: sam_optax.sam(None), ('rho=None',)),
  'a fraction of Python': (
    same(
      lambda: step_of(sam_optax.sam(fractions.Fraction(1, 10))),
      lambda: step_of(SAM),
    ),
    None,
  ),
  'an integer of JAX': (
    same(
      lambda: step_of(sam_optax.sam(jnp.int32(1))),
      lambda: step_of(sam_optax.sam(1.0)),
    ),
    None,
  ),
  'a radius in bfloat16': (
    same(
      lambda: step_of(sam_optax.sam(jnp.bfloat16(0.25))),
      lambda: step_of(sam_optax.sam(0.25)),
    ),
    None,
  ),
  'a radius in bfloat16 of NumPy': (
    same(
      lambda: step_of(sam_optax.sam(np.asarray(jnp.bfloat16(0.25))[()])),
      lambda: step_of(sam_optax.sam(0.25)),
    ),
    None,
  ),
  'a negative radius in bfloat16': (
    lambda: sam_optax.sam(jnp.bfloat16(-0.25)),
    ('rho=', 'at least 0'),
  ),
  'a span in bfloat16 that ends before it starts': (
    lambda: sam_optax.late_sam(start=jnp.bfloat16(3), stop=2),
    ('start=', 'stop=2', 'before it starts'),
  ),
  'a typed key as a radius': (
    lambda: sam_optax.sam(jax.random.key(0)),
    ('rho=', 'number'),
  ),
  'a period that int32 has not': (
    lambda: sam_optax.sam_k(k=10**12),
    ('k=1000000000000', 'whole number'),
  ),
  'an infinite period': (lambda: sam_optax.sam_k(k=INF), ('k=inf',)),
  'an end at infinity': (lambda: sam_optax.late_sam(stop=INF), ('stop=inf',)),
  'a set that int32 has not': (
    lambda: sam_optax.ausam(num_examples=2**31),
    ('num_examples=2147483648',),
  ),
  'a schedule without arguments': (
    rho(lambda: 0.1),
    ('a schedule', 'step'),
  ),
  'a schedule of two arguments': (
    rho(lambda step, value: 0.1),
    ('a schedule', 'step'),
  ),
  'a schedule that gives nothing': (rho(lambda step: None), ('a schedule',)),
  'a schedule that gives text': (rho(lambda step: '0.1'), ('a schedule',)),
  'a schedule that gives a pair': (
    rho(lambda step: (0.1, 0.2)),
    ('a schedule',),
  ),
  'a schedule that gives a complex number': (
    rho(lambda step: 0.1j),
    ('a schedule', 'complex'),
  ),
  'a schedule of integers': (
    same(
      lambda: step_of(sam_optax.sam(lambda step: 1)),
      lambda: step_of(sam_optax.sam(1.0)),
    ),
    None,
  ),
  'an optimizer as a radius': (
    lambda: sam_optax.gsam(rho=optax.sgd(0.1)),
    ('an optimizer as rho', 'optax.chain('),
  ),
  'a maker of schedules': (
    rho(optax.constant_schedule),
    ('a schedule',),
  ),
  'a generator of NumPy as the key': (
    lambda: build('rsam', key=np.random.default_rng(0)),
    ('key=', 'jax.random.key(0)'),
  ),
  'a seed beyond 64 bits': (
    lambda: build('rsam', key=2**70),
    ('key=', 'jax.random.key(0)'),
  ),
  'a seed as text': (lambda: build('rsam', key='0'), ('key=',)),
  'the type of keys': (lambda: build('rsam', key=jax.random.key), ('key=',)),
  'a misspelt variant': (
    lambda: sam_optax.fsam(variant='Code'),
    ("variant='Code'", "'code'"),
  ),
  'no group': (
    lambda: sam_optax.parallel(SAM, None, examples_per_perturbation=0),
    ('examples_per_perturbation=0',),
  ),
  'half a group': (
    lambda: sam_optax.parallel(SAM, None, examples_per_perturbation=1.5),
    ('examples_per_perturbation=1.5',),
  ),
  'a number as an axis': (
    lambda: sam_optax.parallel(SAM, 3),
    ('axis_name=3',),
  ),
  'no axis at all': (lambda: sam_optax.parallel(SAM, ()), ('axis_name=()',)),
  'micro-batches of none': (
    lambda: sam_optax.accumulate(driving.fit, 0),
    ('micro_batch_size=0',),
  ),
  'micro-batches of a loss that is none': (
    lambda: sam_optax.accumulate(START, 2)(START, driving.batch_at(0)[0]),
    ('a loss_fn of type dict',),
  ),
  'a greatest radius below the least': (
    lambda: sam_optax.rho_schedule(0.1, 0.1, 0.2, 0.1, 0.0),
    ('rho_min=0.2', 'rho_max=0.1'),
  ),
  'a radius that is traced': (
    lambda: (
      jax.jit(lambda r: sam_optax.rho_schedule(0.1, 0.2, r, 0.1, 0.1)(0))(0.1)
      == 0.2
    ),
    None,
  ),
  'radii of one rate': (
    lambda: (
      sam_optax.rho_schedule(lambda step: 0.1, 0.2, 0.0, 0.1, 0.1)(0) == 0.2
    ),
    None,
  ),
}


@pytest.mark.parametrize('name', CALLS)
def test_it_is_refused_in_words_or_right(name, standard_promotion):
  assert_refused_or_right(CALLS[name])
