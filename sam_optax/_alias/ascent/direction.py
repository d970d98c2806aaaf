"""Methods whose new part is a direction: F-SAM, VaSSO, SAM-ON and others."""

from sam_optax import _base, ascent
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
  mask: _base.Mask = ascent.normalization,
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
      The default selects every parameter with `norm` or `bn` on its path, as
      the released code does.

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
  return sharpness_aware(ascent.chain(ascent.only(mask), ascent.gradient(rho)))


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
