"""A method that skips steps whose gradients are not finite: `if_finite`."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from sam_optax import _base, _check_chain, _given, _tree
from sam_optax._method import SharpnessAware


class IfFiniteState(NamedTuple):
  """State of a method that skips steps whose gradients are not finite.

  Attributes:
    method: state of the method inside.
    finite: bool, whether the last step was taken.
    skipped: int32, steps skipped so far.
  """

  method: _base.State
  finite: jax.Array
  skipped: jax.Array


def if_finite(method: SharpnessAware) -> SharpnessAware:
  """Skips the step when either gradient is not finite.

  The state of the method is then unchanged, so the next step draws and decides
  as this one would have, and the direction is NaN. Put the base optimizer
  inside `optax.apply_if_finite`: it leaves the parameters and its own state
  alone on such a step. (`optax.apply_if_finite` around both would see the first
  gradient only.)

  `value_and_grad` returns the loss and aux of the skipped step. Keep the old
  BatchNorm statistics where `state.finite` is False.

  Args:
    method: a method, from `sharpness_aware`, an alias or `parallel`.

  Returns:
    A `SharpnessAware`. Its `plan` is None: which step comes next depends on
    the gradients.

  Example:
    >>> import jax, jax.numpy as jnp, optax, sam_optax
    >>> tx = optax.chain(
    ...   sam_optax.if_finite(sam_optax.fsam(rho=0.1)),
    ...   optax.apply_if_finite(optax.sgd(0.1, momentum=0.9), 100),
    ... )
    >>> grad_fn = jax.grad(lambda w: jnp.sum(w**4))
    >>> w, too_large = jnp.ones(3), jnp.full(3, 1e20)
    >>> state = tx.init(w)
    >>> updates, state = tx.update(grad_fn(w), state, w, grad_fn=grad_fn)
    >>> updates, state = tx.update(
    ...   grad_fn(too_large), state, w, grad_fn=grad_fn
    ... )
    >>> updates.tolist(), int(optax.tree.get(state, 'skipped'))
    ([0.0, 0.0, 0.0], 1)
  """
  if not isinstance(method, SharpnessAware):
    raise ValueError(
      f'Given a {type(method).__name__}. Only the method itself can see both '
      'of its gradients. Wrap it and chain the rest after it: optax.chain('
      'sam_optax.if_finite(sam_optax.sam()), optax.apply_if_finite('
      'optax.sgd(0.1), 100)).'
    )

  def init(params):
    return IfFiniteState(
      method.init(params), jnp.ones([], jnp.bool_), jnp.zeros([], jnp.int32)
    )

  def judged(direction, new, old):
    # A direction may be finite, and an average of gradients not.
    finite = _tree.is_finite(direction) & ~_has_nan(new)
    return _nan_unless(finite, direction), IfFiniteState(
      optax.tree.where(finite, new, old.method),
      finite,
      jnp.where(finite, old.skipped, optax.safe_increment(old.skipped)),
    )

  def update(updates, state, params=None, **extra_args) -> Any:
    probe = extra_args.get('grad_fn')
    if isinstance(probe, _check_chain.Probe):
      return probe.answer(updates), state
    state = _given.state(state, IfFiniteState)
    if params is not None:  # else the method says that it needs them
      params = _given.params(params)
      updates = _nan_if_any(_given.gradient('`updates`', updates, params))
    direction, new = method.update(
      updates, state.method, params, **_watched(extra_args)
    )
    return judged(direction, new, state)

  def value_and_grad(loss_fn, params, state, *arguments, **options):
    state = _given.state(state, IfFiniteState)
    value, direction, new = method.value_and_grad(
      _watched_loss(loss_fn),
      params,
      state.method,
      *arguments,
      **_watched(options),
    )
    return value, *judged(direction, new, state)

  def decide(state, *arguments, **options):
    state = _given.state(state, IfFiniteState)
    return method.decide(state.method, *arguments, **options)

  def first_pass(loss_fn, params, batch, inner: Any = method.first_pass):
    return inner(_watched_loss(loss_fn), params, batch)

  def start_epoch(state, inner: Any = method.start_epoch):
    method_state, weights = inner(state.method)
    return state._replace(method=method_state), weights

  def perturbed_params(grad_fn, params, state, *arguments, **options):
    state = _given.state(state, IfFiniteState)
    return method.perturbed_params(
      grad_fn, params, state.method, *arguments, **options
    )

  return method._replace(  # pyright: ignore[reportPrivateUsage]
    init=init,
    update=update,
    value_and_grad=value_and_grad,
    decide=decide,
    perturbed_params=perturbed_params,
    plan=None,
    first_pass=method.first_pass and first_pass,
    start_epoch=method.start_epoch and start_epoch,
    for_collectives=lambda collectives: if_finite(
      method.for_collectives(collectives)
    ),
  )


def _has_nan(state: _base.State) -> jax.Array:
  """Whether any number is NaN; a norm may read infinite."""
  numbers = [
    leaf
    for leaf in jax.tree.leaves(state)
    if jnp.issubdtype(leaf.dtype, jnp.inexact)
  ]
  return jnp.any(
    jnp.asarray([jnp.any(jnp.isnan(leaf)) for leaf in numbers], jnp.bool_)
  )


def _nan_if_any(gradient: _base.PyTree) -> _base.PyTree:
  """NaN everywhere where any entry is not finite, so that no mask hides it.

  A leaf that the ascent leaves alone would reach the state and nothing else.
  """
  return _nan_unless(_tree.is_finite(gradient), gradient)


def _nan_unless(finite: jax.Array, tree: _base.PyTree) -> _base.PyTree:
  return jax.tree.map(lambda x: jnp.where(finite, x, jnp.nan), tree)


@jax.custom_vjp
def _watch(params):
  return params


_watch.defvjp(lambda params: (params, None), lambda _, g: (_nan_if_any(g),))


def _watched_loss(loss_fn):
  _given.function('loss_fn', loss_fn, _given.LOSS_FN)
  return lambda params, batch: loss_fn(_watch(params), batch)


def _watched_gradient(name, grad_fn, at):
  gradient = _given.gradient(f'a gradient by {name}', grad_fn(at), at)
  return _nan_if_any(gradient)


def _watched(options: dict[str, Any]) -> dict[str, Any]:
  """The keywords of a call, with every gradient in them NaN if any is."""
  watched = dict(options)
  for name in ('grad_fn', 'reference_grad_fn'):
    # The method refuses what it cannot call.
    if callable(options.get(name)):
      watched[name] = functools.partial(_watched_gradient, name, options[name])
  if options.get('loss_fn') is not None:
    watched['loss_fn'] = _watched_loss(options['loss_fn'])
  return watched
