"""Methods that descend along another direction: GSAM, LookSAM, GNP, WSAM."""

from sam_optax import _base, _check, ascent, cadence, descent
from sam_optax._method import SharpnessAware, sharpness_aware


def gsam(
  rho: _base.ScalarOrSchedule = 0.05,
  alpha: _base.ScalarOrSchedule = 0.4,
  *,
  minimize: str = 'perturbed',
) -> SharpnessAware:
  r"""Surrogate gap guided SAM.

  .. math::
    u = g_p / \|g_p\|, \quad
    G = g_p - \alpha (g - \langle g, u \rangle u)

  Parts: `ascent.gradient`, `descent.surrogate_gap`. At alpha = 0 it is SAM.

  Args:
    rho: radius, at least 0; the paper ties it to the learning rate with
      `rho_schedule`.
    alpha: weight of the orthogonal part, at least 0 (the authors' WRN
      example: 0.4; ViT-B/32: 0.6).
    minimize: 'clean' for the authors' other form (see
      `descent.surrogate_gap`).

  Returns:
    A `SharpnessAware` transformation.

  Raises:
    ValueError: if a number is negative or minimize is unknown.

  Example:
    >>> import jax, jax.numpy as jnp, sam_optax
    >>> params = jnp.array([1.0, -2.0])
    >>> grad_fn = jax.grad(lambda w: jnp.sum(w**4))
    >>> def descend(method):
    ...   state = method.init(params)
    ...   return method.update(grad_fn(params), state, params, grad_fn=grad_fn)[
    ...     0
    ...   ]
    >>> bool(
    ...   jnp.all(
    ...     descend(sam_optax.gsam(0.1, alpha=0.0))
    ...     == descend(sam_optax.sam(0.1))
    ...   )
    ... )
    True

  References:
    Zhuang et al., `Surrogate Gap Minimization Improves Sharpness-Aware
    Training <https://arxiv.org/abs/2203.08065>`_, 2022, Algorithm 1.
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
  r"""LookSAM: SAM on every k-th step, its direction remembered between.

  .. math::
    g_v = g_p - \langle g_p, g \rangle g / \|g\|^2, \quad
    G = \begin{cases}
      g_p & t \bmod k = 0 \\
      g + \alpha \|g\| g_v / (\|g_v\| + 10^{-8}) & \text{else}
    \end{cases}

  Parts: `ascent.gradient`, `cadence.every`, `descent.look_direction`. At k = 1
  it is SAM, at alpha = 0 SAM-k. Costs 1 + 1/k gradients per step and one copy
  of the parameters.

  Args:
    rho: radius, at least 0.
    k: period in steps, at least 1 (5 where ARSAM and AUSAM compare with it).
    alpha: size of the correction over the gradient's, at least 0 (public
      ports: 0.7).
    per_tensor: norms and products tensor by tensor, as public ports have it.

  Returns:
    A `SharpnessAware` transformation.

  Raises:
    ValueError: if a number is out of its range.

  Example:
    >>> import jax, jax.numpy as jnp, sam_optax
    >>> params = jnp.array([1.0, -2.0])
    >>> grad_fn = jax.grad(lambda w: jnp.sum(w**4))
    >>> def run(method):
    ...   state = method.init(params)
    ...   for _ in range(4):
    ...     grads, state = method.update(
    ...       grad_fn(params), state, params, grad_fn=grad_fn
    ...     )
    ...   return grads
    >>> bool(
    ...   jnp.all(run(sam_optax.looksam(0.1, k=1)) == run(sam_optax.sam(0.1)))
    ... )
    True

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
  r"""Gradient norm penalty.

  .. math:: G = (1 - \alpha) g + \alpha \nabla L(w + \rho\, g / \|g\|)

  the gradient of :math:`L + \lambda \|\nabla L\|` to first order, with
  :math:`\lambda = \alpha \rho`.

  Parts: `ascent.gradient`, `descent.blend`. At alpha = 1 it is SAM, at 0 the
  base optimizer.

  Args:
    rho: radius, at least 0 (the released configs: 0.1 on CIFAR, 0.05 for
      ResNet-50 on ImageNet).
    alpha: weight of the perturbed gradient, at least 0 (0.8).
    normalize: :math:`g / \|g\|` in the place of g in the sum, which is the
      default flag of the released code; the formula is the paper's.

  Returns:
    A `SharpnessAware` transformation.

  Raises:
    ValueError: if a number is negative.

  Example:
    >>> import jax, jax.numpy as jnp, sam_optax
    >>> params = jnp.array([1.0, -2.0])
    >>> grad_fn = jax.grad(lambda w: jnp.sum(w**4))
    >>> def descend(method):
    ...   state = method.init(params)
    ...   return method.update(grad_fn(params), state, params, grad_fn=grad_fn)[
    ...     0
    ...   ]
    >>> bool(
    ...   jnp.all(
    ...     descend(sam_optax.gnp(0.1, alpha=1.0))
    ...     == descend(sam_optax.sam(0.1))
    ...   )
    ... )
    True

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
  r"""Weighted SAM, coupled: sharpness as a weighted regulariser.

  .. math::
    a = \gamma / (1 - \gamma), \quad G = (1 - a) g + a\, g_p

  and the base optimizer gets G. The authors' default is the decoupled form,
  where the part of the sharpness passes the base optimizer by: see
  `wsam_decoupled`. With plain SGD the two are the same.

  Parts: `ascent.gradient`, `descent.blend`. At gamma = 0.5 it is SAM, at 0 the
  base optimizer.

  Args:
    rho: radius, at least 0.
    gamma: weight of the sharpness, in [0, 1) (useful: 0.8 to 0.95).

  Returns:
    A `SharpnessAware` transformation.

  Raises:
    ValueError: if a number is out of its range.

  Example:
    >>> import jax, jax.numpy as jnp, sam_optax
    >>> params = jnp.array([1.0, -2.0])
    >>> grad_fn = jax.grad(lambda w: jnp.sum(w**4))
    >>> def descend(method):
    ...   state = method.init(params)
    ...   return method.update(grad_fn(params), state, params, grad_fn=grad_fn)[
    ...     0
    ...   ]
    >>> bool(
    ...   jnp.all(
    ...     descend(sam_optax.wsam(0.1, gamma=0.5))
    ...     == descend(sam_optax.sam(0.1))
    ...   )
    ... )
    True

  References:
    Yue et al., `Sharpness-Aware Minimization Revisited: Weighted Sharpness as
    a Regularization Term <https://arxiv.org/abs/2305.15817>`_, 2023.
  """
  _check.number('gamma', gamma, 0, 1 - 1e-9, why='its weight is g / (1 - g)')
  return sharpness_aware(
    ascent.gradient(rho), descent=descent.blend(sharpness_weight(gamma))
  )


def stable_sam(rho: _base.ScalarOrSchedule = 0.05) -> SharpnessAware:
  r"""Stable SAM: the perturbed gradient at the clean gradient's length.

  .. math:: G = \frac{\|g\|}{\|g_p\| + 10^{-12}} g_p

  The ascent is SAM's normalised one; the authors' README also runs it without
  the normalisation, which is `ascent.unified(rho, 0)` with the same descent.

  Parts: `ascent.gradient`, `descent.rescaled`. It is SAM where the two
  gradients have the same length, as at rho = 0.

  Args:
    rho: radius, at least 0 (the released code: 0.05).

  Returns:
    A `SharpnessAware` transformation.

  Raises:
    ValueError: if rho is negative.

  Example:
    >>> import jax, jax.numpy as jnp, sam_optax
    >>> params = jnp.array([1.0, -2.0])
    >>> grad_fn = jax.grad(lambda w: jnp.sum(w**4))
    >>> def descend(method):
    ...   state = method.init(params)
    ...   return method.update(grad_fn(params), state, params, grad_fn=grad_fn)[
    ...     0
    ...   ]
    >>> bool(
    ...   jnp.allclose(
    ...     descend(sam_optax.stable_sam(0.0)),
    ...     descend(sam_optax.sam(0.0)),
    ...   )
    ... )
    True

  References:
    Tan et al., `Stabilizing Sharpness-aware Minimization Through A Simple
    Renormalization Strategy <https://arxiv.org/abs/2401.07250>`_, 2025, and
    the released code.
  """
  return sharpness_aware(ascent.gradient(rho), descent=descent.rescaled())


def sharpness_weight(
  gamma: _base.ScalarOrSchedule,
) -> _base.ScalarOrSchedule:
  """Weight of the sharpness over that of the loss."""
  if callable(gamma):
    return lambda step: gamma(step) / (1 - gamma(step))
  return gamma / (1 - gamma)
