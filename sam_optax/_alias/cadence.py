"""Methods whose new part is a cadence: SAM-k, SS-SAM, AE-SAM, ARSAM."""

from sam_optax import _base, ascent, cadence, descent
from sam_optax._method import SharpnessAware, sharpness_aware


def identity() -> SharpnessAware:
  r"""The base optimizer alone: no step perturbs.

  .. math::
    G = \nabla L(w)

  Use it as the baseline in a comparison: it has the same interface and state as
  the methods. It is `sam` with rho = 0, without the second gradient.

  Costs one gradient per step. The state holds no copy of the parameters.

  Parts: `cadence.never`.

  Returns:
    A `SharpnessAware` transformation. Its `update` needs no grad_fn.

  Example:
    >>> import jax, jax.numpy as jnp, optax, sam_optax
    >>> f = lambda w: jnp.sum(w**4)
    >>> tx = optax.chain(sam_optax.identity(), optax.sgd(0.01))
    >>> params = jnp.array([1.0, -2.0])
    >>> state = tx.init(params)
    >>> for _ in range(4):
    ...   print(f'Objective: {f(params):.2f}')
    ...   updates, state = tx.update(jax.grad(f)(params), state, params)
    ...   params = optax.apply_updates(params, updates)
    Objective: 17.00
    Objective: 8.82
    Objective: 5.66
    Objective: 4.04
  """
  return sharpness_aware(ascent.gradient(0.0), cadence.never())


def late_sam(
  rho: _base.ScalarOrSchedule = 0.05,
  start: _base.Number = 0,
  stop: _base.Number | None = None,
) -> SharpnessAware:
  r"""SAM within a span of steps, the base optimizer before and after it.

  .. math::
    G = \begin{cases}
      \nabla L(w + \rho\, g / \|g\|) & \text{start} \le t < \text{stop} \\
      g & \text{otherwise}
    \end{cases}

  Without start and stop it is SAM.

  Costs two gradients per step within the span and one outside. The state holds
  no copy of the parameters.

  Parts: `ascent.gradient`, `cadence.between` over `cadence.every`.

  Args:
    rho: norm of the perturbation, at least 0.
    start: the first step that perturbs, counted from 0, at least 0.
    stop: the first step after the span, at least 0; None for no end.

  Returns:
    A `SharpnessAware` transformation.

  Raises:
    ValueError: if a number is negative.

  Example:
    >>> import jax, jax.numpy as jnp, optax, sam_optax
    >>> f = lambda w: jnp.sum(w**4)
    >>> grad_fn = jax.grad(f)
    >>> tx = optax.chain(sam_optax.late_sam(rho=0.05, start=2), optax.sgd(0.01))
    >>> params = jnp.array([1.0, -2.0])
    >>> state = tx.init(params)
    >>> for _ in range(4):
    ...   print(f'Objective: {f(params):.2f}')
    ...   updates, state = tx.update(
    ...     grad_fn(params), state, params, grad_fn=grad_fn
    ...   )
    ...   params = optax.apply_updates(params, updates)
    Objective: 17.00
    Objective: 8.82
    Objective: 5.66
    Objective: 3.90
    >>> int(optax.tree.get(state, 'gradient_evaluations'))
    6

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
  r"""SAM on every k-th step, the base optimizer in between.

  .. math::
    G = \begin{cases}
      \nabla L(w + \rho\, g / \|g\|) & t \bmod k = 0 \\
      g & \text{otherwise}
    \end{cases}

  The first step, t = 0, perturbs. With k = 1 it is SAM.

  Costs 1 + 1/k gradients per step. The state holds no copy of the parameters.

  Parts: `ascent.gradient`, `cadence.every`.

  Args:
    rho: norm of the perturbation, at least 0.
    k: period in steps, at least 1 (5 in the ARSAM paper, where it is SAM-5).

  Returns:
    A `SharpnessAware` transformation.

  Raises:
    ValueError: if rho is negative or k is below 1.

  Example:
    >>> import jax, jax.numpy as jnp, optax, sam_optax
    >>> f = lambda w: jnp.sum(w**4)
    >>> grad_fn = jax.grad(f)
    >>> tx = optax.chain(sam_optax.sam_k(rho=0.05, k=2), optax.sgd(0.01))
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
    Objective: 5.45
    Objective: 3.79
    >>> int(optax.tree.get(state, 'gradient_evaluations'))
    6

  References:
    Deng and Pang, `Adaptively Sampling-Reusing-Mixing Decomposed Gradients to
    Speed Up Sharpness Aware Minimization <https://arxiv.org/abs/2510.03763>`_,
    2025, the baseline of Table 3.
  """
  return sharpness_aware(ascent.gradient(rho), cadence.every(k))


def ss_sam(
  rho: _base.ScalarOrSchedule = 0.05,
  p: _base.ScalarOrSchedule = 0.5,
  key: _base.Key = 0,
) -> SharpnessAware:
  r"""Stochastic scheduled SAM: each step perturbs with probability p.

  .. math::
    \xi_t \sim \text{Bernoulli}(p_t), \quad
    G = \begin{cases}
      \nabla L(w + \rho\, g / \|g\|) & \xi_t = 1 \\
      g & \xi_t = 0
    \end{cases}

  With p = 1 it is SAM, with p = 0 the base optimizer.

  Costs 1 + p gradients per step on average. The state holds no copy of the
  parameters.

  Parts: `ascent.gradient`, `cadence.bernoulli`.

  Args:
    rho: norm of the perturbation, at least 0.
    p: probability in [0, 1]. For the scheduling functions of the paper, pass a
      schedule.
    key: PRNG key or int seed, the same on every device.

  Returns:
    A `SharpnessAware` transformation.

  Raises:
    ValueError: if rho is negative or p is not a probability.

  Example:
    >>> import jax, jax.numpy as jnp, optax, sam_optax
    >>> f = lambda w: jnp.sum(w**4)
    >>> grad_fn = jax.grad(f)
    >>> tx = optax.chain(
    ...   sam_optax.ss_sam(rho=0.05, p=0.5, key=0), optax.sgd(0.01)
    ... )
    >>> params = jnp.array([1.0, -2.0])
    >>> state = tx.init(params)
    >>> for _ in range(4):
    ...   print(f'Objective: {f(params):.2f}')
    ...   updates, state = tx.update(
    ...     grad_fn(params), state, params, grad_fn=grad_fn
    ...   )
    ...   params = optax.apply_updates(params, updates)
    Objective: 17.00
    Objective: 8.82
    Objective: 5.44
    Objective: 3.91

  References:
    Zhao et al., `SS-SAM: Stochastic Scheduled Sharpness-Aware Minimization for
    Efficiently Training Deep Neural Networks
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
