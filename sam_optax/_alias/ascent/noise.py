"""Methods whose new part is noise: R-SAM and LPF-SGD."""

from __future__ import annotations

from sam_optax import _base, ascent, kernels
from sam_optax._method import SharpnessAware, sharpness_aware


def rsam(
  rho: _base.ScalarOrSchedule = 0.05,
  gamma: _base.ScalarOrSchedule = 5e-4,
  lam: _base.ScalarOrSchedule = 2.0,
  key: _base.Key = 0,
  *,
  variant: str = 'code',
  axis: kernels.Axes | None = None,
  normalize: bool = False,
  project: bool = True,
) -> SharpnessAware:
  r"""Random SAM: the ascent starts from noise in proportion to each kernel.

  .. math::
    \delta_j \sim \mathcal N(0, \gamma^2 \|w_j\|^2), \quad
    \hat g = \nabla L(w + \delta), \quad
    v = \delta + \lambda \hat g, \quad
    \epsilon = \rho\, v / (\|v\| + 10^{-12}), \quad
    G = \nabla L(w + \epsilon)

  for each kernel j (see `ascent.kernel_noise`). With gamma = 0 it is SAM.

  Costs two gradients per step. Neither is taken at the parameters: `update`
  ignores the gradient that it is given, and XLA removes its computation under
  `jit`. The state holds no copy of the parameters.

  Parts: `ascent.random` over `ascent.gradient`.

  Args:
    rho: norm of the perturbation, at least 0. The authors publish no value for
      CIFAR, so the default is our choice. For ViT-B/16 on ImageNet, the
      released code lowers it from 2.5 to 1.5 with `rho_schedule`.
    gamma: scale of the noise relative to the norm of the kernel, at least 0.
      The released code raises it from 5e-4 to 2.5e-3 with `noise_schedule`.
    lam: weight :math:`\lambda` of the gradient against the noise, at least 0
      (the released code: 2).
    key: PRNG key or int seed.
    variant: 'code' follows the released code, where the standard deviation is
      :math:`\gamma \|w_j\|`. 'paper' follows the printed variance,
      :math:`\gamma^2 \|w_j\|`.
    axis: the axis, or axes, that number the kernels of each leaf, or a function
      (path, leaf) -> axes. By default (see `sam_optax.kernels`) it is the last
      one, the output channels of a convolution or dense layer.
    normalize: whether lam multiplies :math:`\hat g / \|\hat g\|` instead of
      :math:`\hat g` (the paper, section 4.6).
    project: whether the whole perturbation is scaled to norm rho. False gives
      equation 6, :math:`\epsilon = \delta + \rho\, \hat g / \|\hat g\|`.

  Returns:
    A `SharpnessAware` transformation.

  Raises:
    ValueError: if a number is out of its range or variant is unknown.

  Example:
    >>> import jax, jax.numpy as jnp, optax, sam_optax
    >>> f = lambda w: jnp.sum(w**4)
    >>> grad_fn = jax.grad(f)
    >>> tx = optax.chain(sam_optax.rsam(rho=0.05, key=0), optax.sgd(0.01))
    >>> params = jnp.array([[1.0, -2.0]])
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


def lpfsgd(
  gamma: _base.ScalarOrSchedule = 0.002,
  draws: int = 1,
  key: _base.Key = 0,
) -> SharpnessAware:
  r"""Low-pass filtered SGD: the mean gradient at randomly perturbed parameters.

  .. math::
    G = \frac1M \sum_{i=1}^M \nabla L(w + \delta_i), \quad
    \delta_{i,j} \sim \mathcal N(0, \gamma^2 \|w_j\|^2)

  for each kernel j (see `ascent.kernel_noise`). There is no ascent. With
  gamma = 0 it is the base optimizer.

  Costs M (draws) gradients per step. None is taken at the parameters: `update`
  ignores the gradient that it is given, and XLA removes its computation under
  `jit`. The state holds no copy of the parameters.

  Parts: `ascent.gaussian`.

  Args:
    gamma: standard deviation of the noise relative to the norm of the kernel,
      at least 0. The released code uses 0.002 with one draw for the CIFAR
      ResNets, and otherwise a value that grows from 5e-4 with eight draws:
      mostly 15-fold, which is `noise_schedule(total_steps, 5e-4, 15)`, and for
      WRN-28-10 35-fold (CIFAR-10) or 25-fold (CIFAR-100).
    draws: :math:`M`, at least 1. Every draw sees the whole batch; in the
      released code each sees a part of it, for which `parallel` takes one draw
      and `examples_per_perturbation`.
    key: PRNG key or int seed.

  Returns:
    A `SharpnessAware` transformation.

  Raises:
    ValueError: if a number is out of its range.

  Example:
    >>> import jax, jax.numpy as jnp, optax, sam_optax
    >>> f = lambda w: jnp.sum(w**4)
    >>> grad_fn = jax.grad(f)
    >>> tx = optax.chain(
    ...   sam_optax.lpfsgd(gamma=0.002, draws=2, key=0), optax.sgd(0.01)
    ... )
    >>> params = jnp.array([[1.0, -2.0]])
    >>> state = tx.init(params)
    >>> for _ in range(4):
    ...   print(f'Objective: {f(params):.2f}')
    ...   updates, state = tx.update(
    ...     grad_fn(params), state, params, grad_fn=grad_fn
    ...   )
    ...   params = optax.apply_updates(params, updates)
    Objective: 17.00
    Objective: 8.80
    Objective: 5.66
    Objective: 4.04

  References:
    Bisla et al., `Low-Pass Filtering SGD for Recovering Flat Optima in the Deep
    Learning Optimization Landscape <https://arxiv.org/abs/2201.08025>`_, 2022,
    and the released code.
  """
  return sharpness_aware(ascent.gaussian(gamma, draws, key))
