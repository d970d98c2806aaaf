"""A method that steps over gradients that are not finite: `if_finite`."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from sam_optax import _base, _tree
from sam_optax._method import SharpnessAware


class IfFiniteState(NamedTuple):
  """State of a method that steps over gradients that are not finite.

  Attributes:
    method: state of the method inside.
    finite: bool, whether the last step was taken.
    skipped: int32, steps so far that were not.
  """

  method: Any
  finite: jax.Array
  skipped: jax.Array


def if_finite(method: SharpnessAware) -> SharpnessAware:
  """A method whose state no NaN or infinity enters, from whichever pass.

  Where any entry of a gradient is not finite, in the first pass or in the
  second, the direction comes out NaN, and the method's state stays as it was:
  the next step draws and decides as this one would have. The base optimizer
  after it leaves parameters and its own state alone if it is inside
  `optax.apply_if_finite`. (That wrapper around both would see the first
  gradient alone.)

  At the evaluation door the loss and aux are those of the step that was
  skipped; keep BatchNorm's old statistics where `state.finite` is False.

  Args:
    method: what `sharpness_aware`, an alias or `parallel` returns.

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

  def init(params):
    return IfFiniteState(
      method.init(params), jnp.ones([], jnp.bool_), jnp.zeros([], jnp.int32)
    )

  def judged(direction, new, old):
    # A direction may be finite, and an average of gradients not.
    finite = _is_finite(direction) & ~_has_nan(new)
    return _nan_unless(finite, direction), IfFiniteState(
      _tree.where(finite, new, old.method),
      finite,
      jnp.where(finite, old.skipped, _tree.increment(old.skipped)),
    )

  def update(updates, state, params=None, **extra_args) -> Any:
    direction, new = method.update(
      _nan_if_any(updates), state.method, params, **_watched(extra_args)
    )
    return judged(direction, new, state)

  def value_and_grad(loss_fn, params, state, *arguments, **options):
    value, direction, new = method.value_and_grad(
      _watched_loss(loss_fn),
      params,
      state.method,
      *arguments,
      **_watched(options),
    )
    return value, *judged(direction, new, state)

  def decide(state, *arguments):
    return method.decide(state.method, *arguments)

  return SharpnessAware(
    init,
    update,
    value_and_grad,
    decide,
    None,
    method.first_pass and _watched_first_pass(method.first_pass),
    method.start_epoch and _inside(method.start_epoch),
    method.reads_logits,
    method.is_optimizer,
  )


def _watched_first_pass(first_pass: Callable[..., Any]) -> Callable[..., Any]:
  return lambda loss_fn, *arguments: first_pass(
    _watched_loss(loss_fn), *arguments
  )


def _inside(start_epoch: Callable[..., Any]) -> Callable[..., Any]:
  def start(state):
    inner, weights = start_epoch(state.method)
    return state._replace(method=inner), weights

  return start


def _is_finite(tree: _base.PyTree) -> jax.Array:
  """Whether every entry is."""
  leaves = [jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]
  return jnp.all(jnp.asarray(leaves, jnp.bool_))


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
  return _nan_unless(_is_finite(gradient), gradient)


def _nan_unless(finite: jax.Array, tree: _base.PyTree) -> _base.PyTree:
  return jax.tree.map(lambda x: jnp.where(finite, x, jnp.nan), tree)


@jax.custom_vjp
def _watch(params):
  return params


_watch.defvjp(lambda params: (params, None), lambda _, g: (_nan_if_any(g),))


def _watched_loss(loss_fn):
  return lambda params, batch: loss_fn(_watch(params), batch)


def _watched(options: dict[str, Any]) -> dict[str, Any]:
  """The keywords of a call, with every gradient in them NaN if any is."""
  watched = dict(options)
  for name in ('grad_fn', 'reference_grad_fn'):
    if options.get(name) is not None:
      watched[name] = lambda at, f=options[name]: _nan_if_any(f(at))
  if options.get('loss_fn') is not None:
    watched['loss_fn'] = _watched_loss(options['loss_fn'])
  return watched
