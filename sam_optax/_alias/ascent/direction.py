"""Methods that perturb along another direction: F-SAM, VaSSO, SAM-ON."""

from sam_optax import _base, ascent
from sam_optax._method import SharpnessAware, sharpness_aware


def fsam(
  rho: _base.ScalarOrSchedule = 0.1,
  sigma: _base.ScalarOrSchedule | str = 1.0,
  decay: _base.ScalarOrSchedule = 0.95,
  variant: str = 'code',
) -> SharpnessAware:
  r"""Friendly SAM: the full gradient removed from the ascent direction.

  .. math::
    d_t = g_t - \sigma m_{t-1}, \quad
    m_t = \lambda m_{t-1} + (1 - \lambda) g_t, \quad m_0 = g_0, \quad
    \epsilon_t = \rho\, d_t / (\|d_t\| + 10^{-12}), \quad
    G_t = \nabla L(w_t + \epsilon_t)

  The moving average m stands for the full gradient, so that d is what is
  particular to the batch. The first step is SAM's. Keeps one copy of the
  parameters.

  Parts: `ascent.friendly` then `ascent.gradient`. At sigma = 0 it is SAM.

  Args:
    rho: radius, at least 0 (the paper: 0.1 on CIFAR-10, 0.2 on CIFAR-100).
    sigma: share of the average removed, at least 0 (the paper: 1), or 'cos'
      for the cosine between gradient and average.
    decay: :math:`\lambda` in [0, 1] (the paper: 0.9 for WRN-28-10 and
      PyramidNet-110, 0.6 for its other CIFAR networks, 0.95 on ImageNet and
      in the released script).
    variant: 'code' as released (above); 'paper' for Algorithm 1, with
      :math:`m_{-1} = 0` and :math:`d_t = g_t - \sigma m_t`.

  Returns:
    A `SharpnessAware` transformation.

  Raises:
    ValueError: if a number is out of its range or variant is unknown.

  Example:
    >>> import jax, jax.numpy as jnp, sam_optax
    >>> params = jnp.array([1.0, -2.0])
    >>> grad_fn = jax.grad(lambda w: jnp.sum(w**4))
    >>> def descend(method):
    ...   state = method.init(params)
    ...   for _ in range(3):
    ...     grads, state = method.update(
    ...       grad_fn(params), state, params, grad_fn=grad_fn
    ...     )
    ...   return grads
    >>> bool(
    ...   jnp.all(
    ...     descend(sam_optax.fsam(0.1, sigma=0.0))
    ...     == descend(sam_optax.sam(0.1))
    ...   )
    ... )
    True

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
    \epsilon = \rho\, d / (\|d\| + 10^{-12}), \quad
    G = \nabla L(w + \epsilon)

  F-SAM's mirror image: what F-SAM removes is what VaSSO keeps.

  Parts: `ascent.average` then `ascent.gradient`. At theta = 1 it is SAM. Keeps
  one copy of the parameters.

  Args:
    rho: radius, at least 0 (the released code: 0.05).
    theta: weight of the new gradient, in [0, 1] (the released code: 0.9).

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
    ...   jnp.allclose(
    ...     descend(sam_optax.vasso(0.1, theta=1.0)),
    ...     descend(sam_optax.sam(0.1)),
    ...   )
    ... )
    True

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
  r"""SAM-ON: only the normalisation parameters are perturbed.

  .. math:: \epsilon_N = \rho\, g_N / (\|g_N\| + 10^{-12})

  for the parameters N under the mask, with their norm alone, and 0 elsewhere.
  The descent moves all parameters.

  Parts: `ascent.only` then `ascent.gradient`. With a mask of all parameters it
  is SAM.

  Args:
    rho: radius, at least 0 (the released code: 0.5).
    mask: a tree of bools with the params' structure, or a function from the
      params to it: what is perturbed. By default every parameter with `norm`
      or `bn` on its path, as the released code has it.

  Returns:
    A `SharpnessAware` transformation.

  Raises:
    ValueError: if rho is negative, or at init if the mask holds for nothing.

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
    ...     descend(sam_optax.sam_on(0.1, mask=True)),
    ...     descend(sam_optax.sam(0.1)),
    ...   )
    ... )
    True

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
  r"""SAM along the full gradient alone.

  .. math::
    d = \langle g, g_R \rangle g_R / \|g_R\|^2, \quad
    \epsilon = \rho\, d / (\|d\| + 10^{-12}), \quad
    G = \nabla L(w + \epsilon)

  with :math:`g_R` the gradient of `reference_grad_fn`, which either door needs
  and which costs one evaluation more.

  Parts: `ascent.reference` then `ascent.gradient`. Where the reference is the
  batch itself it is SAM.

  Args:
    rho: radius, at least 0.
    variant: 'code' for the projection above; 'paper' for the printed one,
      :math:`\cos(g, g_R)\, g_R`.

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
    ...   return method.update(
    ...     grad_fn(params),
    ...     state,
    ...     params,
    ...     grad_fn=grad_fn,
    ...     reference_grad_fn=grad_fn,
    ...   )[0]
    >>> bool(
    ...   jnp.allclose(
    ...     descend(sam_optax.sam_full(0.1)),
    ...     descend(sam_optax.sam(0.1)),
    ...   )
    ... )
    True

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
  r"""SAM along what the full gradient does not explain.

  .. math::
    d = g - \langle g, g_R \rangle g_R / \|g_R\|^2, \quad
    \epsilon = \rho\, d / (\|d\| + 10^{-12}), \quad
    G = \nabla L(w + \epsilon)

  with :math:`g_R` the gradient of `reference_grad_fn`, which either door needs
  and which costs one evaluation more.

  Parts: `ascent.reference` then `ascent.gradient`. Where the reference is the
  batch itself d is zero up to rounding.

  Args:
    rho: radius, at least 0.
    variant: 'code' for the projection above; 'paper' for the printed one,
      :math:`\cos(g, g_R)\, g_R`.

  Returns:
    A `SharpnessAware` transformation.

  Raises:
    ValueError: if rho is negative.

  Example:
    >>> import jax, jax.numpy as jnp, sam_optax
    >>> params, method = jnp.array([1.0, -2.0]), sam_optax.sam_noise(0.1)
    >>> grad_fn = jax.grad(lambda w: jnp.sum(w**4))
    >>> full_grad_fn = jax.grad(lambda w: jnp.sum(w**2))
    >>> grads, state = method.update(
    ...   grad_fn(params),
    ...   method.init(params),
    ...   params,
    ...   grad_fn=grad_fn,
    ...   reference_grad_fn=full_grad_fn,
    ... )

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
  r"""SAM whose ascent is of another batch, or of a larger one.

  .. math::
    d = g_R, \quad
    \epsilon = \rho\, d / (\|d\| + 10^{-12}), \quad
    G = \nabla L(w + \epsilon)

  with :math:`g_R` the gradient of `reference_grad_fn`, which either door needs
  and which stands in for the first gradient.

  Parts: `ascent.reference` then `ascent.gradient`. Where the reference is the
  batch itself it is SAM.

  Args:
    rho: radius, at least 0.

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
    ...   return method.update(
    ...     grad_fn(params),
    ...     state,
    ...     params,
    ...     grad_fn=grad_fn,
    ...     reference_grad_fn=grad_fn,
    ...   )[0]
    >>> bool(
    ...   jnp.allclose(
    ...     descend(sam_optax.sam_db(0.1)),
    ...     descend(sam_optax.sam(0.1)),
    ...   )
    ... )
    True

  References:
    Li et al., `Friendly Sharpness-Aware Minimization
    <https://arxiv.org/abs/2403.12350>`_, 2024, section 3.
  """
  return sharpness_aware(
    ascent.chain(ascent.reference('whole'), ascent.gradient(rho))
  )
