"""`sam_optax.frameworks`: a step equals two passes by hand, from one start.

Each model has BatchNorm and dropout. The first pass moves the statistics and
the random stream, once, and the second pass draws the mask of the first.
"""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
import pytest
from flax import nnx

import sam_optax
from sam_optax import frameworks
from tests.pipelines import RATE, RHO, assert_close, data, perturbed, sgd

RATE_OF_DROPOUT = 0.5


class Framework(NamedTuple):
  """How a model is made, wrapped by us, and run by hand.

  Attributes:
    start: () -> (params, rest).
    wrapped: (params, rest, step) -> (params, loss_fn).
    by_hand: (params, rest, step, batch) -> (losses, rest).
  """

  start: Any
  wrapped: Any
  by_hand: Any


def errors(outputs, y):
  return jnp.square(outputs - y)[:, 0]


# Flax NNX.


class NnxNet(nnx.Module):
  def __init__(self, rngs):
    self.hidden = nnx.Linear(4, 6, rngs=rngs)
    self.norm = nnx.BatchNorm(6, rngs=rngs)
    self.dropout = nnx.Dropout(RATE_OF_DROPOUT, rngs=rngs)
    self.head = nnx.Linear(6, 1, rngs=rngs)

  def __call__(self, x):
    return self.head(self.dropout(jnp.tanh(self.norm(self.hidden(x)))))


GRAPHDEF = nnx.split(NnxNet(nnx.Rngs(0)), nnx.Param, ...)[0]


def nnx_start():
  _, params, rest = nnx.split(NnxNet(nnx.Rngs(0)), nnx.Param, ...)
  return nnx.as_pure(params), nnx.as_pure(rest)


def nnx_wrapped(params, rest, step):
  del step
  model = nnx.merge(GRAPHDEF, params, rest)
  losses = lambda model, batch: (errors(model(batch[0]), batch[1]), None)
  params, loss_fn = frameworks.nnx(model, losses)
  return nnx.as_pure(params), loss_fn


def nnx_by_hand(params, rest, step, batch):
  del step
  model = nnx.merge(GRAPHDEF, params, rest)
  values = errors(model(batch[0]), batch[1])
  return values, nnx.as_pure(nnx.split(model, nnx.Param, ...)[2])


# Flax Linen.


class LinenNet(nn.Module):
  @nn.compact
  def __call__(self, x, train):
    x = nn.BatchNorm(use_running_average=not train)(nn.Dense(6)(x))
    x = nn.Dropout(RATE_OF_DROPOUT, deterministic=not train)(jnp.tanh(x))
    return nn.Dense(1)(x)


def dropout_key(step):
  return {'dropout': jax.random.fold_in(jax.random.key(1), step)}


def linen_start():
  variables = LinenNet().init(jax.random.key(0), data()[0], train=False)
  return variables['params'], {'batch_stats': variables['batch_stats']}


def linen_wrapped(params, rest, step):
  def losses(apply, batch):
    return errors(apply(batch[0], train=True), batch[1]), {'mean': 1.0}

  variables = {'params': params, **rest}
  return frameworks.linen(
    LinenNet().apply, variables, losses, dropout_key(step)
  )


def linen_by_hand(params, rest, step, batch):
  outputs, changed = LinenNet().apply(
    {'params': params, **rest},
    batch[0],
    train=True,
    rngs=dropout_key(step),
    mutable=['batch_stats'],
  )
  return errors(outputs, batch[1]), dict(changed)


# A tree of arrays and functions with a state that can be used once.


@jax.tree_util.register_pytree_node_class
class OnceState:
  """Like `eqx.nn.State`: the state before a change cannot be used again."""

  def __init__(self, mean, key):
    self.fields = (mean, key)

  def set(self, mean, key):
    self.tree_flatten()
    self.fields = None
    return OnceState(mean, key)

  def tree_flatten(self):
    if self.fields is None:
      raise ValueError('This state was used before.')
    return self.fields, None

  @classmethod
  def tree_unflatten(cls, _, fields):
    return cls(*fields)


def tree_start():
  model = {
    'kernel': jnp.linspace(-1, 1, 24, dtype=jnp.float32).reshape(4, 6),
    'head': jnp.linspace(1, 0, 6, dtype=jnp.float32)[:, None],
    'activation': jnp.tanh,
    'depth': jnp.asarray(1),
    'bias': None,
  }
  params = {k: v if k in ('kernel', 'head') else None for k, v in model.items()}
  return params, (jnp.zeros(6), jax.random.key(3))


def tree_losses(model, state, batch):
  mean, key = state.fields
  hidden = batch[0] @ model['kernel']
  now = jnp.mean(hidden, axis=0)
  state = state.set(0.9 * mean + 0.1 * now, jax.random.split(key)[0])
  kept = jax.random.bernoulli(key, RATE_OF_DROPOUT, hidden.shape)
  hidden = jnp.where(kept, model['activation'](hidden - now[None]), 0)
  return errors(hidden @ model['head'], batch[1]), {'rest': state}


def tree_wrapped(params, rest, step):
  del step
  model = params | {'activation': jnp.tanh, 'depth': jnp.asarray(1)}
  return frameworks.equinox(model, tree_losses, OnceState(*rest))


def tree_by_hand(params, rest, step, batch):
  del step
  model = params | {'activation': jnp.tanh}
  losses, aux = tree_losses(model, OnceState(*rest), batch)
  return losses, aux['rest'].fields


FRAMEWORKS = {
  'nnx': Framework(nnx_start, nnx_wrapped, nnx_by_hand),
  'linen': Framework(linen_start, linen_wrapped, linen_by_hand),
  'equinox': Framework(tree_start, tree_wrapped, tree_by_hand),
}


def stepper(framework, entry, method):
  @jax.jit
  def step(params, rest, state, number, batch):
    params, loss_fn = framework.wrapped(params, rest, number)
    if entry == 'value_and_grad':
      (loss, aux), grads, state = method.value_and_grad(
        loss_fn, params, state, batch
      )
    else:
      (loss, aux), grads, grad_fn = frameworks.for_update(
        loss_fn, params, batch
      )
      grads, state = method.update(grads, state, params, grad_fn=grad_fn)
    changed = aux['rest']
    changed = changed.fields if isinstance(changed, OnceState) else changed
    return loss, sgd(params, grads), changed, state

  return step


@pytest.mark.parametrize('name', FRAMEWORKS)
@pytest.mark.parametrize('entry', ['update', 'value_and_grad'])
def test_a_step_is_two_passes_by_hand(name, entry):
  framework, method = FRAMEWORKS[name], sam_optax.sam(RHO)
  step = stepper(framework, entry, method)

  @jax.jit
  def single_pass(params, rest, number, batch):
    def loss(params):
      losses, after = framework.by_hand(params, rest, number, batch)
      return jnp.mean(losses), after

    return jax.value_and_grad(loss, has_aux=True)(params)

  params, rest = expected, expected_rest = framework.start()
  state = method.init(params)
  for number in range(3):
    batch = data(number)
    loss, params, rest, state = step(params, rest, state, number, batch)
    (first, after), grads = single_pass(expected, expected_rest, number, batch)
    there = perturbed(expected, grads)
    _, second = single_pass(there, expected_rest, number, batch)
    # The mask and the statistics show: another start is another gradient.
    moved = expected, expected_rest
    expected, expected_rest = sgd(expected, second), after
    assert_close(loss, first)
    assert_close(params, expected)
    assert_close(rest, expected_rest)
    assert any(
      jnp.any(x != y)
      for x, y in zip(*map(jax.tree.leaves, (moved[1], rest)), strict=True)
      if jnp.issubdtype(x.dtype, jnp.floating)
    )


def test_an_nnx_model_stays_as_it_is_until_it_is_updated(standard_promotion):
  model = NnxNet(nnx.Rngs(0))
  tx = optax.chain(sam_optax.sam(RHO), optax.adam(RATE))
  optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
  losses = lambda model, batch: (errors(model(batch[0]), batch[1]), None)
  params, loss_fn = frameworks.nnx(model, losses)
  before = nnx.to_pure_dict(nnx.state(model))
  (_, aux), grads, grad_fn = frameworks.for_update(loss_fn, params, data())
  assert_close(nnx.to_pure_dict(nnx.state(model)), before)
  method = sam_optax.sam(RHO)
  state = method.init(params)
  expected, _ = method.update(grads, state, params, grad_fn=grad_fn)
  _, found, _ = method.value_and_grad(loss_fn, params, state, data())
  assert_close(found, expected)
  assert_close(nnx.to_pure_dict(nnx.state(model)), before)
  optimizer.update(model, grads, grad_fn=grad_fn)
  nnx.update(model, aux['rest'])
  after = nnx.split(model, nnx.Param, ...)[2]
  assert_close(nnx.to_pure_dict(after), nnx.to_pure_dict(aux['rest']))
  # The next call starts from there.
  _, again = frameworks.nnx(model, losses)[1](params, data())
  count = lambda rest: rest['dropout']['rngs']['count']
  assert count(again['rest']) == count(aux['rest']) + 1 == 2


@pytest.mark.parametrize(
  ('aux', 'said'), [(jnp.ones(3), 'is a '), ({'rest': 1}, "'rest'")]
)
def test_aux_is_a_dict_or_none(aux, said):
  losses = lambda apply, batch: (
    errors(apply(batch[0], train=True), batch[1]),
    aux,
  )
  params, rest = linen_start()
  variables = {'params': params, **rest}
  loss_fn = frameworks.linen(
    LinenNet().apply, variables, losses, dropout_key(0)
  )[1]
  with pytest.raises(
    ValueError, match=f'Given losses whose aux.*{said}'
  ) as error:
    jax.eval_shape(loss_fn, params, data())
  assert 'other names' in str(error.value)


def test_linen_variables_need_params():
  with pytest.raises(
    ValueError, match="(?s)Given variables without 'params'.*Pass"
  ):
    frameworks.linen(LinenNet().apply, linen_start()[0], tree_losses)


def test_linen_without_other_collections():
  model, x = nn.Dense(1), data()[0]
  variables = model.init(jax.random.key(0), x)
  losses = lambda apply, x: (apply(x)[:, 0] ** 2, None)
  params, loss_fn = frameworks.linen(model.apply, variables, losses)
  values, aux = loss_fn(params, x)
  assert values.shape == (8,) and aux == {'rest': {}}
