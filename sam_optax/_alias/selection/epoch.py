"""Methods whose new part is a selection for a whole epoch: InfoBatch."""

from __future__ import annotations

from sam_optax import _base, _check, ascent, cadence, selection
from sam_optax._method import SharpnessAware, sharpness_aware


def infobatch(
  num_examples: int | None = None,
  total_steps: int | None = None,
  share: _base.Number = 0.5,
  delta: _base.Number = 0.875,
  key: _base.Key = 0,
) -> SharpnessAware:
  r"""The base optimizer on epochs without a part of the well-learned examples.

  .. math::
    G = \nabla \tfrac1K \textstyle\sum_i \omega_i\, l_i(w), \quad
    \omega_i = \begin{cases}
      1 & \text{last loss} \ge \text{mean over the set} \\
      1 / (1 - r) & \text{otherwise, unless left out}
    \end{cases}

  Each epoch leaves out a random fraction r = share of the examples whose last
  loss is below the mean. The weights keep the expectation of the gradient. It
  never perturbs: in the AUSAM paper it is the baseline SGD+Info, and
  `sam_infobatch` is the same with SAM. With share = 0 it is the base optimizer.

  You draw the batches: before each epoch, call ``state,
  weights = method.start_epoch(state)`` and leave out the examples whose weight
  is 0. Epochs then have fewer steps. At a fixed number of steps a run has more
  epochs; to give it a fixed number of epochs, as the authors do, give it fewer
  steps. A smaller last batch is a step like every other.

  Costs one gradient per step. The state holds two floats per example of the
  training set and no copy of the parameters.

  Needs `loss_fn`, `batch` and `example_ids`, in `update` as in
  `value_and_grad`.

  Parts: `cadence.never`, `selection.by_loss`.

  Args:
    num_examples: size of the training set, at least 1; every example id is
      smaller.
    total_steps: length of training, at least 1.
    share: fraction of the examples below the mean that is left out, in [0, 1)
      (the released code: 0.5).
    delta: fraction of training, in [0, 1], after which epochs are whole (the
      released code: 0.875).
    key: PRNG key or int seed.

  Returns:
    A `SharpnessAware` transformation.

  Raises:
    ValueError: if a size is missing or a number is out of its range.

  Example:
    >>> import jax.numpy as jnp, optax, sam_optax
    >>> loss_fn = lambda w, x: ((x * w - 1) ** 2, None)  # losses, aux
    >>> method = sam_optax.infobatch(num_examples=6, total_steps=9)
    >>> base, x = optax.sgd(0.15), jnp.linspace(0.5, 1.5, 6)
    >>> w = jnp.array(0.0)
    >>> state, base_state = method.init(w), base.init(w)
    >>> for _ in range(4):
    ...   print(f'Objective: {jnp.mean(loss_fn(w, x)[0]):.2f}')
    ...   state, weights = method.start_epoch(state)
    ...   kept = jnp.flatnonzero(weights)  # the examples of this epoch
    ...   _, grads, state = method.value_and_grad(
    ...     loss_fn, w, state, x[kept], kept
    ...   )
    ...   updates, base_state = base.update(grads, base_state)
    ...   w = optax.apply_updates(w, updates)
    Objective: 1.00
    Objective: 0.50
    Objective: 0.28
    Objective: 0.16

  References:
    Qin et al., `InfoBatch: Lossless Training Speed Up by Unbiased Dynamic Data
    Pruning <https://arxiv.org/abs/2303.04947>`_, 2024, and the released code;
    Deng et al., `Asymptotic Unbiased Sample Sampling to Speed Up
    Sharpness-Aware Minimization <https://arxiv.org/abs/2406.08001>`_, 2024,
    Table 4.
  """
  return sharpness_aware(
    ascent.gradient(0.0),
    cadence.never(),
    selection=_by_loss(
      'infobatch', num_examples, total_steps, share, delta, 'clean', key
    ),
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
  r"""SAM on epochs without a part of the well-learned examples.

  .. math::
    G = \nabla \tfrac1K \textstyle\sum_i \omega_i\, l_i(w + \epsilon), \quad
    \omega_i = \begin{cases}
      1 & \text{last loss} \ge \text{mean over the set} \\
      1 / (1 - r) & \text{otherwise, unless left out}
    \end{cases}

  and :math:`\epsilon` from the same weighted losses. Each epoch leaves out a
  random fraction r = share of the examples whose last loss is below the mean.
  It is a baseline of the AUSAM paper. With share = 0 it is SAM.

  You draw the batches: before each epoch, call ``state,
  weights = method.start_epoch(state)`` and leave out the examples whose weight
  is 0. Epochs then have fewer steps. At a fixed number of steps a run has more
  epochs; to give it a fixed number of epochs, as the authors do, give it fewer
  steps. A smaller last batch is a step like every other.

  Costs two gradients per step. The state holds two floats per example of the
  training set and no copy of the parameters.

  Needs `loss_fn`, `batch` and `example_ids`, in `update` as in
  `value_and_grad`.

  Parts: `ascent.gradient`, `selection.by_loss`.

  Args:
    rho: norm of the perturbation, at least 0.
    num_examples: size of the training set, at least 1; every example id is
      smaller.
    total_steps: length of training, at least 1.
    share: fraction of the examples below the mean that is left out, in [0, 1)
      (the released code: 0.5).
    delta: fraction of training, in [0, 1], after which epochs are whole (the
      released code: 0.875).
    loss: 'perturbed' or 'clean', the pass whose loss is recorded.
    key: PRNG key or int seed.

  Returns:
    A `SharpnessAware` transformation.

  Raises:
    ValueError: if a size is missing or a number is out of its range.

  Example:
    >>> import jax.numpy as jnp, optax, sam_optax
    >>> loss_fn = lambda w, x: ((x * w - 1) ** 2, None)  # losses, aux
    >>> method = sam_optax.sam_infobatch(num_examples=6, total_steps=9)
    >>> base, x = optax.sgd(0.15), jnp.linspace(0.5, 1.5, 6)
    >>> w = jnp.array(0.0)
    >>> state, base_state = method.init(w), base.init(w)
    >>> for _ in range(4):
    ...   print(f'Objective: {jnp.mean(loss_fn(w, x)[0]):.2f}')
    ...   state, weights = method.start_epoch(state)
    ...   kept = jnp.flatnonzero(weights)  # the examples of this epoch
    ...   _, grads, state = method.value_and_grad(
    ...     loss_fn, w, state, x[kept], kept
    ...   )
    ...   updates, base_state = base.update(grads, base_state)
    ...   w = optax.apply_updates(w, updates)
    Objective: 1.00
    Objective: 0.46
    Objective: 0.20
    Objective: 0.12

  References:
    Qin et al., `InfoBatch: Lossless Training Speed Up by Unbiased Dynamic Data
    Pruning <https://arxiv.org/abs/2303.04947>`_, 2024, and the released code.
  """
  return sharpness_aware(
    ascent.gradient(rho),
    selection=_by_loss(
      'sam_infobatch', num_examples, total_steps, share, delta, loss, key
    ),
  )


def _by_loss(
  name: str,
  num_examples: int | None,
  total_steps: int | None,
  share: _base.Number,
  delta: _base.Number,
  loss: str,
  key: _base.Key,
) -> _base.Selection:
  """The selection of `infobatch` and `sam_infobatch`, which need two sizes."""
  if num_examples is None or total_steps is None:
    raise ValueError(
      f'Given num_examples={num_examples}, total_steps={total_steps}. '
      'InfoBatch keeps a score for each example and stops near the end. Pass '
      f'both: {name}(num_examples=50_000, total_steps=78_000).'
    )
  _check.number(
    'total_steps', total_steps, 1, why='it is a length', schedule=False
  )
  _check.number(
    'delta', delta, 0, 1, why='delta is a share of the run', schedule=False
  )
  return selection.by_loss(num_examples, share, delta * total_steps, loss, key)
