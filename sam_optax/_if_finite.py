"""A method that steps over gradients that are not finite: `if_finite`."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from sam_optax import _base, _tree
from sam_optax._core import SharpnessAware


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
    finite = _is_finite(direction)
    return _nan_if_any(direction), IfFiniteState(
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

  inner: Any = method

  def first_pass(loss_fn, *arguments):
    return inner.first_pass(_watched_loss(loss_fn), *arguments)

  def start_epoch(state):
    after, weights = inner.start_epoch(state.method)
    return state._replace(method=after), weights

  return SharpnessAware(
    init,
    update,
    value_and_grad,
    decide,
    None,
    first_pass if method.first_pass else None,
    start_epoch if method.start_epoch else None,
    method.reads_logits,
    method.is_optimizer,
  )


def _is_finite(tree: _base.PyTree) -> jax.Array:
  """Whether every entry is."""
  leaves = [jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]
  return jnp.all(jnp.asarray(leaves, jnp.bool_))


def _nan_if_any(gradient: _base.PyTree) -> _base.PyTree:
  """NaN everywhere where any entry is not finite, so that no mask hides it.

  A leaf that the ascent leaves alone would reach the state and nothing else.
  """
  finite = _is_finite(gradient)
  return jax.tree.map(lambda x: jnp.where(finite, x, jnp.nan), gradient)


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
