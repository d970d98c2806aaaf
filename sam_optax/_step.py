"""The spine: one step. It alone perturbs the parameters and holds the `cond`.

First comes a gradient at the parameters (an ascent with an offset moves that
point on SAM steps). On a SAM step, the ascent turns it into a perturbation, a
second gradient is evaluated at the perturbed point, and the descent makes one
direction of both. On a plain step, the descent has the first gradient only, and
no second one is paid for. On both, ascent, cadence and descent update their
states by the mean gradient of all devices; the caller updates the selection.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sam_optax import _ascent, _base, _collectives, _random, _tree
from sam_optax._evaluate import Evaluation, Evaluator


class SharpnessAwareState(NamedTuple):
  """State of a method; read its fields with `optax.tree.get(state, name)`.

  Attributes:
    step: int32, steps taken.
    perturbed: bool, whether the last step was a SAM step.
    sam_fraction: float, the fraction of SAM steps so far (the papers' "%SAM").
    gradient_evaluations: int32, gradients evaluated so far.
    batch_gradients: float, the same, each counted as the share of the batch
      that it is of, and one on other data as 1: the cost of training in
      gradients of a batch.
    direction_norm: float, the norm that scaled the perturbation of the last
      SAM step where it was finite (the mean over devices, of the last draw);
      None for an ascent that computes none.
    dropped_ids: int32, examples so far whose id was outside of the table of the
      method, so that no row was read or written for them; None for a method
      without a table.
    ascent: state of the part that says where to perturb to. This state and the
      next three stay as they are where a step would leave in them a number
      that is not finite.
    cadence: state of the part that says on which steps.
    descent: state of the part that says along what to descend.
    selection: state of the part that says on which examples.
  """

  step: jax.Array
  perturbed: jax.Array
  sam_fraction: jax.Array
  gradient_evaluations: jax.Array
  batch_gradients: jax.Array
  direction_norm: jax.Array | None
  dropped_ids: jax.Array | None
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
    first: the first evaluation.
    direction: what to descend along, shaped as the params.
    state: the new state; its `selection` is as it came in.
    perturbed_losses: [batch], the losses at the perturbed point, and on a plain
      step those of the first evaluation; None if the selection records none.
  """

  first: Evaluation
  direction: _base.PyTree
  state: SharpnessAwareState
  perturbed_losses: jax.Array | None


def initial_state(parts: Parts, params: _base.PyTree) -> SharpnessAwareState:
  """The state before the first step."""
  num_examples = parts.selection.num_examples
  state = SharpnessAwareState(
    step=jnp.zeros([], jnp.int32),
    perturbed=jnp.zeros([], jnp.bool_),
    sam_fraction=jnp.zeros([]),
    gradient_evaluations=jnp.zeros([], jnp.int32),
    batch_gradients=jnp.zeros([]),
    direction_norm=jnp.zeros([]) if parts.ascent.has_norm else None,
    dropped_ids=None if num_examples is None else jnp.zeros([], jnp.int32),
    ascent=parts.ascent.init(params),
    cadence=parts.cadence.init(),
    descent=parts.descent.init(params),
    selection=parts.selection.init(),
  )
  return _random.distinct_keys(state)


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

  Args:
    parts: the parts of the method.
    evaluator: the evaluations that the step may make.
    params: the parameters.
    state: the state of the method.
    dtypes_of: a tree whose dtypes the direction gets.
    first: the evaluation at the parameters, if the caller has it.
    perturb: whether this is a SAM step; None to let the cadence decide.
    collectives: the devices that take part.
  """
  ascent, cadence, descent, _ = parts
  step, mean_of_own = state.step, collectives.mean_of_own
  # For draws only: the state that is kept has keys that all devices share.
  own_ascent_state = collectives.with_own_keys(state.ascent)
  if perturb is None:
    perturb = decide(cadence, state.cadence, step)
  offset = _offset(parts, own_ascent_state, params, step, perturb, collectives)
  if offset is not None:
    first = evaluator.at(_tree.add(params, offset))
  elif first is None:
    first = evaluator.at(params)
  # Where every device perturbs along its own gradient, decisions and states
  # follow the mean, so that all take the same branch and hold the same state.
  # Elsewhere `own` is the mean already, and mean_of_own is the identity.
  own = first.gradient
  mean = mean_of_own(own)
  if perturb is None:
    perturb = cast(jax.Array, decide(cadence, state.cadence, step, mean))

  def on_perturbed():
    context = _ascent.Context(step=step, mean=mean_of_own, offset=offset)
    second = _evaluate_perturbed(
      parts, evaluator, first, params, own_ascent_state, context
    )
    # A descent need not be linear, so each device combines its own gradients.
    direction = mean_of_own(
      descent.on_perturbed(own, second.gradient, state.descent, step)
    )
    new_state = updated(
      mean_of_own(second.gradient), second.evaluations, second.batch_gradients
    )
    if ascent.has_norm:
      new_state = _with_norm(new_state, mean_of_own(second.norm))
    return optax.tree.cast_like(direction, dtypes_of), new_state, second.losses

  def on_plain():
    direction = descent.on_plain(mean, state.descent, step)
    new_state = updated(mean_perturbed=None, evaluations=1, batch_gradients=1.0)
    losses = _recorded(parts, first.losses)
    return optax.tree.cast_like(direction, dtypes_of), new_state, losses

  def updated(mean_perturbed, evaluations, batch_gradients):
    both = mean, mean_perturbed
    new = state._replace(
      gradient_evaluations=state.gradient_evaluations + evaluations,
      batch_gradients=state.batch_gradients + batch_gradients,
      ascent=ascent.remember(mean, state.ascent, params, step),
      cadence=cadence.update(*both, state.cadence, step),
      descent=descent.update(*both, state.descent, step),
    )
    # A number that is not finite would stay in a state for ever.
    kept = {'cadence': _tree.kept(new.cadence, state.cadence)}
    if not ascent.keeps_finite:
      kept['ascent'] = _tree.kept(new.ascent, state.ascent)
    if not descent.keeps_finite:
      kept['descent'] = _tree.kept(new.descent, state.descent)
    return new._replace(**kept)

  direction, new_state, losses = branch(perturb, on_perturbed, on_plain)
  return StepResult(first, direction, _advance(new_state, perturb), losses)


def perturbed_params(
  parts: Parts,
  evaluator: Evaluator,
  params: _base.PyTree,
  state: SharpnessAwareState,
  collectives: _collectives.Collectives = _collectives.SINGLE_DEVICE,
) -> _base.PyTree:
  """The point of the second gradient, were this a SAM step; of its first draw.

  Args:
    parts: the parts of the method.
    evaluator: the evaluations that this may make.
    params: the parameters.
    state: the state of the method.
    collectives: the devices that take part.
  """
  ascent_state = collectives.with_own_keys(state.ascent)
  offset = _offset(parts, ascent_state, params, state.step, True, collectives)
  point = params if offset is None else _tree.add(params, offset)
  context = _ascent.Context(
    step=state.step,
    mean=collectives.mean_of_own,
    offset=offset,
    gradient_at=lambda point: evaluator.at(point).gradient,
    reference=evaluator.reference,
  )
  perturbation = parts.ascent.perturb(
    evaluator.at(point).gradient, ascent_state, params, context
  )
  return _tree.add(params, perturbation.value)


def branch(
  condition: bool | jax.Array,
  if_true: Callable[[], Any],
  if_false: Callable[[], Any],
) -> Any:
  """One of two functions: in Python where that is known, else on device."""
  if isinstance(condition, bool):
    return if_true() if condition else if_false()
  return jax.lax.cond(condition, if_true, if_false)


def given_condition(condition: Any) -> Any:
  """A `perturb` or `full_batch` of the caller's: a bool, an array or None.

  Raises:
    ValueError: if it is something else.
  """
  if isinstance(condition, bool | np.bool_):
    return bool(condition)
  is_array = isinstance(condition, jax.Array) and not condition.shape
  if condition is not None and not is_array:
    raise ValueError(
      f'Given {condition!r} as `perturb` or `full_batch`. It fixes a branch of '
      'the step. Pass True or False, or None to let the method decide.'
    )
  return condition


def decide(
  cadence: _base.Cadence,
  state: _base.State,
  step: jax.Array,
  gradient: _base.PyTree | None = None,
) -> bool | jax.Array | None:
  """Whether this is a SAM step; None where that needs the gradient.

  Args:
    cadence: what decides.
    state: its state.
    step: the step.
    gradient: the first gradient, once it is known.
  """
  if isinstance(cadence.decide, bool):
    return cadence.decide
  if not cadence.by_gradient:
    return cadence.decide(state, step)
  return None if gradient is None else cadence.decide(state, step, gradient)


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
  # `sharpness_aware` refuses an offset with a cadence that decides later.
  if offset_fn is None or perturb is None or perturb is False:
    return None

  def typed(tree):
    # jax.shard_map with check_vma=True wants both branches typed alike: draws
    # vary over the devices where each has its own keys, and zeros do not.
    return _collectives.vary(collectives, tree) if collectives.local else tree

  # On a plain step the offset is zero: the only gradient is at the params.
  return branch(
    perturb,
    lambda: typed(_tree.promote(offset_fn(ascent_state, params, step))),
    lambda: typed(optax.tree.zeros_like(_tree.promote(params))),
  )


class _Perturbed(NamedTuple):
  """The evaluations of a SAM step at the perturbed points."""

  gradient: _base.PyTree  # the mean over the draws
  losses: jax.Array | None  # of the last draw
  norm: jax.Array | None  # of the last draw
  evaluations: int  # of the whole step
  batch_gradients: float  # the same, each as its share of the batch


def _evaluate_perturbed(
  parts: Parts,
  evaluator: Evaluator,
  first: Evaluation,
  params: _base.PyTree,
  ascent_state: _base.State,
  context: _ascent.Context,
) -> _Perturbed:
  """Perturbs and evaluates, once for each draw of the ascent."""
  ascent, extra_calls = parts.ascent, []

  def counted(grad_fn):
    # Counted while tracing: a call inside a loop of JAX counts once.
    def call(point):
      extra_calls.append(None)
      return grad_fn(point)

    return call

  context = context._replace(
    gradient_at=counted(lambda point: evaluator.at(point).gradient),
    reference=evaluator.reference and counted(evaluator.reference),
  )
  gradients, shares, norm, losses = [], [], None, None
  for draw in range(ascent.draws):
    perturbation = ascent.perturb(
      first.gradient, ascent_state, params, context._replace(draw=draw)
    )
    norm, point = perturbation.norm, _tree.add(params, perturbation.value)
    evaluation = evaluator.at_perturbed(point, first)
    gradients.append(evaluation.gradient)
    shares.append(evaluation.share)
    losses = evaluation.losses
  # XLA drops a first gradient that nothing reads.
  reads_first = (
    ascent.reads_gradient
    or parts.descent.reads_gradient
    or not isinstance(parts.cadence.decide, bool)
  )
  others = int(reads_first) + len(extra_calls)
  return _Perturbed(
    _tree.mean(gradients),
    _recorded(parts, losses),
    norm,
    evaluations=others + ascent.draws,
    batch_gradients=others + sum(shares),
  )


def _recorded(parts: Parts, losses: jax.Array | None) -> jax.Array | None:
  """The losses in float32 or wider, where the selection records them."""
  if parts.selection.update is None or losses is None:
    return None
  return _tree.promote(losses)


def _with_norm(
  state: SharpnessAwareState, norm: jax.Array
) -> SharpnessAwareState:
  """The state with a new norm, unless that is not finite."""
  old = jnp.asarray(state.direction_norm)
  new = jnp.where(jnp.isfinite(norm), norm.astype(old.dtype), old)
  return state._replace(direction_norm=new)


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
