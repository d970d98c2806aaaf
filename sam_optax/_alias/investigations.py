"""The F-SAM paper's investigations: ascents that need a second gradient.

Each takes `reference_grad_fn`, params -> gradient on other data, at either
door: on the full training set, on an independent batch, or on a larger one.
"""

import optax

from sam_optax import _base, ascent
from sam_optax._method import SharpnessAware, sharpness_aware


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
    optax.chain(
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
    optax.chain(
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
  plain = optax.chain(ascent.reference('whole'), ascent.gradient(rho))
  return sharpness_aware(
    # The batch's own first gradient plays no part in it.
    _base.Ascent(plain.init, plain.update, reads_gradient=False)
  )
