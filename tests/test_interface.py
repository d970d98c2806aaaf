"""A method in use: trees, buffers, other transformations, mistakes."""

import copy
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests import driving
from tests.methods import METHODS, PERTURBING, RANDOM, build, method

every_method = pytest.mark.parametrize('name', METHODS)


def arguments(name, params):
  """The arguments of a first call: (the gradient, the keywords)."""
  losses = driving.losses_for(method(name))
  given = driving.keywords(losses, *driving.batch_at(0))
  return given['grad_fn'](params), given


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
  grads, known = arguments(name, params)
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


# -- Mistakes ----------------------------------------------------------------


def assert_three_beats(error, *parts):
  """Asserts what was given, why it cannot work, and what would."""
  text = str(error.value)
  assert text.startswith('Given ')
  assert text.count('. ') >= 2
  for part in parts:
    assert part in text


@every_method
def test_missing_params_show_the_call(name):
  params = driving.start()
  grads, keywords = arguments(name, params)
  with pytest.raises(ValueError) as error:
    method(name).update(grads, method(name).init(params), **keywords)
  call = ['tx.update(', 'grad_fn=']
  if METHODS[name].another_loss:  # which no grad_fn shows
    call = ['loss_fn', 'batch', 'value_and_grad(']
  assert_three_beats(error, 'no params', *call)


@pytest.mark.parametrize('name', PERTURBING)
def test_a_missing_gradient_function_shows_the_call(name):
  params = driving.start()
  grads, keywords = arguments(name, params)
  needed = 'loss_fn' if METHODS[name].needs_examples else 'grad_fn'
  reference = {'reference_grad_fn': keywords['reference_grad_fn']}
  state = method(name).init(params)
  with pytest.raises(ValueError) as error:
    method(name).update(grads, state, params, **reference, perturb=True)
  assert_three_beats(error, f'no {needed}', 'tx.update(', f'{needed}=')


@pytest.mark.parametrize('name', PERTURBING)
def test_an_unsuitable_grad_fn_shows_a_suitable_one(name):
  # It also returns the value; or the method needs the examples.
  params = driving.start()
  grads, keywords = arguments(name, params)
  pair_fn = lambda p: (jnp.zeros([]), keywords['grad_fn'](p))
  shown = 'example_ids=' if METHODS[name].needs_examples else 'jax.grad(loss)'
  given = {'reference_grad_fn': keywords['reference_grad_fn'], 'perturb': True}
  state = method(name).init(params)
  with pytest.raises(ValueError) as error:
    method(name).update(grads, state, params, grad_fn=pair_fn, **given)
  assert_three_beats(error, 'grad_fn', shown)


@pytest.mark.parametrize(
  'name', [n for n, row in METHODS.items() if row.needs_ids]
)
def test_missing_example_ids_are_requested(name):
  params = driving.start()
  _, keywords = arguments(name, params)
  with pytest.raises(ValueError) as error:
    method(name).value_and_grad(
      driving.fit, params, method(name).init(params), keywords['batch']
    )
  # The error says what they are, or shows the call.
  call = 'batch, example_ids)' if METHODS[name].another_loss else 'int32 [batch'
  assert_three_beats(error, 'no example_ids', call)


@pytest.mark.parametrize(
  'name', [n for n, row in METHODS.items() if row.needs_examples]
)
def test_a_missing_batch_is_requested(name):
  params = driving.start()
  grads, keywords = arguments(name, params)
  del keywords['batch']
  with pytest.raises(ValueError) as error:
    method(name).update(grads, method(name).init(params), params, **keywords)
  assert_three_beats(
    error, 'batch', 'batch, ' if METHODS[name].another_loss else 'batch=batch'
  )


@pytest.mark.parametrize(
  'name', [n for n, row in METHODS.items() if row.needs_examples]
)
def test_examples_may_be_numpy_arrays_and_ids_a_list(name):
  params, losses = driving.start(), driving.losses_for(method(name))
  batch, ids = driving.batch_at(0)

  def directions(batch, ids, transform):
    state = method(name).init(params)
    # The second step chooses by the losses of the first.
    for _ in range(2):
      step = lambda state: method(name).value_and_grad(
        losses, params, state, batch, ids
      )
      _, grads, state = transform(step)(state)
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
  replaced = made._replace(init=len)
  assert replaced.init is len and replaced[1] is made[1]
  assert vars(replaced) == vars(made)
  # A copy as a pair, like any Optax transformation.
  assert tuple(jax.tree.map(lambda f: f, made)) == tuple(made)


@pytest.mark.parametrize(
  'name', [n for n, row in METHODS.items() if row.needs_reference]
)
def test_a_missing_reference_is_requested(name):
  params = driving.start()
  grads, keywords = arguments(name, params)
  del keywords['reference_grad_fn']
  with pytest.raises(ValueError) as error:
    method(name).update(grads, method(name).init(params), params, **keywords)
  assert_three_beats(error, 'no reference_grad_fn', 'reference_grad_fn=jax')


WRAPPERS = {
  'masked': lambda m: optax.masked(m, {'w': True, 'b': False}),
  'partition': lambda m: optax.partition({'sgd': m, 'adamw': m}, labels),
  'masked in a chain': lambda m: optax.chain(
    optax.masked(optax.chain(m, driving.BASE), {'w': True, 'b': False})
  ),
}


@every_method
@pytest.mark.parametrize('wrapper', WRAPPERS)
def test_masked_params_show_the_chain(name, wrapper):
  with pytest.raises(ValueError) as error:
    WRAPPERS[wrapper](method(name)).init(driving.start())
  assert_three_beats(error, 'masked', 'optax.chain(', 'ascent.gradient(rho)')


@every_method
def test_masked_params_are_refused_in_update_too(name):
  params = driving.start()
  grads, keywords = arguments(name, params)
  state = method(name).init(params)
  with pytest.raises(ValueError) as error:
    masked = params | {'b': optax.MaskedNode()}
    method(name).update(grads, state, masked, **keywords)
  assert_three_beats(error, 'masked', 'optax.chain(')


@every_method
@pytest.mark.parametrize('chained', [False, True])
def test_multi_steps_shows_how_to_accumulate(name, chained):
  inner = optax.chain(method(name), driving.BASE) if chained else method(name)
  tx = optax.MultiSteps(inner, every_k_schedule=2)
  for init in [tx.init, tx.gradient_transformation().init, jax.jit(tx.init)]:
    with pytest.raises(ValueError) as error:
      init(driving.start())
    assert_three_beats(
      error, 'MultiSteps', 'grad_fn', 'jax.grad', 'accumulate('
    )


@pytest.mark.parametrize(
  ('name', 'number'),
  [(name, number) for name in METHODS for number in METHODS[name].numbers],
)
def test_a_number_out_of_range_is_named(name, number):
  traits = METHODS[name].numbers[number]
  above = math.nextafter(traits.maximum, math.inf)
  outside = [x for x in (traits.minimum - 1, above) if math.isfinite(x)]
  for bad in [*outside, math.nan, 'many']:
    with pytest.raises(ValueError) as error:
      build(name, **{number: bad})
    assert_three_beats(error, f'{number}={bad!r}')
