"""What SAF and MESA share: a divergence that is added to the loss."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from sam_optax import _base, _check, _tree
from sam_optax._core import SharpnessAware

CALL = (
  'method.value_and_grad(loss_fn, params, state, batch, example_ids), with '
  "loss_fn(params, batch) -> (losses of shape [batch], {'logits': logits, ...})"
)


def divergence(logits: jax.Array, earlier: jax.Array, tau: float) -> jax.Array:
  """KL(softmax(earlier / tau) || softmax(logits / tau)) of each example.

  Args:
    logits: float [batch, classes].
    earlier: float [batch, classes]; no gradient flows into it.
    tau: temperature, above 0.

  Returns:
    float32 or wider [batch], in nats.
  """
  dtype = _tree.wide(logits.dtype)
  logits = logits.astype(dtype)
  earlier = jax.lax.stop_gradient(earlier).astype(dtype)
  target = jax.nn.log_softmax(earlier / tau)
  difference = target - jax.nn.log_softmax(logits / tau)
  return jnp.sum(jnp.exp(target) * difference, axis=-1)


def check_loss(
  lam: float, tau: float, start_epoch: int, stop_epoch: int | None
) -> None:
  """Refuses what both methods refuse."""
  _check.number('lam', lam, why='lam weighs a divergence')
  _check.number('tau', tau, 0, above=True, why='tau is a temperature')
  _check.number('start_epoch', start_epoch, why='epochs count from 0')
  if stop_epoch is not None:
    _check.number('stop_epoch', stop_epoch, why='epochs count from 0')


def weight_at(lam, tau, epoch, start_epoch, stop_epoch) -> jax.Array:
  """The weight of the divergence at an epoch."""
  active = epoch > start_epoch
  if stop_epoch is not None:
    active &= epoch < stop_epoch
  return jnp.where(active, jnp.asarray(lam * tau**2, jnp.float32), 0)


def add(losses: jax.Array, weight: jax.Array, kl: jax.Array) -> jax.Array:
  """The losses and their weighted divergence, in the wider dtype."""
  losses = _tree.promote(losses)
  return losses + weight.astype(losses.dtype) * kl.astype(losses.dtype)


def logits_of(aux: Any) -> jax.Array:
  """The logits in what a loss function returns beside its losses."""
  if not isinstance(aux, dict) or 'logits' not in aux:
    raise ValueError(
      "Given a loss_fn whose aux has no 'logits'. The divergence is between "
      f'logits. Call {CALL}.'
    )
  return aux['logits']


def as_method(
  method: SharpnessAware,
  init: Callable[[_base.PyTree], Any],
  value_and_grad: Callable[..., Any],
) -> SharpnessAware:
  """The face of the other methods."""

  def update(updates, state, params=None, **extra_args) -> Any:
    names = ('loss_fn', 'batch', 'example_ids')
    options = {k: v for k, v in extra_args.items() if k == 'across'}
    given = {name: extra_args.get(name) for name in names}
    if params is None or given['loss_fn'] is None or given['batch'] is None:
      raise ValueError(
        'Given no params, loss_fn or batch. This method trains on another '
        'loss, which grad_fn does not show. Pass all three, or call '
        f'{CALL}.'
      )
    _check.not_masked(params)
    _, grads, state = value_and_grad(
      given['loss_fn'],
      params,
      state,
      given['batch'],
      given['example_ids'],
      **options,
    )
    return _tree.cast_like(grads, updates), state

  def decide(state, *arguments):
    return method.decide(state.method, *arguments)

  return SharpnessAware(init, update, value_and_grad, decide, reads_logits=True)
