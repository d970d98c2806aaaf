"""A small regression problem, and a step of SAM on it by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

RHO = 0.05
RATE = 0.1


def data(step=0, batch=8):
  """A regression batch: x of shape [batch, 4], y of shape [batch, 1]."""
  # NumPy arrays, which are constants in a traced step.
  draw = np.random.default_rng(step).normal
  x, noise = (np.float32(draw(size=(batch, n))) for n in (4, 1))
  return jnp.asarray(x), jnp.asarray(noise + x[:, :1])


def stacked_data(num_steps):
  return jax.tree.map(lambda *xs: jnp.stack(xs), *map(data, range(num_steps)))


def sam_gradient(grad_fn, params, rho=RHO):
  """The gradient of SAM, by hand."""
  return grad_fn(perturbed(params, grad_fn(params), rho))


def perturbed(params, grads, rho=RHO):
  norm = np.sqrt(sum(np.sum(np.square(g)) for g in jax.tree.leaves(grads)))
  return jax.tree.map(
    lambda w, g: w + np.float32(rho / norm) * g, params, grads
  )


def sgd(params, grads, rate=RATE):
  return jax.tree.map(lambda w, g: w - np.float32(rate) * g, params, grads)


def assert_close(actual, expected, rtol=1e-5, atol=1e-6):
  actual, expected = (comparable(t) for t in (actual, expected))
  assert jax.tree.structure(actual) == jax.tree.structure(expected)
  for a, b in zip(
    jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True
  ):
    np.testing.assert_allclose(a, b, rtol=rtol, atol=atol)


def assert_same(actual, expected):
  assert_close(actual, expected, rtol=0, atol=0)


def is_key(leaf):
  return jnp.issubdtype(jnp.asarray(leaf).dtype, jax.dtypes.prng_key)


def comparable(tree):
  """The tree with its typed PRNG keys replaced by their data."""
  return jax.tree.map(
    lambda x: jax.random.key_data(x) if is_key(x) else x, tree
  )


# A small model of plain functions, for pipelines that need only Optax.


def plain_params():
  keys = jax.random.split(jax.random.key(7))
  return {
    'hidden': {'kernel': jax.random.normal(keys[0], (4, 5)) / 2},
    'head': {'kernel': jax.random.normal(keys[1], (5, 1)) / 2},
  }


def plain_losses(params, batch):
  x, y = batch
  out = jnp.tanh(x @ params['hidden']['kernel']) @ params['head']['kernel']
  return jnp.square(out - y)[:, 0], {'mean': jnp.mean(out)}


def plain_loss(params, batch):
  return jnp.mean(plain_losses(params, batch)[0])


plain_grad = jax.jit(jax.grad(plain_loss))


def plain_grad_fn(batch):
  return lambda params: plain_grad(params, batch)


@functools.partial(jax.jit, static_argnums=0)
def plain_step(tx, params, state, batch):
  grad_fn = plain_grad_fn(batch)
  updates, state = tx.update(grad_fn(params), state, params, grad_fn=grad_fn)
  return optax.apply_updates(params, updates), state


def run(tx, num_steps=4):
  params = plain_params()
  state = tx.init(params)
  for t in range(num_steps):
    params, state = plain_step(tx, params, state, data(t))
  return params


def run_by_hand(base, num_steps=4, rho=RHO):
  """The base optimizer alone, on gradients of SAM by hand."""
  params = plain_params()
  state = base.init(params)
  update = jax.jit(base.update)
  for t in range(num_steps):
    grads = sam_gradient(plain_grad_fn(data(t)), params, rho)
    updates, state = update(grads, state, params)
    params = optax.apply_updates(params, updates)
  return params
