"""A method followed by transformations that refuse unknown keywords."""

from typing import Any

import optax

from sam_optax import _base
from sam_optax._method import SharpnessAware

# The keywords that a method's `update` takes for itself.
_OWN = frozenset(
  {
    'grad_fn',
    'loss_fn',
    'batch',
    'example_ids',
    'reference_grad_fn',
    'perturb',
    'full_batch',
  }
)


def chain(
  method: optax.GradientTransformation,
  *others: optax.GradientTransformation,
) -> optax.GradientTransformationExtraArgs:
  """`optax.chain` that keeps the method's own keywords from the others.

  `optax.chain` hands every keyword to every member, and Optax's line searches
  (`optax.lbfgs` has one) raise on those that their value_fn does not take. So
  with one of them after the method, chain with this function; with any other
  base optimizer the two are the same. The keywords kept back are grad_fn,
  loss_fn, batch, example_ids, reference_grad_fn, perturb and full_batch: let a
  value_fn that needs the batch close over it, as grad_fn does.

  The state is that of `optax.chain`, so a checkpoint of one restores into the
  other.

  Args:
    method: what takes the keywords: a method, or a wrapper of one such as
      `optax.apply_if_finite(method)`.
    *others: what follows it; they get all other keywords (value=, ...).

  Returns:
    A transformation that takes the keywords of all its members.

  Raises:
    ValueError: if a method is not first.

  Example:
    >>> import jax, jax.numpy as jnp, optax, sam_optax
    >>> params = jnp.array([1.0, -2.0])
    >>> loss = lambda w: jnp.sum(w**4) / 4
    >>> tx = sam_optax.chain(
    ...   sam_optax.sam(rho=0.05),
    ...   optax.sgd(1.0),
    ...   optax.scale_by_backtracking_linesearch(max_backtracking_steps=15),
    ... )
    >>> state = tx.init(params)
    >>> value, grads = jax.value_and_grad(loss)(params)
    >>> updates, state = tx.update(
    ...   grads,
    ...   state,
    ...   params,
    ...   grad_fn=jax.grad(loss),
    ...   value=value,
    ...   grad=grads,
    ...   value_fn=loss,
    ... )
    >>> bool(loss(optax.apply_updates(params, updates)) < value)
    True
  """
  if any(isinstance(other, SharpnessAware) for other in others):
    raise ValueError(
      'Given a method that is not first. What stands before it would change '
      'the first gradient and not the second. Call sam_optax.chain(method, '
      '*others), with a single method and its base optimizer after it.'
    )
  return optax.chain(method, *map(_without_own, others))


def _without_own(
  member: optax.GradientTransformation,
) -> optax.GradientTransformationExtraArgs:
  """`member`, without the keywords of the method."""
  member = optax.with_extra_args_support(member)

  def update(
    updates: _base.PyTree,
    state: _base.State,
    params: _base.PyTree = None,
    **extra_args: Any,
  ) -> tuple[_base.PyTree, _base.State]:
    others_args = {k: v for k, v in extra_args.items() if k not in _OWN}
    return member.update(updates, state, params, **others_args)

  return optax.GradientTransformationExtraArgs(member.init, update)
