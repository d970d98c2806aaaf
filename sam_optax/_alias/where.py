"""Methods that perturb somewhere else: SAM, ASAM, F-SAM, F-ASAM, R-SAM."""

import optax

from sam_optax import _base, ascent
from sam_optax import cadence as _cadence
from sam_optax._method import SharpnessAware, sharpness_aware


def identity() -> SharpnessAware:
  """The base optimizer alone: no second gradient, ever.

  The row that every method is compared with, with the same face.

  Parts: `cadence.never()`. It is SAM at rho = 0 without the second gradient.

  Returns:
    A `SharpnessAware` transformation; its update needs no grad_fn.

  Example:
    >>> import jax.numpy as jnp, sam_optax
    >>> method, params = sam_optax.identity(), jnp.array([1.0, -2.0])
    >>> grads, _ = method.update(params**3, method.init(params), params)
    >>> print(grads)
    [ 1. -8.]
  """
  return sharpness_aware(ascent.gradient(0.0), _cadence.never())


def sam(rho: _base.ScalarOrSchedule = 0.05) -> SharpnessAware:
  r"""Sharpness-aware minimization: the gradient at a nearby worse point.

  .. math::
    g = \nabla L(w), \quad
    \epsilon = \rho\, g / (\|g\| + 10^{-12}), \quad
    G = \nabla L(w + \epsilon)

  Parts: `ascent.gradient`. At rho = 0 it is the base optimizer.

  Args:
    rho: radius, at least 0. The paper's 0.05 (CIFAR-10) and 0.1 (CIFAR-100)
      are remembered, not checked; with cutout F-SAM's paper has 0.1 and 0.2.

  Returns:
    A `SharpnessAware` transformation.

  Raises:
    ValueError: if rho is a negative number.

  Example:
    >>> import jax, jax.numpy as jnp, optax, sam_optax
    >>> params = jnp.array([1.0, -2.0])
    >>> grad_fn = jax.grad(lambda w: jnp.sum(w**4) / 4)
    >>> tx = optax.chain(sam_optax.sam(rho=0.05), optax.sgd(0.1))
    >>> state = tx.init(params)
    >>> updates, state = tx.update(
    ...   grad_fn(params), state, params, grad_fn=grad_fn
    ... )
    >>> [round(float(w), 3) for w in optax.apply_updates(params, updates)]
    [0.898, -1.139]

  References:
    Foret et al., `Sharpness-Aware Minimization for Efficiently Improving
    Generalization <https://arxiv.org/abs/2010.01412>`_, 2020, equation 2.
  """
  return sharpness_aware(ascent.gradient(rho))


def asam(
  rho: _base.ScalarOrSchedule = 0.5,
  eta: _base.ScalarOrSchedule = 0.01,
  *,
  adapt_all: bool = False,
) -> SharpnessAware:
  r"""Adaptive SAM: a radius in proportion to the size of each weight.

  .. math::
    T = |w| + \eta, \quad
    \epsilon = \rho\, T^2 g / (\|T g\| + 10^{-12}), \quad
    G = \nabla L(w + \epsilon)

  Parts: `ascent.adaptive`. Where every :math:`T` is 1 (only leaves of at most
  one dimension, by default) it is SAM.

  Args:
    rho: radius of :math:`T^{-1}\epsilon`, at least 0; 0.5 on CIFAR-10 and 1.0
      on CIFAR-100 in the authors' code.
    eta: added to each weight's size, at least 0 (authors' class default).
    adapt_all: adapt leaves of at most one dimension too. True with eta = 0 is
      the convention of the widespread PyTorch ports, whose rho is 2.0.

  Returns:
    A `SharpnessAware` transformation.

  Raises:
    ValueError: if rho or eta is a negative number.

  Example:
    >>> import jax, jax.numpy as jnp, sam_optax
    >>> params = jnp.array([1.0, -2.0])  # one dimension: T = 1
    >>> grad_fn = jax.grad(lambda w: jnp.sum(w**4))
    >>> def descend(method):
    ...   state = method.init(params)
    ...   return method.update(grad_fn(params), state, params, grad_fn=grad_fn)[
    ...     0
    ...   ]
    >>> bool(
    ...   jnp.all(descend(sam_optax.asam(0.1)) == descend(sam_optax.sam(0.1)))
    ... )
    True

  References:
    Kwon et al., `ASAM: Adaptive Sharpness-Aware Minimization for
    Scale-Invariant Learning of Deep Neural Networks
    <https://arxiv.org/abs/2102.11600>`_, 2021.
  """
  return sharpness_aware(ascent.adaptive(rho, eta, adapt_all))


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
    optax.chain(ascent.friendly(sigma, decay, variant), ascent.gradient(rho))
  )


def fasam(
  rho: _base.ScalarOrSchedule = 2.0,
  sigma: _base.ScalarOrSchedule | str = 1.0,
  decay: _base.ScalarOrSchedule = 0.95,
  eta: _base.ScalarOrSchedule = 0.0,
  variant: str = 'code',
  *,
  adapt_all: bool = True,
) -> SharpnessAware:
  r"""Friendly ASAM: F-SAM's direction, sized by ASAM.

  .. math::
    d_t = g_t - \sigma m_{t-1}, \quad T = |w| + \eta, \quad
    \epsilon = \rho\, T^2 d / (\|T d\| + 10^{-12}), \quad
    G = \nabla L(w + \epsilon)

  with the average m of `fsam`.

  Parts: `ascent.friendly` then `ascent.adaptive`. At sigma = 0 it is ASAM
  with the same eta and adapt_all, which is SAM where :math:`T = 1`.

  Args:
    rho: radius of :math:`T^{-1}\epsilon`, at least 0 (the paper: 2 on
      CIFAR-10, 4 on CIFAR-100).
    sigma: see `fsam`.
    decay: see `fsam`.
    eta: added to each weight's size, at least 0 (the released code: 0).
    variant: see `fsam`.
    adapt_all: adapt leaves of at most one dimension too (the released code).

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
    ...     descend(sam_optax.fasam(0.1, sigma=0.0, adapt_all=False))
    ...     == descend(sam_optax.sam(0.1))
    ...   )
    ... )
    True

  References:
    Li et al., `Friendly Sharpness-Aware Minimization
    <https://arxiv.org/abs/2403.12350>`_, 2024, section 5 and the released
    code.
  """
  return sharpness_aware(
    optax.chain(
      ascent.friendly(sigma, decay, variant),
      ascent.adaptive(rho, eta, adapt_all),
    )
  )


def rsam(
  rho: _base.ScalarOrSchedule = 0.05,
  gamma: _base.ScalarOrSchedule = 5e-4,
  lam: _base.ScalarOrSchedule = 2.0,
  key: _base.Key = 0,
  *,
  variant: str = 'code',
  axis: int | tuple[int, ...] = (-1,),
  normalize: bool = False,
  project: bool = True,
) -> SharpnessAware:
  r"""Random SAM: kernel-wise noise before the ascent.

  .. math::
    \delta_j \sim \mathcal N(0, \gamma^2 \|w_j\|^2), \quad
    \hat g = \nabla L(w + \delta), \quad
    v = \delta + \lambda \hat g, \quad
    \epsilon = \rho\, v / (\|v\| + 10^{-12}), \quad
    G = \nabla L(w + \epsilon)

  for each kernel j (see `ascent.kernel_noise`). Two gradients, like SAM; the
  one at the parameters is not among them, so `update` ignores the gradient
  that it is given (XLA drops it under `jit`).

  Parts: `ascent.random` over `ascent.gradient`. At gamma = 0 it is SAM.

  Args:
    rho: radius, at least 0. Not published for CIFAR: our choice. ViT-B/16 on
      ImageNet: `rho_schedule` from 2.5 to 1.5.
    gamma: scale of the noise, at least 0; the released code grows it from
      5e-4 to 2.5e-3 (`noise_schedule`).
    lam: weight of the gradient against the noise, at least 0 (released code).
    key: PRNG key or int seed.
    variant: 'code' for a standard deviation of :math:`\gamma \|w_j\|`; 'paper'
      for the printed variance, :math:`\gamma^2 \|w_j\|`.
    axis: the axis that numbers the kernels of a leaf.
    normalize: lam multiplies :math:`\hat g / \|\hat g\|` instead (the paper's
      section 4.6).
    project: False for equation 6, :math:`\epsilon = \delta + \rho \hat g /
      \|\hat g\|`, not projected back to the radius.

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
    ...   return method.update(grad_fn(params), state, params, grad_fn=grad_fn)[
    ...     0
    ...   ]
    >>> bool(
    ...   jnp.allclose(
    ...     descend(sam_optax.rsam(0.1, gamma=0.0)), descend(sam_optax.sam(0.1))
    ...   )
    ... )
    True

  References:
    Liu et al., `Random Sharpness-Aware Minimization
    <https://openreview.net/forum?id=htUvh7xPoa>`_, 2022, Algorithm 1 and the
    released code.
  """
  return sharpness_aware(
    ascent.random(
      ascent.gradient(rho),
      gamma,
      lam,
      key,
      variant=variant,
      axis=axis,
      normalize=normalize,
      project=project,
    )
  )


def fishersam(
  rho: _base.ScalarOrSchedule = 0.1,
  eta: _base.ScalarOrSchedule = 1.0,
  *,
  variant: str = 'paper',
) -> SharpnessAware:
  r"""FisherSAM: SAM in the metric of a diagonal Fisher information.

  .. math::
    F = 1 + \eta g^2, \quad
    \epsilon = \rho\, F^{-1} g / (\sqrt{g' F^{-1} g} + 10^{-12}), \quad
    G = \nabla L(w + \epsilon)

  The square of the batch gradient stands for the Fisher diagonal, so the
  direction depends on the scale of the loss: use the mean, unscaled.

  Parts: `ascent.fisher`. At eta = 0 it is SAM.

  Args:
    rho: radius in the metric F, at least 0 (0.1 in F-SAM's paper; others call
      it gamma).
    eta: weight of the squared gradient, at least 0 (remembered, not checked).
    variant: 'paper' (above); 'code' divides by :math:`\|F^{-1} g\|`, as one public
      code does.

  Returns:
    A `SharpnessAware` transformation.

  Raises:
    ValueError: if a number is negative or variant is unknown.

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
    ...     descend(sam_optax.fishersam(0.1, eta=0.0)),
    ...     descend(sam_optax.sam(0.1)),
    ...   )
    ... )
    True

  References:
    Kim et al., `Fisher SAM: Information Geometry and Sharpness Aware
    Minimisation <https://arxiv.org/abs/2206.04920>`_, 2022.
  """
  return sharpness_aware(ascent.fisher(rho, eta, variant))
