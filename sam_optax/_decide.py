"""Decisions of the host ahead of a compiled step: which branches it takes.

Deciding waits for the device, since the decision follows from the state; a
plan covers many steps in one call.
"""

import functools
import itertools
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from sam_optax import _base, _calls, _given, _step, _tree

# The most steps that a plan covers.
_LENGTH = 64


def make_decide(
  cadence: _base.Cadence, selection: _base.Selection
) -> _calls.Decide:
  """`SharpnessAware.decide` of a method with these parts."""
  choice = selection.choice

  @jax.jit
  def ask(step, cadence_state, selection_state, ids, gradient):
    answers = {}
    perturb = cadence.decide
    if callable(perturb):
      by = (gradient,) if cadence.by_gradient else ()
      known = by != (None,)
      perturb = perturb(cadence_state, step, *by) if known else True
      if known:
        answers['perturb'] = perturb
    if choice is not None:
      answers['full_batch'] = perturb & choice.full_batch(selection_state, ids)
    return answers

  def decide(state, example_ids=None, first=None):
    _given.state(state, _step.SharpnessAwareState)
    decisions: dict[str, bool] = {}
    if isinstance(cadence.decide, bool):
      decisions['perturb'] = cadence.decide
    if choice is not None:
      example_ids = _ids(selection, example_ids)
    if choice is not None or not decisions:
      answers = ask(
        state.step,
        state.cadence,
        state.selection,
        example_ids,
        None if first is None else _tree.promote(first.gradient),
      )
      decisions |= {name: bool(answer) for name, answer in answers.items()}
    return cast(_calls.Decisions, decisions)

  return decide


def make_branches(
  cadence: _base.Cadence, selection: _base.Selection
) -> tuple[_calls.Decisions, ...]:
  """`SharpnessAware.branches` of a method with these parts."""
  decide = cadence.decide
  known = (decide,) if isinstance(decide, bool) else (True, False)
  choice = selection.choice
  if choice is None:
    return tuple({'perturb': perturb} for perturb in known)
  full = (True, False) if choice.may_be_full else (False,)
  return tuple(
    {'perturb': perturb, 'full_batch': full_batch}
    for perturb, full_batch in itertools.product(known, full)
    if perturb or not full_batch or cadence.by_gradient
  )


def _ids(selection: _base.Selection, example_ids: Any) -> jax.Array:
  """The ids of one step or of several."""
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
  choice = selection.choice
  is_known = isinstance(cadence.decide, bool) and choice is None
  if is_known or cadence.by_gradient:
    return None

  @jax.jit
  def ask(step, cadence_state, selection_state, ids, distinct):
    answers = {}
    known = jnp.full_like(step, _LENGTH)
    perturb = cadence.decide
    if callable(perturb):
      perturb = jax.vmap(functools.partial(perturb, cadence_state))(
        step + jnp.arange(_LENGTH, dtype='int32')
      )
      answers['perturb'] = perturb
      sight = jnp.ones_like(step)
      if cadence.foresight is not None:
        sight = cadence.foresight(cadence_state, step)
      known = jnp.minimum(known, sight)
    if choice is not None:
      full_batch = functools.partial(choice.full_batch, selection_state)
      answers['full_batch'] = perturb & jax.vmap(full_batch)(ids)
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
    ids = None if choice is None else _ids(selection, example_ids)
    answers, known = jax.device_get(
      ask(state.step, state.cadence, state.selection, ids, distinct)
    )
    if isinstance(cadence.decide, bool):
      answers['perturb'] = np.full(_LENGTH, cadence.decide)
    steps = [
      {name: bool(answer[i]) for name, answer in answers.items()}
      for i in range(min(count, int(known)))
    ]
    return cast(list[_calls.Decisions], steps)

  return plan
