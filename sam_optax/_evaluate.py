"""Evaluations of a step: the loss, its gradient and its auxiliary outputs."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from sam_optax import _base, _collectives, _given, _tree


class Evaluation(NamedTuple):
  """The result of one evaluation of the gradient.

  Attributes:
    gradient: shaped as the params.
    losses: [batch], the loss of each example; None where only a gradient is
      known.
    loss: scalar, the mean of the losses over all devices.
    aux: the auxiliary outputs of the loss function, of one device.
  """

  gradient: _base.PyTree
  losses: Any = None
  loss: Any = None
  aux: Any = None


class Evaluator(NamedTuple):
  """The evaluations that a step may make, on its examples.

  Gradients come in float32 or wider, and averaged over devices unless each
  device perturbs along its own.

  Attributes:
    clean: point -> Evaluation.
    perturbed: (point, clean evaluation) -> Evaluation. Its losses are of every
      example, its gradient of the examples that the selection keeps.
    reference: point -> gradient on other data; None if the caller gave none.
  """

  clean: Callable[[_base.PyTree], Evaluation]
  perturbed: Callable[[_base.PyTree, Evaluation], Evaluation]
  reference: Callable[[_base.PyTree], _base.PyTree] | None


def from_grad_fn(
  grad_fn: _base.GradFn,
  reference_grad_fn: _base.GradFn | None,
  collectives: _collectives.Collectives,
) -> Evaluator:
  """The evaluations of a gradient function; no losses are known."""
  _given.function('grad_fn', grad_fn, 'jax.grad(lambda p: loss(p, batch))')

  def clean(point):
    gradient = grad_fn(_collectives.vary(collectives, point))
    gradient = _given.gradient('a gradient by grad_fn', gradient, point)
    return averaged(Evaluation(gradient), collectives)

  return Evaluator(
    clean,
    lambda point, evaluation: clean(point),
    _averaged_gradient(reference_grad_fn, collectives),
  )


def from_loss_fn(
  loss_fn: _base.LossFn,
  examples: _base.PyTree,
  weights: jax.Array | None,
  reference_grad_fn: _base.GradFn | None,
  between: Callable[[jax.Array, jax.Array], jax.Array] | None,
  collectives: _collectives.Collectives,
  number: int | None = None,
) -> Evaluator:
  """The evaluations of a loss function on a step's examples.

  Args:
    loss_fn: (params, batch) -> (losses of shape [batch], aux).
    examples: the batch of this device.
    weights: [batch], what each loss is multiplied by; None for 1.
    reference_grad_fn: params -> gradient on other data, if there is one.
    between: see `Selection.between`.
    collectives: the devices that take part.
    number: the number of examples, where each must have a loss.
  """
  _given.function('loss_fn', loss_fn, _given.LOSS_FN)

  def evaluate(point, examples, weights, number=number):
    def objective(point):
      losses, aux = _given.losses_and_aux(loss_fn(point, examples), number)
      weighted = _tree.promote(losses)
      if weights is not None:
        weighted = weights.astype(weighted.dtype) * weighted
      return jnp.mean(weighted), (losses, aux)

    own_point = _collectives.vary(collectives, point)
    (loss, (losses, aux)), gradient = jax.value_and_grad(
      objective, has_aux=True
    )(own_point)
    return averaged(Evaluation(gradient, losses, loss, aux), collectives)

  def clean(point):
    return evaluate(point, examples, weights)

  def perturbed(point, evaluation):
    if between is None:
      return clean(point)
    own_point = _collectives.vary(collectives, point)
    losses, _ = _given.losses_and_aux(loss_fn(own_point, examples), number)
    positions = _collectives.choose(
      collectives, between, evaluation.losses, losses
    )
    kept: Any = _collectives.rows(collectives, positions, (examples, weights))
    seen = evaluate(point, kept[0], kept[1], None)
    return seen._replace(losses=losses)

  return Evaluator(
    clean, perturbed, _averaged_gradient(reference_grad_fn, collectives)
  )


def averaged(
  evaluation: Evaluation, collectives: _collectives.Collectives
) -> Evaluation:
  """An evaluation on one device's examples, with the means that are shared."""
  gradient = _tree.promote(evaluation.gradient)
  if not collectives.local:
    gradient = _collectives.mean(collectives, gradient)
  return evaluation._replace(
    gradient=gradient,
    loss=_collectives.mean(collectives, evaluation.loss),
    aux=_collectives.vary(collectives, evaluation.aux),
  )


def _averaged_gradient(
  grad_fn: _base.GradFn | None, collectives: _collectives.Collectives
) -> Callable[[_base.PyTree], _base.PyTree] | None:
  if grad_fn is None:
    return None
  _given.function(
    'reference_grad_fn', grad_fn, 'jax.grad(lambda p: loss(p, other_batch))'
  )

  def gradient(point):
    other = grad_fn(_collectives.vary(collectives, point))
    other = _given.gradient('a gradient by reference_grad_fn', other, point)
    return averaged(Evaluation(other), collectives).gradient

  return gradient
