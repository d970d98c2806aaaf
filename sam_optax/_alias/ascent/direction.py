"""Methods whose new part is a direction: F-SAM, VaSSO, SAM-ON and GCSAM."""

from __future__ import annotations

from sam_optax import _base, ascent, kernels
from sam_optax._method import SharpnessAware, sharpness_aware


def fsam(
  rho: _base.ScalarOrSchedule = 0.1,
  sigma: _base.ScalarOrSchedule | str = 1.0,
  decay: _base.ScalarOrSchedule = 0.95,
  variant: str = 'code',
) -> SharpnessAware:
  r"""Friendly SAM: the ascent direction without the full gradient.

  .. math::
    d_t = g_t - \sigma m_{t-1}, \quad
    m_t = \lambda m_{t-1} + (1 - \lambda) g_t, \quad m_0 = g_0, \quad
    \epsilon_t = \rho\, d_t / (\|d_t\| + 10^{-12}), \quad
    G_t = \nabla L(w_t + \epsilon_t)

  The moving average m estimates the full gradient, so d is the part of the
  gradient that is particular to the batch. The first step is a SAM step. With
  sigma = 0, F-SAM is SAM.

  Costs two gradients per step. The state holds one copy of the parameters.

  Parts: `ascent.friendly` then `ascent.gradient`.

  Args:
    rho: norm of the perturbation, at least 0 (the paper: 0.1 on CIFAR-10, 0.2
      on CIFAR-100, 0.075 on ImageNet).
    sigma: share of the average that is removed, at least 0 (the paper: 1), or
      'cos' for the cosine between the gradient and the average.
    decay: :math:`\lambda` in [0, 1] (the paper: 0.9 for WRN-28-10 and
      PyramidNet-110, 0.6 for its other CIFAR networks, 0.95 on ImageNet; the
      released script: 0.95).
    variant: 'code' follows the released code, as above. 'paper' follows the
      printed Algorithm 1, :math:`d_t = g_t - \sigma m_t` with
      :math:`m_{-1} = 0`. With sigma = 1 the two differ only by the first value
      of the average.

  Returns:
    A `SharpnessAware` transformation.

  Raises:
    ValueError: if a number is out of its range or variant is unknown.

  Example:
    >>> import jax, jax.numpy as jnp, optax, sam_optax
    >>> loss = lambda w, x: jnp.mean((x @ w - 1) ** 2)
    >>> batches = jax.random.normal(jax.random.key(0), (4, 8, 2))
    >>> tx = optax.chain(sam_optax.fsam(rho=0.1, decay=0.6), optax.sgd(0.1))
    >>> params = jnp.array([1.0, -2.0])
    >>> state = tx.init(params)
    >>> for batch in batches:
    ...   print(f'Objective: {loss(params, batches):.2f}')
    ...   grad_fn = jax.grad(lambda w: loss(w, batch))
    ...   updates, state = tx.update(
    ...     grad_fn(params), state, params, grad_fn=grad_fn
    ...   )
    ...   params = optax.apply_updates(params, updates)
    Objective: 5.99
    Objective: 3.59
    Objective: 2.32
    Objective: 2.23

  References:
    Li et al., `Friendly Sharpness-Aware Minimization
    <https://arxiv.org/abs/2403.12350>`_, 2024, Algorithm 1 and the released
    code.
  """
  return sharpness_aware(
    ascent.chain(ascent.friendly(sigma, decay, variant), ascent.gradient(rho))
  )


def vasso(
  rho: _base.ScalarOrSchedule = 0.05, theta: _base.ScalarOrSchedule = 0.9
) -> SharpnessAware:
  r"""Variance-suppressed SAM: the ascent follows the averaged gradient.

  .. math::
    d_t = (1 - \theta) d_{t-1} + \theta g_t, \quad d_0 = g_0, \quad
    \epsilon_t = \rho\, d_t / (\|d_t\| + 10^{-12}), \quad
    G_t = \nabla L(w_t + \epsilon_t)

  VaSSO perturbs along the average that `fsam` removes. With theta = 1 it is
  SAM.

  Costs two gradients per step. The state holds one copy of the parameters.

  Parts: `ascent.average` then `ascent.gradient`.

  Args:
    rho: norm of the perturbation, at least 0 (the released code: 0.05).
    theta: weight of the new gradient, in [0, 1] (the released code: 0.9).

  Returns:
    A `SharpnessAware` transformation.

  Raises:
    ValueError: if a number is out of its range.

  Example:
    >>> import jax, jax.numpy as jnp, optax, sam_optax
    >>> loss = lambda w, x: jnp.mean((x @ w - 1) ** 2)
    >>> batches = jax.random.normal(jax.random.key(0), (4, 8, 2))
    >>> tx = optax.chain(sam_optax.vasso(rho=0.05, theta=0.4), optax.sgd(0.1))
    >>> params = jnp.array([1.0, -2.0])
    >>> state = tx.init(params)
    >>> for batch in batches:
    ...   print(f'Objective: {loss(params, batches):.2f}')
    ...   grad_fn = jax.grad(lambda w: loss(w, batch))
    ...   updates, state = tx.update(
    ...     grad_fn(params), state, params, grad_fn=grad_fn
    ...   )
    ...   params = optax.apply_updates(params, updates)
    Objective: 5.99
    Objective: 3.64
    Objective: 2.30
    Objective: 2.18

  References:
    Li and Giannakis, `Enhancing Sharpness-Aware Optimization Through Variance
    Suppression <https://arxiv.org/abs/2309.15639>`_, 2023, and the released
    code.
  """
  return sharpness_aware(
    ascent.chain(ascent.average(theta), ascent.gradient(rho))
  )


def sam_on(
  rho: _base.ScalarOrSchedule = 0.5,
  mask: _base.Mask | None = None,
) -> SharpnessAware:
  r"""SAM-ON: SAM that perturbs the normalization parameters only.

  .. math::
    \epsilon_N = \rho\, g_N / (\|g_N\| + 10^{-12}), \quad
    G = \nabla L(w + \epsilon)

  where N are the parameters under the mask, whose norm alone counts, and
  :math:`\epsilon` is 0 elsewhere. The descent moves all parameters. With
  mask = True, which selects all of them, it is SAM.

  Costs two gradients per step. The state holds no copy of the parameters.

  Parts: `ascent.only` then `ascent.gradient`.

  Args:
    rho: norm of the perturbation, at least 0 (the released code: 0.5).
    mask: the parameters to perturb: a tree of bools with the structure of the
      params or a prefix of it, or a function from the params to such a tree.
      None for every parameter with `norm` or `bn` on its path, as in the
      released code.

  Returns:
    A `SharpnessAware` transformation.

  Raises:
    ValueError: if rho is negative, or at init if the mask selects nothing.

  Example:
    >>> import jax, jax.numpy as jnp, optax, sam_optax
    >>> f = lambda w: jnp.sum((w['dense'] * w['norm']) ** 2)
    >>> grad_fn = jax.grad(f)
    >>> tx = optax.chain(sam_optax.sam_on(rho=0.5), optax.sgd(0.04))
    >>> params = {'dense': jnp.array([1.0, -2.0]), 'norm': jnp.ones(2)}
    >>> state = tx.init(params)
    >>> for _ in range(4):
    ...   print(f'Objective: {f(params):.2f}')
    ...   updates, state = tx.update(
    ...     grad_fn(params), state, params, grad_fn=grad_fn
    ...   )
    ...   params = optax.apply_updates(params, updates)
    Objective: 5.00
    Objective: 1.42
    Objective: 0.68
    Objective: 0.39

  References:
    Mueller et al., `Normalization Layers Are All That Sharpness-Aware
    Minimization Needs <https://arxiv.org/abs/2306.04226>`_, 2023, and the
    released code.
  """
  mask = ascent.normalization if mask is None else mask
  return sharpness_aware(ascent.chain(ascent.only(mask), ascent.gradient(rho)))


def gcsam(
  rho: _base.ScalarOrSchedule = 0.05,
  mask: _base.Mask | None = None,
  axis: kernels.Axes | None = None,
) -> SharpnessAware:
  r"""Gradient-centralized SAM: the ascent direction without its means.

  .. math::
    d_k = g_k - \operatorname{mean}(g_k), \quad
    \epsilon = \rho\, d / (\|d\| + 10^{-12}), \quad
    G = \nabla L(w + \epsilon)

  where :math:`g_k` is the gradient of one kernel, the weights of one output
  channel. A perturbation then keeps the sum of the weights of each kernel. With
  a mask that selects nothing, GCSAM is SAM.

  The paper also centers the gradient at the perturbed point. For this, put the
  part behind the method: ``optax.chain(gcsam(), ascent.centralized(),
  optimizer)``.

  Costs two gradients per step. The state holds no copy of the parameters.

  Parts: `ascent.centralized` then `ascent.gradient`.

  Args:
    rho: norm of the perturbation, at least 0.
    mask: the parameters whose gradient is centered: a tree of bools with the
      structure of the params, or a function from the params to it. None for
      the rule of `sam_optax.kernels`: neither biases nor the scales of
      normalisations.
    axis: the axis or axes that number the kernels of each leaf with two or more
      axes, or a function (path, leaf) -> axes. None for the rule of
      `sam_optax.kernels`.

  Returns:
    A `SharpnessAware` transformation.

  Raises:
    ValueError: if rho is negative, or at update if the mask or the axis does
      not fit the params.

  Example:
    >>> import jax, jax.numpy as jnp, optax, sam_optax
    >>> f = lambda w: jnp.sum(w**4)
    >>> grad_fn = jax.grad(f)
    >>> tx = optax.chain(sam_optax.gcsam(rho=0.05), optax.sgd(0.01))
    >>> params = jnp.array([[1.0], [-2.0]])
    >>> state = tx.init(params)
    >>> for _ in range(4):
    ...   print(f'Objective: {f(params):.2f}')
    ...   updates, state = tx.update(
    ...     grad_fn(params), state, params, grad_fn=grad_fn
    ...   )
    ...   params = optax.apply_updates(params, updates)
    Objective: 17.00
    Objective: 8.48
    Objective: 5.34
    Objective: 3.75

  References:
    Hassan et al., `GCSAM: Gradient Centralized Sharpness Aware Minimization
    <https://arxiv.org/abs/2501.11584>`_, 2025, and Yong et al., `Gradient
    Centralization <https://arxiv.org/abs/2004.01461>`_, 2020.
  """
  return sharpness_aware(
    ascent.chain(ascent.centralized(mask, axis), ascent.gradient(rho))
  )
