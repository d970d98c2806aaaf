"""Compositions of published methods that no paper has."""

import jax

from sam_optax import _base, _random, ascent, cadence, descent, selection
from sam_optax._method import SharpnessAware, sharpness_aware


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
