"""States of other methods, params and files."""

import io

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import sam_optax
from tests import driving
from tests.given import (
  SAM,
  START,
  WITH_TABLE,
  assert_refused_or_right,
  called,
  every_method,
  every_route,
  refused,
  same,
  shapes,
)
from tests.methods import METHODS, NUM_EXAMPLES, build, method


@every_route
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


def fits(name):
  """What a state is compared by: its structure and its shapes."""
  leaves, structure = jax.tree.flatten(shapes(name))
  return structure, [(leaf.shape, leaf.dtype) for leaf in leaves]


@every_method
def test_the_state_of_another_method_is_refused(name):
  names = list(METHODS)
  after = names[names.index(name) :] + names
  other = next(n for n in after if fits(n) != fits(name))
  state = method(other).init(driving.start())
  for entry in ('update', 'value_and_grad'):
    with refused('a state', 'init'):
      called(method(name), entry, state=state, updates=driving.start())


# Their state has a copy of the params.
WITH_COPY = [
  name
  for name in METHODS
  if any(leaf.shape == (3,) for leaf in jax.tree.leaves(shapes(name)))
]


@pytest.mark.parametrize('name', WITH_COPY)
def test_the_state_of_other_params_is_refused(name):
  tx = method(name)
  others = (
    driving.start() | {'w': jnp.zeros([3, 1])},
    driving.start() | {'c': jnp.zeros(2)},
  )
  for params in others:
    for entry in ('update', 'value_and_grad'):
      with refused('a state', 'init(params)'):
        state = tx.init(params)
        called(tx, entry, state=state, updates=driving.start())


def test_a_restored_key_that_is_plain_is_explained():
  tx = method('ss_sam')
  state = sam_optax.to_arrays(tx.init(driving.start()))
  with refused('.cadence.key', 'uint32', 'from_arrays'):
    called(tx, state=state)


@pytest.mark.parametrize('name', WITH_TABLE)
def test_a_table_of_another_size_is_refused(name):
  state = build(name, num_examples=7).init(driving.start())
  with refused('(7,', f'({NUM_EXAMPLES},'):
    called(method(name), state=state)


# -- In files -----------------------------------------------------------------


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


@pytest.mark.parametrize('dtype', [jnp.bfloat16, jnp.float16])
def test_a_narrow_state_survives_in_a_file_of_numpy(dtype):
  # NumPy knows no bfloat16, and gives its bytes back.
  like = method('fsam').init(driving.start(dtype))
  arrays, file = sam_optax.to_arrays(like), io.BytesIO()
  np.savez(file, *jax.tree.leaves(arrays))
  loaded = np.load(io.BytesIO(file.getvalue())).values()
  loaded = jax.tree.unflatten(jax.tree.structure(like), loaded)
  assert driving.equal(sam_optax.from_arrays(loaded, like), like)
  for other in {jnp.bfloat16, jnp.float16, jnp.float32} - {dtype}:
    with refused('.ascent', 'Build the method'):
      other_like = method('fsam').init(driving.start(other))
      sam_optax.from_arrays(loaded, other_like)


def test_other_arrays_are_refused():
  like = method('rsam').init(driving.start())
  arrays = sam_optax.to_arrays(like)
  with refused('another'):
    sam_optax.from_arrays(arrays, method('fsam').init(driving.start()))
  wrong = arrays._replace(step=np.zeros(3, np.int32))
  with refused('.step', 'Build the method'):
    sam_optax.from_arrays(wrong, like)
  with refused('.step', 'Build the method'):
    sam_optax.from_arrays(arrays._replace(step=0.5), like)


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


# -- One call each ------------------------------------------------------------


PRUNED = method('sam_infobatch')
CHAINED = optax.chain(SAM, driving.BASE)


def state(value, tx=SAM):
  return lambda: called(tx, state=value)


CALLS = {
  'None': (state(None), ('a state of type NoneType', 'init')),
  'of an optimizer': (
    state(driving.BASE.init(START)),
    ('a state of type tuple', 'opt_state[0]'),
  ),
  'restored as a dict': (
    state(SAM.init(START)._asdict()),
    ('a state of type dict', 'restored'),
  ),
  'restored as a list': (
    state(list(SAM.init(START))),
    ('a state of type list', 'restored'),
  ),
  'a step of float': (
    state(SAM.init(START)._replace(step=0.0)),
    ('.step', 'a float', 'int32'),
  ),
  'for many devices': (
    state(jax.tree.map(lambda x: jnp.stack([x] * 8), SAM.init(START))),
    ('(8,)', 'init(params)'),
  ),
  'of if_finite': (
    state(sam_optax.if_finite(SAM).init(START)),
    ('a state of type IfFiniteState',),
  ),
  'of the method inside if_finite': (
    state(SAM.init(START), sam_optax.if_finite(SAM)),
    ('a state of type SharpnessAwareState', 'IfFiniteState'),
  ),
  'of a chain, to plan': (
    lambda: method('ss_sam').plan(CHAINED.init(START), np.zeros([2, 8])),
    ('a state of type tuple', 'opt_state[0]'),
  ),
  'of a chain, at an epoch': (
    lambda: method('infobatch').start_epoch(CHAINED.init(START)),
    ('a state of type tuple',),
  ),
  'a member missing': (
    state(SAM.init(START)._replace(direction_norm=None)),
    ('`direction_norm`', 'init(params)'),
  ),
  'of another cadence': (
    state(method('ss_sam').init(START), method('arsam')),
    ('`cadence`', 'another method'),
  ),
  'arrays and likeness swapped': (
    lambda: sam_optax.from_arrays(
      method('rsam').init(START),
      sam_optax.to_arrays(method('rsam').init(START)),
    ),
    ('typed keys', 'like'),
  ),
  'arrays like nothing': (
    lambda: sam_optax.from_arrays(sam_optax.to_arrays(SAM.init(START)), None),
    ('another',),
  ),
  'arrays of NumPy': (
    same(
      lambda: called(SAM, state=driving.on_host(SAM.init(START)))[1:],
      lambda: called(SAM)[1:],
    ),
    None,
  ),
  'arrays of NumPy, at an epoch': (
    same(
      lambda: PRUNED.start_epoch(driving.on_host(PRUNED.init(START))),
      lambda: PRUNED.start_epoch(PRUNED.init(START)),
    ),
    None,
  ),
}


@pytest.mark.parametrize('name', CALLS)
def test_it_is_refused_in_words_or_right(name, standard_promotion):
  assert_refused_or_right(CALLS[name])
