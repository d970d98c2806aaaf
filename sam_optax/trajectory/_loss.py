"""The divergence that SAF and MESA add to the loss, and its weight."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from sam_optax import (
  _base,
  _calls,
  _check,
  _check_chain,
  _collectives,
  _given,
  _tree,
)
from sam_optax._method import SharpnessAware

CALL = (
  'method.value_and_grad(loss_fn, params, state, batch, example_ids), with '
  "loss_fn(params, batch) -> (losses of shape [batch], {'logits': logits, ...})"
)


def divergence(
  logits: jax.Array, earlier: jax.Array, tau: _base.Number
) -> jax.Array:
  """KL(softmax(earlier / tau) || softmax(logits / tau)) of each example.

  Args:
    logits: float [batch, classes].
    earlier: float [batch, classes]; no gradient flows into it.
    tau: temperature, above 0.

  Returns:
    float32 or wider [batch], in nats.
  """
  dtype = _tree.wide(logits.dtype)
  temperature = jnp.asarray(tau, dtype)
  earlier = jax.lax.stop_gradient(earlier).astype(dtype)
  return optax.losses.kl_divergence_with_log_targets(
    jax.nn.log_softmax(logits.astype(dtype) / temperature),
    jax.nn.log_softmax(earlier / temperature),
  )


class Weighing(NamedTuple):
  """The arguments that SAF and MESA share: the weight of the divergence.

  Attributes:
    lam: factor of the divergence, at least 0.
    tau: temperature, above 0.
    start_epoch: the divergence is active after this epoch.
    stop_epoch: the divergence is active before this epoch; None for no end.
  """

  lam: _base.ScalarOrSchedule
  tau: _base.ScalarOrSchedule
  start_epoch: _base.ScalarOrSchedule
  stop_epoch: _base.ScalarOrSchedule | None

  def check(self) -> None:
    """Raises ValueError if a number is out of its range."""
    _check.number('lam', self.lam, why='lam weighs a divergence')
    _check.number('tau', self.tau, 0, above=True, why='tau is a temperature')
    _check.number('start_epoch', self.start_epoch, why='epochs count from 0')
    if self.stop_epoch is not None:
      _check.number('stop_epoch', self.stop_epoch, why='epochs count from 0')
      names = 'start_epoch', 'stop_epoch'
      _check.span(names, self.start_epoch, self.stop_epoch)

  def at(
    self, step: jax.Array, epoch: jax.Array
  ) -> tuple[jax.Array, jax.Array]:
    """The weight and the temperature of the divergence, as scalars."""
    lam = _base.value_at(self.lam, step, jnp.float32)
    tau = _base.value_at(self.tau, step, jnp.float32)
    epoch = epoch.astype(jnp.float32)
    active = epoch > _base.value_at(self.start_epoch, step, jnp.float32)
    if self.stop_epoch is not None:
      active &= epoch < _base.value_at(self.stop_epoch, step, jnp.float32)
    return jnp.where(active, lam * tau**2, 0), tau


def add(losses: jax.Array, weight: jax.Array, kl: jax.Array) -> jax.Array:
  """The losses plus the weighted divergence, in float32 or wider."""
  losses = _tree.promote(losses)
  return losses + weight.astype(losses.dtype) * kl.astype(losses.dtype)


def logits_of(aux: Any, number: int | None = None) -> jax.Array:
  """The logits in the aux output of a loss function.

  Args:
    aux: what it returned.
    number: how many losses it returned, if that is known.

  Raises:
    ValueError: if there are none, or not a row of floats for each example.
  """
  if not isinstance(aux, Mapping) or 'logits' not in aux:
    raise ValueError(
      "Given a loss_fn whose aux has no 'logits'. The divergence is between "
      f'logits. Call {CALL}.'
    )
  logits = jnp.asarray(aux['logits'])
  is_float = jnp.issubdtype(logits.dtype, jnp.floating)
  fits = logits.ndim == 2 and number in (None, logits.shape[0])
  if not is_float or not fits:
    raise ValueError(
      f'Given logits of shape {logits.shape} and dtype {logits.dtype}. The '
      'divergence is between the logits of each example. Return floats of '
      f'shape [batch, classes]: {CALL}.'
    )
  return logits


def as_method(
  method: SharpnessAware,
  init: _base.Init,
  value_and_grad: _calls.ValueAndGrad,
  for_collectives: Callable[[_collectives.Collectives], SharpnessAware],
  kind: type,
) -> SharpnessAware:
  """A `SharpnessAware` from value_and_grad; `decide` is the one of `method`."""
  check_state = _given.make_check_state(init, kind)

  def update(updates, state, params=None, **extra_args) -> Any:
    probe = extra_args.get('grad_fn')
    if isinstance(probe, _check_chain.Probe):
      return probe.answer(updates), state
    names = ('loss_fn', 'batch', 'example_ids')
    given = {name: extra_args.get(name) for name in names}
    if params is None or given['loss_fn'] is None or given['batch'] is None:
      raise ValueError(
        'Given no params, loss_fn or batch. This method adds a term to the '
        'loss, which grad_fn does not contain. Pass all three, or call '
        f'{CALL}.'
      )
    _check.not_masked(params)
    params = _given.params(params)
    updates = _given.gradient('`updates`', updates, params)
    _, grads, state = checked(
      given['loss_fn'],
      params,
      state,
      given['batch'],
      given['example_ids'],
    )
    return optax.tree.cast_like(grads, updates), state

  def checked(loss_fn, params, state, batch, *arguments, **options):
    params = _given.params(params)
    state = check_state(state, params)
    _given.function('loss_fn', loss_fn, _given.LOSS_FN)

    def pair_fn(params, batch):
      return _given.losses_and_aux(loss_fn(params, batch))

    return value_and_grad(pair_fn, params, state, batch, *arguments, **options)

  def decide(state, *arguments, **options):
    _given.state(state, kind)
    return method.decide(state.method, *arguments, **options)

  def perturbed_params(grad_fn, params, state, *arguments, **options):
    _given.state(state, kind)
    return method.perturbed_params(
      grad_fn, params, state.method, *arguments, **options
    )

  return method._replace(  # pyright: ignore[reportPrivateUsage]
    init=init,
    update=update,
    value_and_grad=checked,
    decide=decide,
    perturbed_params=perturbed_params,
    for_collectives=for_collectives,
    reads_logits=True,
  )
