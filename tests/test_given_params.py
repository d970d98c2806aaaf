"""Parameters: numbers are taken, and leaves without a gradient refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sam_optax
from sam_optax import ascent
from tests import driving
from tests.given import (
  SAM,
  START,
  assert_refused_or_right,
  called,
  every_method,
  every_route,
  refused,
)
from tests.methods import METHODS, method


def losses_of_numbers(params, batch):
  a, b = params['a'], params['b']
  values = (batch[1] * a - jnp.sum(b)) ** 2
  return values, {'logits': values[:, None] * jnp.ones([1, 2])}


def step_from(name, params):
  """(grads, state) of a first call of `update`, with a part of the batch."""
  tx, (batch, ids) = method(name), driving.batch_at(0)
  given = driving.keywords(losses_of_numbers, batch, ids)
  if not METHODS[name].another_loss and not METHODS[name].needs_examples:
    given |= {'loss_fn': None}
  with jax.enable_x64(False):
    return tx.update(
      given['grad_fn'](params),
      tx.init(params),
      params,
      **given,
      full_batch=True,
    )


def numbers():
  """Params of Python and NumPy, and the same as arrays of JAX."""
  return (
    {'a': 0.5, 'b': np.full(2, 0.25)},
    {'a': jnp.asarray(0.5), 'b': jnp.full(2, 0.25, jnp.float32)},
  )


@every_method
def test_params_may_be_numbers_of_python_or_numpy(name):
  kinds = []
  for params in numbers():
    found = jax.eval_shape(lambda params=params: step_from(name, params))
    kinds.append(jax.tree.map(lambda x: (x.shape, x.dtype), found))
  assert kinds[0] == kinds[1]


@every_route
def test_numbers_of_python_or_numpy_take_the_same_step(name):
  assert driving.equal(*(step_from(name, params) for params in numbers()))


LEAVES = {
  'int32': jnp.zeros([], jnp.int32),
  'bool': jnp.ones(2, jnp.bool_),
  'complex64': jnp.ones(2, jnp.complex64),
  'key<fry>': jax.random.key(0),
  'function': lambda x: x,
  'str': 'relu',
}


@every_route
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


# -- One call each ------------------------------------------------------------


def params(value, loss=lambda p, batch: (batch[1], None)):
  return lambda: SAM.value_and_grad(
    loss, value, SAM.init(START), driving.batch_at(0)[0]
  )


CALLS = {
  'a Python int': (lambda: SAM.init({'w': 1}), ("['w']", 'int32')),
  'a list of names': (lambda: SAM.init(['w', 'b']), ('[0]', 'str')),
  'NumPy strings': (
    lambda: SAM.init({'w': np.array(['a'])}),
    ("['w']", 'eqx.partition'),
  ),
  'NumPy objects': (
    lambda: SAM.init({'w': np.array([None])}),
    ("['w']", 'eqx.partition'),
  ),
  'a Python complex': (lambda: SAM.init({'w': 1j}), ("['w']", 'complex64')),
  'a NumPy bool': (lambda: SAM.init({'w': np.True_}), ("['w']", 'bool')),
  'uint8 images': (
    lambda: SAM.init({'w': np.zeros([2, 2], np.uint8)}),
    ("['w']", 'uint8'),
  ),
  'shapes alone, in a step': (
    params(jax.eval_shape(driving.start)),
    ("['b']", 'ShapeDtypeStruct'),
  ),
  'no params at a step': (
    lambda: SAM.value_and_grad(
      driving.fit, None, SAM.init(START), driving.batch_at(0)[0]
    ),
    ('no params',),
  ),
  'None among the leaves': (
    lambda: jax.tree.structure(SAM.init({'w': jnp.ones(2), 'n': None})),
    None,
  ),
  'float16 of NumPy': (
    lambda: SAM.init({'w': np.ones(2, np.float16)}) is not None,
    None,
  ),
}


@pytest.mark.parametrize('name', CALLS)
def test_it_is_refused_in_words_or_right(name, standard_promotion):
  assert_refused_or_right(CALLS[name])
