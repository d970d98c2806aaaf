"""Decisions of the host ahead of a compiled step: which branches it takes.

Deciding waits for the device, since the decision follows from the state; a
plan covers many steps in one call.
"""

import functools
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np

from sam_optax import _base, _calls, _given, _step, _tree

# The most steps that a plan covers.
_LENGTH = 64


class _Decided(NamedTuple):
  """What decides each branch: a bool for all steps, or a function."""

  # As `_base.Cadence.decide`.
  perturb: bool | Callable[..., jax.Array]
  # None without a choice; else as `_base.Choice.full_batch`, for a SAM step.
  full_batch: bool | Callable[..., jax.Array] | None

  @property
  def constants(self) -> dict[str, bool]:
    """The answers that need no state."""
    named = self._asdict().items()
    return {name: value for name, value in named if isinstance(value, bool)}

  @property
  def is_constant(self) -> bool:
    """Whether all of them need none."""
    return not (callable(self.perturb) or callable(self.full_batch))


def _decided(cadence: _base.Cadence, selection: _base.Selection) -> _Decided:
  choice = selection.choice
  if choice is None:
    return _Decided(cadence.decide, None)
  # No plain step takes the full batch.
  can_be_full = choice.may_be_full and cadence.decide is not False
  return _Decided(cadence.decide, choice.full_batch if can_be_full else False)


def make_decide(
  cadence: _base.Cadence, selection: _base.Selection
) -> _calls.Decide:
  """`SharpnessAware.decide` of a method with these parts."""
  decided = _decided(cadence, selection)

  @jax.jit
  def ask(step, cadence_state, selection_state, ids, gradient):
    answers = {}
    perturb = _step.decide(cadence, cadence_state, step, gradient)
    if perturb is not None:
      answers['perturb'] = perturb
    if callable(decided.full_batch):
      full_batch = decided.full_batch(selection_state, ids)
      answers['full_batch'] = jnp.logical_and(
        full_batch, answers.get('perturb', True)
      )
    return answers

  def decide(state, example_ids=None, first=None):
    _given.state(state, _step.SharpnessAwareState)
    decisions = decided.constants
    if not decided.is_constant:
      answers = ask(
        state.step,
        state.cadence,
        state.selection,
        _ids(decided, selection, example_ids),
        None if first is None else _tree.promote(first.gradient),
      )
      decisions |= {name: bool(answer) for name, answer in answers.items()}
    return cast(_calls.Decisions, decisions)

  return decide


def make_branches(
  cadence: _base.Cadence, selection: _base.Selection
) -> tuple[_calls.Decisions, ...]:
  """`SharpnessAware.branches` of a method with these parts."""
  answers = {
    name: (True, False) if callable(value) else (value,)
    for name, value in _decided(cadence, selection)._asdict().items()
    if value is not None
  }
  kinds = (
    dict(zip(answers, values, strict=True))
    for values in itertools.product(*answers.values())
  )
  return tuple(
    cast(_calls.Decisions, kind)
    for kind in kinds
    if kind['perturb'] or not kind.get('full_batch') or cadence.by_gradient
  )


def _ids(
  decided: _Decided, selection: _base.Selection, example_ids: Any
) -> jax.Array | None:
  """The ids of one step or of several; None where no answer depends on them."""
  if not callable(decided.full_batch):
    return None
  if example_ids is None:
    raise ValueError(
      'Given no example_ids. A SAM step of this method takes the full batch '
      'where one of its examples was never seen. Pass the ids of the coming '
      'step: method.decide(state, example_ids).'
    )
  shape = np.shape(example_ids)
  ids = np.reshape(np.asarray(example_ids), -1)
  return _given.example_ids(ids, selection.num_examples).reshape(shape)


def make_plan(
  cadence: _base.Cadence, selection: _base.Selection
) -> _calls.Plan | None:
  """`SharpnessAware.plan` of a method with these parts."""
  decided = _decided(cadence, selection)
  if decided.is_constant or cadence.by_gradient:
    return None

  @jax.jit
  def ask(step, cadence_state, selection_state, ids, distinct):
    answers = {}
    known = jnp.full_like(step, _LENGTH)
    perturb = decided.perturb
    if callable(perturb):
      perturb = jax.vmap(functools.partial(perturb, cadence_state))(
        step + jnp.arange(_LENGTH, dtype='int32')
      )
      answers['perturb'] = perturb
      sight = jnp.ones_like(step)
      if cadence.foresight is not None:
        sight = cadence.foresight(cadence_state, step)
      known = jnp.minimum(known, sight)
    if callable(decided.full_batch):
      full_batch = functools.partial(decided.full_batch, selection_state)
      answers['full_batch'] = jnp.logical_and(
        jax.vmap(full_batch)(ids), perturb
      )
      # A later step that needs the full batch now may no longer need it then,
      # if a step before it has one of its examples.
      unsure = answers['full_batch'].at[0].set(False).at[-1].set(True)
      sight = jnp.where(distinct, _LENGTH, jnp.argmax(unsure))
      known = jnp.minimum(known, sight.astype(known.dtype))
    return answers, known

  def plan(state, example_ids=None):
    _given.state(state, _step.SharpnessAwareState)
    count, distinct = _LENGTH, True
    if example_ids is not None:
      example_ids = np.asarray(example_ids)[:_LENGTH]
      count = len(example_ids)
      distinct = np.unique(example_ids).size == example_ids.size
      # Always of one shape, before anything of JAX sees it: each other shape
      # would be compiled for.
      example_ids = np.resize(example_ids, (_LENGTH, *example_ids.shape[1:]))
    ids = _ids(decided, selection, example_ids)
    answers, known = jax.device_get(
      ask(state.step, state.cadence, state.selection, ids, distinct)
    )
    steps = []
    for i in range(min(count, int(known))):
      of_step = {name: bool(answer[i]) for name, answer in answers.items()}
      steps.append(decided.constants | of_step)
    return cast(list[_calls.Decisions], steps)

  return plan
