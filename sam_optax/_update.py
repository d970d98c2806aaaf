"""The Optax entry point of a method: `update`."""

from collections.abc import Callable
from typing import Any

from sam_optax import (
  _check,
  _check_chain,
  _collectives,
  _evaluate,
  _given,
  _step,
)

CALL = (
  'updates, opt_state = tx.update(grad_fn(params), opt_state, params, '
  'grad_fn=grad_fn), with grad_fn = jax.grad(lambda p: loss(p, batch))'
)
CALL_WITH_EXAMPLES = (
  'updates, opt_state = tx.update(grads, opt_state, params, '
  'loss_fn=loss_fn, batch=batch, example_ids=ids), with loss_fn(params, '
  'batch) -> (losses of shape [batch], aux)'
)


def make_update(
  parts: _step.Parts,
  value_and_grad: Callable[..., Any],
  check_state: Callable[..., Any],
  collectives: _collectives.Collectives,
) -> Callable[..., tuple[Any, _step.SharpnessAwareState]]:
  """`SharpnessAware.update` of a method with these parts."""
  selection = parts.selection
  needs_examples = bool(
    selection.choice or selection.pruning or selection.between
  )

  def update(
    updates,
    state,
    params=None,
    *,
    grad_fn=None,
    loss_fn=None,
    batch=None,
    example_ids=None,
    reference_grad_fn=None,
    perturb=None,
    full_batch=None,
    **extra_args,
  ):
    del extra_args
    if isinstance(grad_fn, _check_chain.Probe):
      return grad_fn.answer(updates), state
    if params is None:
      raise ValueError(
        'Given no params. The second gradient is taken at params + '
        f'perturbation. Call {CALL}.'
      )
    _check.not_masked(params)
    params = _given.params(params)
    updates = _given.gradient('`updates`', updates, params)
    if loss_fn is not None and (needs_examples or grad_fn is None):
      # The first gradient is evaluated with the losses, and `updates` is left
      # alone; under jit its computation is dropped.
      _, direction, state = value_and_grad(
        loss_fn,
        params,
        state,
        batch,
        example_ids,
        reference_grad_fn=reference_grad_fn,
        perturb=perturb,
        full_batch=full_batch,
        dtypes_of=updates,
      )
      return direction, state
    if needs_examples:
      raise ValueError(
        'Given no loss_fn. This method chooses examples by their losses, '
        f'which grad_fn does not show. Call {CALL_WITH_EXAMPLES}.'
      )
    state = check_state(state, params)
    perturb = _step.given_condition(perturb)
    evaluator = _evaluate.from_grad_fn(
      _missing if grad_fn is None else grad_fn, reference_grad_fn, collectives
    )
    first = None
    # In jax.shard_map with check_vma=True, jax.grad by replicated params sums
    # over devices. The gradient of this device cannot be recovered from the
    # sum; it is evaluated again.
    if _collectives.is_own(collectives, updates):
      first = _evaluate.shared(_evaluate.Evaluation(updates), collectives)
    result = _step.take_step(
      parts, evaluator, params, state, updates, first, perturb, collectives
    )
    return result.direction, result.state

  return update


def _missing(point: Any) -> Any:
  """Stands for a grad_fn that the caller left out."""
  del point
  raise ValueError(
    'Given no grad_fn. A second gradient is needed, and `updates` holds '
    f'only the first. Call {CALL}.'
  )
