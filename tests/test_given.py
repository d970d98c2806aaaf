"""Calls that cannot work: each is refused with what to do instead."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import sam_optax
from sam_optax import ascent, cadence, descent, selection
from tests import driving
from tests.methods import METHODS, NUM_EXAMPLES, PERTURBING, build, method

every_method = pytest.mark.parametrize('name', METHODS)


def has_table(name):
  """Whether the state of a method has a row for each example."""
  state = jax.eval_shape(method(name).init, driving.start())
  shapes = [leaf.shape for leaf in jax.tree.leaves(state)]
  return any(shape[:1] == (NUM_EXAMPLES,) for shape in shapes)


WITH_TABLE = list(filter(has_table, METHODS))
BY_GRAD_FN = [n for n in PERTURBING if not METHODS[n].needs_examples]


def refused(*parts):
  """Expects a ValueError in three beats with these parts in its text."""
  parts = [re.escape(part) for part in parts]
  pattern = '.*'.join(['^Given ', *parts])
  return pytest.raises(ValueError, match=re.compile(pattern, re.DOTALL))


def called(tx, entry='value_and_grad', losses=None, **changes):
  """One call of a method with some arguments changed."""
  losses = driving.losses_for(tx) if losses is None else losses
  params, (batch, ids) = driving.start(), driving.batch_at(0)
  given = {'params': params, 'batch': batch, 'example_ids': ids}
  given |= {'state': tx.init(params), 'loss_fn': losses} | changes
  known = driving.keywords(driving.losses_for(tx), batch, ids)
  reference = {'reference_grad_fn': known['reference_grad_fn']}
  decided = {'perturb': True} if tx.decide is not None else {}
  if entry == 'value_and_grad':
    return tx.value_and_grad(
      given['loss_fn'],
      given['params'],
      given['state'],
      given['batch'],
      given['example_ids'],
      **(reference | {k: v for k, v in given.items() if k in reference}),
      **decided,
    )
  updates = given.pop('updates', None)
  if updates is None:
    updates = known['grad_fn'](params)
  state, params = given.pop('state'), given.pop('params')
  return tx.update(updates, state, params, **(known | given | decided))


# -- Gradients ----------------------------------------------------------------

BROKEN = {
  'a column for a vector': lambda g: g | {'w': g['w'][:, None]},
  'a row for a vector': lambda g: g | {'w': g['w'][None]},
  'a scalar': lambda g: g | {'w': jnp.sum(g['w'])},
  'integers': lambda g: g | {'w': jnp.ones(3, jnp.int32)},
  'bools': lambda g: g | {'w': jnp.ones(3, jnp.bool_)},
  'complex': lambda g: g | {'w': g['w'].astype(jnp.complex64)},
}


@pytest.mark.parametrize('name', BY_GRAD_FN)
@pytest.mark.parametrize('broken', BROKEN)
def test_a_gradient_of_another_shape_or_dtype_is_refused(name, broken):
  tx = method(name)
  losses = driving.losses_for(tx)
  params, (batch, ids) = driving.start(), driving.batch_at(0)
  given = driving.keywords(losses, batch, ids)
  right, state = given['grad_fn'], tx.init(params)
  spoil = BROKEN[broken]
  wrong = given | {'grad_fn': lambda p: spoil(right(p)), 'loss_fn': None}
  with refused('grad_fn', "['w']", 'jax.grad(loss)'):
    tx.update(right(params), state, params, **wrong, perturb=True)
  with refused('`updates`', "['w']", 'jax.grad(loss)'):
    tx.update(spoil(right(params)), state, params, **given, perturb=True)


@pytest.mark.parametrize(
  'name', [n for n, row in METHODS.items() if row.needs_reference]
)
def test_a_reference_of_another_shape_is_refused(name):
  reference = lambda p: {'b': p['b'], 'w': p['w'][:, None]}
  for entry in ('update', 'value_and_grad'):
    with refused('reference_grad_fn', "['w']", 'jax.grad(loss)'):
      called(method(name), entry, reference_grad_fn=reference)


def test_what_is_no_function_is_refused():
  grads = driving.start()
  with refused('a grad_fn of type dict', 'jax.grad'):
    called(method('sam'), 'update', grad_fn=grads)
  for name in ('sam', 'saf', 'mesa', 'ausam', 'bsam'):
    with refused('a loss_fn of type dict', 'loss_fn(params, batch)'):
      called(method(name), loss_fn=grads)


# -- Losses -------------------------------------------------------------------

LOSSES = {
  'a scalar': (lambda losses, aux: (jnp.mean(losses), aux), 'whose losses'),
  'a column': (lambda losses, aux: (losses[:, None], aux), 'whose losses'),
  'a table': (
    lambda losses, aux: (losses[:, None] * jnp.ones([1, 3]), aux),
    'whose',
  ),
  'integers': (lambda losses, aux: (losses.astype(jnp.int32), aux), 'int32'),
  'bools': (lambda losses, aux: (losses > 0, aux), 'bool'),
  'complex': (lambda losses, aux: (losses + 0j, aux), 'complex'),
  'a Python float': (lambda losses, aux: (0.5, aux), 'whose losses'),
  'no aux': (lambda losses, aux: losses, 'one array of shape (8,)'),
  'no aux of two': (lambda losses, aux: losses[:2], 'one array of shape (2,)'),
  'three': (lambda losses, aux: (losses, aux, aux), 'a tuple of 3'),
  'a dict': (lambda losses, aux: {'losses': losses}, 'a dict'),
  'nothing': (lambda losses, aux: None, 'a NoneType'),
  'no losses': (lambda losses, aux: (losses[:0], aux), 'no examples'),
}


@every_method
@pytest.mark.parametrize('broken', LOSSES)
def test_losses_of_another_kind_are_refused(name, broken):
  tx = method(name)
  spoil, said = LOSSES[broken]
  losses = driving.losses_for(tx)
  with jax.numpy_dtype_promotion('standard'), refused(said, '. '):
    called(tx, loss_fn=lambda *at: spoil(*losses(*at)))


@pytest.mark.parametrize(
  'name', [name for name in WITH_TABLE if not METHODS[name].another_loss]
)
def test_each_example_has_a_loss(name):
  with refused('losses for 8 examples'):
    called(
      method(name),
      loss_fn=lambda p, batch: (driving.fit(p, batch)[0][:3], None),
    )


def test_the_classes_of_saf_are_those_of_the_network():
  tx = build('saf', num_classes=5)
  with refused('logits of shape (8, 2)', '(8, 5)', 'num_classes'):
    called(tx)


# -- Parameters ---------------------------------------------------------------


@every_method
def test_params_may_be_numbers_of_python_or_numpy(name):
  tx, (batch, ids) = method(name), driving.batch_at(0)

  def losses(params, batch):
    a, b = params['a'], params['b']
    values = (batch[1] * a - jnp.sum(b)) ** 2
    return values, {'logits': values[:, None] * jnp.ones([1, 2])}

  numbers = {'a': 0.5, 'b': np.full(2, 0.25)}
  arrays = {'a': jnp.asarray(0.5), 'b': jnp.full(2, 0.25, jnp.float32)}
  results = []
  for params in (numbers, arrays):
    given = driving.keywords(losses, batch, ids)
    state = tx.init(params)
    if not METHODS[name].another_loss and not METHODS[name].needs_examples:
      given |= {'loss_fn': None}
    with jax.enable_x64(False):
      grads, state = tx.update(
        given['grad_fn'](params), state, params, **given, full_batch=True
      )
    results.append((grads, state))
  assert driving.equal(*results)


LEAVES = {
  'int32': jnp.zeros([], jnp.int32),
  'bool': jnp.ones(2, jnp.bool_),
  'complex64': jnp.ones(2, jnp.complex64),
  'key<fry>': jax.random.key(0),
  'function': lambda x: x,
  'str': 'relu',
}


@every_method
@pytest.mark.parametrize('kind', LEAVES)
def test_leaves_without_a_gradient_are_refused(name, kind):
  tx, params = method(name), driving.start()
  more = params | {'other': LEAVES[kind]}
  words = "['other']", kind
  with refused(*words):
    tx.init(more)
  for entry in ('update', 'value_and_grad'):
    with refused(*words):
      called(tx, entry, params=more)


@pytest.mark.parametrize(
  'measure',
  [
    lambda p: sam_optax.diagnostics.sharpness(bowl, p, ascent.gradient(0.1)),
    lambda p: sam_optax.diagnostics.hessian_trace(jax.grad(bowl), p),
    lambda p: sam_optax.diagnostics.top_eigenvalues(jax.grad(bowl), p),
    lambda p: sam_optax.diagnostics.spectrum(jax.grad(bowl), p),
    lambda p: sam_optax.diagnostics.filter_normalized(p),
    lambda p: sam_optax.diagnostics.along(bowl, p, [p], jnp.ones([2, 1])),
  ],
)
def test_diagnostics_refuse_complex_params(measure):
  with refused('complex64', 'real and the imaginary'):
    measure(driving.start() | {'c': jnp.ones(2, jnp.complex64)})
  measure(driving.start())


def bowl(params):
  return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(params))


# -- States -------------------------------------------------------------------


@every_method
def test_the_state_of_a_chain_is_refused(name):
  tx = method(name)
  state = optax.chain(tx, driving.BASE).init(driving.start())
  kind = type(state[0]).__name__
  for entry in ('update', 'value_and_grad'):
    with refused('a state of type tuple', kind, 'opt_state[0]'):
      called(tx, entry, state=state)
  if METHODS[name].perturbs:
    with refused('a state of type tuple', kind):
      tx.decide(state, driving.batch_at(0)[1])


OTHERS = {
  'fsam': 'sam',
  'sam': 'fsam',
  'looksam': 'arsam',
  'arsam': 'looksam',
  'ausam': 'sam_infobatch',
  'ss_sam': 'sam_k',
  'rsam': 'bsam',
  'vasso': 'rsam',
  'esam': 'ausam',
  'saf': 'mesa',
  'mesa': 'saf',
  'bsam': 'wsam_decoupled',
}


@pytest.mark.parametrize('name', OTHERS)
def test_the_state_of_another_method_is_refused(name):
  state = method(OTHERS[name]).init(driving.start())
  for entry in ('update', 'value_and_grad'):
    with refused('a state', 'init'):
      called(method(name), entry, state=state)


@pytest.mark.parametrize(
  'name', ['fsam', 'looksam', 'arsam', 'vasso', 'bsam', 'wsam_decoupled']
)
def test_the_state_of_other_params_is_refused(name):
  tx = method(name)
  others = {
    'a shape': driving.start() | {'w': jnp.zeros([3, 1])},
    'a leaf more': driving.start() | {'c': jnp.zeros(2)},
  }
  for params in others.values():
    for entry in ('update', 'value_and_grad'):
      with refused('a state', 'init(params)'):
        called(tx, entry, state=tx.init(params))


def test_a_restored_key_that_is_plain_is_explained():
  tx = method('ss_sam')
  state = sam_optax.to_arrays(tx.init(driving.start()))
  with refused('.cadence.key', 'uint32', 'from_arrays'):
    called(tx, state=state)


def test_a_table_of_another_size_is_refused():
  state = build('ausam', num_examples=7).init(driving.start())
  with refused('rise_', '(7,)', f'({NUM_EXAMPLES},)'):
    called(method('ausam'), state=state)


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


def test_a_gradient_of_another_structure_names_a_leaf():
  tx, params = method('sam'), driving.start()
  state = tx.init(params)
  with refused("lacks ['w']", 'jax.grad(loss)'):
    tx.update({'b': params['b']}, state, params, grad_fn=lambda p: p)


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


FRACTIONS = {
  'sam_k': ['k'],
  'looksam': ['k'],
  'arsam': ['segment', 'warmup_steps', 'horizon'],
  'multi_step_sam': ['steps'],
  'lpfsgd': ['draws'],
  'late_sam': ['start', 'stop'],
  'ausam': ['num_examples'],
  'saf': ['num_examples', 'num_classes', 'epochs_ago'],
}


@pytest.mark.parametrize(
  ('name', 'number'), [(n, a) for n in FRACTIONS for a in FRACTIONS[n]]
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
    called(tx)


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


# -- Examples -----------------------------------------------------------------

IDS = {
  'negative': np.r_[-1, np.arange(7)],
  'too large': np.r_[NUM_EXAMPLES, np.arange(7)],
  'floats': np.arange(8.0),
  'bools': np.arange(8) > 3,
  'a column': np.arange(8)[:, None],
  'a scalar': np.asarray(3),
}


@pytest.mark.parametrize('name', WITH_TABLE)
@pytest.mark.parametrize('kind', IDS)
def test_ids_that_are_known_to_be_wrong_are_refused(name, kind):
  ids = IDS[kind]
  for given in (ids, jnp.asarray(ids), ids.tolist()):
    with refused('example_ids'):
      called(method(name), example_ids=given)
  if kind in ('floats', 'bools', 'a column'):  # known when traced
    with refused('example_ids'):
      jax.jit(lambda ids: called(method(name), example_ids=ids))(ids)


@pytest.mark.parametrize('name', ['ausam', 'arsam_ausam', 'sam_infobatch'])
def test_ids_of_another_length_are_refused(name):
  for number in (5, 9):
    with refused('examples'):
      called(method(name), example_ids=np.arange(number))


@pytest.mark.parametrize('name', WITH_TABLE)
@pytest.mark.parametrize(
  'bad', [np.int32(-1), np.int32(NUM_EXAMPLES), np.uint32(2**32 - 1)]
)
def test_an_id_that_only_the_device_knows_touches_no_row(name, bad):
  tx, ids = method(name), np.arange(8, dtype=bad.dtype)
  step = jax.jit(lambda ids: called(tx, example_ids=ids))
  good, broken = step(ids)[2], step(np.r_[ids[:-1], bad])[2]
  tables = lambda state: [
    x for x in jax.tree.leaves(state) if x.shape[:1] == (NUM_EXAMPLES,)
  ]
  assert tables(good)
  for table, other, empty in zip(
    tables(good),
    tables(broken),
    tables(tx.init(driving.start())),
    strict=True,
  ):
    np.testing.assert_array_equal(table[:7], other[:7])
    np.testing.assert_array_equal(other[7:], empty[7:])


@pytest.mark.parametrize('name', ['ausam', 'sam_random', 'esam', 'arsam_ausam'])
@pytest.mark.parametrize(
  'leaf', [jnp.ones(10), jax.random.key(0), jnp.zeros(2, jnp.uint32), 0.5]
)
def test_a_leaf_of_the_batch_without_examples_is_named(name, leaf):
  tx = method(name)
  params, ((x, y), ids) = driving.start(), driving.batch_at(0)
  batch = {'x': x, 'y': y, 'weights': leaf}
  losses = lambda p, batch: driving.fit(p, (batch['x'], batch['y']))
  with refused("['weights']", 'close over'):
    tx.value_and_grad(losses, params, tx.init(params), batch, ids)


@pytest.mark.parametrize('leaf', [jnp.ones(10), jax.random.key(0), 0.5])
@pytest.mark.parametrize('size', [3, 4, 8, 100])
def test_accumulation_names_a_leaf_without_examples(leaf, size):
  _, ((x, y), _) = driving.start(), driving.batch_at(0)
  batch = {'another': leaf, 'x': x, 'y': y}
  losses = lambda p, batch: driving.fit(p, (batch['x'], batch['y']))
  with refused("['another']", 'accumulate()', 'close over'):
    sam_optax.accumulate(losses, size)(driving.start(), batch)


# -- Chains -------------------------------------------------------------------

BEFORE = {
  'clip': optax.clip_by_global_norm(1.0),
  'adam': optax.adam(1e-2),
  'sgd': optax.sgd(0.1),
  'momentum': optax.trace(0.9, nesterov=True),
  'scale': optax.scale(2.0),
  'decay': optax.add_decayed_weights(1.0),
  'sign': optax.scale_by_sign(),
}


@every_method
def test_a_chain_in_order_passes(name):
  tx = optax.chain(optax.identity(), method(name), driving.BASE)
  assert sam_optax.check_chain(tx, driving.start()) is tx
  wrapped = optax.chain(sam_optax.if_finite(method(name)), driving.BASE)
  sam_optax.check_chain(wrapped, driving.start())


@every_method
@pytest.mark.parametrize('before', BEFORE)
def test_a_chain_out_of_order_is_found(name, before):
  tx = optax.chain(BEFORE[before], method(name), driving.BASE)
  with (
    jax.numpy_dtype_promotion('standard'),
    refused('a chain that changes', 'method first', 'optax.chain('),
  ):
    sam_optax.check_chain(tx, driving.start())


def test_check_chain_looks_through_wrappers():
  first, clip = sam_optax.parallel(method('sam')), BEFORE['clip']
  sam_optax.check_chain(optax.chain(first, clip), driving.start())
  with refused('a chain that changes'):
    sam_optax.check_chain(optax.chain(clip, first), driving.start())
  with refused('a chain without a method'):
    sam_optax.check_chain(optax.sgd(0.1), driving.start())
  with refused('a method that is not first'):
    sam_optax.chain(clip, method('sam'))


# -- Keys in files ------------------------------------------------------------


@every_method
def test_a_state_survives_as_plain_arrays(name):
  tx = optax.chain(method(name), driving.base_of(method(name)))
  state = tx.init(driving.start())
  arrays = sam_optax.to_arrays(state)
  saved = jax.tree.map(np.asarray, arrays)
  for like in (state, jax.eval_shape(tx.init, driving.start())):
    restored = sam_optax.from_arrays(saved, like)
    assert driving.equal(restored, state)
    assert jax.tree.map(lambda x: x.dtype, restored) == jax.tree.map(
      lambda x: x.dtype, state
    )


def test_other_arrays_are_refused():
  like = method('rsam').init(driving.start())
  arrays = sam_optax.to_arrays(like)
  with refused('another'):
    sam_optax.from_arrays(arrays, method('fsam').init(driving.start()))
  wrong = arrays._replace(step=np.zeros(3, np.int32))
  with refused('.step', 'Build the method'):
    sam_optax.from_arrays(wrong, like)


@every_method
def test_the_step_can_be_read(name):
  tx = optax.chain(method(name), optax.adam(1e-3))
  state = tx.init(driving.start())
  assert optax.tree.get(state, 'step') == 0
  assert (
    optax.tree.get(
      sam_optax.if_finite(method(name)).init(driving.start()), 'step'
    )
    == 0
  )
