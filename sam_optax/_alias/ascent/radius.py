"""Methods that size the perturbation anew: SAM, ASAM, FisherSAM and others."""

from sam_optax import _base, ascent
from sam_optax._method import SharpnessAware, sharpness_aware


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
    variant: 'paper' (above); 'code' divides by :math:`\|F^{-1} g\|`, as one
      public code does.

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


def unified_sam(
  rho: _base.ScalarOrSchedule = 0.1, lam: _base.ScalarOrSchedule = 0.5
) -> SharpnessAware:
  r"""Unified SAM, between un-normalised SAM (lam = 0) and SAM (lam = 1).

  .. math::
    \epsilon = \rho\, (1 - \lambda + \lambda / \|g\|)\, g

  Parts: `ascent.unified`. At lam = 1 it is SAM.

  Args:
    rho: at least 0 (the authors try 0.1 to 0.4).
    lam: :math:`\lambda` in [0, 1]; 0 is un-normalised SAM (USAM). The authors'
      strong default 1 - 1/t is the schedule lambda t: 1 - 1 / (t + 1).

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
    ...     descend(sam_optax.unified_sam(0.1, lam=1.0)),
    ...     descend(sam_optax.sam(0.1)),
    ...   )
    ... )
    True

  References:
    Oikonomou and Loizou, `Sharpness-Aware Minimization: General Analysis and
    Improved Rates <https://arxiv.org/abs/2503.02225>`_, 2025, and the
    released code.
  """
  return sharpness_aware(ascent.unified(rho, lam))


def multi_step_sam(
  rho: _base.ScalarOrSchedule = 0.05,
  steps: int = 2,
  step_size: _base.ScalarOrSchedule | None = None,
) -> SharpnessAware:
  """SAM whose inner maximisation takes several ascent steps.

  Projected gradient ascent within the ball of radius rho; see
  `ascent.multi_step`. Costs 1 + steps gradients per step.

  Parts: `ascent.multi_step`. At steps = 1 it is SAM.

  Args:
    rho: radius of the ball, at least 0.
    steps: ascent steps, at least 1 (the paper tries 1, 2, 3 and 5).
    step_size: length of an ascent step, at least 0; None for rho. The paper
      gives none; rho is the default of public code.

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
    ...     descend(sam_optax.multi_step_sam(0.1, steps=1)),
    ...     descend(sam_optax.sam(0.1)),
    ...   )
    ... )
    True

  References:
    Foret et al., `Sharpness-Aware Minimization for Efficiently Improving
    Generalization <https://arxiv.org/abs/2010.01412>`_, 2020, appendix C.6.
  """
  return sharpness_aware(ascent.multi_step(rho, steps, step_size))
