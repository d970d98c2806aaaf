"""Example ids, and batches with leaves that are no examples."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import sam_optax
from tests import driving
from tests.given import (
  TAKES_ROWS,
  WITH_TABLE,
  assert_refused_or_right,
  called,
  refused,
  same,
  traced,
)
from tests.methods import METHODS, NUM_EXAMPLES, method

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
      jax.eval_shape(lambda ids: called(method(name), example_ids=ids), ids)


@pytest.mark.parametrize(
  'name', [n for n, row in METHODS.items() if row.needs_ids]
)
def test_ids_of_another_length_are_refused(name):
  for number in (5, 9):
    with refused('examples'):
      traced(method(name), example_ids=np.arange(number))


# -1 is -1 or the greatest unsigned integer; each is an id of the device alone.
BAD_IDS = (-1, NUM_EXAMPLES, 2**31 - 1)


def tables(state):
  sizes = lambda leaf: leaf.shape[:1] == (NUM_EXAMPLES,)
  return list(filter(sizes, jax.tree.leaves(state)))


@pytest.mark.parametrize('name', WITH_TABLE)
def test_ids_that_only_the_device_knows_are_dropped_and_counted(name):
  tx = method(name)

  @jax.jit
  def step(ids, state):
    return called(tx, example_ids=ids, state=state)[2]

  start, ids = tx.init(driving.start()), np.arange(8, dtype=np.int32)
  good = step(ids, start)
  assert optax.tree.get(good, 'dropped_ids') == 0
  for number, bad in enumerate(BAD_IDS):
    wrong = np.r_[ids[: 7 - number], np.full(1 + number, bad, np.int32)]
    broken = step(wrong, start)
    assert optax.tree.get(broken, 'dropped_ids') == 1 + number
    assert optax.tree.get(step(wrong, broken), 'dropped_ids') == 2 + 2 * number
    for table, other, empty in zip(
      *map(tables, (good, broken, start)), strict=True
    ):
      np.testing.assert_array_equal(table[: 7 - number], other[: 7 - number])
      np.testing.assert_array_equal(other[7 - number :], empty[7 - number :])


def test_ids_beyond_int32_are_dropped_and_counted():
  tx = method(WITH_TABLE[0])
  ids = np.r_[np.arange(7), 2**32 - 1].astype(np.uint32)
  state = jax.jit(lambda ids: called(tx, example_ids=ids)[2])(ids)
  assert optax.tree.get(state, 'dropped_ids') == 1


def test_dropped_ids_of_all_devices_are_counted():
  tx = sam_optax.parallel(method(WITH_TABLE[0]), 'devices')
  params, (batch, _) = driving.start(), driving.batch_at(0)
  ids = jnp.arange(8, dtype=jnp.int32).at[jnp.asarray([1, 6, 7])].set(-1)
  halves = jax.tree.map(lambda x: x.reshape(2, 4, *x.shape[1:]), (batch, ids))

  def step(batch, ids):
    state = tx.init(params)
    return tx.value_and_grad(driving.fit, params, state, batch, ids)[2]

  state = jax.pmap(step, 'devices', devices=jax.devices()[:2])(*halves)
  counts = optax.tree.get(state, 'dropped_ids')
  np.testing.assert_array_equal(counts, [3, 3])


@pytest.mark.parametrize('name', TAKES_ROWS)
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


# -- One call each ------------------------------------------------------------


TABLE, ROWS = method(WITH_TABLE[0]), method(TAKES_ROWS[-1])


def ids(value, tx=TABLE):
  return lambda: called(tx, example_ids=value)


def batch(value, tx=ROWS):
  loss = lambda p, batch: (jnp.ones(8) * p['b'][0], None)
  return lambda: traced(tx, loss_fn=loss, batch=value)


CALLS = {
  'ids of text': (ids(np.array(list('abcdefgh'))), ('example_ids', 'int32')),
  'ids with a hole': (ids([0, 1, None, 3]), ('example_ids',)),
  'no ids': (ids([]), ('example_ids', '(0,)')),
  'ids in two axes': (ids(np.arange(8).reshape(2, 4)), ('(2, 4)',)),
  'ids of complex numbers': (ids(np.arange(8) + 0j), ('complex',)),
  'one id': (ids(3), ('shape ()',)),
  'an id of int64': (ids(np.r_[2**40, np.arange(7)]), ('1099511627776',)),
  'the number of all examples': (
    ids(np.arange(17, 25)),
    (f'{NUM_EXAMPLES}', f'0 to {NUM_EXAMPLES - 1}'),
  ),
  'a range of ids': (
    same(lambda: ids(range(8))()[1], lambda: ids(np.arange(8))()[1]),
    None,
  ),
  'no batch': (batch(None, TABLE), ('no batch',)),
  'a batch of lists': (batch({'x': [1.0, 2.0]}), ("['x'][0]", 'close over')),
  'a text in the batch': (
    batch({'x': jnp.ones(8), 'name': 'train'}),
    ("['name']", 'close over'),
  ),
  'a step in the batch': (
    batch({'x': jnp.ones(8), 'step': 3}),
    ("['step']", 'close over'),
  ),
  'examples on the second axis': (
    batch({'x': jnp.ones([3, 8]), 'y': jnp.ones(8)}),
    ("['x']", '(3, 8)'),
  ),
}


@pytest.mark.parametrize('name', CALLS)
def test_it_is_refused_in_words_or_right(name, standard_promotion):
  assert_refused_or_right(CALLS[name])
