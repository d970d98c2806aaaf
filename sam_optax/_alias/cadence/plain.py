"""Methods whose steps follow a count or a draw: SAM-k, SS-SAM."""

from __future__ import annotations

from sam_optax import _base, ascent, cadence
from sam_optax._method import SharpnessAware, sharpness_aware


def identity() -> SharpnessAware:
  r"""The base optimizer alone: no step perturbs.

  .. math::
    G = \nabla L(w)

  Use it as the baseline in a comparison: it has the same interface and state as
  the methods. It is `sam` with rho = 0, without the second gradient.

  Costs one gradient per step. The state holds no copy of the parameters.

  Parts: `cadence.never`.

  Returns:
    A `SharpnessAware` transformation. Its `update` needs no grad_fn.

  Example:
    >>> import jax, jax.numpy as jnp, optax, sam_optax
    >>> f = lambda w: jnp.sum(w**4)
    >>> tx = optax.chain(sam_optax.identity(), optax.sgd(0.01))
    >>> params = jnp.array([1.0, -2.0])
    >>> state = tx.init(params)
    >>> for _ in range(4):
    ...   print(f'Objective: {f(params):.2f}')
    ...   updates, state = tx.update(jax.grad(f)(params), state, params)
    ...   params = optax.apply_updates(params, updates)
    Objective: 17.00
    Objective: 8.82
    Objective: 5.66
    Objective: 4.04
  """
  return sharpness_aware(ascent.gradient(0.0), cadence.never())


def late_sam(
  rho: _base.ScalarOrSchedule = 0.05,
  start: _base.Number = 0,
  stop: _base.Number | None = None,
) -> SharpnessAware:
  r"""SAM within a span of steps, the base optimizer before and after it.

  .. math::
    G = \begin{cases}
      \nabla L(w + \rho\, g / \|g\|) & \text{start} \le t < \text{stop} \\
      g & \text{otherwise}
    \end{cases}

  Without start and stop it is SAM.

  Costs two gradients per step within the span and one outside. The state holds
  no copy of the parameters.

  Parts: `ascent.gradient`, `cadence.between` over `cadence.every`.

  Args:
    rho: norm of the perturbation, at least 0.
    start: the first step that perturbs, counted from 0, at least 0.
    stop: the first step after the span, at least 0; None for no end.

  Returns:
    A `SharpnessAware` transformation.

  Raises:
    ValueError: if a number is negative.

  Example:
    >>> import jax, jax.numpy as jnp, optax, sam_optax
    >>> f = lambda w: jnp.sum(w**4)
    >>> grad_fn = jax.grad(f)
    >>> tx = optax.chain(sam_optax.late_sam(rho=0.05, start=2), optax.sgd(0.01))
    >>> params = jnp.array([1.0, -2.0])
    >>> state = tx.init(params)
    >>> for _ in range(4):
    ...   print(f'Objective: {f(params):.2f}')
    ...   updates, state = tx.update(
    ...     grad_fn(params), state, params, grad_fn=grad_fn
    ...   )
    ...   params = optax.apply_updates(params, updates)
    Objective: 17.00
    Objective: 8.82
    Objective: 5.66
    Objective: 3.90
    >>> int(optax.tree.get(state, 'gradient_evaluations'))
    6

  References:
    Zhou et al., `Sharpness-Aware Minimization Efficiently Selects Flatter
    Minima Late in Training <https://arxiv.org/abs/2410.10373>`_, 2025.
  """
  return sharpness_aware(
    ascent.gradient(rho), cadence.between(cadence.every(1), start, stop)
  )


def sam_k(
  rho: _base.ScalarOrSchedule = 0.05, k: _base.ScalarOrSchedule = 5
) -> SharpnessAware:
  r"""SAM on every k-th step, the base optimizer in between.

  .. math::
    G = \begin{cases}
      \nabla L(w + \rho\, g / \|g\|) & t \bmod k = 0 \\
      g & \text{otherwise}
    \end{cases}

  The first step, t = 0, perturbs. With k = 1 it is SAM.

  Costs 1 + 1/k gradients per step. The state holds no copy of the parameters.

  Parts: `ascent.gradient`, `cadence.every`.

  Args:
    rho: norm of the perturbation, at least 0.
    k: period in steps, at least 1 (5 in the ARSAM paper, where it is SAM-5).

  Returns:
    A `SharpnessAware` transformation.

  Raises:
    ValueError: if rho is negative or k is below 1.

  Example:
    >>> import jax, jax.numpy as jnp, optax, sam_optax
    >>> f = lambda w: jnp.sum(w**4)
    >>> grad_fn = jax.grad(f)
    >>> tx = optax.chain(sam_optax.sam_k(rho=0.05, k=2), optax.sgd(0.01))
    >>> params = jnp.array([1.0, -2.0])
    >>> state = tx.init(params)
    >>> for _ in range(4):
    ...   print(f'Objective: {f(params):.2f}')
    ...   updates, state = tx.update(
    ...     grad_fn(params), state, params, grad_fn=grad_fn
    ...   )
    ...   params = optax.apply_updates(params, updates)
    Objective: 17.00
    Objective: 8.36
    Objective: 5.45
    Objective: 3.79
    >>> int(optax.tree.get(state, 'gradient_evaluations'))
    6

  References:
    Deng and Pang, `Adaptively Sampling-Reusing-Mixing Decomposed Gradients to
    Speed Up Sharpness Aware Minimization <https://arxiv.org/abs/2510.03763>`_,
    2025, the baseline of Table 3.
  """
  return sharpness_aware(ascent.gradient(rho), cadence.every(k))


def ss_sam(
  rho: _base.ScalarOrSchedule = 0.05,
  p: _base.ScalarOrSchedule = 0.5,
  key: _base.Key = 0,
) -> SharpnessAware:
  r"""Stochastic scheduled SAM: each step perturbs with probability p.

  .. math::
    \xi_t \sim \text{Bernoulli}(p_t), \quad
    G = \begin{cases}
      \nabla L(w + \rho\, g / \|g\|) & \xi_t = 1 \\
      g & \xi_t = 0
    \end{cases}

  With p = 1 it is SAM, with p = 0 the base optimizer.

  Costs 1 + p gradients per step on average. The state holds no copy of the
  parameters.

  Parts: `ascent.gradient`, `cadence.bernoulli`.

  Args:
    rho: norm of the perturbation, at least 0.
    p: probability in [0, 1]. For the scheduling functions of the paper, pass a
      schedule.
    key: PRNG key or int seed, the same on every device.

  Returns:
    A `SharpnessAware` transformation.

  Raises:
    ValueError: if rho is negative or p is not a probability.

  Example:
    >>> import jax, jax.numpy as jnp, optax, sam_optax
    >>> f = lambda w: jnp.sum(w**4)
    >>> grad_fn = jax.grad(f)
    >>> tx = optax.chain(
    ...   sam_optax.ss_sam(rho=0.05, p=0.5, key=0), optax.sgd(0.01)
    ... )
    >>> params = jnp.array([1.0, -2.0])
    >>> state = tx.init(params)
    >>> for _ in range(4):
    ...   print(f'Objective: {f(params):.2f}')
    ...   updates, state = tx.update(
    ...     grad_fn(params), state, params, grad_fn=grad_fn
    ...   )
    ...   params = optax.apply_updates(params, updates)
    Objective: 17.00
    Objective: 8.82
    Objective: 5.44
    Objective: 3.91

  References:
    Zhao et al., `SS-SAM: Stochastic Scheduled Sharpness-Aware Minimization for
    Efficiently Training Deep Neural Networks
    <https://arxiv.org/abs/2203.09962>`_, 2022.
  """
  return sharpness_aware(ascent.gradient(rho), cadence.bernoulli(p, key))
