"""Methods whose new part is a descent: GSAM, LookSAM, GNP, WSAM."""

from __future__ import annotations

from sam_optax import _base, _check, ascent, cadence, descent
from sam_optax._method import SharpnessAware, sharpness_aware


def gsam(
  rho: _base.ScalarOrSchedule = 0.05,
  alpha: _base.ScalarOrSchedule = 0.4,
  *,
  minimize: str = 'perturbed',
) -> SharpnessAware:
  r"""Surrogate gap guided SAM: descends on the perturbed loss and on the gap.

  .. math::
    u = g_p / \|g_p\|, \quad
    G = g_p - \alpha (g - \langle g, u \rangle u)

  where :math:`g` is the gradient at the parameters and :math:`g_p` the one at
  the perturbed parameters. The correction is orthogonal to :math:`g_p`, so to
  first order it lowers the gap between the two losses without raising the
  perturbed one. With alpha = 0 it is SAM.

  Costs two gradients per step. The state holds no copy of the parameters.

  Parts: `ascent.gradient`, `descent.surrogate_gap`.

  Args:
    rho: norm of the perturbation, at least 0. The paper ties it to the learning
      rate: pass `rho_schedule` (ViT-B/32 in the released code: 0.6 to 0.1).
    alpha: weight of the orthogonal part, at least 0 (the released code: 0.4 for
      WRN on CIFAR-10, 0.6 for ViT-B/32).
    minimize: 'perturbed' is the formula above. 'clean' is the other form in the
      released code, which descends on the loss at the parameters (see
      `descent.surrogate_gap`).

  Returns:
    A `SharpnessAware` transformation.

  Raises:
    ValueError: if a number is negative or minimize is unknown.

  Example:
    >>> import jax, jax.numpy as jnp, optax, sam_optax
    >>> f = lambda w: jnp.sum(w**4)
    >>> grad_fn = jax.grad(f)
    >>> rate = optax.linear_schedule(0.02, 0.01, transition_steps=4)
    >>> rho = sam_optax.rho_schedule(rate, 0.1, 0.05, lr_max=0.02, lr_min=0.01)
    >>> tx = optax.chain(sam_optax.gsam(rho, alpha=0.4), optax.sgd(rate))
    >>> params = jnp.array([1.0, -2.0])
    >>> state = tx.init(params)
    >>> for _ in range(4):
    ...   print(f'Objective: {f(params):.2f}')
    ...   updates, state = tx.update(
    ...     grad_fn(params), state, params, grad_fn=grad_fn
    ...   )
    ...   params = optax.apply_updates(params, updates)
    Objective: 17.00
    Objective: 3.23
    Objective: 1.96
    Objective: 1.44

  References:
    Zhuang et al., `Surrogate Gap Minimization Improves Sharpness-Aware Training
    <https://arxiv.org/abs/2203.08065>`_, 2022, Algorithm 1.
  """
  return sharpness_aware(
    ascent.gradient(rho), descent=descent.surrogate_gap(alpha, minimize)
  )


def looksam(
  rho: _base.ScalarOrSchedule = 0.1,
  k: _base.ScalarOrSchedule = 5,
  alpha: _base.ScalarOrSchedule = 0.7,
  *,
  per_tensor: bool = False,
) -> SharpnessAware:
  r"""LookSAM: SAM on every k-th step, with its direction reused in between.

  .. math::
    g_v = g_p - \langle g_p, g \rangle g / \|g\|^2, \quad
    G = \begin{cases}
      g_p & t \bmod k = 0 \\
      g + \alpha \|g\| g_v / (\|g_v\| + 10^{-8}) & \text{otherwise}
    \end{cases}

  where :math:`g_v` is kept from the last SAM step. With k = 1 it is SAM, with
  alpha = 0 it is `sam_k`.

  Costs 1 + 1/k gradients per step. The state holds one copy of the parameters.

  Parts: `ascent.gradient`, `cadence.every`, `descent.look_direction`.

  Args:
    rho: norm of the perturbation, at least 0.
    k: period in steps, at least 1 (5 in the comparisons of the ARSAM and AUSAM
      papers).
    alpha: norm of the correction relative to the gradient, at least 0 (public
      ports: 0.7).
    per_tensor: whether norms and inner products are taken tensor by tensor, as
      in public ports; otherwise over all parameters.

  Returns:
    A `SharpnessAware` transformation.

  Raises:
    ValueError: if a number is out of its range.

  Example:
    >>> import jax, jax.numpy as jnp, optax, sam_optax
    >>> f = lambda w: jnp.sum(w**4)
    >>> grad_fn = jax.grad(f)
    >>> tx = optax.chain(sam_optax.looksam(rho=0.05, k=2), optax.sgd(0.01))
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
    Objective: 5.75
    Objective: 4.07
    >>> int(optax.tree.get(state, 'gradient_evaluations'))
    6

  References:
    Liu et al., `Towards Efficient and Scalable Sharpness-Aware Minimization
    <https://arxiv.org/abs/2203.02714>`_, 2022.
  """
  return sharpness_aware(
    ascent.gradient(rho),
    cadence.every(k),
    descent.look_direction(alpha, per_tensor=per_tensor),
  )


def gnp(
  rho: _base.ScalarOrSchedule = 0.1,
  alpha: _base.ScalarOrSchedule = 0.8,
  *,
  normalize: bool = False,
) -> SharpnessAware:
  r"""Gradient norm penalty: descends on the loss plus the norm of its gradient.

  .. math::
    G = (1 - \alpha) g + \alpha \nabla L(w + \rho\, g / \|g\|)

  To first order this is the gradient of :math:`L + \lambda \|\nabla L\|` with
  :math:`\lambda = \alpha \rho`. With alpha = 1 it is SAM, with alpha = 0 the
  base optimizer.

  Costs two gradients per step. The state holds no copy of the parameters.

  Parts: `ascent.gradient`, `descent.blend`.

  Args:
    rho: norm of the perturbation, at least 0 (the released configs: 0.1 on
      CIFAR, 0.05 for ResNet-50 on ImageNet).
    alpha: weight of the perturbed gradient, at least 0 (the released configs:
      0.8).
    normalize: whether :math:`g / \|g\|` replaces :math:`g` in the sum. False
      follows the paper; True follows the default flag of the released code.

  Returns:
    A `SharpnessAware` transformation.

  Raises:
    ValueError: if a number is negative.

  Example:
    >>> import jax, jax.numpy as jnp, optax, sam_optax
    >>> f = lambda w: jnp.sum(w**4)
    >>> grad_fn = jax.grad(f)
    >>> tx = optax.chain(sam_optax.gnp(rho=0.1, alpha=0.8), optax.sgd(0.01))
    >>> params = jnp.array([1.0, -2.0])
    >>> state = tx.init(params)
    >>> for _ in range(4):
    ...   print(f'Objective: {f(params):.2f}')
    ...   updates, state = tx.update(
    ...     grad_fn(params), state, params, grad_fn=grad_fn
    ...   )
    ...   params = optax.apply_updates(params, updates)
    Objective: 17.00
    Objective: 8.08
    Objective: 4.98
    Objective: 3.46

  References:
    Zhao et al., `Penalizing Gradient Norm for Efficiently Improving
    Generalization in Deep Learning <https://arxiv.org/abs/2202.03599>`_, 2022.
  """
  return sharpness_aware(
    ascent.gradient(rho), descent=descent.blend(alpha, normalize=normalize)
  )


def wsam(
  rho: _base.ScalarOrSchedule = 0.05, gamma: _base.ScalarOrSchedule = 0.9
) -> SharpnessAware:
  r"""Weighted SAM, coupled: sharpness as a weighted regularizer.

  .. math::
    a = \gamma / (1 - \gamma), \quad
    G = (1 - a) g + a\, g_p

  where :math:`g` is the gradient at the parameters and :math:`g_p` the one at
  the perturbed parameters. The authors default to the decoupled form, where the
  sharpness term bypasses the base optimizer: see `wsam_decoupled`. With plain
  SGD the two are the same. With gamma = 0.5 it is SAM, with gamma = 0 the base
  optimizer.

  Costs two gradients per step. The state holds no copy of the parameters.

  Parts: `ascent.gradient`, `descent.blend`.

  Args:
    rho: norm of the perturbation, at least 0.
    gamma: weight of the sharpness, in [0, 1) (public code: 0.9, useful from 0.8
      to 0.95).

  Returns:
    A `SharpnessAware` transformation.

  Raises:
    ValueError: if a number is out of its range.

  Example:
    >>> import jax, jax.numpy as jnp, optax, sam_optax
    >>> f = lambda w: jnp.sum(w**4)
    >>> grad_fn = jax.grad(f)
    >>> tx = optax.chain(sam_optax.wsam(rho=0.05, gamma=0.8), optax.sgd(0.01))
    >>> params = jnp.array([1.0, -2.0])
    >>> state = tx.init(params)
    >>> for _ in range(4):
    ...   print(f'Objective: {f(params):.2f}')
    ...   updates, state = tx.update(
    ...     grad_fn(params), state, params, grad_fn=grad_fn
    ...   )
    ...   params = optax.apply_updates(params, updates)
    Objective: 17.00
    Objective: 7.11
    Objective: 4.16
    Objective: 2.80

  References:
    Yue et al., `Sharpness-Aware Minimization Revisited: Weighted Sharpness as a
    Regularization Term <https://arxiv.org/abs/2305.15817>`_, 2023.
  """
  _check.number('gamma', gamma, 0, 1 - 1e-9, why='its weight is g / (1 - g)')
  return sharpness_aware(
    ascent.gradient(rho), descent=descent.blend(sharpness_weight(gamma))
  )


def stable_sam(rho: _base.ScalarOrSchedule = 0.05) -> SharpnessAware:
  r"""Stable SAM: the perturbed gradient, rescaled to the norm of the gradient.

  .. math::
    g_p = \nabla L(w + \rho\, g / \|g\|), \quad
    G = \frac{\|g\|}{\|g_p\| + 10^{-12}}\, g_p

  With rho = 0 the two gradients are equal and it is the base optimizer. The
  authors also run it without the normalisation of the ascent: combine
  `ascent.unified(rho, 0)` with `descent.rescaled()`.

  Costs two gradients per step. The state holds no copy of the parameters.

  Parts: `ascent.gradient`, `descent.rescaled`.

  Args:
    rho: norm of the perturbation, at least 0 (the released code: 0.05).

  Returns:
    A `SharpnessAware` transformation.

  Raises:
    ValueError: if rho is negative.

  Example:
    >>> import jax, jax.numpy as jnp, optax, sam_optax
    >>> f = lambda w: jnp.sum(w**4)
    >>> grad_fn = jax.grad(f)
    >>> tx = optax.chain(sam_optax.stable_sam(rho=0.05), optax.sgd(0.01))
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
    Objective: 5.67
    Objective: 4.04

  References:
    Tan et al., `Stabilizing Sharpness-aware Minimization Through A Simple
    Renormalization Strategy <https://arxiv.org/abs/2401.07250>`_, 2025, and the
    released code.
  """
  return sharpness_aware(ascent.gradient(rho), descent=descent.rescaled())


def sharpness_weight(
  gamma: _base.ScalarOrSchedule,
) -> _base.ScalarOrSchedule:
  """The weight of the sharpness relative to the loss: gamma / (1 - gamma)."""
  if callable(gamma):
    return lambda step: gamma(step) / (1 - gamma(step))
  return gamma / (1 - gamma)
