"""Methods along the gradient of other data: experiments of the F-SAM paper."""

from __future__ import annotations

from sam_optax import _base, ascent
from sam_optax._method import SharpnessAware, sharpness_aware


def sam_full(
  rho: _base.ScalarOrSchedule = 0.1,
  *,
  variant: str = 'code',
) -> SharpnessAware:
  r"""SAM along the full gradient: an experiment of the F-SAM paper.

  .. math::
    d = \langle g, g_R \rangle g_R / \|g_R\|^2, \quad
    \epsilon = \rho\, d / (\|d\| + 10^{-12}), \quad
    G = \nabla L(w + \epsilon)

  where :math:`g_R` is a reference gradient, usually over the whole training
  set. Pass `reference_grad_fn`, a function from params to gradient, to `update`
  or `value_and_grad`. If the reference is the batch itself, it is SAM.

  Costs three gradients per step, one of them on the reference data. The state
  holds no copy of the parameters.

  Parts: `ascent.reference` then `ascent.gradient`.

  Args:
    rho: norm of the perturbation, at least 0.
    variant: 'code' is the orthogonal projection above, which the paper
      describes in words; no code was released. 'paper' is its printed formula,
      :math:`\cos(g, g_R)\, g_R`.

  Returns:
    A `SharpnessAware` transformation.

  Raises:
    ValueError: if rho is negative or variant is unknown, or at update if
      reference_grad_fn is missing.

  Example:
    >>> import jax, jax.numpy as jnp, optax, sam_optax
    >>> loss = lambda w, x: jnp.mean((x @ w - 1) ** 2)
    >>> batches = jax.random.normal(jax.random.key(0), (4, 8, 2))
    >>> full_grad_fn = jax.grad(lambda w: loss(w, batches))
    >>> tx = optax.chain(sam_optax.sam_full(rho=0.1), optax.sgd(0.1))
    >>> params = jnp.array([1.0, -2.0])
    >>> state = tx.init(params)
    >>> for batch in batches:
    ...   print(f'Objective: {loss(params, batches):.2f}')
    ...   grad_fn = jax.grad(lambda w: loss(w, batch))
    ...   updates, state = tx.update(
    ...     grad_fn(params),
    ...     state,
    ...     params,
    ...     grad_fn=grad_fn,
    ...     reference_grad_fn=full_grad_fn,
    ...   )
    ...   params = optax.apply_updates(params, updates)
    Objective: 5.99
    Objective: 3.59
    Objective: 2.24
    Objective: 2.12

  References:
    Li et al., `Friendly Sharpness-Aware Minimization
    <https://arxiv.org/abs/2403.12350>`_, 2024, section 3.
  """
  return sharpness_aware(
    ascent.chain(
      ascent.reference('along', variant=variant), ascent.gradient(rho)
    )
  )


def sam_noise(
  rho: _base.ScalarOrSchedule = 0.1,
  *,
  variant: str = 'code',
) -> SharpnessAware:
  r"""SAM along the batch noise alone: an experiment of the F-SAM paper.

  .. math::
    d = g - \langle g, g_R \rangle g_R / \|g_R\|^2, \quad
    \epsilon = \rho\, d / (\|d\| + 10^{-12}), \quad
    G = \nabla L(w + \epsilon)

  where :math:`g_R` is a reference gradient, usually over the whole training
  set. Pass `reference_grad_fn`, a function from params to gradient, to `update`
  or `value_and_grad`. If the reference is the batch itself, d is zero up to
  rounding.

  Costs three gradients per step, one of them on the reference data. The state
  holds no copy of the parameters.

  Parts: `ascent.reference` then `ascent.gradient`.

  Args:
    rho: norm of the perturbation, at least 0.
    variant: 'code' is the orthogonal projection above, which the paper
      describes in words; no code was released. 'paper' subtracts its printed
      formula, :math:`\cos(g, g_R)\, g_R`, and then d is not orthogonal to
      :math:`g_R`.

  Returns:
    A `SharpnessAware` transformation.

  Raises:
    ValueError: if rho is negative or variant is unknown, or at update if
      reference_grad_fn is missing.

  Example:
    >>> import jax, jax.numpy as jnp, optax, sam_optax
    >>> loss = lambda w, x: jnp.mean((x @ w - 1) ** 2)
    >>> batches = jax.random.normal(jax.random.key(0), (4, 8, 2))
    >>> full_grad_fn = jax.grad(lambda w: loss(w, batches))
    >>> tx = optax.chain(sam_optax.sam_noise(rho=0.1), optax.sgd(0.1))
    >>> params = jnp.array([1.0, -2.0])
    >>> state = tx.init(params)
    >>> for batch in batches:
    ...   print(f'Objective: {loss(params, batches):.2f}')
    ...   grad_fn = jax.grad(lambda w: loss(w, batch))
    ...   updates, state = tx.update(
    ...     grad_fn(params),
    ...     state,
    ...     params,
    ...     grad_fn=grad_fn,
    ...     reference_grad_fn=full_grad_fn,
    ...   )
    ...   params = optax.apply_updates(params, updates)
    Objective: 5.99
    Objective: 3.68
    Objective: 2.35
    Objective: 2.22

  References:
    Li et al., `Friendly Sharpness-Aware Minimization
    <https://arxiv.org/abs/2403.12350>`_, 2024, section 3.
  """
  return sharpness_aware(
    ascent.chain(
      ascent.reference('across', variant=variant), ascent.gradient(rho)
    )
  )


def sam_db(rho: _base.ScalarOrSchedule = 0.1) -> SharpnessAware:
  r"""SAM with the ascent of another batch: an experiment of the F-SAM paper.

  .. math::
    d = g_R, \quad
    \epsilon = \rho\, d / (\|d\| + 10^{-12}), \quad
    G = \nabla L(w + \epsilon)

  where :math:`g_R` is the gradient of an independent batch, or of a larger one
  that contains this batch. Pass `reference_grad_fn`, a function from params to
  gradient, to `update` or `value_and_grad`. If the reference is the batch
  itself, it is SAM.

  Costs two gradients per step, one of them on the reference data: `update`
  ignores the gradient that it is given, and XLA removes its computation under
  `jit`. The state holds no copy of the parameters.

  Parts: `ascent.reference` then `ascent.gradient`.

  Args:
    rho: norm of the perturbation, at least 0.

  Returns:
    A `SharpnessAware` transformation.

  Raises:
    ValueError: if rho is negative, or at update if reference_grad_fn is
      missing.

  Example:
    >>> import jax, jax.numpy as jnp, optax, sam_optax
    >>> loss = lambda w, x: jnp.mean((x @ w - 1) ** 2)
    >>> batches = jax.random.normal(jax.random.key(0), (4, 8, 2))
    >>> tx = optax.chain(sam_optax.sam_db(rho=0.1), optax.sgd(0.1))
    >>> params = jnp.array([1.0, -2.0])
    >>> state = tx.init(params)
    >>> for batch, other in zip(batches, batches[::-1]):
    ...   print(f'Objective: {loss(params, batches):.2f}')
    ...   grad_fn = jax.grad(lambda w: loss(w, batch))
    ...   updates, state = tx.update(
    ...     grad_fn(params),
    ...     state,
    ...     params,
    ...     grad_fn=grad_fn,
    ...     reference_grad_fn=jax.grad(lambda w: loss(w, other)),
    ...   )
    ...   params = optax.apply_updates(params, updates)
    Objective: 5.99
    Objective: 3.59
    Objective: 2.25
    Objective: 2.13

  References:
    Li et al., `Friendly Sharpness-Aware Minimization
    <https://arxiv.org/abs/2403.12350>`_, 2024, section 3.
  """
  return sharpness_aware(
    ascent.chain(ascent.reference('whole'), ascent.gradient(rho))
  )
