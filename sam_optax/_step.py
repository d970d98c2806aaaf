"""The spine: one step, the only place that perturbs the parameters or branches.

First comes the gradient at the parameters. On a SAM step, the ascent turns it
into a perturbation, a second gradient is evaluated at the perturbed point, and
the descent makes one direction of both. On a plain step, the descent has the
first gradient only, and no second one is paid for. On both, each part updates
its state by the mean gradient of all devices.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sam_optax import _ascent, _base, _collectives, _tree
from sam_optax._evaluate import Evaluation, Evaluator


class SharpnessAwareState(NamedTuple):
  """State of a method; read its fields with `optax.tree.get(state, name)`.

  Attributes:
    step: int32, steps taken.
    perturbed: bool, whether the last step was a SAM step.
    sam_fraction: float, the fraction of SAM steps so far (the papers' "%SAM").
    gradient_evaluations: int32, gradients evaluated so far.
    direction_norm: float, the norm that scaled the last perturbation, or the
      last that was finite; None for an ascent that computes none.
    ascent: state of the ascent. It and the next three stay as they are where a
      step would leave in them a number that is not finite.
    cadence: state of the cadence.
    descent: state of the descent.
    selection: state of the selection.
  """

  step: jax.Array
  perturbed: jax.Array
  sam_fraction: jax.Array
  gradient_evaluations: jax.Array
  direction_norm: jax.Array | None
  ascent: _base.State
  cadence: _base.State
  descent: _base.State
  selection: _base.State


class Parts(NamedTuple):
  """The four parts of a method."""

  ascent: _ascent.Ascent
  cadence: _base.Cadence
  descent: _base.Descent
  selection: _base.Selection


class StepResult(NamedTuple):
  """The result of one step.

  Attributes:
    clean: the first evaluation.
    direction: what to descend along, shaped as the params.
    state: the new state; the state of the selection is the old one.
    perturbed_losses: [batch], at the perturbed point; the clean losses on a
      plain step, None where no selection records them.
  """

  clean: Evaluation
  direction: _base.PyTree
  state: SharpnessAwareState
  perturbed_losses: jax.Array | None


def initial_state(parts: Parts, params: _base.PyTree) -> SharpnessAwareState:
  """The state before the first step."""
  return SharpnessAwareState(
    step=jnp.zeros([], jnp.int32),
    perturbed=jnp.zeros([], jnp.bool_),
    sam_fraction=jnp.zeros([]),
    gradient_evaluations=jnp.zeros([], jnp.int32),
    direction_norm=jnp.zeros([]) if parts.ascent.has_norm else None,
    ascent=parts.ascent.init(params),
    cadence=parts.cadence.init(),
    descent=parts.descent.init(params),
    selection=parts.selection.init(),
  )


def take_step(
  parts: Parts,
  evaluator: Evaluator,
  params: _base.PyTree,
  state: SharpnessAwareState,
  dtypes_of: _base.PyTree,
  first: Evaluation | None = None,
  perturb: bool | jax.Array | None = None,
  collectives: _collectives.Collectives = _collectives.SINGLE_DEVICE,
) -> StepResult:
  """One step on examples already chosen.

  `own` is the gradient that this device perturbs along, `mean` the gradient
  that all devices share; they are the same unless the perturbation is local.
  Decisions and states follow the mean, so that every device takes the same
  branch and holds the same state.

  Args:
    parts: the parts of the method.
    evaluator: the evaluations that the step may make.
    params: the parameters.
    state: the state of the method.
    dtypes_of: a tree with the dtypes of the direction.
    first: the first evaluation, if the caller has it.
    perturb: whether this is a SAM step; None to let the cadence decide.
    collectives: the devices that take part.
  """
  ascent, cadence, descent, _ = parts
  step, own_ascent_state = state.step, collectives.own_keys(state.ascent)
  if perturb is None and not cadence.by_gradient:
    perturb = _decide(cadence, state.cadence, step)
  offset = None
  if first is None:
    offset = _offset(
      parts, own_ascent_state, params, step, perturb, collectives
    )
    point = params if offset is None else _tree.add(params, offset)
    first = evaluator.clean(point)
  own = first.gradient
  mean = collectives.mean(own)
  if perturb is None:
    perturb = _decide(cadence, state.cadence, step, mean)

  def on_perturbed():
    context = _ascent.Context(step, collectives.mean, offset)
    seen = _evaluate_perturbed(
      parts, evaluator, first, params, own_ascent_state, context
    )
    direction = collectives.mean(
      descent.on_perturbed(own, seen.gradient, state.descent, step)
    )
    new_state = update(collectives.mean(seen.gradient), seen.evaluations)
    if ascent.has_norm:
      norm = collectives.mean(seen.norm)
      last = jnp.asarray(state.direction_norm)
      norm = norm.astype(last.dtype)
      norm = jnp.where(jnp.isfinite(norm), norm, last)
      new_state = new_state._replace(direction_norm=norm)
    return optax.tree.cast_like(direction, dtypes_of), new_state, seen.losses

  def on_plain():
    direction = descent.on_plain(mean, state.descent, step)
    losses = _recorded(parts, first.losses)
    return optax.tree.cast_like(direction, dtypes_of), update(None, 1), losses

  def update(mean_perturbed, evaluations):
    # A number that is not finite would stay in a state for ever.
    kept = lambda new, name: _tree.kept(new, getattr(state, name))
    both = mean, mean_perturbed
    return state._replace(
      gradient_evaluations=state.gradient_evaluations + evaluations,
      ascent=kept(ascent.remember(mean, state.ascent, params, step), 'ascent'),
      cadence=kept(cadence.update(*both, state.cadence, step), 'cadence'),
      descent=kept(descent.update(*both, state.descent, step), 'descent'),
    )

  direction, new_state, losses = branch(perturb, on_perturbed, on_plain)
  return StepResult(first, direction, _advance(new_state, perturb), losses)


def branch(
  condition: bool | jax.Array | None,
  if_true: Callable[[], Any],
  if_false: Callable[[], Any],
) -> Any:
  """One of two functions: in Python where that is known, else on device."""
  if isinstance(condition, bool | np.bool_):
    return if_true() if condition else if_false()
  if not isinstance(condition, jax.Array) or condition.shape:
    raise ValueError(
      f'Given {condition!r} as `perturb` or `full_batch`. It fixes a branch of '
      'the step. Pass True or False, or None to let the method decide.'
    )
  return jax.lax.cond(condition, if_true, if_false)


def _decide(cadence: _base.Cadence, *arguments: Any) -> bool | jax.Array:
  """Whether to perturb."""
  decide = cadence.decide
  return decide if isinstance(decide, bool) else decide(*arguments)


def _offset(
  parts: Parts,
  ascent_state: _base.State,
  params: _base.PyTree,
  step: jax.Array,
  perturb: bool | jax.Array | None,
  collectives: _collectives.Collectives,
) -> _base.PyTree | None:
  """The offset of the first evaluation from the params; None for none."""
  offset_fn = parts.ascent.offset
  if offset_fn is None or perturb is False:
    return None

  def own(tree):
    # Both branches may differ from device to device, or neither.
    return _collectives.vary(collectives, tree) if collectives.local else tree

  # On a plain step the only gradient is at the params, and nothing is drawn.
  return branch(
    perturb,
    lambda: own(_tree.promote(offset_fn(ascent_state, params, step))),
    lambda: own(optax.tree.zeros_like(_tree.promote(params))),
  )


class _Perturbed(NamedTuple):
  """The evaluations of a SAM step at the perturbed points."""

  gradient: _base.PyTree  # the mean over the draws
  losses: jax.Array | None
  norm: jax.Array | None
  evaluations: int  # of the whole step


def _evaluate_perturbed(
  parts: Parts,
  evaluator: Evaluator,
  first: Evaluation,
  params: _base.PyTree,
  ascent_state: _base.State,
  context: _ascent.Context,
) -> _Perturbed:
  ascent, calls = parts.ascent, []

  def counted(grad_fn):
    def call(point):
      calls.append(None)
      return grad_fn(point)

    return call

  context = context._replace(
    gradient_at=counted(lambda point: evaluator.clean(point).gradient),
    reference=evaluator.reference and counted(evaluator.reference),
  )
  gradients, norm, losses = [], None, None
  for draw in range(ascent.draws):
    value, norm = ascent.perturb(
      first.gradient, ascent_state, params, context._replace(draw=draw)
    )
    seen = evaluator.perturbed(_tree.add(params, value), first)
    gradients.append(seen.gradient)
    losses = seen.losses
  evaluations = int(ascent.reads_gradient) + ascent.draws + len(calls)
  return _Perturbed(
    _tree.mean(gradients), _recorded(parts, losses), norm, evaluations
  )


def _recorded(parts: Parts, losses: jax.Array | None) -> jax.Array | None:
  """The losses in float32 or wider, where the selection records them."""
  if parts.selection.update is None or losses is None:
    return None
  return _tree.promote(losses)


def _advance(
  state: SharpnessAwareState, perturb: bool | jax.Array | None
) -> SharpnessAwareState:
  """Counts the step that was taken, and whether it was a SAM step."""
  perturbed = jnp.asarray(perturb, jnp.bool_)
  step = jnp.asarray(optax.safe_increment(state.step))
  fraction = state.sam_fraction
  change = perturbed.astype(fraction.dtype) - fraction
  return state._replace(
    step=step,
    perturbed=perturbed,
    sam_fraction=fraction + change / step.astype(fraction.dtype),
  )
