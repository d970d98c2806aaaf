"""Methods that do not perturb on every step: SAM-k, SS-SAM, AE-SAM, ARSAM."""

from sam_optax import _base, ascent, cadence, descent
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
  return sharpness_aware(ascent.gradient(0.0), cadence.never())


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


def sam_k(
  rho: _base.ScalarOrSchedule = 0.05, k: _base.ScalarOrSchedule = 5
) -> SharpnessAware:
  """SAM on every k-th step, the first included; the plain gradient between.

  Parts: `ascent.gradient`, `cadence.every`. At k = 1 it is SAM. Costs
  1 + 1/k gradients per step.

  Args:
    rho: radius, at least 0.
    k: period in steps, at least 1 (SAM-5 in ARSAM's paper).

  Returns:
    A `SharpnessAware` transformation.

  Raises:
    ValueError: if rho is negative or k below 1.

  Example:
    >>> import jax, jax.numpy as jnp, optax, sam_optax
    >>> params = jnp.array([1.0, -2.0])
    >>> grad_fn = jax.grad(lambda w: jnp.sum(w**4))
    >>> def run(method):
    ...   state = method.init(params)
    ...   for _ in range(4):
    ...     grads, state = method.update(
    ...       grad_fn(params), state, params, grad_fn=grad_fn
    ...     )
    ...   return grads, int(state.gradient_evaluations)
    >>> run(sam_optax.sam_k(0.1, k=2))[1]
    6
    >>> bool(
    ...   jnp.all(
    ...     run(sam_optax.sam_k(0.1, k=1))[0] == run(sam_optax.sam(0.1))[0]
    ...   )
    ... )
    True

  References:
    The baseline "SAM-5" in the ARSAM paper, see `arsam`,
    Table 3.
  """
  return sharpness_aware(ascent.gradient(rho), cadence.every(k))


def ss_sam(
  rho: _base.ScalarOrSchedule = 0.05,
  p: _base.ScalarOrSchedule = 0.5,
  key: _base.Key = 0,
) -> SharpnessAware:
  """Stochastic scheduled SAM: SAM with probability p, else the gradient.

  Parts: `ascent.gradient`, `cadence.bernoulli`. At p = 1 it is SAM, at p = 0
  the base optimizer. Costs 1 + p gradients per step on average.

  Args:
    rho: radius, at least 0.
    p: probability in [0, 1]; the paper's scheduling functions are schedules.
    key: PRNG key or int seed, the same on every device.

  Returns:
    A `SharpnessAware` transformation.

  Raises:
    ValueError: if rho is negative or p is not a probability.

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
    ...   jnp.all(
    ...     descend(sam_optax.ss_sam(0.1, p=1.0)) == descend(sam_optax.sam(0.1))
    ...   )
    ... )
    True

  References:
    Zhao et al., `SS-SAM: Stochastic Scheduled Sharpness-Aware Minimization
    for Efficiently Training Deep Neural Networks
    <https://arxiv.org/abs/2203.09962>`_, 2022.
  """
  return sharpness_aware(ascent.gradient(rho), cadence.bernoulli(p, key))


def aesam(
  rho: _base.ScalarOrSchedule = 0.05,
  total_steps: _base.ScalarOrSchedule | None = None,
  lambda1: _base.ScalarOrSchedule = -1.0,
  lambda2: _base.ScalarOrSchedule = 1.0,
  decay: _base.ScalarOrSchedule = 0.9,
) -> SharpnessAware:
  r"""SAM with an adaptive policy: it perturbs when the gradient surges.

  A step perturbs iff :math:`\|g_t\|^2 \ge \mu_t + c_t \sigma_t`, with moving
  mean and variance of the squared norm and a threshold c that falls from lambda2
  to lambda1 over training (see `cadence.gradient_surge`).

  The decision needs the gradient of the first pass; a host that decides (on
  CPU) takes that pass in a call of its own, `first_pass`.

  Parts: `ascent.gradient`, `cadence.gradient_surge`. With lambda1 and lambda2
  far below 0 it is SAM, far above the base optimizer.

  Args:
    rho: radius, at least 0.
    total_steps: length of training, at least 1.
    lambda1: threshold at the end (remembered, not checked).
    lambda2: threshold at the start (remembered, not checked).
    decay: of the moving mean and variance, in [0, 1].

  Returns:
    A `SharpnessAware` transformation.

  Raises:
    ValueError: if total_steps is missing or a number is out of its range.

  Example:
    >>> import jax, jax.numpy as jnp, sam_optax
    >>> params = jnp.array([1.0, -2.0])
    >>> grad_fn = jax.grad(lambda w: jnp.sum(w**4))
    >>> def descend(method):
    ...   state = method.init(params)
    ...   return method.update(grad_fn(params), state, params, grad_fn=grad_fn)[
    ...     0
    ...   ]
    >>> always = sam_optax.aesam(0.1, 10, lambda1=-1e6, lambda2=-1e6)
    >>> bool(jnp.all(descend(always) == descend(sam_optax.sam(0.1))))
    True

  References:
    Jiang et al., `An Adaptive Policy to Employ Sharpness-Aware Minimization
    <https://openreview.net/forum?id=6Wl7-M2BC->`_, 2023.
  """
  return sharpness_aware(
    ascent.gradient(rho), surge('aesam', total_steps, lambda1, lambda2, decay)
  )


def arsam(
  rho: _base.ScalarOrSchedule = 0.1,
  alpha: _base.ScalarOrSchedule = 0.2,
  beta: _base.ScalarOrSchedule = 0.9,
  segment: _base.ScalarOrSchedule = 50,
  warmup_steps: _base.ScalarOrSchedule = 100,
  horizon: _base.ScalarOrSchedule | None = 2,
  key: _base.Key = 0,
  *,
  p_max: _base.ScalarOrSchedule = 1.0,
  norm_mask: _base.Mask | None = None,
) -> SharpnessAware:
  r"""Adaptive sampling and reuse of the PSF.

  The PSF :math:`h = g_p - g` is sampled with a probability that follows the
  growth of :math:`\|h\| / \|g\|` (see `cadence.autoregressive`), and reused:

  .. math::
    G = \begin{cases}
      g_p & \text{sampled} \\
      g + h_{\text{last}} & \text{at most `horizon` steps after a sample} \\
      g & \text{later}
    \end{cases}

  Parts: `ascent.gradient`, `cadence.autoregressive`, `descent.reuse_psf`.
  With warmup_steps at least the number of steps it is SAM; horizon = 0 is
  ARSAM-A. Costs 1 + (share of sampled steps) gradients per step, and one copy
  of the parameters. The state holds `probability`, `ratio`, `sam_fraction`.

  The relative change of a noisy ratio is above 0 on average even where there
  is no trend, so the share of sampled steps also depends on the noise of the
  gradient: expect to tune alpha.

  Args:
    rho: radius, at least 0 (from AUSAM's paper, whose baselines it shares).
    alpha: how strongly the probability follows, at least 0 (the paper: 0.2 on
      CIFAR-10, 0.4 on CIFAR-100, 0.8 on Tiny-ImageNet; 0.3 and 0.4 with label
      noise).
    beta: decay of the moving average of the change, in [0, 1] (the paper).
    segment: steps between two updates of the probability (the paper).
    warmup_steps: the first steps, all sampled. Not published. The default of
      two segments is our choice; three epochs, as in the authors' earlier
      code, is what the training program uses.
    horizon: steps for which a PSF is reused (the remark after Theorem 3);
      None for no limit (Algorithm 1 read literally), 0 for ARSAM-A.
    key: PRNG key or int seed, the same on every device.
    p_max: cap of the probability in (0, 1] (our choice).
    norm_mask: tree of bools, or a function from a tree to it: the leaves
      whose norms make the ratio (the paper's "last layers"); None for all.

  Returns:
    A `SharpnessAware` transformation.

  Raises:
    ValueError: if a number is out of its range.

  Example:
    >>> import jax, jax.numpy as jnp, sam_optax
    >>> params = jnp.array([1.0, -2.0])
    >>> grad_fn = jax.grad(lambda w: jnp.sum(w**4))
    >>> def run(method):
    ...   state = method.init(params)
    ...   for _ in range(5):
    ...     grads, state = method.update(
    ...         grad_fn(params), state, params, grad_fn=grad_fn)
    ...   return grads
    >>> bool(jnp.all(run(sam_optax.arsam(0.1, warmup_steps=5)) ==
    ...              run(sam_optax.sam(0.1))))
    True

  References:
    Deng and Pang, `Adaptively Sampling-Reusing-Mixing Decomposed Gradients to
    Speed Up Sharpness Aware Minimization <https://arxiv.org/abs/2510.03763>`_,
    2025, Algorithm 1, equations 10 to 15 and the remark after Theorem 3.
  """
  return sharpness_aware(
    ascent.gradient(rho),
    cadence.autoregressive(
      alpha,
      beta,
      segment,
      warmup_steps,
      key,
      p_max=p_max,
      norm_mask=norm_mask,
    ),
    descent.reuse_psf(horizon),
  )


def surge(
  name: str,
  total_steps: _base.ScalarOrSchedule | None,
  lambda1: _base.ScalarOrSchedule,
  lambda2: _base.ScalarOrSchedule,
  decay: _base.ScalarOrSchedule,
) -> _base.Cadence:
  """The cadence of `aesam` and `aelooksam`, which need total_steps."""
  if total_steps is None:
    raise ValueError(
      'Given no total_steps. The threshold falls over the length of training. '
      f'Pass the number of steps: {name}(total_steps=10_000).'
    )
  return cadence.gradient_surge(total_steps, lambda1, lambda2, decay)
