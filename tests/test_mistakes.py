"""Mistakes: every error says what was given, why it fails, and what works."""

import math

import jax
import jax.numpy as jnp
import optax
import pytest

from tests import driving
from tests.methods import METHODS, PERTURBING, build, method
from tests.words import well_formed

every_method = pytest.mark.parametrize('name', METHODS)


def assert_three_beats(error, *parts):
  """Asserts what was given, why it cannot work, and what would."""
  text = str(error.value)
  assert text.startswith('Given ')
  well_formed(text)
  assert text.count('. ') >= 2
  for part in parts:
    assert part in text


@every_method
def test_missing_params_show_the_call(name):
  params = driving.start()
  grads, keywords = driving.first_call(name, params)
  with pytest.raises(ValueError) as error:
    method(name).update(grads, method(name).init(params), **keywords)
  call = ['tx.update(', 'grad_fn=']
  if METHODS[name].another_loss:  # which no grad_fn shows
    call = ['loss_fn', 'batch', 'value_and_grad(']
  assert_three_beats(error, 'no params', *call)


@pytest.mark.parametrize('name', PERTURBING)
def test_a_missing_gradient_function_shows_the_call(name):
  params = driving.start()
  grads, keywords = driving.first_call(name, params)
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
  grads, keywords = driving.first_call(name, params)
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
  _, keywords = driving.first_call(name, params)
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
  grads, keywords = driving.first_call(name, params)
  del keywords['batch']
  with pytest.raises(ValueError) as error:
    method(name).update(grads, method(name).init(params), params, **keywords)
  assert_three_beats(
    error, 'batch', 'batch, ' if METHODS[name].another_loss else 'batch=batch'
  )


@pytest.mark.parametrize(
  'name', [n for n, row in METHODS.items() if row.needs_reference]
)
def test_a_missing_reference_is_requested(name):
  params = driving.start()
  grads, keywords = driving.first_call(name, params)
  del keywords['reference_grad_fn']
  with pytest.raises(ValueError) as error:
    method(name).update(grads, method(name).init(params), params, **keywords)
  assert_three_beats(error, 'no reference_grad_fn', 'reference_grad_fn=jax')


WRAPPERS = {
  'masked': lambda m: optax.masked(m, {'w': True, 'b': False}),
  'partition': lambda m: optax.partition(
    {'sgd': m, 'adamw': m}, {'w': 'adamw', 'b': 'sgd'}
  ),
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
  grads, keywords = driving.first_call(name, params)
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
