"""Flax NNX and Linen: a step equals SAM by hand, including BatchNorm."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import nnx

import sam_optax
from tests.pipelines import (
  RATE,
  RHO,
  assert_close,
  assert_same,
  data,
  perturbed,
  sgd,
)
from train.linen import TrainState

# Flax NNX.


class NnxNet(nnx.Module):
  def __init__(self, rngs):
    self.hidden = nnx.Linear(4, 6, rngs=rngs)
    self.norm = nnx.BatchNorm(6, rngs=rngs)
    self.dropout = nnx.Dropout(0.5, rngs=rngs)
    self.head = nnx.Linear(6, 1, rngs=rngs)

  def __call__(self, x):
    x = jnp.tanh(self.norm(self.hidden(x)))
    return self.head(self.dropout(x))


def nnx_loss(model, x, y):
  return jnp.mean(jnp.square(model(x) - y))


@nnx.jit
def nnx_step(model, optimizer, x, y):
  # The rest of the model as before this step: the second pass starts from the
  # same dropout key, and its statistics are dropped.
  graphdef, _, rest = nnx.split(model, nnx.Param, ...)
  rest = nnx.as_pure(rest)  # a copy, which the first pass does not update

  def grad_fn(params):
    copy = nnx.merge(graphdef, params, rest)
    return nnx.as_pure(nnx.grad(nnx_loss)(copy, x, y))

  grads = nnx.grad(nnx_loss)(model, x, y)
  optimizer.update(model, grads, grad_fn=grad_fn)


def test_nnx_optimizer_with_batch_norm_and_dropout():
  model = NnxNet(nnx.Rngs(0))
  graphdef, params, rest = nnx.split(model, nnx.Param, ...)
  params, rest = nnx.as_pure(params), nnx.as_pure(rest)
  tx = optax.chain(sam_optax.sam(RHO), optax.sgd(RATE))
  optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
  # One compiled pass, called twice by hand: (params, rest) -> (gradient, rest).
  single_pass = jax.jit(
    lambda params, rest, x, y: _nnx_pass(graphdef, params, rest, x, y)
  )
  for t in range(3):
    x, y = data(t)
    nnx_step(model, optimizer, x, y)
    grads, next_rest = single_pass(params, rest, x, y)
    second, _ = single_pass(perturbed(params, grads), rest, x, y)
    params, rest = sgd(params, second), next_rest
    _, actual, actual_rest = nnx.split(model, nnx.Param, ...)
    assert_close(nnx.to_pure_dict(actual), nnx.to_pure_dict(params))
    # The clean pass updated statistics and dropout counter, once.
    assert_close(
      nnx.to_pure_dict(actual_rest), nnx.to_pure_dict(rest), atol=1e-5
    )


def _nnx_pass(graphdef, params, rest, x, y):
  model = nnx.merge(graphdef, params, rest)
  grads = nnx.grad(nnx_loss)(model, x, y)
  return nnx.as_pure(grads), nnx.as_pure(nnx.split(model, nnx.Param, ...)[2])


# Flax Linen.


class LinenNet(nn.Module):
  @nn.compact
  def __call__(self, x):
    x = nn.BatchNorm(use_running_average=False, momentum=0.9)(nn.Dense(6)(x))
    return nn.Dense(1)(jnp.tanh(x))


class BatchNormState(TrainState):
  batch_stats: dict


def linen_state(tx):
  model = LinenNet()
  variables = model.init(jax.random.key(0), data()[0])
  return BatchNormState.create(
    apply_fn=model.apply,
    params=variables['params'],
    tx=tx,
    batch_stats=variables['batch_stats'],
  )


def linen_losses(state, params, batch):
  x, y = batch
  out, changed = state.apply_fn(
    {'params': params, 'batch_stats': state.batch_stats},
    x,
    mutable=['batch_stats'],
  )
  return jnp.square(out - y)[:, 0], changed['batch_stats']


def linen_pass(state, params, batch):
  """(gradient, new statistics) of one pass."""

  def loss(params):
    losses, batch_stats = linen_losses(state, params, batch)
    return jnp.mean(losses), batch_stats

  return jax.grad(loss, has_aux=True)(params)


def assert_linen_sam(step, state):
  """Three calls of `step` are SAM by hand, with clean-pass statistics."""
  by_hand = jax.jit(linen_pass)
  for t in range(3):
    batch = data(t)
    grads, batch_stats = by_hand(state, state.params, batch)
    second, _ = by_hand(state, perturbed(state.params, grads), batch)
    expected = sgd(state.params, second)
    state = step(state, batch)
    assert_close(state.params, expected)
    # The single pass of SGD gives the same.
    assert_close(state.batch_stats, batch_stats)
    assert int(state.step) == t + 1


def test_linen_train_state_forwards_grad_fn():
  @jax.jit
  def step(state, batch):
    def grad_fn(params):
      return linen_pass(state, params, batch)[0]

    grads, batch_stats = linen_pass(state, state.params, batch)
    return state.apply_gradients(
      grads=grads, grad_fn=grad_fn, batch_stats=batch_stats
    )

  tx = optax.chain(sam_optax.sam(RHO), optax.sgd(RATE))
  assert_linen_sam(step, linen_state(tx))


def test_linen_with_value_and_grad():
  method = sam_optax.sam(RHO)

  @jax.jit
  def step(state, batch):
    state, method_state = state
    (_, batch_stats), grads, method_state = method.value_and_grad(
      lambda params, batch: linen_losses(state, params, batch),
      state.params,
      method_state,
      batch,
    )
    state = state.apply_gradients(grads=grads, batch_stats=batch_stats)
    return state, method_state

  state = linen_state(optax.sgd(RATE))
  method_states = [method.init(state.params)]

  def one_state(state, batch):
    state, method_states[0] = step((state, method_states[0]), batch)
    return state

  assert_linen_sam(one_state, state)


def test_linen_train_state_forwards_extra_args(standard_promotion):
  tx = optax.chain(sam_optax.sam(RHO), optax.polyak_sgd(1.0))
  state = linen_state(tx)

  @jax.jit
  def step(state):
    def grad_fn(params):
      return linen_pass(state, params, data())[0]

    grads = grad_fn(state.params)
    updates, opt_state = tx.update(
      grads, state.opt_state, state.params, grad_fn=grad_fn, value=2.0
    )
    stepped = state.apply_gradients(
      grads=grads, grad_fn=grad_fn, extra_args={'value': 2.0}
    )
    return stepped, optax.apply_updates(state.params, updates), opt_state

  stepped, params, opt_state = step(state)
  assert_close(stepped.params, params)
  assert_close(stepped.opt_state, opt_state)
  assert stepped.tx is tx
  assert_same(stepped.batch_stats, state.batch_stats)


def test_linen_train_state_works_with_plain_transformations():
  # Without extra arguments and grad_fn, it takes the same step as Flax.
  state = linen_state(optax.GradientTransformation(*optax.sgd(RATE)))
  grads, _ = jax.jit(linen_pass)(state, state.params, data())
  stepped = state.apply_gradients(grads=grads)
  assert_close(stepped.params, sgd(state.params, grads))
