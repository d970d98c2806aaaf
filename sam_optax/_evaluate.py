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
    loss: scalar, the mean over all devices of the losses (each times its
      weight, if examples have weights) that the gradient is of.
    aux: the auxiliary outputs of the loss function, of one device.
    share: the share of the step's examples that the gradient is of.
  """

  gradient: _base.PyTree
  losses: jax.Array | None = None
  loss: jax.Array | None = None
  aux: Any = None
  share: float = 1.0


class Evaluator(NamedTuple):
  """The evaluations that a step may make, on its examples.

  Gradients come in float32 or wider, and averaged over devices unless each
  device perturbs along its own.

  Attributes:
    at: point -> Evaluation.
    at_perturbed: (point, first evaluation) -> Evaluation. Its losses are of
      every example, its gradient of the examples that the selection keeps.
    reference: point -> gradient on other data; None if the caller gave none.
  """

  at: Callable[[_base.PyTree], Evaluation]
  at_perturbed: Callable[[_base.PyTree, Evaluation], Evaluation]
  reference: Callable[[_base.PyTree], _base.PyTree] | None


def from_grad_fn(
  grad_fn: _base.GradFn,
  reference_grad_fn: _base.GradFn | None,
  collectives: _collectives.Collectives,
) -> Evaluator:
  """The evaluations of a gradient function; no losses are known."""
  gradient = _gradient(
    'grad_fn', grad_fn, 'jax.grad(lambda p: loss(p, batch))', collectives
  )
  return Evaluator(
    at=lambda point: Evaluation(gradient(point)),
    at_perturbed=lambda point, first: Evaluation(gradient(point)),
    reference=_reference(reference_grad_fn, collectives),
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
    between: (first losses, perturbed losses) -> positions of the examples in
      the second gradient; None for all. The perturbed losses then cost one
      more forward pass.
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
    return shared(Evaluation(gradient, losses, loss, aux), collectives)

  def at(point):
    return evaluate(point, examples, weights)

  def at_perturbed(point, first):
    if between is None:
      return at(point)
    own_point = _collectives.vary(collectives, point)
    losses, _ = _given.losses_and_aux(loss_fn(own_point, examples), number)
    positions = _collectives.choose(collectives, between, first.losses, losses)
    kept, kept_weights = _collectives.rows(
      collectives, positions, (examples, weights)
    )
    second = evaluate(point, kept, kept_weights, number=None)
    share = positions.shape[0] / losses.shape[0]
    return second._replace(losses=losses, share=share)

  return Evaluator(at, at_perturbed, _reference(reference_grad_fn, collectives))


def shared(
  evaluation: Evaluation, collectives: _collectives.Collectives
) -> Evaluation:
  """The evaluation of one device as the others may see it.

  The gradient is promoted, and averaged unless each device perturbs along its
  own; the loss is averaged; aux is typed as differing between devices.
  """
  gradient = _tree.promote(evaluation.gradient)
  if not collectives.local:
    gradient = _collectives.mean(collectives, gradient)
  return evaluation._replace(
    gradient=gradient,
    loss=_collectives.mean(collectives, evaluation.loss),
    aux=_collectives.vary(collectives, evaluation.aux),
  )


def _reference(
  grad_fn: _base.GradFn | None, collectives: _collectives.Collectives
) -> Callable[[_base.PyTree], _base.PyTree] | None:
  if grad_fn is None:
    return None
  call = 'jax.grad(lambda p: loss(p, other_batch))'
  return _gradient('reference_grad_fn', grad_fn, call, collectives)


def _gradient(
  name: str,
  grad_fn: _base.GradFn,
  call: str,
  collectives: _collectives.Collectives,
) -> Callable[[_base.PyTree], _base.PyTree]:
  """A gradient function on the examples of this device, as others see it."""
  _given.function(name, grad_fn, call)

  def gradient(point):
    own = grad_fn(_collectives.vary(collectives, point))
    own = _given.gradient(f'a gradient by {name}', own, point)
    return shared(Evaluation(own), collectives).gradient

  return gradient
