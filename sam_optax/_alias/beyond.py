"""Methods beyond the four papers and their comparisons, from the same parts."""

import optax

from sam_optax import _base, ascent, cadence, descent
from sam_optax._method import SharpnessAware, sharpness_aware


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
    optax.chain(ascent.average(theta), ascent.gradient(rho))
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
  return sharpness_aware(optax.chain(ascent.only(mask), ascent.gradient(rho)))


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


def late_sam(
  rho: _base.ScalarOrSchedule = 0.05,
  start: _base.Number = 0,
  stop: _base.Number | None = None,
) -> SharpnessAware:
  """SAM within a span of steps, and the base optimizer outside of it.

  Parts: `ascent.gradient`, `cadence.between` over `cadence.every`. At start =
  0 without a stop it is SAM.

  Args:
    rho: radius, at least 0.
    start: the first step that perturbs, from 0.
    stop: the first step that does not perturb any more; None for no end.

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
    ...   jnp.allclose(
    ...     descend(sam_optax.late_sam(0.1, start=0)),
    ...     descend(sam_optax.sam(0.1)),
    ...   )
    ... )
    True

  References:
    Zhou et al., `Sharpness-Aware Minimization Efficiently Selects Flatter
    Minima Late in Training <https://arxiv.org/abs/2410.10373>`_, 2025.
  """
  return sharpness_aware(
    ascent.gradient(rho), cadence.between(cadence.every(1), start, stop)
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
