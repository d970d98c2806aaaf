"""Methods without a part of their own: they combine published ones."""

import jax

from sam_optax import _base, _random, ascent, cadence, descent, selection
from sam_optax._alias.cadence import surge
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
  r"""R-SAM's noise with GSAM's descent.

  .. math::
    u = g_p / \|g_p\|, \quad
    G = g_p - \alpha (\hat g - \langle \hat g, u \rangle u)

  with :math:`\hat g` and :math:`g_p` of `rsam`. The paper gives the name and
  a result only; that :math:`\hat g` stands for the clean gradient, so that no
  third one is needed, is our reading.

  Parts: `ascent.random` over `ascent.gradient`, `descent.surrogate_gap`. At
  alpha = 0 it is R-SAM, at gamma = 0 GSAM, at both SAM.

  Args:
    rho: see `rsam`.
    gamma: see `rsam`.
    lam: see `rsam`.
    alpha: weight of the orthogonal part, at least 0 (the released code's
      value).
    key: PRNG key or int seed.
    variant: see `rsam`.

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
    ...     descend(sam_optax.rgsam(0.1, gamma=0.0, alpha=0.0)),
    ...     descend(sam_optax.sam(0.1)),
    ...   )
    ... )
    True

  References:
    Liu et al., `Random Sharpness-Aware Minimization
    <https://openreview.net/forum?id=htUvh7xPoa>`_, 2022, and the released
    code.
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
  """AE-SAM's policy; the steps that do not perturb reuse LookSAM's direction.

  The paper names the combination; that this is its rule is our reading.

  Parts: `ascent.gradient`, `cadence.gradient_surge`,
  `descent.look_direction`. With lambda1 and lambda2 far below 0 it is SAM; at
  alpha = 0 it is AE-SAM.

  Args:
    rho: radius, at least 0.
    total_steps: see `aesam`.
    lambda1: see `aesam`.
    lambda2: see `aesam`.
    decay: see `aesam`.
    alpha: see `looksam`.

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
    >>> always = sam_optax.aelooksam(0.1, 10, lambda1=-1e6, lambda2=-1e6)
    >>> bool(jnp.all(descend(always) == descend(sam_optax.sam(0.1))))
    True

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
) -> SharpnessAware:
  """ARSAM's cadence on AUSAM's examples: cheaper than the base optimizer.

  Each step sees the share `keep` of its batch, as in AUSAM, and takes the
  second gradient with ARSAM's probability, reusing the PSF in between. Our
  composition; no paper has it.

  Parts: `ascent.gradient`, `cadence.autoregressive`, `descent.reuse_psf`,
  `selection.by_loss_rise`. At keep = 1 it is ARSAM up to the order of the
  batch; with warmup_steps at least the number of steps it is AUSAM. Costs keep
  * (1 + share of sampled steps) gradients per step: 0.65 at keep = 0.5 and a
  share of 0.3. Keeps one copy of the parameters and 2 floats per example.

  An example's score is recorded on sampled steps, and a batch with an example
  never scored goes in whole: let the warm-up last an epoch at least.

  Needs `loss_fn`, `batch` and `example_ids`, at either door.

  Args:
    rho: radius, at least 0.
    num_examples: size of the training set; every example id is below it.
    keep: share of the batch in (0, 1].
    alpha: how strongly the probability follows, at least 0.
    segment: steps between two updates of the probability.
    warmup_steps: the first steps, all sampled.
    horizon: steps for which a PSF is reused; None for no limit.
    key: PRNG key or int seed, the same on every device.
    beta: decay of the moving average of the change, in [0, 1].
    s_min: draw weight of the least score, above 0.
    s_max: draw weight of the greatest.
    ramp_epochs: epochs over which the greatest weight grows to s_max.
    history: 'mean'; 'last' for AUSAM-1.

  Returns:
    A `SharpnessAware` transformation.

  Raises:
    ValueError: if num_examples is missing or a number is out of its range.

  Example:
    >>> import jax.numpy as jnp, sam_optax
    >>> method = sam_optax.arsam_ausam(num_examples=6, warmup_steps=1)
    >>> loss_fn = lambda w, x: ((x * w - 1) ** 2, x.shape)
    >>> w = jnp.array(0.5)
    >>> state = method.init(w)
    >>> for _ in range(2):
    ...   (loss, aux), grads, state = method.value_and_grad(
    ...     loss_fn,
    ...     w,
    ...     state,
    ...     jnp.arange(6.0),
    ...     jnp.arange(6),
    ...     **method.decide(state, jnp.arange(6)),
    ...   )
    >>> aux, int(state.gradient_evaluations)  # 2 of six, then 1 of three
    ((3,), 3)

  References:
    `arsam` and `ausam`.
  """
  if num_examples is None:
    raise ValueError(
      'Given no num_examples. A score is kept for each example of the training '
      'set. Pass its size: arsam_ausam(num_examples=50_000).'
    )
  # One draw decides whether to perturb, others whom to ask.
  look_key, draw_key = jax.random.split(_random.make_key(key))
  return sharpness_aware(
    ascent.gradient(rho),
    cadence.autoregressive(alpha, beta, segment, warmup_steps, look_key),
    descent.reuse_psf(horizon),
    selection.by_loss_rise(
      num_examples, keep, s_min, s_max, ramp_epochs, history, draw_key
    ),
  )
