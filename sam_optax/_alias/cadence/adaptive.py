"""Methods whose steps follow what training does: AE-SAM, vSAM, ARSAM."""

from __future__ import annotations

from sam_optax import _base, ascent, cadence, descent
from sam_optax._method import SharpnessAware, sharpness_aware


def aesam(
  rho: _base.ScalarOrSchedule = 0.05,
  total_steps: _base.ScalarOrSchedule | None = None,
  lambda1: _base.ScalarOrSchedule = -1.0,
  lambda2: _base.ScalarOrSchedule = 1.0,
  decay: _base.ScalarOrSchedule = 0.9,
) -> SharpnessAware:
  r"""Adaptive-policy SAM: a step perturbs when the gradient norm is high.

  .. math::
    q_t = \|g_t\|^2, \quad
    \mu \leftarrow \delta \mu + (1 - \delta) q_t, \quad
    \sigma^2 \leftarrow \delta \sigma^2 + (1 - \delta) (q_t - \mu)^2, \quad
    c_t = \lambda_2 + (\lambda_1 - \lambda_2)\, t / T

  A step perturbs if :math:`q_t \ge \mu + c_t \sigma`. The threshold falls
  during training, so SAM steps become more frequent. With lambda1 and lambda2
  far below 0 it is SAM, far above 0 the base optimizer.

  The decision needs the gradient of the same step. To choose between compiled
  steps in Python (see `sharpness_aware`), call `method.first_pass` and pass its
  result to `method.decide` and `method.value_and_grad` as `first`.

  Costs 1 + (fraction of SAM steps) gradients per step. The state holds no copy
  of the parameters.

  Parts: `ascent.gradient`, `cadence.gradient_surge`.

  Args:
    rho: norm of the perturbation, at least 0.
    total_steps: length of training :math:`T`, at least 1.
    lambda1: threshold at the end, in standard deviations. The default is quoted
      from memory, not checked against the paper.
    lambda2: threshold at the start, in standard deviations; also quoted from
      memory.
    decay: :math:`\delta`, of the moving mean and variance, in [0, 1].

  Returns:
    A `SharpnessAware` transformation.

  Raises:
    ValueError: if total_steps is missing or a number is out of its range.

  Example:
    >>> import jax, jax.numpy as jnp, optax, sam_optax
    >>> loss = lambda w, x: jnp.mean((x @ w - 1) ** 2)
    >>> batches = jax.random.normal(jax.random.key(0), (4, 8, 2))
    >>> tx = optax.chain(
    ...   sam_optax.aesam(rho=0.05, total_steps=4), optax.sgd(0.1)
    ... )
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
    Objective: 2.19
    >>> int(optax.tree.get(state, 'gradient_evaluations'))
    7

  References:
    Jiang et al., `An Adaptive Policy to Employ Sharpness-Aware Minimization
    <https://openreview.net/forum?id=6Wl7-M2BC->`_, 2023.
  """
  return sharpness_aware(
    ascent.gradient(rho), surge('aesam', total_steps, lambda1, lambda2, decay)
  )


def vsam(
  rho: _base.ScalarOrSchedule = 0.05,
  alpha: _base.ScalarOrSchedule = 0.13,
  alpha_variance: _base.ScalarOrSchedule = 0.13,
  segment: int = 50,
  warmup_steps: _base.ScalarOrSchedule = 100,
  decay: _base.ScalarOrSchedule = 0.7,
  horizon: _base.ScalarOrSchedule | None = 6,
  key: _base.Key = 0,
  *,
  blocks: int = 5,
  p_max: _base.ScalarOrSchedule = 0.8,
  norm_mask: _base.Mask | None = None,
) -> SharpnessAware:
  r"""Variation-based SAM, which reuses a fading PSF between its SAM steps.

  The PSF (projection of the second-order gradient onto the first-order
  gradient) is the difference :math:`h = g_p - g` of the two gradients of a SAM
  step. Each segment of M steps has a quota of :math:`\lfloor s \rfloor` SAM
  steps:

  .. math::
    s \leftarrow \text{clip}(s\, (1 + \alpha\, \bar r(c) +
    \alpha_v\, \bar r(v)), 1, \lfloor p_{max} M \rfloor), \quad
    c = \|h\| / \|g\|, \quad
    G = \begin{cases}
      g_p & \text{SAM step} \\
      g + d^n h_{\text{last}} & n\text{-th plain step since},\
        n \le \text{horizon} \\
      g & \text{later}
    \end{cases}

  where :math:`\bar r` is the mean relative change of a quantity over the last
  M SAM steps, and v a variance of :math:`\|h\|` (see `cadence.quota`). ARSAM
  is the later method of the same authors: there the count has no variance term
  and the SAM steps no quota. With warmup_steps at least the number of steps it
  is SAM.

  The published equations were not at hand: the defaults and all details are
  those of the released program, unless marked as our choice.

  Costs 1 + (fraction of SAM steps) gradients per step. The state holds one copy
  of the parameters, the scalars `samples` and `probability`, and four arrays of
  M numbers.

  Parts: `ascent.gradient`, `cadence.quota`, `descent.reuse_psf`.

  Args:
    rho: norm of the perturbation, at least 0 (the released program: 0.05).
    alpha: how strongly the quota follows the ratio c, at least 0 (0.13).
    alpha_variance: how strongly it follows the variance v, at least 0 (0.13).
    segment: steps per segment, and how many SAM steps are remembered (50); at
      least twice `blocks`.
    warmup_steps: number of steps at the start that all perturb, at least 0.
      The released program has three epochs; the default of two segments, after
      which most of the records are full, is our choice.
    decay: :math:`d`, the factor of the PSF for each step that reuses it, in
      [0, 1] (0.7).
    horizon: for how many steps a PSF is reused, at least 0 (6); None for no
      limit.
    key: PRNG key or int seed, the same on every device.
    blocks: into how many blocks the sorted norms are cut for the variance, at
      least 1 (5).
    p_max: upper bound of the fraction of SAM steps in a segment, in (0, 1]
      (0.8).
    norm_mask: the leaves whose norms are measured, a tree of bools or a
      function from a tree to it (the released program: the last 10 tensors);
      None for all, which is our choice.

  Returns:
    A `SharpnessAware` transformation.

  Raises:
    ValueError: if a number is out of its range, or the segment too short for
      its blocks.

  Example:
    >>> import jax, jax.numpy as jnp, optax, sam_optax
    >>> f = lambda w: jnp.sum(w**4)
    >>> grad_fn = jax.grad(f)
    >>> tx = optax.chain(
    ...   sam_optax.vsam(rho=0.05, warmup_steps=2), optax.sgd(0.01)
    ... )
    >>> params = jnp.array([1.0, -2.0])
    >>> state = tx.init(params)
    >>> for _ in range(5):
    ...   print(f'Objective: {f(params):.2f}')
    ...   updates, state = tx.update(
    ...     grad_fn(params), state, params, grad_fn=grad_fn
    ...   )
    ...   params = optax.apply_updates(params, updates)
    Objective: 17.00
    Objective: 8.36
    Objective: 5.24
    Objective: 3.68
    Objective: 2.78
    >>> int(optax.tree.get(state, 'gradient_evaluations'))
    7

  References:
    Deng et al., `Effective Gradient Sample Size via Variation Estimation for
    Accelerating Sharpness Aware Minimization
    <https://arxiv.org/abs/2403.08821>`_, 2024, and the released code
    (ajiaaa/vSAM).
  """
  return sharpness_aware(
    ascent.gradient(rho),
    cadence.quota(
      alpha,
      alpha_variance,
      segment,
      warmup_steps,
      key,
      blocks=blocks,
      p_max=p_max,
      norm_mask=norm_mask,
    ),
    descent.reuse_psf(horizon, decay=decay),
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
  p_min: _base.ScalarOrSchedule = 0.0,
  p_max: _base.ScalarOrSchedule = 1.0,
  norm_mask: _base.Mask | None = None,
) -> SharpnessAware:
  r"""Adaptively sampled SAM, which reuses the PSF between its SAM steps.

  The PSF (projection of the second-order gradient onto the first-order
  gradient) is the difference :math:`h = g_p - g` of the two gradients of a SAM
  step. It is sampled with a probability that follows the growth of
  :math:`\|h\| / \|g\|` (see `cadence.autoregressive`), and reused in between:

  .. math::
    G = \begin{cases}
      g_p & \text{SAM step} \\
      g + h_{\text{last}} & \text{at most `horizon` steps after a SAM step} \\
      g & \text{later}
    \end{cases}

  With warmup_steps at least the number of steps it is SAM. With horizon = 0 it
  is ARSAM-A.

  The probability depends on the noise of the gradient as well as on the trend:
  the relative change of a noisy ratio is positive on average even without a
  trend. Expect to tune alpha.

  Costs 1 + (fraction of SAM steps) gradients per step. The state holds one copy
  of the parameters, and the scalars `probability` and `ratio`.

  Parts: `ascent.gradient`, `cadence.autoregressive`, `descent.reuse_psf`.

  Args:
    rho: norm of the perturbation, at least 0. The default is from the AUSAM
      paper, which has the same baselines.
    alpha: how strongly the probability follows the ratio, at least 0 (the
      paper: 0.2 on CIFAR-10, 0.4 on CIFAR-100, 0.8 on Tiny-ImageNet, 0.3 and
      0.4 with label noise).
    beta: decay of the moving average of the change of the ratio, in [0, 1] (the
      paper: 0.9).
    segment: steps between two updates of the probability, at least 1 (the
      paper: 50).
    warmup_steps: number of steps at the start that all perturb, at least 0. The
      paper gives none. The default of two segments is our choice; the earlier
      code of the authors uses three epochs.
    horizon: for how many steps a PSF is reused, at least 0. The default follows
      the remark after Theorem 3. None, for no limit, follows the printed
      Algorithm 1.
    key: PRNG key or int seed, the same on every device.
    p_min: lower bound of the probability, in [0, 1] (our choice: no bound but
      one SAM step per segment). In a run of few segments it decides the
      accuracy, as the probability has no time to grow.
    p_max: upper bound of the probability, in (0, 1] (our choice: no bound).
    norm_mask: the leaves whose norms enter the ratio, a tree of bools or a
      function from a tree to it (the paper: the last layers); None for all.

  Returns:
    A `SharpnessAware` transformation.

  Raises:
    ValueError: if a number is out of its range.

  Example:
    >>> import jax, jax.numpy as jnp, optax, sam_optax
    >>> f = lambda w: jnp.sum(w**4)
    >>> grad_fn = jax.grad(f)
    >>> tx = optax.chain(
    ...   sam_optax.arsam(rho=0.05, warmup_steps=2), optax.sgd(0.01)
    ... )
    >>> params = jnp.array([1.0, -2.0])
    >>> state = tx.init(params)
    >>> for _ in range(5):
    ...   print(f'Objective: {f(params):.2f}')
    ...   updates, state = tx.update(
    ...     grad_fn(params), state, params, grad_fn=grad_fn
    ...   )
    ...   params = optax.apply_updates(params, updates)
    Objective: 17.00
    Objective: 8.36
    Objective: 5.24
    Objective: 3.64
    Objective: 2.69
    >>> int(optax.tree.get(state, 'gradient_evaluations'))
    7

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
      p_min=p_min,
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
