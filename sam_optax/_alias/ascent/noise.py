"""Methods that perturb at random: R-SAM, LPF-SGD."""

from sam_optax import _base, ascent
from sam_optax._method import SharpnessAware, sharpness_aware


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


def lpfsgd(
  gamma: _base.ScalarOrSchedule = 0.002,
  draws: int = 1,
  key: _base.Key = 0,
) -> SharpnessAware:
  r"""Low-pass filtered SGD: the mean gradient over kernel-wise noise.

  .. math::
    G = \frac1M \sum_{i=1}^M \nabla L(w + \delta_i), \quad
    \delta_i \sim \mathcal N(0, \gamma^2 \|w_j\|^2)

  for each kernel j. No ascent: the gradient at the parameters is not used
  (XLA drops it under `jit`), so a step costs M gradients. Here each draw sees
  the whole batch; the released code gives each a part of it.

  Parts: `ascent.gaussian`. At gamma = 0 it is the base optimizer.

  Args:
    gamma: scale of the noise, at least 0 (the released code: 0.002 for CIFAR
      ResNets with one draw; 5e-4 growing 15-fold with eight, which is
      `noise_schedule(total_steps, 5e-4, 15)`).
    draws: :math:`M`, at least 1.
    key: PRNG key or int seed.

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
    ...     descend(sam_optax.lpfsgd(gamma=0.0, draws=2)),
    ...     descend(sam_optax.identity()),
    ...   )
    ... )
    True

  References:
    Bisla et al., `Low-Pass Filtering SGD for Recovering Flat Optima in the
    Deep Learning Optimization Landscape <https://arxiv.org/abs/2201.08025>`_,
    2022, and the released code.
  """
  return sharpness_aware(ascent.gaussian(gamma, draws, key))
