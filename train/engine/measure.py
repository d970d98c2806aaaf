"""Measurements of a step that the step itself has no use for.

They cost gradients of their own, so that a run takes them on some steps only.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sam_optax import diagnostics
from train.checks import ConfigError
from train.engine.feed import Batch
from train.engine.step import Step, TrainState


class Measure:
  """Measures a coming step, with its own examples and augmentation.

  Args:
    step: of the run.

  Raises:
    ConfigError: if the run measures, and this step cannot be measured.
  """

  def __init__(self, step: Step):
    self._step, self._every = step, step.config.measure_every
    self._compiled: dict[bool, Callable[..., Any]] = {}
    if self._every:
      _check(step)

  def is_due(self, step: int) -> bool:
    """Whether to measure before a step, counted from 0."""
    return bool(self._every) and step % self._every == 0

  def __call__(
    self, state: TrainState, ids: np.ndarray, batch: Batch
  ) -> Mapping[str, jax.Array]:
    """Measures, see `measured`.

    Args:
      state: before the step.
      ids: the examples of the step, int32 ``[batch_size]``.
      batch: as the step takes it.

    Returns:
      Scalars by name.
    """
    # False where the method is about to choose some of the examples.
    full_batch = self._step.method.decide(state.method, ids).get(
      'full_batch', True
    )
    if full_batch not in self._compiled:
      self._compiled[full_batch] = jax.jit(
        lambda state, batch: measured(self._step, state, batch, full_batch)
      )
    return self._compiled[full_batch](state, batch)


def measured(
  step: Step, state: TrainState, batch: Batch, full_batch: bool = True
) -> dict[str, jax.Array]:
  """Measures a step at its perturbed point, whether or not it perturbs.

  Args:
    step: of the run.
    state: before the step.
    batch: of the step.
    full_batch: False if the method chooses examples from this batch.

  Returns:
    `gradient_norm` and `perturbed_gradient_norm`, `psf_norm` (of their
    difference), `gradient_cosine` (between both) and `loss_rise`, all on the
    examples that the step uses. If it chooses some, also how they stand for the
    batch: `chosen_cosine` and `chosen_perturbed_cosine` between their gradient
    and that of the batch, at the params and at the perturbed point; and
    `chosen_loss_difference`, the perturbed loss of the batch less theirs.
  """
  loss_fn = step.loss_fn(state)
  whole = batch.rows(batch.candidates)
  used = whole if full_batch else batch.rows(_chosen(step, state, batch))

  def objective(params, rows):
    return jnp.mean(loss_fn(params, step.prepare(state, rows))[0])

  evaluate = jax.value_and_grad(objective)
  reference = None
  if batch.reference_ids is not None:
    other = batch.rows(batch.reference_ids)
    reference = lambda params: evaluate(params, other)[1]
  point = step.method.perturbed_params(
    lambda params: evaluate(params, used)[1],
    state.params,
    state.method,
    reference,
  )
  loss, gradient = evaluate(state.params, used)
  perturbed_loss, perturbed = evaluate(point, used)
  seen = diagnostics.agreement(gradient, perturbed)
  psf = jax.tree.map(jnp.subtract, perturbed, gradient)
  found = {
    'gradient_norm': seen.norm,
    'perturbed_gradient_norm': seen.perturbed_norm,
    'psf_norm': diagnostics.agreement(gradient, psf).perturbed_norm,
    'gradient_cosine': seen.cosine,
    'loss_rise': perturbed_loss - loss,
  }
  if full_batch:
    return found
  whole_perturbed_loss, whole_perturbed = evaluate(point, whole)
  whole_gradient = evaluate(state.params, whole)[1]
  cosine = lambda x, y: diagnostics.agreement(x, y).cosine
  return found | {
    'chosen_cosine': cosine(gradient, whole_gradient),
    'chosen_perturbed_cosine': cosine(perturbed, whole_perturbed),
    'chosen_loss_difference': whole_perturbed_loss - perturbed_loss,
  }


def _chosen(step: Step, state: TrainState, batch: Batch) -> jax.Array:
  """The ids of the examples that the method chooses.

  They are those that it asks to be prepared. Nothing else of the step is used,
  so that XLA leaves it out.
  """
  loss_fn = step.loss_fn(state)

  def with_ids(params, rows):
    losses, _ = loss_fn(params, rows['prepared'])
    return losses, rows['ids']

  def prepare(selected):
    rows = batch.rows(selected)
    return {'prepared': step.prepare(state, rows), 'ids': rows['id']}

  (_, ids), _, _ = step.method.value_and_grad(
    with_ids,
    state.params,
    state.method,
    batch.candidates,
    batch.ids,
    prepare=prepare,
    perturb=True,
    full_batch=False,
  )
  return ids


def _check(step: Step) -> None:
  devices, micro_batch = step.devices.count, step.config.micro_batch
  if devices > 1 or micro_batch is not None:
    raise ConfigError(
      f'Given measure_every={step.config.measure_every} on {devices} devices'
      f' with micro_batch={micro_batch}. A step is measured whole, by one'
      ' device. Use one device without micro_batch, or measure_every=0.'
    )
