"""Methods that combine the parts of others and add none: F-ASAM, R-GSAM."""

from __future__ import annotations

import jax

from sam_optax import _base, _random, ascent, cadence, descent, selection
from sam_optax._alias.cadence.adaptive import surge
from sam_optax._method import SharpnessAware, sharpness_aware


def fasam(
  rho: _base.ScalarOrSchedule = 2.0,
  sigma: _base.ScalarOrSchedule | str = 1.0,
  decay: _base.ScalarOrSchedule = 0.95,
  eta: _base.ScalarOrSchedule = 0.0,
  variant: str = 'code',
  *,
  adapt_all: bool = True,
) -> SharpnessAware:
  r"""Friendly ASAM: the direction of `fsam` with the radius of `asam`.

  .. math::
    d_t = g_t - \sigma m_{t-1}, \quad T = |w_t| + \eta, \quad
    \epsilon_t = \rho\, T^2 d_t / (\|T d_t\| + 10^{-12}), \quad
    G_t = \nabla L(w_t + \epsilon_t)

  where m is the moving average of `fsam`. With sigma = 0 it is ASAM with the
  same eta and adapt_all.

  Costs two gradients per step. The state holds one copy of the parameters.

  Parts: `ascent.friendly` then `ascent.adaptive`.

  Args:
    rho: norm of :math:`T^{-1}\epsilon`, at least 0 (2 on CIFAR-10 and 4 on
      CIFAR-100 are those of ASAM; the paper gives none).
    sigma: share of the average that is removed, at least 0 (the paper: 1), or
      'cos' for the cosine between the gradient and the average.
    decay: decay of the average, in [0, 1] (see `fsam`).
    eta: added to the size of each weight, at least 0 (the released code: 0).
    variant: 'code' follows the released code, as above; 'paper' follows the
      printed Algorithm 1 of F-SAM (see `fsam`).
    adapt_all: whether leaves that hold no kernels (biases, normalisation
      scales; see `sam_optax.kernels`) are adapted too, as in the released code;
      otherwise :math:`T = 1` there.

  Returns:
    A `SharpnessAware` transformation.

  Raises:
    ValueError: if a number is out of its range or variant is unknown.

  Example:
    >>> import jax, jax.numpy as jnp, optax, sam_optax
    >>> loss = lambda w, x: jnp.mean((x @ w - 1) ** 2)
    >>> batches = jax.random.normal(jax.random.key(0), (4, 8, 2))
    >>> tx = optax.chain(sam_optax.fasam(rho=0.1, decay=0.6), optax.sgd(0.1))
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
    Objective: 3.51
    Objective: 2.30
    Objective: 2.22

  References:
    Li et al., `Friendly Sharpness-Aware Minimization
    <https://arxiv.org/abs/2403.12350>`_, 2024, section 5 and the released code.
  """
  return sharpness_aware(
    ascent.chain(
      ascent.friendly(sigma, decay, variant),
      ascent.adaptive(rho, eta, adapt_all),
    )
  )


def rgsam(
  rho: _base.ScalarOrSchedule = 0.05,
  gamma: _base.ScalarOrSchedule = 5e-4,
  lam: _base.ScalarOrSchedule = 2.0,
  alpha: _base.ScalarOrSchedule = 0.3,
  key: _base.Key = 0,
  *,
  variant: str = 'code',
) -> SharpnessAware:
  r"""R-GSAM: the noise of `rsam` with the descent of `gsam`.

  .. math::
    u = g_p / \|g_p\|, \quad
    G = g_p - \alpha (\hat g - \langle \hat g, u \rangle u)

  where :math:`\hat g` and :math:`g_p` are the first and second gradient of
  `rsam`. The paper gives only the name and a result. Using :math:`\hat g` for
  the gradient at the parameters, which saves a third one, is our reading. With
  alpha = 0 it is R-SAM, with gamma = 0 GSAM.

  Costs two gradients per step. The state holds no copy of the parameters.

  Parts: `ascent.random` over `ascent.gradient`, `descent.surrogate_gap`.

  Args:
    rho: norm of the perturbation, at least 0 (see `rsam`).
    gamma: scale of the noise relative to the norm of the kernel, at least 0
      (see `rsam`).
    lam: weight of the gradient against the noise, at least 0 (see `rsam`).
    alpha: weight of the orthogonal part, at least 0 (the released code has this
      value and does not use it).
    key: PRNG key or int seed.
    variant: 'code' follows the released code of R-SAM, 'paper' the printed
      variance of the noise (see `rsam`).

  Returns:
    A `SharpnessAware` transformation.

  Raises:
    ValueError: if a number is out of its range or variant is unknown.

  Example:
    >>> import jax, jax.numpy as jnp, optax, sam_optax
    >>> f = lambda w: jnp.sum(w**4)
    >>> grad_fn = jax.grad(f)
    >>> tx = optax.chain(sam_optax.rgsam(rho=0.05, key=0), optax.sgd(0.01))
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
    <https://openreview.net/forum?id=htUvh7xPoa>`_, 2022, and the released code.
  """
  return sharpness_aware(
    ascent.random(ascent.gradient(rho), gamma, lam, key, variant=variant),
    descent=descent.surrogate_gap(alpha),
  )


def aelooksam(
  rho: _base.ScalarOrSchedule = 0.05,
  total_steps: _base.ScalarOrSchedule | None = None,
  lambda1: _base.ScalarOrSchedule = -1.0,
  lambda2: _base.ScalarOrSchedule = 1.0,
  decay: _base.ScalarOrSchedule = 0.9,
  alpha: _base.ScalarOrSchedule = 0.7,
) -> SharpnessAware:
  r"""AE-LookSAM: the policy of `aesam`, with LookSAM's reuse on plain steps.

  .. math::
    G = \begin{cases}
      g_p & \|g\|^2 \ge \mu + c_t \sigma \\
      g + \alpha \|g\| g_v / (\|g_v\| + 10^{-8}) & \text{otherwise}
    \end{cases}

  where :math:`\mu`, :math:`\sigma` and :math:`c_t` are as in `aesam`, and
  :math:`g_v` as in `looksam`. The paper names the combination; this rule is our
  reading. With alpha = 0 it is AE-SAM. With lambda1 and lambda2 far below 0 it
  is SAM.

  Costs 1 + (fraction of SAM steps) gradients per step. The state holds one copy
  of the parameters.

  Parts: `ascent.gradient`, `cadence.gradient_surge`, `descent.look_direction`.

  Args:
    rho: norm of the perturbation, at least 0.
    total_steps: length of training, at least 1.
    lambda1: threshold at the end, in standard deviations (see `aesam`).
    lambda2: threshold at the start, in standard deviations (see `aesam`).
    decay: decay of the moving mean and variance, in [0, 1].
    alpha: norm of the correction relative to the gradient, at least 0 (see
      `looksam`).

  Returns:
    A `SharpnessAware` transformation.

  Raises:
    ValueError: if total_steps is missing or a number is out of its range.

  Example:
    >>> import jax, jax.numpy as jnp, optax, sam_optax
    >>> loss = lambda w, x: jnp.mean((x @ w - 1) ** 2)
    >>> batches = jax.random.normal(jax.random.key(0), (4, 8, 2))
    >>> tx = optax.chain(
    ...   sam_optax.aelooksam(rho=0.05, total_steps=4), optax.sgd(0.1)
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
    Objective: 2.20

  References:
    Jiang et al., `An Adaptive Policy to Employ Sharpness-Aware Minimization
    <https://openreview.net/forum?id=6Wl7-M2BC->`_, 2023.
  """
  return sharpness_aware(
    ascent.gradient(rho),
    surge('aelooksam', total_steps, lambda1, lambda2, decay),
    descent.look_direction(alpha),
  )


def arsam_ausam(
  rho: _base.ScalarOrSchedule = 0.1,
  num_examples: int | None = None,
  keep: float = 0.5,
  alpha: _base.ScalarOrSchedule = 0.2,
  segment: _base.ScalarOrSchedule = 50,
  warmup_steps: _base.ScalarOrSchedule = 100,
  horizon: _base.ScalarOrSchedule | None = 2,
  key: _base.Key = 0,
  *,
  beta: _base.ScalarOrSchedule = 0.9,
  s_min: _base.ScalarOrSchedule = 0.1,
  s_max: _base.ScalarOrSchedule = 0.5,
  ramp_epochs: _base.ScalarOrSchedule = 30,
  history: str = 'mean',
  p_min: _base.ScalarOrSchedule = 0.0,
  p_max: _base.ScalarOrSchedule = 1.0,
) -> SharpnessAware:
  r"""ARSAM on the examples that AUSAM selects: cheaper than the base optimizer.

  .. math::
    G = \begin{cases}
      g_p & \text{SAM step} \\
      g + h_{\text{last}} & \text{at most `horizon` steps after a SAM step} \\
      g & \text{later}
    \end{cases}

  as in `arsam`, where each gradient is taken on the fraction keep of the batch
  that is drawn as in `ausam`. It is our combination; no paper has it. With
  keep = 1 it is ARSAM, up to the order of the batch. With warmup_steps at least
  the number of steps it is AUSAM.

  Costs keep * (1 + fraction of SAM steps) gradients per step: 0.65 with
  keep = 0.5 if 30 % of the steps perturb. The state holds one copy of the
  parameters and two floats per example of the training set.

  Scores are recorded on SAM steps only, so a SAM step takes its batch in full
  where an example has no score yet. On a plain step such an example counts as
  one with the score 0.

  Needs `loss_fn`, `batch` and `example_ids`, in `update` as in
  `value_and_grad`.

  Parts: `ascent.gradient`, `cadence.autoregressive`, `descent.reuse_psf`,
  `selection.by_loss_rise`.

  Args:
    rho: norm of the perturbation, at least 0.
    num_examples: size of the training set, at least 1; every example id is
      smaller.
    keep: fraction of the batch, in (0, 1].
    alpha: how strongly the probability follows the ratio, at least 0 (see
      `arsam`).
    segment: steps between two updates of the probability, at least 1.
    warmup_steps: number of steps at the start that all perturb, at least 0.
    horizon: for how many steps a PSF is reused, at least 0; None for no limit.
    key: PRNG key or int seed, the same on every device.
    beta: decay of the moving average of the change of the ratio, in [0, 1].
    s_min: weight of the smallest score in the draw, above 0 (see `ausam`).
    s_max: weight of the largest score, above 0.
    ramp_epochs: number of epochs over which the weight of the largest score
      grows from s_min to s_max, at least 0 (see `ausam`, and for a smaller
      last batch).
    history: 'mean', or 'last' for the scores of AUSAM-1.
    p_min: lower bound of the probability, in [0, 1] (see `arsam`).
    p_max: upper bound of the probability, in (0, 1].

  Returns:
    A `SharpnessAware` transformation.

  Raises:
    ValueError: if num_examples is missing or a number is out of its range.

  Example:
    >>> import jax.numpy as jnp, optax, sam_optax
    >>> loss_fn = lambda w, x: ((x * w - 1) ** 2, None)  # losses, aux
    >>> method = sam_optax.arsam_ausam(num_examples=6, warmup_steps=1)
    >>> base, x = optax.sgd(0.2), jnp.linspace(0.5, 1.5, 6)
    >>> w, ids = jnp.array(0.0), jnp.arange(6)
    >>> state, base_state = method.init(w), base.init(w)
    >>> for _ in range(4):
    ...   print(f'Objective: {jnp.mean(loss_fn(w, x)[0]):.2f}')
    ...   _, grads, state = method.value_and_grad(loss_fn, w, state, x, ids)
    ...   updates, base_state = base.update(grads, base_state)
    ...   w = optax.apply_updates(w, updates)
    Objective: 1.00
    Objective: 0.33
    Objective: 0.15
    Objective: 0.11

  References:
    Deng and Pang, `Adaptively Sampling-Reusing-Mixing Decomposed Gradients to
    Speed Up Sharpness Aware Minimization <https://arxiv.org/abs/2510.03763>`_,
    2025, for the cadence and the descent; Deng et al., `Asymptotic Unbiased
    Sample Sampling to Speed Up Sharpness-Aware Minimization
    <https://arxiv.org/abs/2406.08001>`_, 2024, for the selection.
  """
  if num_examples is None:
    raise ValueError(
      'Given no num_examples. A score is kept for each example of the training '
      'set. Pass its size: arsam_ausam(num_examples=50_000).'
    )
  # One key decides whether to perturb, the other which examples are drawn.
  perturb_key, draw_key = jax.random.split(_random.make_key(key))
  return sharpness_aware(
    ascent.gradient(rho),
    cadence.autoregressive(
      alpha,
      beta,
      segment,
      warmup_steps,
      perturb_key,
      p_min=p_min,
      p_max=p_max,
    ),
    descent.reuse_psf(horizon),
    selection.by_loss_rise(
      num_examples, keep, s_min, s_max, ramp_epochs, history, draw_key
    ),
  )
