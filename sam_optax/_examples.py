"""The evaluation entry point, `value_and_grad`, and the choice of examples."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from sam_optax import (
  _base,
  _collectives,
  _evaluate,
  _given,
  _step,
  _tree,
  _update,
)


class ExampleLosses(NamedTuple):
  """The losses of a step's examples, for a selection to record.

  A step returns them from its branches instead of a new state of the selection:
  `lax.cond` would copy the table of all examples, whole and in every step.

  Attributes:
    losses: [batch], in the first pass.
    perturbed_losses: [batch], in the second.
    ids: int32 [batch]; `_given.NOWHERE` for no example.
  """

  losses: jax.Array
  perturbed_losses: jax.Array
  ids: jax.Array


class _Outcome(NamedTuple):
  """All that a step on some examples returns."""

  value: tuple[jax.Array | None, Any]  # (loss, aux)
  direction: _base.PyTree
  state: _step.SharpnessAwareState
  recorded: ExampleLosses | None


def make_value_and_grad(
  parts: _step.Parts,
  check_state: Callable[..., Any],
  collectives: _collectives.Collectives,
) -> Callable[..., Any]:
  """`SharpnessAware.value_and_grad` of a method with these parts."""
  selection = parts.selection
  choice, pruning = selection.choice, selection.pruning

  def value_and_grad(
    loss_fn,
    params,
    state,
    batch,
    example_ids=None,
    *,
    reference_grad_fn=None,
    prepare=None,
    perturb=None,
    full_batch=None,
    first=None,
    dtypes_of=None,
  ):
    _given.function('loss_fn', loss_fn, _given.LOSS_FN)
    _check_examples(selection, batch, example_ids)
    params = _given.params(params)
    state = check_state(state, params)
    example_ids, size = _examples_of(selection, batch, example_ids)
    state = _count_dropped(selection, collectives, state, example_ids)
    if first is not None:  # of the caller's making, perhaps
      first = _evaluate.shared(first, collectives)

    def prepared(examples):
      return examples if prepare is None else prepare(examples)

    perturb = _step.given_condition(perturb)
    full_batch = _step.given_condition(full_batch)
    if perturb is None:
      perturb = _step.decide(parts.cadence, state.cadence, state.step)

    def step_on(examples, ids, perturb):
      weights = None
      if pruning is not None:
        table = pruning.weights(state.selection)
        weights = table.at[ids].get(mode='fill', fill_value=1)
      number = size if ids is None else len(ids)
      evaluator = _evaluate.from_loss_fn(
        loss_fn,
        prepared(examples),
        weights,
        reference_grad_fn,
        selection.between,
        collectives,
        number if selection.reads_losses else None,
      )
      result = _step.take_step(
        parts,
        evaluator,
        params,
        # Its table stays out of the branches; `_record` puts it back.
        state._replace(selection=()),
        params if dtypes_of is None else dtypes_of,
        first,
        perturb,
        collectives,
      )
      return _Outcome(
        (result.first.loss, result.first.aux),
        result.direction,
        result.state,
        _gathered(collectives, result, ids),
      )

    def aux_of(examples):
      return _given.losses_and_aux(loss_fn(params, prepared(examples)))[1]

    on_full = on_part = functools.partial(step_on, perturb=perturb)
    if choice is None:
      outcome = on_full(batch, example_ids)
    else:
      if full_batch is None:
        full_batch = _takes_full_batch(
          choice, collectives, state, example_ids, perturb
        )
        if perturb is not None:
          # No plain step takes it, so that kind need not be compiled.
          on_full = functools.partial(step_on, perturb=True)
      outcome = _on_full_batch_or_chosen(
        choice,
        collectives,
        state,
        (on_full, on_part),
        aux_of,
        (batch, example_ids),
        full_batch,
      )
    recorded = _record(selection, outcome, state.selection)
    return outcome.value, outcome.direction, recorded

  return value_and_grad


def _check_examples(
  selection: _base.Selection, batch: _base.PyTree, example_ids: Any
) -> None:
  """Raises ValueError if the selection needs what the caller did not pass."""
  needs_ids = selection.choice is not None or selection.pruning is not None
  if batch is None and (needs_ids or selection.between is not None):
    raise ValueError(
      'Given no batch. This method chooses examples by their losses. Call '
      f'{_update.CALL_WITH_EXAMPLES}.'
    )
  if needs_ids and example_ids is None:
    raise ValueError(
      'Given no example_ids. This method chooses examples by their ids. '
      "Pass each example's position in the data set, int32 [batch]."
    )


def _examples_of(
  selection: _base.Selection, batch: _base.PyTree, example_ids: Any
) -> tuple[jax.Array | None, int | None]:
  """The ids that the caller passed, and the number of rows where it counts.

  Raises:
    ValueError: if the ids are none, or a leaf of the batch has other rows.
  """
  ids, size = None, None
  if example_ids is not None:
    ids = _given.example_ids(example_ids, selection.num_examples)
  if selection.choice is not None or selection.between is not None:
    why = 'This method takes the rows of some examples from every leaf'
    size = _given.rows(batch, None if ids is None else len(ids), why)
  return ids, size


def _count_dropped(
  selection: _base.Selection,
  collectives: _collectives.Collectives,
  state: _step.SharpnessAwareState,
  ids: jax.Array | None,
) -> _step.SharpnessAwareState:
  """The state, with the ids counted that only the device knows to be wrong."""
  if selection.num_examples is None or ids is None:
    return state
  outside = jnp.sum(ids >= selection.num_examples, dtype=jnp.int32)
  before: Any = state.dropped_ids
  total = before + _collectives.total(collectives, outside)
  return state._replace(dropped_ids=total)


def _takes_full_batch(
  choice: _base.Choice,
  collectives: _collectives.Collectives,
  state: _step.SharpnessAwareState,
  ids: Any,
  perturb: bool | jax.Array | None,
) -> bool | jax.Array:
  """Whether a step takes the full batch; all devices agree."""
  if perturb is False or not choice.may_be_full:
    return False
  asked = _collectives.any_of(
    collectives, choice.full_batch(state.selection, ids)
  )
  # None: the gradient decides, once the examples are chosen.
  return asked if perturb is None else jnp.logical_and(asked, perturb)


def _on_full_batch_or_chosen(
  choice: _base.Choice,
  collectives: _collectives.Collectives,
  state: _step.SharpnessAwareState,
  steps_on: tuple[Callable[..., _Outcome], Callable[..., _Outcome]],
  aux_of: Callable[[_base.PyTree], Any],
  examples: tuple[_base.PyTree, Any],
  full_batch: bool | jax.Array,
) -> _Outcome:
  """A step on the full batch, or on the examples that the selection chooses."""
  on_full, on_part = steps_on
  ids = examples[1]
  batch_size = ids.shape[0] * _collectives.count(collectives)

  def chosen():
    drawn_from = collectives.with_own_keys(state.selection)
    positions = _collectives.choose(
      collectives,
      lambda ids: choice.positions(drawn_from, ids, state.step, batch_size),
      ids,
    )
    return _collectives.rows(collectives, positions, examples)

  def on_chosen():
    rows, chosen_ids = chosen()
    outcome = on_part(rows, chosen_ids)
    share = chosen_ids.shape[0] / ids.shape[0]
    return outcome._replace(
      state=_with_share(outcome.state, state, share),
      recorded=_padded(outcome.recorded, batch_size),
    )

  if not isinstance(full_batch, bool):
    _check_same_aux(
      jax.eval_shape(lambda: aux_of(examples[0])),
      jax.eval_shape(lambda: aux_of(chosen()[0])),
    )
  return _step.branch(full_batch, lambda: on_full(*examples), on_chosen)


def _check_same_aux(full: Any, chosen: Any) -> None:
  """Raises ValueError if aux has another shape on a part of the batch."""
  shapes = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype), tree)
  if shapes(full) != shapes(chosen):
    raise ValueError(
      'Given a loss_fn whose aux has a batch axis. This method uses the full '
      'batch on some steps and a part on others, and one compiled step '
      f'returns one shape: {full} or {chosen}. Return means, or let the host '
      'choose between two compiled steps: pass '
      '**method.decide(state, example_ids) as static arguments.'
    )


def _gathered(
  collectives: _collectives.Collectives,
  result: _step.StepResult,
  ids: jax.Array | None,
) -> ExampleLosses | None:
  """The losses of all devices, where a selection records them."""
  if result.perturbed_losses is None or ids is None:
    return None
  rows = (
    _tree.promote(result.first.losses),
    result.perturbed_losses,
    ids,
  )
  return ExampleLosses(*_collectives.gather(collectives, rows))


def _with_share(
  after: _step.SharpnessAwareState,
  before: _step.SharpnessAwareState,
  share: float,
) -> _step.SharpnessAwareState:
  """The state after a step whose gradients are of a share of the batch."""
  cost = share * (after.batch_gradients - before.batch_gradients)
  return after._replace(batch_gradients=before.batch_gradients + cost)


def _padded(recorded: ExampleLosses | None, size: int) -> ExampleLosses | None:
  """The losses of some examples, in arrays for `size` examples."""
  if recorded is None:
    return None
  pad = lambda x, value: jnp.concatenate(
    [x, jnp.full([size - x.shape[0]], value, x.dtype)]
  )
  return ExampleLosses(*map(pad, recorded, (0, 0, _given.NOWHERE)))


def _record(
  selection: _base.Selection, outcome: _Outcome, before: _base.State
) -> _step.SharpnessAwareState:
  """The state of a step with the new state of its selection."""
  state, recorded = outcome.state, outcome.recorded
  if recorded is None or selection.update is None:
    return state._replace(selection=before)
  losses, perturbed_losses, ids = recorded
  # A loss that is not finite would stay in a table; its example is left out.
  finite = jnp.isfinite(losses) & jnp.isfinite(perturbed_losses)
  # `perturbed` may be traced, so both records are made. For the kind of step
  # that this was not, every id is NOWHERE, and JAX drops what is written.
  where = lambda condition: jnp.where(finite & condition, ids, _given.NOWHERE)
  after = selection.update(
    losses, perturbed_losses, before, where(state.perturbed)
  )
  after = selection.update(losses, None, after, where(~state.perturbed))
  return state._replace(selection=after)
