"""Gradients that are no gradient by the params are refused."""

import jax
import jax.numpy as jnp
import pytest

from tests import driving
from tests.given import (
  BY_GRAD_FN,
  SAM,
  START,
  assert_refused_or_right,
  called,
  every_route,
  refused,
  representatives,
  same,
  step_of,
  traced,
)
from tests.methods import METHODS, method

BROKEN = {
  'a column for a vector': lambda g: g | {'w': g['w'][:, None]},
  'a row for a vector': lambda g: g | {'w': g['w'][None]},
  'a scalar': lambda g: g | {'w': jnp.sum(g['w'])},
  'integers': lambda g: g | {'w': jnp.ones(3, jnp.int32)},
  'bools': lambda g: g | {'w': jnp.ones(3, jnp.bool_)},
  'complex': lambda g: g | {'w': g['w'].astype(jnp.complex64)},
}


@pytest.mark.parametrize('name', representatives(among=BY_GRAD_FN))
@pytest.mark.parametrize('broken', BROKEN)
def test_a_gradient_of_another_shape_or_dtype_is_refused(name, broken):
  tx, spoil = method(name), BROKEN[broken]
  params, (batch, _) = driving.start(), driving.batch_at(0)
  right = driving.grad_fn_of(driving.losses_for(tx), batch)
  wrong = lambda p: spoil(right(p))
  with refused('grad_fn', "['w']", 'jax.grad(loss)'):
    traced(tx, 'update', grad_fn=wrong, loss_fn=None)
  updates = jax.eval_shape(wrong, params)
  updates = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), updates)
  with refused('`updates`', "['w']", 'jax.grad(loss)'):
    traced(tx, 'update', updates=updates)


@pytest.mark.parametrize(
  'name', [n for n, row in METHODS.items() if row.needs_reference]
)
def test_a_reference_of_another_shape_is_refused(name):
  reference = lambda p: {'b': p['b'], 'w': p['w'][:, None]}
  for entry in ('update', 'value_and_grad'):
    with refused('reference_grad_fn', "['w']", 'jax.grad(loss)'):
      traced(method(name), entry, reference_grad_fn=reference)


@every_route
def test_what_is_no_function_is_refused(name):
  grads = driving.start()
  with refused('a loss_fn of type dict', 'loss_fn(params, batch)'):
    called(method(name), loss_fn=grads)
  if name in BY_GRAD_FN:
    with refused('a grad_fn of type dict', 'jax.grad'):
      called(method(name), 'update', grad_fn=grads)


def test_a_gradient_of_another_structure_names_a_leaf():
  tx, params = method('sam'), driving.start()
  state = tx.init(params)
  with refused("lacks ['w']", 'jax.grad(loss)'):
    tx.update({'b': params['b']}, state, params, grad_fn=lambda p: p)


# -- One call each ------------------------------------------------------------


GRAD = driving.grad_fn_of(driving.fit, driving.batch_at(0)[0])
CALL = 'jax.grad(loss)'


def grad_fn(spoil):
  """A call whose grad_fn is spoilt."""
  return lambda: traced(
    SAM, 'update', grad_fn=lambda p: spoil(GRAD(p)), loss_fn=None
  )


def updates(value):
  return lambda: SAM.update(value, SAM.init(START), START, grad_fn=GRAD)


CALLS = {
  'a pair of value and gradient': (
    grad_fn(lambda g: (jnp.zeros([]), g)),
    ('grad_fn', 'value_and_grad'),
  ),
  'nothing': (grad_fn(lambda g: None), ('grad_fn', CALL)),
  'a list of leaves': (grad_fn(jax.tree.leaves), ('grad_fn', CALL)),
  'one more leaf': (grad_fn(lambda g: g | {'c': g['w']}), ('grad_fn', CALL)),
  'a raveled gradient': (
    grad_fn(lambda g: jnp.concatenate(list(g.values()))),
    ('grad_fn', CALL),
  ),
  'a batch of gradients': (
    grad_fn(lambda g: jax.tree.map(lambda x: x[None].repeat(8, 0), g)),
    ('grad_fn', '(8,', CALL),
  ),
  'a scalar where a vector is': (
    grad_fn(lambda g: g | {'b': g['b'][0]}),
    ('grad_fn', "['b']", CALL),
  ),
  'a string as grad_fn': (
    lambda: called(SAM, 'update', grad_fn='grad'),
    ('a grad_fn of type str', 'jax.grad'),
  ),
  'a reference that is no function': (
    lambda: called(method('sam_full'), reference_grad_fn=START),
    ('a reference_grad_fn of type dict', 'jax.grad'),
  ),
  'no updates': (updates(None), ('`updates`', CALL)),
  'updates that are the params and more': (
    updates(START | {'c': jnp.ones(1)}),
    ('`updates`', CALL),
  ),
  'updates of another order of axes': (
    updates(START | {'w': jnp.ones([1, 3])}),
    ('`updates`', "['w']"),
  ),
  'a gradient of NumPy': (
    same(
      lambda: SAM.update(
        driving.on_host(GRAD(START)),
        SAM.init(START),
        START,
        grad_fn=lambda p: driving.on_host(GRAD(p)),
      )[0],
      lambda: step_of(SAM),
    ),
    None,
  ),
}


@pytest.mark.parametrize('name', CALLS)
def test_it_is_refused_in_words_or_right(name, standard_promotion):
  assert_refused_or_right(CALLS[name])
