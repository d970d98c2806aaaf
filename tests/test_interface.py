"""A method in use: trees, buffers, other transformations, copies."""

import copy
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests import driving
from tests.methods import METHODS, RANDOM, build, method

every_method = pytest.mark.parametrize('name', METHODS)


# -- Trees -------------------------------------------------------------------


class Pair(NamedTuple):
  w: jax.Array
  b: jax.Array


TREES = {
  'array': lambda: jnp.ones([2, 3]),
  'scalar': lambda: jnp.asarray(0.5),
  'nested': lambda: {
    'tuple': (jnp.ones(3), jnp.ones([2, 3])),
    'named': Pair(jnp.ones([2, 3]), jnp.asarray(2.0)),
    'narrow': [jnp.ones(3, jnp.bfloat16), {'b': jnp.ones([2, 3])}],
    'kernel': jnp.ones([1, 1, 2, 3]),
    'none': None,
    'nothing': (),
    'no entries': jnp.ones([0, 3]),
  },
  'empty': dict,
}


@pytest.mark.parametrize(
  ('name', 'tree'),
  [
    (n, t)
    for n in METHODS
    for t in TREES
    if METHODS[n].takes_empty or t != 'empty'
  ],
)
def test_any_tree_of_params(name, tree):
  params = TREES[tree]()
  losses = driving.linear(0.5)
  for step in driving.drive(method(name), 3, losses=losses, params=params):
    assert jax.tree.structure(step.grads) == jax.tree.structure(params)
    for leaf, param in zip(
      jax.tree.leaves(step.grads), jax.tree.leaves(params), strict=True
    ):
      assert leaf.shape == param.shape
      assert leaf.dtype == param.dtype
    assert driving.is_finite(step.grads)
    assert driving.is_finite(step.state)


@every_method
def test_unknown_keywords_are_accepted(name):
  params = driving.start()
  state = method(name).init(params)
  grads, known = driving.first_call(name, params)
  known |= method(name).decide(state, known['example_ids'])
  plain = method(name).update(grads, state, params, **known)
  more = method(name).update(
    grads, state, params, **known, value=jnp.ones([]), anything='else'
  )
  assert driving.equal(more, plain)


# -- Buffers -----------------------------------------------------------------


def pointers(tree):
  """The addresses of the leaves."""
  raw = [
    jax.random.key_data(x)
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
    else x
    for x in jax.tree.leaves(tree)
  ]
  return [x.unsafe_buffer_pointer() for x in raw]


@every_method
def test_the_state_shares_no_buffer(name):
  params, other = driving.start(), driving.start()
  for state in [method(name).init(params), driving.run(name)[0].state]:
    held = pointers(state)
    assert len(held) == len(set(held))
    assert not set(held) & set(pointers(params))
  step = driving.drive(method(name), 1, params=other)[0]
  held = set(pointers(step.state))
  assert not held & set(pointers((other, step.params, step.grads)))


@every_method
def test_params_and_state_can_be_donated_to_a_scan(name):
  key = jax.random.key(METHODS[name].options.get('key', 0))
  tx = build(name, **({'key': key} if name in RANDOM else {}))
  stepper = driving.Stepper(tx)
  batches = [driving.batch_at(step) for step in range(6)]
  batches = jax.tree.map(lambda *x: jnp.stack(x), *batches)

  def body(carry, batch_and_ids):
    _, *carry, _, _ = stepper(*carry, *batch_and_ids)
    return tuple(carry), None

  scan = jax.jit(
    lambda carry: jax.lax.scan(body, carry, batches)[0], donate_argnums=0
  )
  last = driving.run(name, how='device')[5]
  # The second run starts from the beginning with the same method.
  for _ in range(2):
    params = driving.start()
    carry = params, tx.init(params), stepper.base.init(params)
    *done, _ = scan(carry)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(params))
    driving.assert_close(tuple(done), (last.params, last.state))
  assert not key.is_deleted()


# -- Other transformations ---------------------------------------------------


def labels(params):
  return dict.fromkeys(params, 'sgd') | {'w': 'adamw'}


@every_method
@pytest.mark.usefixtures('standard_promotion')
def test_base_optimizers_follow_in_a_chain(name):
  parts = [
    optax.clip_by_global_norm(0.1),
    optax.masked(optax.add_decayed_weights(0.1), {'w': True, 'b': False}),
    optax.partition(
      {'adamw': optax.adamw(0.01), 'sgd': optax.sgd(0.1)}, labels
    ),
  ]
  base = optax.chain(*parts)
  tx = optax.chain(method(name), *parts)
  losses = driving.losses_for(method(name))
  params = by_hand = driving.start()
  state, base_state = tx.init(params), base.init(params)
  for step in range(2):
    batch, ids = driving.batch_at(step)
    given = driving.keywords(losses, batch, ids)
    given |= method(name).decide(state[0], ids)
    incoming = given['grad_fn'](params)
    grads, _ = method(name).update(incoming, state[0], params, **given)
    updates, base_state = base.update(grads, base_state, params)
    by_hand = optax.apply_updates(params, updates)
    updates, state = tx.update(incoming, state, params, **given)
    params = optax.apply_updates(params, updates)
    assert driving.equal(params, by_hand)
    assert driving.is_finite(state)


# -- Arrays and copies -------------------------------------------------------


@pytest.mark.parametrize(
  'name', [n for n, row in METHODS.items() if row.needs_examples]
)
def test_examples_may_be_numpy_arrays_and_ids_a_list(name):
  params, losses = driving.start(), driving.losses_for(method(name))
  batch, ids = driving.batch_at(0)

  def directions(batch, ids, transform):
    state = method(name).init(params)
    step = transform(
      lambda state: method(name).value_and_grad(
        losses, params, state, batch, ids
      )
    )
    # The second step chooses by the losses of the first.
    for _ in range(2):
      _, grads, state = step(state)
      yield grads

  expected = list(directions(batch, ids, jax.jit))
  given = jax.tree.map(np.asarray, batch), ids.tolist()
  for transform in (jax.jit, lambda step: step):
    driving.assert_close(list(directions(*given, transform)), expected)


@every_method
def test_a_copy_works_too(name):
  made = method(name)
  copied = copy.deepcopy(made)
  for other in (copied, copy.copy(made), made._replace(init=made.init)):
    assert type(other) is type(made)
    assert vars(other).keys() == vars(made).keys()
    assert (other.value_and_grad is None) == (made.value_and_grad is None)
    assert other.reads_logits == made.reads_logits
    assert other.reads_losses == made.reads_losses
  replaced = made._replace(init=len)
  assert replaced.init is len and replaced[1] is made[1]
  assert vars(replaced) == vars(made)
  # A copy as a pair, like any Optax transformation.
  assert tuple(jax.tree.map(lambda f: f, made)) == tuple(made)


@every_method
def test_a_method_is_shown_by_the_names_of_its_functions(name):
  made = method(name)
  text = repr(made)
  assert text.startswith('SharpnessAware(init, update, value_and_grad')
  assert ' at 0x' not in text
  for flag in ('reads_losses', 'reads_logits', 'is_optimizer'):
    assert (f'{flag}=True' in text) == getattr(made, flag)
  assert ('start_epoch' in text) == (made.start_epoch is not None)
