r"""SAF and MESA: no second gradient, another loss.

Both add to the loss the divergence between the network's outputs and earlier
ones on the same examples: :math:`\lambda \tau^2` times the mean of
:math:`KL(\text{softmax}(\bar z / \tau) \| \text{softmax}(z / \tau))`, with
:math:`\bar z` the earlier logits, which no gradient flows into.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from sam_optax import _base, _check, _devices, _tree
from sam_optax._alias.where import base
from sam_optax._core import SharpnessAware

_CALL = (
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


class SafState(NamedTuple):
  """State of `saf`.

  Attributes:
    method: state of the base row inside.
    bank: float32 [num_examples, epochs_ago + 1, classes], logits by example
      and epoch.
  """

  method: Any  # a SharpnessAwareState
  bank: jax.Array


class MesaState(NamedTuple):
  """State of `mesa`.

  Attributes:
    method: state of the base row inside.
    average: moving average of the params, in float32 or wider: 1 - decay is
      lost in anything narrower.
  """

  method: Any  # a SharpnessAwareState
  average: _base.PyTree


def slots(epoch: Any, epochs_ago: int) -> tuple[Any, Any]:
  """The slots of the bank that an epoch writes to and reads from."""
  size = epochs_ago + 1
  return epoch % size, (epoch - epochs_ago) % size


def saf(
  num_examples: int | None = None,
  num_classes: int | None = None,
  lam: float = 0.3,
  tau: float = 5.0,
  epochs_ago: int = 3,
  start_epoch: int = 5,
  stop_epoch: int | None = None,
) -> SharpnessAware:
  r"""Sharpness-aware training for free: against the logits of epochs ago.

  .. math::
    L + \lambda \tau^2\, \text{mean}_i\,
    KL(\text{softmax}(\bar z_i / \tau) \| \text{softmax}(z_i / \tau))

  with :math:`\bar z_i` the logits of example i recorded `epochs_ago` epochs
  before, in training mode and augmented. Active in the epochs strictly between
  start_epoch and stop_epoch, of num_examples // batch steps each.

  One gradient per step. At lam = 0 it is the base optimizer.

  Needs `example_ids` and `aux['logits']`, float [batch, num_classes].

  Args:
    num_examples: size of the training set; every example id is below it.
    num_classes: number of logits.
    lam: :math:`\lambda`, at least 0 (the paper, section 4.1).
    tau: temperature, above 0 (the paper: 5).
    epochs_ago: at least 1 (the paper: 3; the ImageNet script: 2).
    start_epoch: see above (the paper: 5).
    stop_epoch: see above; None for no end.

  Returns:
    A `SharpnessAware` transformation.

  Raises:
    ValueError: if a size is missing or a number is out of its range.

  Example:
    >>> import jax.numpy as jnp, sam_optax
    >>> method = sam_optax.saf(num_examples=4, num_classes=2, start_epoch=0)
    >>> def loss_fn(w, x):
    ...   logits = jnp.outer(x, w)
    ...   return jnp.sum(logits**2, axis=-1), {'logits': logits}
    >>> w, x = jnp.array([1.0, 2.0]), jnp.arange(4.0)
    >>> (loss, aux), grads, state = method.value_and_grad(
    ...   loss_fn, w, method.init(w), x, jnp.arange(4)
    ... )

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
  _check.number('num_examples', num_examples, 1, why='it is a size')
  _check.number('num_classes', num_classes, 1, why='it is a size')
  _check.number('epochs_ago', epochs_ago, 1, why='it is a number of epochs')
  _check_loss(lam, tau, start_epoch, stop_epoch)
  method = base()

  def init(params):
    shape = (num_examples, epochs_ago + 1, num_classes)
    return SafState(method.init(params), jnp.zeros(shape, jnp.float32))

  def value_and_grad(
    loss_fn,
    params,
    state,
    batch,
    example_ids=None,
    *,
    across=_devices.ONE,
    **options,
  ):
    if example_ids is None:
      raise ValueError(
        "Given no example_ids. SAF reads each example's earlier logits. Call "
        f'{_CALL}.'
      )
    batch_size = example_ids.shape[0] * _devices.count(across)
    per_epoch = max(1, num_examples // batch_size)
    epoch = state.method.step // per_epoch
    write, read = slots(epoch, epochs_ago)
    weight = _weight(lam, tau, epoch, start_epoch, stop_epoch)
    earlier = state.bank[example_ids, read]

    def with_divergence(params, batch):
      losses, aux = loss_fn(params, batch)
      logits = _logits(aux)
      return _add(losses, weight, divergence(logits, earlier, tau)), aux

    value, grads, method_state = method.value_and_grad(
      with_divergence,
      params,
      state.method,
      batch,
      example_ids,
      across=across,
      **options,
    )
    ids, logits = _devices.gather(
      across, (example_ids, _logits(value[1]).astype(jnp.float32))
    )
    bank = state.bank.at[ids, write].set(logits, mode='drop')
    return value, grads, SafState(method_state, bank)

  return _method(method, init, value_and_grad)


def mesa(
  lam: float = 0.8,
  tau: float = 5.0,
  decay: float = 0.9998,
  start_epoch: int = 5,
  stop_epoch: int | None = None,
  steps_per_epoch: int | None = None,
  teacher: Callable[[_base.PyTree, Any], jax.Array] | None = None,
) -> SharpnessAware:
  r"""Memory-efficient SAF: against the outputs of averaged weights.

  .. math::
    L + \lambda \tau^2\, \text{mean}_i\,
    KL(\text{softmax}(f(v, x_i) / \tau) \| \text{softmax}(z_i / \tau)), \quad
    v \leftarrow \beta v + (1 - \beta) w

  with v = w at first, moved after every update. Active in the epochs strictly
  between start_epoch and stop_epoch.

  One gradient and one forward pass per step, one copy of the parameters. At
  lam = 0 it is the base optimizer.

  Needs `batch` and `aux['logits']`, float [batch, classes].

  Args:
    lam: :math:`\lambda`, at least 0 (the paper, section 4.1).
    tau: temperature, above 0 (the paper: 5).
    decay: :math:`\beta` in [0, 1] (the released code; the paper: above 0.9).
    start_epoch: see above (the paper: 5).
    stop_epoch: see above; None for no end.
    steps_per_epoch: steps in an epoch; None where an epoch is a step.
    teacher: (params, batch) -> logits of the averaged weights, for a network
      in evaluation mode (the released code); `loss_fn`'s own by default.

  Returns:
    A `SharpnessAware` transformation.

  Raises:
    ValueError: if a number is out of its range.

  Example:
    >>> import jax.numpy as jnp, sam_optax
    >>> method = sam_optax.mesa(start_epoch=0)
    >>> def loss_fn(w, x):
    ...   logits = jnp.outer(x, w)
    ...   return jnp.sum(logits**2, axis=-1), {'logits': logits}
    >>> w, x = jnp.array([1.0, 2.0]), jnp.arange(4.0)
    >>> (loss, aux), grads, state = method.value_and_grad(
    ...   loss_fn, w, method.init(w), x
    ... )

  References:
    Du et al., `Sharpness-Aware Training for Free
    <https://arxiv.org/abs/2205.14083>`_, 2022, equations 9 and 12 and the
    released code.
  """
  _check_loss(lam, tau, start_epoch, stop_epoch)
  _check.number('decay', decay, 0, 1, why='decay weighs a moving average')
  if steps_per_epoch is not None:
    _check.number('steps_per_epoch', steps_per_epoch, 1, why='it is a length')
  method = base()

  def init(params):
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
    across=_devices.ONE,
    **options,
  ):
    batch = batch if prepare is None else prepare(batch)
    change = _tree.subtract(params, state.average)
    average = _tree.add(state.average, _tree.scale(1 - decay, change))
    average = _tree.cast_like(average, state.average)
    averaged = _tree.cast_like(average, params)
    per_epoch = 1 if steps_per_epoch is None else steps_per_epoch
    epoch = state.method.step // per_epoch
    weight = _weight(lam, tau, epoch, start_epoch, stop_epoch)

    def forward():
      if teacher is not None:
        logits = teacher(averaged, batch)
      else:
        logits = _logits(loss_fn(averaged, batch)[1])
      return _devices.vary(across, logits)

    shape = jax.eval_shape(forward)
    # The forward pass is not paid for while its weight is 0.
    earlier = jax.lax.cond(
      weight > 0,
      forward,
      lambda: _devices.vary(across, jnp.zeros(shape.shape, shape.dtype)),
    )

    def with_divergence(params, batch):
      losses, aux = loss_fn(params, batch)
      added = divergence(_logits(aux), earlier, tau)
      return _add(losses, weight, added), aux

    value, grads, method_state = method.value_and_grad(
      with_divergence,
      params,
      state.method,
      batch,
      example_ids,
      across=across,
      **options,
    )
    return value, grads, MesaState(method_state, average)

  return _method(method, init, value_and_grad)


def _check_loss(
  lam: float, tau: float, start_epoch: int, stop_epoch: int | None
) -> None:
  _check.number('lam', lam, why='lam weighs a divergence')
  _check.number('tau', tau, 0, above=True, why='tau is a temperature')
  _check.number('start_epoch', start_epoch, why='epochs count from 0')
  if stop_epoch is not None:
    _check.number('stop_epoch', stop_epoch, why='epochs count from 0')


def _weight(lam, tau, epoch, start_epoch, stop_epoch) -> jax.Array:
  """The weight of the divergence at an epoch."""
  active = epoch > start_epoch
  if stop_epoch is not None:
    active &= epoch < stop_epoch
  return jnp.where(active, jnp.asarray(lam * tau**2, jnp.float32), 0)


def _add(losses: jax.Array, weight: jax.Array, kl: jax.Array) -> jax.Array:
  losses = _tree.promote(losses)
  return losses + weight.astype(losses.dtype) * kl.astype(losses.dtype)


def _logits(aux: Any) -> jax.Array:
  if not isinstance(aux, dict) or 'logits' not in aux:
    raise ValueError(
      "Given a loss_fn whose aux has no 'logits'. The divergence is between "
      f'logits. Call {_CALL}.'
    )
  return aux['logits']


def _method(
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
        f'{_CALL}.'
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
