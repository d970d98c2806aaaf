"""SAF: the divergence from logits recorded some epochs ago."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from sam_optax import _base, _check, _collectives, _given, ascent, cadence
from sam_optax._method import SharpnessAware, sharpness_aware
from sam_optax.trajectory._loss import (
  CALL,
  Weighing,
  add,
  as_method,
  divergence,
  logits_of,
)


class SafState(NamedTuple):
  """State of `saf`.

  Attributes:
    method: state of the method without perturbations inside.
    bank: float32 [num_examples, epochs_ago + 1, classes], logits by example
      and epoch.
  """

  method: _base.State  # a SharpnessAwareState
  bank: jax.Array


def slots(epoch: jax.Array, epochs_ago: int) -> tuple[jax.Array, jax.Array]:
  """The slots of the bank that an epoch writes to and reads from."""
  size = epochs_ago + 1
  return epoch % size, (epoch - epochs_ago) % size


def saf(
  num_examples: int | None = None,
  num_classes: int | None = None,
  lam: _base.ScalarOrSchedule = 0.3,
  tau: _base.ScalarOrSchedule = 5.0,
  epochs_ago: int = 3,
  start_epoch: _base.ScalarOrSchedule = 5,
  stop_epoch: _base.ScalarOrSchedule | None = None,
  steps_per_epoch: _base.ScalarOrSchedule | None = None,
) -> SharpnessAware:
  r"""SAF, sharpness-aware training for free: stays close to its past logits.

  .. math::
    L + \lambda \tau^2\, \text{mean}_i\,
    KL(\text{softmax}(\bar z_i / \tau) \| \text{softmax}(z_i / \tau))

  where :math:`z_i` are the logits of example i and :math:`\bar z_i` those
  recorded epochs_ago epochs before, in training mode and with augmentation. The
  second term is active in epochs e with start_epoch < e < stop_epoch, counted
  from 0. With lam = 0 it is the base optimizer.

  The method counts epochs by its steps. If your loader keeps a smaller last
  batch, pass steps_per_epoch; otherwise an epoch counts as one step shorter
  than it is, and that batch counts as one of another epoch.

  Costs one gradient per step. The state holds num_examples * (epochs_ago + 1) *
  num_classes floats and no copy of the parameters.

  Needs `loss_fn`, `batch` and `example_ids`, in `update` as in
  `value_and_grad`. The aux output of `loss_fn` must be a dict with 'logits', a
  float array [batch, num_classes].

  Parts: `identity`, on the loss above.

  Args:
    num_examples: size of the training set, at least 1; every example id is
      smaller.
    num_classes: number of logits, at least 1.
    lam: :math:`\lambda`, at least 0 (the paper, section 4.1: 0.3).
    tau: temperature, above 0 (the paper: 5).
    epochs_ago: age of the recorded logits in epochs, at least 1 (the paper: 3;
      the released ImageNet script: 2).
    start_epoch: the second term is active after this epoch, at least 0 (the
      paper: 5).
    stop_epoch: the second term is active before this epoch, at least 0; None
      for no end.
    steps_per_epoch: steps in an epoch, at least 1; None for num_examples //
      batch_size, which is right if the last partial batch is dropped.

  Returns:
    A `SharpnessAware` transformation.

  Raises:
    ValueError: if a size is missing or a number is out of its range.

  Example:
    >>> import jax.numpy as jnp, optax, sam_optax
    >>> def loss_fn(w, batch):
    ...   logits = jnp.outer(batch['x'], w)
    ...   losses = optax.losses.softmax_cross_entropy_with_integer_labels(
    ...     logits, batch['y']
    ...   )
    ...   return losses, {'logits': logits}
    >>> batch = {'x': jnp.linspace(-1.0, 1.0, 4), 'y': jnp.array([0, 0, 1, 1])}
    >>> method = sam_optax.saf(4, num_classes=2, start_epoch=0)
    >>> base = optax.sgd(0.8)
    >>> w, ids = jnp.zeros(2), jnp.arange(4)
    >>> state, base_state = method.init(w), base.init(w)
    >>> for _ in range(4):
    ...   (loss, _), grads, state = method.value_and_grad(
    ...     loss_fn, w, state, batch, ids
    ...   )
    ...   print(f'Objective: {loss:.2f}')
    ...   updates, base_state = base.update(grads, base_state)
    ...   w = optax.apply_updates(w, updates)
    Objective: 0.69
    Objective: 0.54
    Objective: 0.46
    Objective: 0.42

  References:
    Du et al., `Sharpness-Aware Training for Free
    <https://arxiv.org/abs/2205.14083>`_, 2022, equation 8 and the released
    code.
  """
  if num_examples is None or num_classes is None:
    raise ValueError(
      f'Given num_examples={num_examples}, num_classes={num_classes}. SAF '
      'keeps the logits of every example of the training set. Pass both '
      'sizes: saf(num_examples=50_000, num_classes=10).'
    )
  for name, size in (
    ('num_examples', num_examples),
    ('num_classes', num_classes),
    ('epochs_ago', epochs_ago),
  ):
    _check.number(
      name, size, 1, static=True, why='it sizes a table', whole=True
    )
  weighing = Weighing(lam, tau, start_epoch, stop_epoch)
  weighing.check()
  if steps_per_epoch is not None:
    _check.number('steps_per_epoch', steps_per_epoch, 1, why='it is a length')

  def on_devices(collectives):
    # `identity`, which also counts the ids outside of the bank.
    method = sharpness_aware(
      ascent.gradient(0.0),
      cadence.never(),
      selection=_base.Selection(optax.EmptyState, num_examples=num_examples),
    ).for_collectives(collectives)

    def init(params):
      shape = (num_examples, epochs_ago + 1, num_classes)
      return SafState(method.init(params), jnp.zeros(shape, jnp.float32))

    def value_and_grad(
      loss_fn,
      params,
      state,
      batch,
      example_ids=None,
      **options,
    ):
      if example_ids is None:
        raise ValueError(
          "Given no example_ids. SAF reads each example's earlier logits. Call "
          f'{CALL}.'
        )
      example_ids = _given.example_ids(example_ids, num_examples)
      batch_size = example_ids.shape[0] * _collectives.count(collectives)
      step, per_epoch = state.method.step, steps_per_epoch
      if per_epoch is None:
        per_epoch = max(1, num_examples // batch_size)
      epoch = step // _base.value_at(per_epoch, step, step.dtype)
      write, read = slots(epoch, epochs_ago)
      weight, temperature = weighing.at(step, epoch)
      rows = state.bank.at[example_ids, read]
      earlier = rows.get(mode='fill', fill_value=0)

      def with_divergence(params, batch):
        losses, aux = _given.losses_and_aux(
          loss_fn(params, batch), example_ids.shape[0]
        )
        logits = logits_of(aux, losses.shape[0])
        _check_logits(logits, earlier)
        return add(
          losses, weight, divergence(logits, earlier, temperature)
        ), aux

      value, grads, method_state = method.value_and_grad(
        with_divergence,
        params,
        state.method,
        batch,
        example_ids,
        **options,
      )
      ids, logits = _collectives.gather(
        collectives, (example_ids, logits_of(value[1]).astype(jnp.float32))
      )
      # Logits that are not finite would come back some epochs later.
      finite = jnp.all(jnp.isfinite(logits), axis=1)
      rows = state.bank.at[jnp.where(finite, ids, _given.NOWHERE), write]
      bank = rows.set(logits, mode='drop')
      return value, grads, SafState(method_state, bank)

    return as_method(method, init, value_and_grad, on_devices, SafState)

  return on_devices(_collectives.SINGLE_DEVICE)


def _check_logits(logits: jax.Array, earlier: jax.Array) -> None:
  """Raises ValueError unless they fit the rows of the bank."""
  if logits.shape != earlier.shape:
    raise ValueError(
      f'Given logits of shape {logits.shape}, where the recorded ones are '
      f'{earlier.shape}: [batch, num_classes]. The divergence is between the '
      'two. Build saf() with the num_classes of the network, and return one '
      "row of logits for each example: {'logits': logits}."
    )
