"""Methods that take gradients on a part of the examples: AUSAM, ESAM."""

import optax

from sam_optax import _base, _check, ascent, selection
from sam_optax._method import SharpnessAware, sharpness_aware


def ausam(
  rho: _base.ScalarOrSchedule = 0.1,
  num_examples: int | None = None,
  keep: float = 0.5,
  s_min: _base.ScalarOrSchedule = 0.1,
  s_max: _base.ScalarOrSchedule = 0.5,
  key: _base.Key = 0,
  *,
  ramp_epochs: _base.ScalarOrSchedule = 30,
  history: str = 'mean',
) -> SharpnessAware:
  r"""Asymptotic unbiased sampling SAM: the examples whose loss rises most.

  Of each batch, a share `keep` is drawn without replacement in proportion to
  the mean of :math:`|l_i(w + \epsilon) - l_i(w)|` over the steps that example
  i was in, scaled to [s_min, s_max] over the batch; both of SAM's passes are
  on the drawn examples alone, with plain means. See `selection.by_loss_rise`
  for the ramp of s_max and for examples not seen before.

  Parts: `ascent.gradient`, `selection.by_loss_rise`. At keep = 1 it is SAM up
  to the order of the batch. Costs 2 * keep full gradients per step after the
  first epoch, and 2 floats per example of the data set.

  Needs `loss_fn`, `batch` and `example_ids`, at either door.

  Args:
    rho: radius, at least 0 (the paper: 0.1; 0.2 for PyramidNet).
    num_examples: size of the training set; every example id is below it.
    keep: share of the batch in (0, 1] (the paper: 0.5 and 0.6).
    s_min: weight of the least score, above 0 (the paper).
    s_max: weight of the greatest (the paper: 0.5; 1 for PyramidNet, ResNet-50
      and MobileNet).
    key: PRNG key or int seed.
    ramp_epochs: epochs over which the greatest weight grows from s_min to
      s_max (the released code).
    history: 'mean'; 'last' for AUSAM-1.

  Returns:
    A `SharpnessAware` transformation.

  Raises:
    ValueError: if num_examples is missing or a number is out of its range.

  Example:
    >>> import jax, jax.numpy as jnp, sam_optax
    >>> method = sam_optax.ausam(num_examples=6, keep=0.5)
    >>> x, y = jnp.arange(6.0), jnp.ones(6)
    >>> loss_fn = lambda w, batch: ((batch[0] * w - batch[1]) ** 2, None)
    >>> state = method.init(jnp.array(0.5))
    >>> for _ in range(2):
    ...   (loss, aux), grads, state = method.value_and_grad(
    ...     loss_fn, jnp.array(0.5), state, (x, y), jnp.arange(6)
    ...   )
    >>> float(state.selection.rise_count.sum())  # 6 in the first step, then 3
    9.0

  References:
    Deng et al., `Asymptotic Unbiased Sample Sampling to Speed Up
    Sharpness-Aware Minimization <https://arxiv.org/abs/2406.08001>`_, 2024,
    equation 9 and the released code.
  """
  if num_examples is None:
    raise ValueError(
      'Given no num_examples. AUSAM keeps a score for each example of the '
      'training set. Pass its size: ausam(num_examples=50_000).'
    )
  return sharpness_aware(
    ascent.gradient(rho),
    selection=selection.by_loss_rise(
      num_examples, keep, s_min, s_max, ramp_epochs, history, key
    ),
  )


def esam(
  rho: _base.ScalarOrSchedule = 0.05,
  beta: _base.ScalarOrSchedule = 0.6,
  gamma: float = 0.5,
  key: _base.Key = 0,
  *,
  variant: str = 'paper',
) -> SharpnessAware:
  r"""Efficient SAM: some tensors perturbed, the most sensitive examples asked.

  .. math::
    g_m = m \cdot g, \quad
    \epsilon = \rho\, g_m / (\beta (\|g_m\| + 10^{-7}))

  with m a draw per parameter tensor, kept with probability beta (all of them
  in the first step), and the second gradient over the share gamma of the
  batch whose loss rises most from w to :math:`w + \epsilon`
  (`selection.most_sensitive`). The loss at :math:`w + \epsilon` costs a
  forward pass over the batch. Masked tensors save no time here, since their
  gradient is not left out of the backward pass.

  Needs `loss_fn` and `batch`, at either door.

  Parts: `ascent.random_mask` then `ascent.gradient`,
  `selection.most_sensitive`. At beta = gamma = 1 it is SAM, up to the 1e-7.

  Args:
    rho: radius before the division by beta, at least 0.
    beta: share of the tensors that are perturbed, in (0, 1] (ResNet-18: 0.6).
    gamma: share of the batch in the second pass, in (0, 1] (0.5).
    key: PRNG key or int seed.
    variant: 'paper' for exactly that many; 'code' for one fewer, as the
      released code leaves.

  Returns:
    A `SharpnessAware` transformation.

  Raises:
    ValueError: if a number is out of its range or variant is unknown.

  Example:
    >>> import jax.numpy as jnp, sam_optax
    >>> method, w = sam_optax.esam(gamma=0.5), jnp.array(0.5)
    >>> loss_fn = lambda w, x: ((x * w - 1) ** 2, None)
    >>> (loss, aux), grads, state = method.value_and_grad(
    ...   loss_fn, w, method.init(w), jnp.arange(6.0)
    ... )

  References:
    Du et al., `Efficient Sharpness-aware Minimization for Improved Training
    of Neural Networks <https://arxiv.org/abs/2110.03141>`_, 2021, and the
    released code.
  """
  return sharpness_aware(
    ascent.chain(
      ascent.random_mask(beta, key),
      ascent.gradient(rho, eps=1e-7),
      _divided_by(beta),
    ),
    selection=selection.most_sensitive(gamma, variant),
  )


def sam_random(
  rho: _base.ScalarOrSchedule = 0.1, keep: float = 0.5, key: _base.Key = 0
) -> SharpnessAware:
  """SAM on a random part of each batch (AUSAM's baseline SAM+Random).

  Parts: `ascent.gradient`, `selection.uniformly`. At keep = 1 it is SAM up to
  the order of the batch. Costs 2 * keep full gradients per step.

  Needs `loss_fn`, `batch` and `example_ids`, at either door.

  Args:
    rho: radius, at least 0.
    keep: share of the batch in (0, 1].
    key: PRNG key or int seed.

  Returns:
    A `SharpnessAware` transformation.

  Raises:
    ValueError: if a number is out of its range.

  Example:
    >>> import jax.numpy as jnp, sam_optax
    >>> method, w = sam_optax.sam_random(keep=0.5), jnp.array(0.5)
    >>> loss_fn = lambda w, x: ((x * w - 1) ** 2, x.shape)
    >>> (loss, aux), grads, state = method.value_and_grad(
    ...   loss_fn,
    ...   w,
    ...   method.init(w),
    ...   jnp.arange(6.0),
    ...   jnp.arange(6),
    ...   full_batch=False,
    ... )
    >>> aux
    (3,)

  References:
    Deng et al., `Asymptotic Unbiased Sample Sampling to Speed Up
    Sharpness-Aware Minimization <https://arxiv.org/abs/2406.08001>`_, 2024.
  """
  return sharpness_aware(
    ascent.gradient(rho), selection=selection.uniformly(keep, key)
  )


def sam_infobatch(
  rho: _base.ScalarOrSchedule = 0.1,
  num_examples: int | None = None,
  total_steps: int | None = None,
  share: _base.Number = 0.5,
  delta: _base.Number = 0.875,
  loss: str = 'perturbed',
  key: _base.Key = 0,
) -> SharpnessAware:
  r"""SAM on epochs that InfoBatch prunes (AUSAM's baseline).

  An epoch leaves out a random `share` of the examples whose last loss is below
  the mean over the set, and the losses of those below it that stay count
  :math:`1 / (1 - share)` times, in both passes. See `selection.by_loss`.

  The caller draws the batches: before each epoch, call ``state, weights =
  method.start_epoch(state)`` and leave out the examples whose weight is 0.
  The epochs become shorter, and the cost of a step stays: 2 gradients. At
  the same number of steps a run has more epochs; to give it the same number,
  as the authors do, give it fewer steps.

  Needs `loss_fn`, `batch` and `example_ids`, at either door.

  Parts: `ascent.gradient`, `selection.by_loss`. At share = 0 it is SAM.

  Args:
    rho: radius, at least 0.
    num_examples: size of the training set; every example id is below it.
    total_steps: length of the run, at least 1.
    share: of the examples below the mean, those left out, in [0, 1) (the
      released code: 0.5).
    delta: epochs that begin at delta * total_steps or later are whole, in [0,
      1] (the released code: 0.875).
    loss: 'perturbed' or 'clean', which of the two passes' losses is recorded.
    key: PRNG key or int seed.

  Returns:
    A `SharpnessAware` transformation.

  Raises:
    ValueError: if a size is missing or a number is out of its range.

  Example:
    >>> import jax.numpy as jnp, sam_optax
    >>> method = sam_optax.sam_infobatch(num_examples=6, total_steps=10)
    >>> loss_fn, w = lambda w, x: ((x * w - 1) ** 2, None), jnp.array(0.5)
    >>> (loss, aux), grads, state = method.value_and_grad(
    ...   loss_fn, w, method.init(w), jnp.arange(6.0), jnp.arange(6)
    ... )
    >>> state, weights = method.start_epoch(state)
    >>> int((weights == 0).sum()), float(weights.max())  # two of four left out
    (2, 2.0)

  References:
    Qin et al., `InfoBatch: Lossless Training Speed Up by Unbiased Dynamic Data
    Pruning <https://arxiv.org/abs/2303.04947>`_, 2024, and the released code.
  """
  if num_examples is None or total_steps is None:
    raise ValueError(
      f'Given num_examples={num_examples}, total_steps={total_steps}. '
      'InfoBatch keeps a score for each example and stops near the end. Pass '
      'both: sam_infobatch(num_examples=50_000, total_steps=78_000).'
    )
  _check.number('total_steps', total_steps, 1, why='it is a length')
  _check.number('delta', delta, 0, 1, why='delta is a share of the run')
  return sharpness_aware(
    ascent.gradient(rho),
    selection=selection.by_loss(
      num_examples, share, delta * total_steps, loss, key
    ),
  )


def _divided_by(beta: _base.ScalarOrSchedule) -> optax.GradientTransformation:
  if callable(beta):
    return optax.scale_by_schedule(lambda step: 1 / beta(step))
  return optax.scale(1 / beta)
