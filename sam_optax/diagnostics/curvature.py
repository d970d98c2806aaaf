"""The Hessian, from products with vectors: it is never formed.

Every function takes `grad_fn`, params -> gradient of the loss, such as
`jax.grad` of a mean over all batches, and evaluates one product of the Hessian
with a vector, of about two gradients' cost, per iteration or draw.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from sam_optax import _base, _check, _given, _random, _tree


def _product(grad_fn: _base.GradFn, params: _base.PyTree):
  """Vector -> Hessian vector, in float32 or wider."""

  def product(vector):
    tangent = optax.tree.cast_like(vector, params)
    return _tree.promote(jax.jvp(grad_fn, (params,), (tangent,))[1])

  return product


_dot = functools.partial(jnp.tensordot, precision='highest')


class _Lanczos(NamedTuple):
  """The Hessian in the basis that Lanczos' iteration builds.

  Attributes:
    basis: the unit vectors so far, leaves [iterations, ...].
    diagonal: of the tridiagonal matrix, [iterations].
    beside: the entry between a vector and the one before it, [iterations].
    vector: the next unit vector.
  """

  basis: _base.PyTree
  diagonal: jax.Array
  beside: jax.Array
  vector: _base.PyTree


def _project(basis: _base.PyTree, vector: _base.PyTree) -> _base.PyTree:
  """The vector without its part in the basis."""
  for _ in range(2):  # once leaves a rounding error that grows
    parts = jax.tree.map(lambda b, v: _dot(b, v, v.ndim), basis, vector)
    parts = sum(jax.tree.leaves(parts))
    inside = jax.tree.map(lambda b, p=parts: _dot(p, b, 1), basis)
    vector = _tree.subtract(vector, inside)
  return vector


def _tridiagonal(product, params, iterations: int, key) -> jax.Array:
  """The Hessian in the first vectors of Lanczos' basis, [iterations] * 2."""
  zero = _tree.promote(_tree.zeros_like(params))
  number = lambda n: jnp.asarray(n, jnp.int32)
  random = lambda n: _random.normal_like(key, number(n), zero)
  basis = jax.tree.map(lambda x: jnp.stack([x] * iterations), zero)
  dtype = _tree.norm(zero).dtype
  empty = jnp.zeros(iterations, dtype)
  epsilon = 10 * float(jnp.finfo(dtype).eps)

  def step(count, found):
    basis, diagonal, beside, vector = found
    basis = jax.tree.map(lambda b, v: b.at[count].set(v), basis, vector)
    image = product(vector)
    diagonal = diagonal.at[count].set(_tree.vdot(vector, image))
    rest = _project(basis, image)
    length = _tree.norm(rest)
    scale = jnp.max(jnp.abs(diagonal)) + jnp.max(beside)
    # Where the basis is closed under the Hessian, on with any vector outside.
    closed = length <= epsilon * scale
    rest = jax.lax.cond(
      closed, lambda: _project(basis, random(count + 1)), lambda: rest
    )
    length = jnp.where(closed, 0, length)
    beside = beside.at[count + 1].set(length, mode='drop')
    return _Lanczos(basis, diagonal, beside, _tree.unit(rest))

  start = _Lanczos(basis, empty, empty, _tree.unit(random(0)))
  found = jax.lax.fori_loop(0, iterations, step, start)
  side = jnp.diag(found.beside[1:], 1)
  return jnp.diag(found.diagonal) + side + side.T


def _num_params(params: _base.PyTree) -> int:
  return sum(leaf.size for leaf in jax.tree.leaves(params))


def top_eigenvalues(
  grad_fn: _base.GradFn,
  params: _base.PyTree,
  count: int = 1,
  *,
  iterations: int = 30,
  key: _base.Key = 0,
) -> jax.Array:
  r"""The largest eigenvalues of the Hessian, by Lanczos' iteration.

  Every vector is made orthogonal to all before it, twice, so that no eigenvalue
  appears that is not there. The largest converge first: raise `iterations`
  until they stay.

  Args:
    grad_fn: params -> gradient of the loss.
    params: the parameters.
    count: how many, at least 1.
    iterations: products with the Hessian, at least `count`; as many copies of
      the parameters are kept. No more than there are parameters are made.
    key: PRNG key or int seed of the first vector.

  Returns:
    The eigenvalues, the largest first, [count].

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from sam_optax import diagnostics
    >>> valley = lambda w: jnp.sum(jnp.array([1.0, 10.0, 3.0]) * w**2) / 2
    >>> top = diagnostics.top_eigenvalues(jax.grad(valley), jnp.ones(3), 2)
    >>> [round(float(value), 3) for value in top]
    [10.0, 3.0]
  """
  params = _given.params(params)
  size = _num_params(params)
  _check.number(
    'count', count, 1, size, static=True, why='it counts', whole=True
  )
  _check.number(
    'iterations',
    iterations,
    count,
    static=True,
    why='it must find them all',
    whole=True,
  )
  found = _tridiagonal(
    _product(grad_fn, params),
    params,
    min(iterations, size),
    _random.make_key(key),
  )
  return jnp.linalg.eigvalsh(found)[::-1][:count]


def hessian_trace(
  grad_fn: _base.GradFn,
  params: _base.PyTree,
  *,
  draws: int = 30,
  key: _base.Key = 0,
) -> jax.Array:
  r"""An unbiased estimate of the trace of the Hessian, by Hutchinson's method.

  .. math:: \frac 1 n \sum_i z_i' H z_i, \quad z_i \in \{-1, 1\}^d

  Args:
    grad_fn: params -> gradient of the loss.
    params: the parameters.
    draws: :math:`n`, at least 1.
    key: PRNG key or int seed.

  Returns:
    A scalar.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from sam_optax import diagnostics
    >>> valley = lambda w: jnp.sum(jnp.array([1.0, 10.0, 3.0]) * w**2) / 2
    >>> trace = diagnostics.hessian_trace(jax.grad(valley), jnp.ones(3))
    >>> print(round(float(trace), 3))
    14.0
  """
  _check.number(
    'draws', draws, 1, static=True, why='they are averaged', whole=True
  )
  params = _given.params(params)
  key, product = _random.make_key(key), _product(grad_fn, params)

  def one(number):
    normal = _random.normal_like(key, number, params)
    signs = jax.tree.map(lambda n: jnp.copysign(jnp.ones_like(n), n), normal)
    return _tree.vdot(signs, product(signs))

  return jnp.mean(jax.lax.map(one, jnp.arange(draws, dtype=jnp.int32)))


def spectrum(
  grad_fn: _base.GradFn,
  params: _base.PyTree,
  *,
  draws: int = 5,
  iterations: int = 30,
  key: _base.Key = 0,
) -> tuple[jax.Array, jax.Array]:
  r"""The density of the Hessian's eigenvalues, by stochastic quadrature.

  For any function f, the mean of :math:`f(\lambda)` over all eigenvalues is
  about the mean over the draws of :math:`\sum_i w_i f(\lambda_i)`: a histogram
  of the values with these weights is a picture of the spectrum.

  Args:
    grad_fn: params -> gradient of the loss.
    params: the parameters.
    draws: first vectors of Lanczos' iteration, at least 1.
    iterations: products with the Hessian per draw, at least 1; as many copies
      of the parameters are kept. No more than there are parameters are made.
    key: PRNG key or int seed.

  Returns:
    (values, weights), each [draws, iterations]; the weights of a draw sum to 1.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from sam_optax import diagnostics
    >>> bowl = lambda w: jnp.sum(w**2)
    >>> values, weights = diagnostics.spectrum(jax.grad(bowl), jnp.ones(4))
    >>> print(jnp.mean(jnp.sum(weights * values, axis=1)).round(3))
    2.0

  References:
    Ghorbani et al., `An Investigation into Neural Net Optimization via Hessian
    Eigenvalue Density <https://arxiv.org/abs/1901.10159>`_, 2019.
  """
  _check.number(
    'draws', draws, 1, static=True, why='they are averaged', whole=True
  )
  _check.number(
    'iterations', iterations, 1, static=True, why='it counts', whole=True
  )
  params = _given.params(params)
  product = _product(grad_fn, params)
  size = min(iterations, _num_params(params))

  def one(key):
    values, vectors = jnp.linalg.eigh(_tridiagonal(product, params, size, key))
    return values, vectors[0] ** 2

  return jax.lax.map(one, jax.random.split(_random.make_key(key), draws))
