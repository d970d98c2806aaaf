"""MESA: the divergence from the logits of averaged parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from sam_optax import _base, _check, _collectives, _given, _tree
from sam_optax._alias.cadence.plain import identity
from sam_optax._method import SharpnessAware
from sam_optax.trajectory._loss import (
  Weighing,
  add,
  as_method,
  divergence,
  logits_of,
)


class MesaState(NamedTuple):
  """State of `mesa`.

  Attributes:
    method: state of `identity` inside.
    average: moving average of the params, in float32 or wider: 1 - decay is
      lost in anything narrower.
  """

  method: _base.State  # a SharpnessAwareState
  average: _base.PyTree


def mesa(
  lam: _base.ScalarOrSchedule = 0.8,
  tau: _base.ScalarOrSchedule = 5.0,
  decay: _base.ScalarOrSchedule = 0.9998,
  start_epoch: _base.ScalarOrSchedule = 5,
  stop_epoch: _base.ScalarOrSchedule | None = None,
  steps_per_epoch: _base.ScalarOrSchedule | None = None,
  teacher: Callable[[_base.PyTree, _base.PyTree], jax.Array] | None = None,
) -> SharpnessAware:
  r"""Memory-efficient SAF: stays close to the outputs of averaged parameters.

  .. math::
    L + \lambda \tau^2\, \text{mean}_i\,
    KL(\text{softmax}(f(v, x_i) / \tau) \| \text{softmax}(z_i / \tau)), \quad
    v \leftarrow \beta v + (1 - \beta) w

  where :math:`z_i` are the logits of example i. The average v starts as the
  parameters and moves after every update. The second term is active in epochs e
  with start_epoch < e < stop_epoch, counted from 0. With lam = 0 it is the base
  optimizer.

  Costs one gradient and one forward pass per step. The state holds one copy of
  the parameters.

  Needs `loss_fn` and `batch`, in `update` as in `value_and_grad`. The aux
  output of `loss_fn` must be a dict with 'logits', a float array [batch,
  num_classes].

  Parts: `identity`, on the loss above.

  Args:
    lam: :math:`\lambda`, at least 0 (the paper, section 4.1: 0.8).
    tau: temperature, above 0 (the paper: 5).
    decay: :math:`\beta` in [0, 1] (the released code: 0.9998; the paper: above
      0.9).
    start_epoch: the second term is active after this epoch, at least 0 (the
      paper: 5).
    stop_epoch: the second term is active before this epoch, at least 0; None
      for no end.
    steps_per_epoch: steps in an epoch, at least 1; None if every step is an
      epoch.
    teacher: function (params, batch) -> logits for the averaged parameters,
      such as a network in evaluation mode, as in the released code. The default
      takes the logits of `loss_fn`.

  Returns:
    A `SharpnessAware` transformation.

  Raises:
    ValueError: if a number is out of its range.

  Example:
    >>> import jax.numpy as jnp, optax, sam_optax
    >>> def loss_fn(w, batch):
    ...   logits = jnp.outer(batch['x'], w)
    ...   losses = optax.losses.softmax_cross_entropy_with_integer_labels(
    ...     logits, batch['y']
    ...   )
    ...   return losses, {'logits': logits}
    >>> batch = {'x': jnp.linspace(-1.0, 1.0, 4), 'y': jnp.array([0, 0, 1, 1])}
    >>> method = sam_optax.mesa(start_epoch=0)
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
    Objective: 0.55
    Objective: 0.50
    Objective: 0.48

  References:
    Du et al., `Sharpness-Aware Training for Free
    <https://arxiv.org/abs/2205.14083>`_, 2022, equations 9 and 12 and the
    released code.
  """
  weighing = Weighing(lam, tau, start_epoch, stop_epoch)
  weighing.check()
  _check.number('decay', decay, 0, 1, why='decay weighs a moving average')
  if teacher is not None and not callable(teacher):
    raise ValueError(
      f'Given a teacher of type {type(teacher).__name__}. It is called with '
      'the averaged parameters, which the method keeps itself. Pass a function '
      'teacher(params, batch) -> logits, or None.'
    )
  if steps_per_epoch is not None:
    _check.number('steps_per_epoch', steps_per_epoch, 1, why='it is a length')

  def on_devices(collectives):
    method = identity().for_collectives(collectives)

    def init(params):
      params = _given.params(params)
      average = jax.tree.map(jnp.copy, _tree.promote(params))
      return MesaState(method.init(params), average)

    def value_and_grad(
      loss_fn,
      params,
      state,
      batch,
      example_ids=None,
      *,
      prepare=None,
      **options,
    ):
      batch = batch if prepare is None else prepare(batch)
      change = _tree.subtract(params, state.average)
      step = state.method.step
      weight = 1 - _base.value_at(decay, step)
      average = _tree.add(state.average, _tree.scale(weight, change))
      average = optax.tree.cast_like(average, state.average)
      average = _tree.kept(average, state.average)
      averaged = optax.tree.cast_like(average, params)
      per_epoch = 1 if steps_per_epoch is None else steps_per_epoch
      epoch = step // _base.value_at(per_epoch, step, step.dtype)
      weight, temperature = weighing.at(step, epoch)

      def forward():
        if teacher is not None:
          logits = teacher(averaged, batch)
        else:
          logits = logits_of(loss_fn(averaged, batch)[1])
        return _collectives.vary(collectives, logits)

      shape = jax.eval_shape(forward)
      # The forward pass is not paid for while its weight is 0.
      earlier = jax.lax.cond(
        weight > 0,
        forward,
        lambda: _collectives.vary(
          collectives, jnp.zeros(shape.shape, shape.dtype)
        ),
      )

      def with_divergence(params, batch):
        losses, aux = loss_fn(params, batch)
        logits = logits_of(aux, losses.shape[0])
        if earlier.shape != logits.shape:
          raise ValueError(
            f'Given a teacher whose logits have the shape {earlier.shape}, '
            f'where those of loss_fn have {logits.shape}. The divergence is '
            'between the two. Return the logits of the same examples and '
            'classes: teacher(params, batch) -> float [batch, classes].'
          )
        added = divergence(logits, earlier, temperature)
        return add(losses, weight, added), aux

      value, grads, method_state = method.value_and_grad(
        with_divergence,
        params,
        state.method,
        batch,
        example_ids,
        **options,
      )
      return value, grads, MesaState(method_state, average)

    return as_method(method, init, value_and_grad, on_devices, MesaState)

  return on_devices(_collectives.SINGLE_DEVICE)
