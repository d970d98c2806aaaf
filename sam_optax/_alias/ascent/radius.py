"""Methods whose new part is the size of the perturbation: SAM, ASAM, others."""

from __future__ import annotations

from sam_optax import _base, _check, ascent
from sam_optax._method import SharpnessAware, sharpness_aware


@_check.no_optimizer
def sam(rho: _base.ScalarOrSchedule = 0.05) -> SharpnessAware:
  r"""Sharpness-aware minimization: the gradient at a nearby, higher point.

  .. math::
    g = \nabla L(w), \quad
    \epsilon = \rho\, g / (\|g\| + 10^{-12}), \quad
    G = \nabla L(w + \epsilon)

  The base optimizer receives :math:`G` and applies it at :math:`w`. With
  rho = 0 the result is the base optimizer alone.

  Put it first in a chain: ``optax.chain(sam(), clip, optimizer)``. Clipping or
  an optimizer before it would change the first gradient and not the second, and
  no step shows it; `check_chain` does.

  Costs two gradients per step. The state holds no copy of the parameters.

  Parts: `ascent.gradient`.

  Args:
    rho: Euclidean norm of the perturbation over all parameters, at least 0; a
      float or a schedule. With cutout, the F-SAM paper uses 0.1 on CIFAR-10 and
      0.2 on CIFAR-100.

  Returns:
    A `SharpnessAware` transformation.

  Raises:
    ValueError: if rho is a negative number.

  Example:
    >>> import jax, jax.numpy as jnp, optax, sam_optax
    >>> f = lambda w: jnp.sum(w**4)
    >>> grad_fn = jax.grad(f)
    >>> tx = optax.chain(sam_optax.sam(rho=0.05), optax.sgd(0.01))
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
    Objective: 5.24
    Objective: 3.67

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
  adapted: _base.Mask | None = None,
) -> SharpnessAware:
  r"""Adaptive SAM: each weight is perturbed in proportion to its size.

  .. math::
    T = |w| + \eta, \quad
    \epsilon = \rho\, T^2 g / (\|T g\| + 10^{-12}), \quad
    G = \nabla L(w + \epsilon)

  elementwise. With eta = 0 and every leaf adapted, :math:`L(w + \epsilon)` does
  not change when a layer is rescaled and the next one undoes it. Where every
  :math:`T` is 1, ASAM is SAM.

  Costs two gradients per step. The state holds no copy of the parameters.

  Parts: `ascent.adaptive`.

  Args:
    rho: norm of :math:`T^{-1}\epsilon`, at least 0. The released code uses 0.5
      on CIFAR-10 and 1.0 on CIFAR-100.
    eta: added to the size of each weight, at least 0. The default is the
      released class default; the released script passes 0.
    adapt_all: whether leaves that hold no kernels (biases, normalisation
      scales; see `sam_optax.kernels`) are adapted too; otherwise :math:`T = 1`
      there. True with eta = 0 is the convention of the widespread PyTorch
      ports, which use rho = 2.0.
    adapted: the leaves that are adapted, instead of adapt_all: a tree of bools
      with the structure of the parameters, or a function from the parameters to
      it. `sam_optax.kernels.weights` is the rule of the authors: all but the
      biases.

  Returns:
    A `SharpnessAware` transformation.

  Raises:
    ValueError: if rho or eta is a negative number.

  Example:
    >>> import jax, jax.numpy as jnp, optax, sam_optax
    >>> f = lambda w: jnp.sum(w**4)
    >>> grad_fn = jax.grad(f)
    >>> tx = optax.chain(sam_optax.asam(rho=0.5), optax.sgd(0.01))
    >>> params = jnp.array([[1.0], [-2.0]])
    >>> state = tx.init(params)
    >>> for _ in range(4):
    ...   print(f'Objective: {f(params):.2f}')
    ...   updates, state = tx.update(
    ...     grad_fn(params), state, params, grad_fn=grad_fn
    ...   )
    ...   params = optax.apply_updates(params, updates)
    Objective: 17.00
    Objective: 1.54
    Objective: 1.06
    Objective: 0.79

  References:
    Kwon et al., `ASAM: Adaptive Sharpness-Aware Minimization for
    Scale-Invariant Learning of Deep Neural Networks
    <https://arxiv.org/abs/2102.11600>`_, 2021.
  """
  return sharpness_aware(ascent.adaptive(rho, eta, adapt_all, adapted))


def fishersam(
  rho: _base.ScalarOrSchedule = 0.1,
  eta: _base.ScalarOrSchedule = 1.0,
  *,
  variant: str = 'paper',
) -> SharpnessAware:
  r"""FisherSAM: SAM with a radius measured by a diagonal Fisher information.

  .. math::
    F = 1 + \eta g^2, \quad
    \epsilon = \rho\, F^{-1} g / (\sqrt{g' F^{-1} g} + 10^{-12}), \quad
    G = \nabla L(w + \epsilon)

  The squared batch gradient serves as the Fisher diagonal, so the direction
  depends on the scale of the loss: use the mean over the batch, unscaled. With
  eta = 0, FisherSAM is SAM.

  Costs two gradients per step. The state holds no copy of the parameters.

  Parts: `ascent.fisher`.

  Args:
    rho: radius in the metric F, :math:`\sqrt{\epsilon' F \epsilon}`, at least 0
      (0.1 in the F-SAM paper). Other texts call it gamma.
    eta: weight of the squared gradient, at least 0. The default is that of two
      independent PyTorch implementations; we have not seen the paper's own.
    variant: 'paper' is the formula above. 'code' divides by
      :math:`\|F^{-1} g\|` instead, as one public third-party implementation
      does.

  Returns:
    A `SharpnessAware` transformation.

  Raises:
    ValueError: if a number is negative or variant is unknown.

  Example:
    >>> import jax, jax.numpy as jnp, optax, sam_optax
    >>> f = lambda w: jnp.sum(w**4)
    >>> grad_fn = jax.grad(f)
    >>> tx = optax.chain(sam_optax.fishersam(rho=0.1), optax.sgd(0.01))
    >>> params = jnp.array([1.0, -2.0])
    >>> state = tx.init(params)
    >>> for _ in range(4):
    ...   print(f'Objective: {f(params):.2f}')
    ...   updates, state = tx.update(
    ...     grad_fn(params), state, params, grad_fn=grad_fn
    ...   )
    ...   params = optax.apply_updates(params, updates)
    Objective: 17.00
    Objective: 8.79
    Objective: 5.63
    Objective: 3.99

  References:
    Kim et al., `Fisher SAM: Information Geometry and Sharpness Aware
    Minimisation <https://arxiv.org/abs/2206.04920>`_, 2022.
  """
  return sharpness_aware(ascent.fisher(rho, eta, variant))


def unified_sam(
  rho: _base.ScalarOrSchedule = 0.1, lam: _base.ScalarOrSchedule = 0.5
) -> SharpnessAware:
  r"""Unified SAM: a perturbation between un-normalised and normalised.

  .. math::
    \epsilon = \rho\, (1 - \lambda + \lambda / (\|g\| + 10^{-12}))\, g, \quad
    G = \nabla L(w + \epsilon)

  With lam = 1 it is SAM, with lam = 0 un-normalised SAM (USAM).

  Costs two gradients per step. The state holds no copy of the parameters.

  Parts: `ascent.unified`.

  Args:
    rho: norm of the perturbation when lam = 1, factor of the gradient when
      lam = 0; at least 0. The authors try 0.1 to 0.4.
    lam: :math:`\lambda` in [0, 1]. The authors recommend the schedule 1 - 1/t,
      which is the one in the example below.

  Returns:
    A `SharpnessAware` transformation.

  Raises:
    ValueError: if a number is out of its range.

  Example:
    >>> import jax, jax.numpy as jnp, optax, sam_optax
    >>> f = lambda w: jnp.sum(w**4)
    >>> grad_fn = jax.grad(f)
    >>> lam = lambda step: 1 - 1 / (step + 1)
    >>> method = sam_optax.unified_sam(rho=0.01, lam=lam)
    >>> tx = optax.chain(method, optax.sgd(0.01))
    >>> params = jnp.array([1.0, -1.5])
    >>> state = tx.init(params)
    >>> for _ in range(4):
    ...   print(f'Objective: {f(params):.2f}')
    ...   updates, state = tx.update(
    ...     grad_fn(params), state, params, grad_fn=grad_fn
    ...   )
    ...   params = optax.apply_updates(params, updates)
    Objective: 6.06
    Objective: 3.92
    Objective: 2.93
    Objective: 2.32

  References:
    Oikonomou and Loizou, `Sharpness-Aware Minimization: General Analysis and
    Improved Rates <https://arxiv.org/abs/2503.02225>`_, 2025, and the released
    code.
  """
  return sharpness_aware(ascent.unified(rho, lam))


def multi_step_sam(
  rho: _base.ScalarOrSchedule = 0.05,
  steps: int = 2,
  step_size: _base.ScalarOrSchedule | None = None,
) -> SharpnessAware:
  r"""SAM with several ascent steps in its inner maximization.

  .. math::
    \epsilon_{i+1} = \Pi_\rho(\epsilon_i
    + \alpha\, g_i / (\|g_i\| + 10^{-12})), \quad
    g_i = \nabla L(w + \epsilon_i), \quad
    G = \nabla L(w + \epsilon_K)

  from :math:`\epsilon_0 = 0`, where :math:`\Pi_\rho` projects to the ball of
  radius rho. With steps = 1 and the default step_size it is SAM.

  Costs 1 + steps gradients per step. The state holds no copy of the parameters.

  Parts: `ascent.multi_step`.

  Args:
    rho: radius of the ball, at least 0.
    steps: number of ascent steps :math:`K`, at least 1. The paper tries 1, 2, 3
      and 5.
    step_size: length :math:`\alpha` of an ascent step, at least 0; None for
      rho. The paper gives none; rho is the default of public code.

  Returns:
    A `SharpnessAware` transformation.

  Raises:
    ValueError: if a number is out of its range.

  Example:
    >>> import jax, jax.numpy as jnp, optax, sam_optax
    >>> f = lambda w: jnp.sum(w**4)
    >>> grad_fn = jax.grad(f)
    >>> tx = optax.chain(sam_optax.multi_step_sam(steps=2), optax.sgd(0.01))
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
    Objective: 5.24
    Objective: 3.67

  References:
    Foret et al., `Sharpness-Aware Minimization for Efficiently Improving
    Generalization <https://arxiv.org/abs/2010.01412>`_, 2020, appendix C.6.
  """
  return sharpness_aware(ascent.multi_step(rho, steps, step_size))
