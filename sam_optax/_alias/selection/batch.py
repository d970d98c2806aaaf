"""Methods whose new part is a selection within a batch: AUSAM, ESAM."""

from __future__ import annotations

import optax  # pyright: ignore[reportMissingTypeStubs]

from sam_optax import _base, _tree, ascent, selection
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
  r"""Asymptotic unbiased sampling SAM: only examples whose loss rises most.

  .. math::
    a_i = \text{mean} |l_i(w + \epsilon) - l_i(w)|, \quad
    p_i \propto s_{\min} + \frac{a_i - \min a}{\max a - \min a}
    (s_{\max} - s_{\min})

  Example i of the batch has the score :math:`a_i`, a mean over the steps that
  saw it. Each step draws the fraction keep of its batch without replacement in
  proportion to :math:`p_i`, and takes both gradients, as plain means, on the
  drawn examples alone. A batch with an example that has no score yet is used in
  full. With keep = 1 it is SAM, up to the order of the batch.

  Costs 2 * keep gradients per step, and 2 where an example of the batch has no
  score yet: in the first epoch, and in parts of the second where epochs leave
  out what fills no batch. The state holds two floats per example of the
  training set and no copy of the parameters.

  Needs `loss_fn`, `batch` and `example_ids`, in `update` as in
  `value_and_grad`.

  Parts: `ascent.gradient`, `selection.by_loss_rise`.

  Args:
    rho: norm of the perturbation, at least 0 (the paper: 0.1, and 0.2 for
      PyramidNet).
    num_examples: size of the training set, at least 1; every example id is
      smaller.
    keep: fraction of the batch, in (0, 1] (the paper: 0.5 and 0.6).
    s_min: weight of the smallest score in the draw, above 0 (the paper: 0.1).
    s_max: weight of the largest score, above 0 (the paper: 0.5, and 1 for
      PyramidNet, ResNet-50 and MobileNet).
    key: PRNG key or int seed.
    ramp_epochs: number of epochs over which the weight of the largest score
      grows from s_min to s_max, at least 0 (the released code: 30). An epoch
      counts as num_examples // batch_size steps. So a smaller last batch is
      drawn with the weights of an earlier epoch, and the ramp ends a little
      sooner.
    history: 'mean' for the score above; 'last' for the last value alone, which
      is AUSAM-1.

  Returns:
    A `SharpnessAware` transformation.

  Raises:
    ValueError: if num_examples is missing or a number is out of its range.

  Example:
    >>> import jax.numpy as jnp, optax, sam_optax
    >>> loss_fn = lambda w, x: ((x * w - 1) ** 2, None)  # losses, aux
    >>> method = sam_optax.ausam(num_examples=6, keep=0.5)
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
    Objective: 0.14
    Objective: 0.11

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
  r"""Efficient SAM: some tensors are perturbed, and sensitive examples used.

  .. math::
    g_m = m \cdot g, \quad
    \epsilon = \rho\, g_m / (\beta (\|g_m\| + 10^{-7})), \quad
    G = \nabla L_S(w + \epsilon)

  The mask m keeps each parameter tensor with probability beta (all of them in
  the first step). The subset S is the fraction gamma of the batch whose loss
  rises most from w to :math:`w + \epsilon`. With beta = gamma = 1 it is SAM, up
  to the 1e-7.

  Costs 1 + gamma gradients and a forward pass of the batch per step. The state
  holds no copy of the parameters. Masked tensors save no time here, since the
  compiled backward pass includes them.

  Needs `loss_fn` and `batch`, in `update` as in `value_and_grad`.

  Parts: `ascent.random_mask` then `ascent.gradient`,
  `selection.most_sensitive`.

  Args:
    rho: norm of the perturbation times beta, at least 0 (the released code:
      0.05 for ResNet-18, 0.1 for WRN, 0.2 for PyramidNet).
    beta: probability that a tensor is perturbed, in (0, 1] (the released code:
      0.6 for ResNet-18, 0.5 for WRN and PyramidNet).
    gamma: fraction of the batch in the second pass, in (0, 1] (the released
      code: 0.5).
    key: PRNG key or int seed.
    variant: 'paper' selects exactly this fraction. 'code' selects one example
      fewer, as the strict comparison in the released code does, and from
      gamma = 0.99 the whole batch, as that code does.

  Returns:
    A `SharpnessAware` transformation.

  Raises:
    ValueError: if a number is out of its range or variant is unknown.

  Example:
    >>> import jax.numpy as jnp, optax, sam_optax
    >>> loss_fn = lambda w, x: ((x * w - 1) ** 2, None)  # losses, aux
    >>> method = sam_optax.esam(rho=0.05, gamma=0.5)
    >>> base, x = optax.sgd(0.2), jnp.linspace(0.5, 1.5, 6)
    >>> w, ids = jnp.array(0.0), jnp.arange(6)
    >>> state, base_state = method.init(w), base.init(w)
    >>> for _ in range(4):
    ...   print(f'Objective: {jnp.mean(loss_fn(w, x)[0]):.2f}')
    ...   _, grads, state = method.value_and_grad(loss_fn, w, state, x, ids)
    ...   updates, base_state = base.update(grads, base_state)
    ...   w = optax.apply_updates(w, updates)
    Objective: 1.00
    Objective: 0.22
    Objective: 0.12
    Objective: 0.10

  References:
    Du et al., `Efficient Sharpness-aware Minimization for Improved Training of
    Neural Networks <https://arxiv.org/abs/2110.03141>`_, 2021, and the released
    code.
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
  r"""SAM on a random part of each batch.

  .. math::
    \epsilon = \rho\, g_S / (\|g_S\| + 10^{-12}), \quad
    G = \nabla L_S(w + \epsilon)

  where the subset S of the batch is drawn uniformly, without replacement. It is
  the baseline SAM+Random of the AUSAM paper. With keep = 1 it is SAM, up to the
  order of the batch.

  Costs 2 * keep gradients per step. The state holds no copy of the parameters.

  Needs `loss_fn`, `batch` and `example_ids`, in `update` as in
  `value_and_grad`.

  Parts: `ascent.gradient`, `selection.uniformly`.

  Args:
    rho: norm of the perturbation, at least 0.
    keep: fraction of the batch, in (0, 1].
    key: PRNG key or int seed.

  Returns:
    A `SharpnessAware` transformation.

  Raises:
    ValueError: if a number is out of its range.

  Example:
    >>> import jax.numpy as jnp, optax, sam_optax
    >>> loss_fn = lambda w, x: ((x * w - 1) ** 2, None)  # losses, aux
    >>> method = sam_optax.sam_random(rho=0.05, keep=0.5)
    >>> base, x = optax.sgd(0.2), jnp.linspace(0.5, 1.5, 6)
    >>> w, ids = jnp.array(0.0), jnp.arange(6)
    >>> state, base_state = method.init(w), base.init(w)
    >>> for _ in range(4):
    ...   print(f'Objective: {jnp.mean(loss_fn(w, x)[0]):.2f}')
    ...   _, grads, state = method.value_and_grad(loss_fn, w, state, x, ids)
    ...   updates, base_state = base.update(grads, base_state)
    ...   w = optax.apply_updates(w, updates)
    Objective: 1.00
    Objective: 0.37
    Objective: 0.16
    Objective: 0.11

  References:
    Deng et al., `Asymptotic Unbiased Sample Sampling to Speed Up
    Sharpness-Aware Minimization <https://arxiv.org/abs/2406.08001>`_, 2024.
  """
  return sharpness_aware(
    ascent.gradient(rho), selection=selection.uniformly(keep, key)
  )


def _divided_by(beta: _base.ScalarOrSchedule) -> optax.GradientTransformation:
  # A beta in bfloat16 is as wide as the params, and the gradient is wider.
  if callable(beta):
    return optax.scale_by_schedule(
      lambda step: 1 / _base.value_at(beta, step, float)
    )
  inverse = 1 / _base.value_at(beta, None, float)
  return optax.stateless(lambda g, params: _tree.scale(inverse, g))
