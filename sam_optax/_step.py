"""The spine: one step, the only place that evaluates a gradient or branches.

decide whether to perturb; gradient at the point of the first pass;
perturbed:  perturbation, gradient at params + perturbation, direction;
skipped: direction from the one gradient.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from sam_optax import _base, _devices, _tree


class SharpnessAwareState(NamedTuple):
  """State of a method; read its fields with `optax.tree.get(state, name)`.

  Attributes:
    step: int32, steps taken.
    perturbed: bool, whether the last step perturbed.
    sam_fraction: float, the share of steps so far that perturbed (the papers'
      "%SAM", as a fraction).
    gradient_evaluations: int32, gradients evaluated so far.
    ascent: state of the ascent.
    cadence: state of the cadence.
    descent: state of the descent.
    selection: state of the selection.
  """

  step: jax.Array
  perturbed: jax.Array
  sam_fraction: jax.Array
  gradient_evaluations: jax.Array
  ascent: _base.State
  cadence: _base.State
  descent: _base.State
  selection: _base.State


class Pass(NamedTuple):
  """What one evaluation of the gradient gives."""

  gradient: _base.PyTree
  losses: Any = None  # [batch]
  loss: Any = None
  aux: Any = None


class Problem(NamedTuple):
  """What may be evaluated in a step, on the examples it is given."""

  # (point, positions=None) -> Pass on all examples, or those at positions
  evaluate: Callable[..., Pass]
  losses: Callable[[_base.PyTree], jax.Array] | None  # without a gradient
  reference: Callable[[_base.PyTree], _base.PyTree] | None  # on other data


class Parts(NamedTuple):
  """The four parts of a method."""

  ascent: _base.Ascent
  cadence: _base.Cadence
  descent: _base.Descent
  selection: _base.Selection


class Seen(NamedTuple):
  """What a step saw of its examples, for a selection to record.

  It comes out of the branches in the place of the selection's state: a table of
  all examples would be copied there, whole and in every step.

  Attributes:
    losses: [batch] in the first pass.
    perturbed_losses: [batch] in the second, 0 where there was none.
    ids: int32 [batch]; `NOWHERE` for no example.
  """

  losses: jax.Array
  perturbed_losses: jax.Array
  ids: jax.Array


# No table has such a row, and what is written there is dropped.
NOWHERE = jnp.iinfo(jnp.int32).max


def make_problem(
  loss_fn: _base.LossFn,
  examples: _base.PyTree,
  reference_grad_fn: _base.GradFn | None,
  weights: jax.Array | None = None,
  devices: _devices.Devices = _devices.ONE,
) -> Problem:
  """The evaluations of a loss function on a step's examples.

  The objective is the mean of the losses, each times its weight if there are
  weights.
  """

  def evaluate(point, positions=None):
    asked, factors = examples, weights
    if positions is not None:
      asked, factors = _devices.rows(devices, positions, (examples, weights))

    def mean_loss(point):
      losses, aux = loss_fn(point, asked)
      objective = _tree.promote(losses)
      if factors is not None:
        objective = factors.astype(objective.dtype) * objective
      return jnp.mean(objective), (losses, aux)

    (loss, (losses, aux)), gradient = jax.value_and_grad(
      mean_loss, has_aux=True
    )(point)
    return Pass(gradient, losses, loss, aux)

  return Problem(
    evaluate, lambda point: loss_fn(point, examples)[0], reference_grad_fn
  )


def _across(devices: _devices.Devices, problem: Problem) -> Problem:
  """The evaluations of a problem on each device's own examples."""
  evaluate, losses, reference = problem

  def own(function):
    return lambda point, *positions: function(
      _devices.vary(devices, point), *positions
    )

  def reference_mean(point):
    gradient = _tree.promote(own(reference)(point))
    return _devices.synced_mean(devices, gradient)

  return Problem(
    lambda *arguments: _shared(devices, own(evaluate)(*arguments)),
    losses and own(losses),
    reference and reference_mean,
  )


def _shared(devices: _devices.Devices, seen: Pass) -> Pass:
  """A pass on a device's own examples, with the means of what is averaged."""
  gradient = _devices.synced_mean(devices, _tree.promote(seen.gradient))
  return seen._replace(
    gradient=gradient,
    loss=_devices.mean(devices, seen.loss),
    aux=_devices.vary(devices, seen.aux),
  )


def take_step(
  parts: Parts,
  problem: Problem,
  first: Pass | None,
  like: _base.PyTree,
  params: _base.PyTree,
  state: SharpnessAwareState,
  ids: jax.Array | None,
  perturb: bool | jax.Array | None,
  devices: _devices.Devices = _devices.ONE,
) -> tuple[Pass, _base.PyTree, SharpnessAwareState, Seen | None]:
  """One step on examples already chosen.

  Across devices, what decides and what is kept is of the gradients' means, so
  that branches and state are the same everywhere. Where each device perturbs
  along its own gradient, so is every step that does not perturb.

  Args:
    parts: the method's parts.
    problem: what may be evaluated.
    first: the first pass if the caller has it.
    like: a tree with the dtypes of the direction.
    params: the parameters.
    state: the method's state; that of its selection stays as it is.
    ids: the examples' ids, for a selection.
    perturb: whether to perturb, if decided from outside.
    devices: who takes part; `problem` and `first` are the device's own.

  Returns:
    (the first pass, the direction, the new state, what is to be recorded).
  """
  ascent, cadence, descent, selection = parts
  if perturb is None and not cadence.by_gradient:
    perturb = _ask(cadence, state.cadence, state.step)
  offset = None
  problem = _across(devices, problem)
  own_ascent = _devices.own_keys(devices, state.ascent)
  if first is None:
    first, offset = _first_pass(
      ascent, problem, params, own_ascent, perturb, devices
    )
  else:
    first = _shared(devices, first)
  gradient = _tree.promote(first.gradient)
  mean_gradient = _average(devices, gradient)
  if perturb is None:
    perturb = _ask(cadence, state.cadence, state.step, mean_gradient)

  def after_skip():
    # Only the new state is used (an average moves on); the rest is dead code
    # to the compiler.
    return ascent.update(
      mean_gradient, state.ascent, params, perturbed=False, offset=None
    )[1]

  def seen(*losses):
    if selection.on_perturbed is None or ids is None:
      return None
    losses = tuple(map(_tree.promote, losses))
    if len(losses) == 1:
      losses += (jnp.zeros_like(losses[0]),)
    rows = (*losses, ids.astype(jnp.int32))
    return Seen(*_devices.gather(devices, rows))

  def on_perturbed():
    count = _Counter(int(ascent.reads_gradient))
    passes, ascent_state = [], state.ascent
    perturbed_losses: Any = None
    for draw in range(ascent.draws):
      perturbation, ascent_state = ascent.update(
        gradient,
        own_ascent,
        params,
        perturbed=True,
        offset=offset,
        draw=draw,
        gradient_at=count.calls(lambda at: problem.evaluate(at).gradient),
        reference=problem.reference and count.calls(problem.reference),
        mean=lambda tree: _average(devices, tree),
      )
      point = _tree.add(params, perturbation)
      positions = None
      if selection.between is not None and problem.losses is not None:
        perturbed_losses = problem.losses(point)
        positions = _devices.choose(
          devices, selection.between, first.losses, perturbed_losses
        )
      second = count.calls(problem.evaluate)(point, positions)
      if selection.between is None:
        perturbed_losses = second.losses
      passes.append(_tree.promote(second.gradient))
    perturbed_gradient = _tree.mean(passes)
    mean_perturbed = _average(devices, perturbed_gradient)
    direction, descent_state = descent.on_perturbed(
      gradient, perturbed_gradient, state.descent, state.step
    )
    if devices.local:
      direction = _average(devices, direction)
      _, descent_state = descent.on_perturbed(
        mean_gradient, mean_perturbed, state.descent, state.step
      )
    new_state = state._replace(
      gradient_evaluations=state.gradient_evaluations + count.number,
      ascent=_devices.joined(devices, ascent_state, after_skip),
      cadence=cadence.on_perturbed(
        mean_gradient, mean_perturbed, state.cadence, state.step
      ),
      descent=descent_state,
    )
    direction = _tree.cast_like(direction, like)
    return direction, new_state, seen(first.losses, perturbed_losses)

  def on_plain():
    direction, descent_state = descent.on_plain(
      mean_gradient, state.descent, state.step
    )
    new_state = state._replace(
      gradient_evaluations=state.gradient_evaluations + 1,
      ascent=after_skip(),
      cadence=cadence.on_plain(mean_gradient, state.cadence, state.step),
      descent=descent_state,
    )
    return _tree.cast_like(direction, like), new_state, seen(first.losses)

  direction, new_state, recorded = branch(perturb, on_perturbed, on_plain)
  return first, direction, _advance(new_state, perturb), recorded


def without_table(state: SharpnessAwareState) -> SharpnessAwareState:
  """A state for the inside of a branch."""
  return state._replace(selection=())


def padded(seen: Seen | None, size: int) -> Seen | None:
  """What was seen, as of so many examples."""
  if seen is None:
    return None
  pad = lambda x, value: jnp.concatenate(
    [x, jnp.full([size - x.shape[0]], value, x.dtype)]
  )
  return Seen(*map(pad, seen, (0, 0, NOWHERE)))


def record(
  selection: _base.Selection,
  seen: Seen | None,
  before: _base.State,
  state: SharpnessAwareState,
) -> SharpnessAwareState:
  """A step's state with what its selection knows after the step.

  Args:
    selection: the part.
    seen: what there is to record.
    before: the selection's state before the step.
    state: the state after the step but for the selection's.

  Returns:
    The state.
  """
  after = before
  if seen is not None and selection.on_perturbed is not None:
    losses, perturbed_losses, ids = seen
    if_so = lambda condition: jnp.where(condition, ids, NOWHERE)
    after = selection.on_perturbed(
      losses, perturbed_losses, after, if_so(state.perturbed)
    )
    if selection.on_plain is not None:
      after = selection.on_plain(losses, after, if_so(~state.perturbed))
  return state._replace(selection=after)


class _Counter:
  """Counts, while a step is traced, the gradients that it evaluates."""

  def __init__(self, number: int):
    self.number = number

  def calls(self, function: Callable[..., Any]) -> Callable[..., Any]:
    def counted(*arguments):
      self.number += 1
      return function(*arguments)

    return counted


def _ask(cadence: _base.Cadence, *arguments: Any) -> bool | jax.Array:
  """Whether to perturb."""
  decide = cadence.decide
  return decide if isinstance(decide, bool) else decide(*arguments)


def _average(devices: _devices.Devices, tree: _base.PyTree) -> _base.PyTree:
  """The mean of what is each device's own; without such, the tree as it is."""
  return _devices.mean(devices, tree) if devices.local else tree


def _first_pass(
  ascent: _base.Ascent,
  problem: Problem,
  params: _base.PyTree,
  ascent_state: _base.State,
  perturb: bool | jax.Array | None,
  devices: _devices.Devices,
) -> tuple[Pass, _base.PyTree | None]:
  """The first pass and the offset of its point from the params, if any."""
  offset_fn = ascent.offset
  if offset_fn is None or perturb is False:
    return problem.evaluate(params), None
  # A step that does not perturb takes its one gradient at the params.
  own = lambda tree: _devices.vary(devices, tree) if devices.local else tree
  offset = branch(
    perturb,
    lambda: own(_tree.promote(offset_fn(ascent_state, params))),
    lambda: own(optax.tree.zeros_like(_tree.promote(params))),
  )
  return problem.evaluate(_tree.add(params, offset)), offset


def branch(
  condition: bool | jax.Array | None,
  if_true: Callable[[], Any],
  if_false: Callable[[], Any],
) -> Any:
  """One of two functions: in Python where that is known, else on device."""
  if isinstance(condition, bool):
    return if_true() if condition else if_false()
  return jax.lax.cond(condition, if_true, if_false)


def _advance(
  state: SharpnessAwareState, perturb: bool | jax.Array | None
) -> SharpnessAwareState:
  """Counts the step that was taken, and whether it perturbed."""
  perturbed = jnp.asarray(perturb, jnp.bool_)
  step = _tree.increment(state.step)
  share = state.sam_fraction
  change = (perturbed.astype(share.dtype) - share) / step.astype(share.dtype)
  return state._replace(
    step=step, perturbed=perturbed, sam_fraction=share + change
  )
