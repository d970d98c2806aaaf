"""The type of an ascent: an Optax transformation in two halves."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax

from sam_optax import _base


def _itself(tree: _base.PyTree) -> _base.PyTree:
  return tree


class Context(NamedTuple):
  """What an ascent may use besides gradient, state and parameters.

  Attributes:
    step: int32, the number of the step, from 0.
    mean: tree -> its mean over devices, where each perturbs along its own
      gradient; the tree itself elsewhere.
    offset: what `Ascent.offset` returned in this step.
    draw: the number of this draw, below `Ascent.draws`.
    gradient_at: point -> gradient on this step's examples. Each call is one
      more gradient evaluation, and is counted while tracing (once in a loop).
    reference: point -> gradient on the caller's other data; counted too.
    length: the norm of the gradient that the ascent is given, where an earlier
      member of a chain computed it; None elsewhere.
    perturbed: False if only the memory of a later member of a chain needs the
      result. No gradient may then be evaluated.
  """

  step: jax.Array | None = None
  mean: Callable[[_base.PyTree], _base.PyTree] = _itself
  offset: _base.PyTree = None
  draw: int = 0
  gradient_at: Callable[[_base.PyTree], _base.PyTree] | None = None
  reference: Callable[[_base.PyTree], _base.PyTree] | None = None
  length: jax.Array | None = None
  perturbed: bool = True


class Perturbation(NamedTuple):
  """A perturbation, and the norm that scaled it if there was one."""

  value: _base.PyTree
  norm: jax.Array | None = None


class Measured(Perturbation):
  """A direction whose norm the next member of a chain need not compute."""

  length: jax.Array

  def __new__(cls, value: _base.PyTree, length: jax.Array) -> 'Measured':
    self = super().__new__(cls, value)
    self.length = length
    return self


# (gradient, state, params, context) -> perturbation
Perturb = Callable[
  [_base.PyTree, _base.State, _base.PyTree, Context], Perturbation
]
# (gradient, state, params, step) -> state
Remember = Callable[
  [_base.PyTree, _base.State, _base.PyTree, jax.Array | None], _base.State
]
# (state, params, step) -> offset
Offset = Callable[[_base.State, _base.PyTree, jax.Array | None], _base.PyTree]


def _forget(
  gradient: _base.PyTree,
  state: _base.State,
  params: _base.PyTree,
  step: jax.Array | None,
) -> _base.State:
  """The memory of an ascent that has none."""
  del gradient, params, step
  return state


class Ascent(optax.GradientTransformationExtraArgs):
  """Where to perturb to: from a gradient to a perturbation of the parameters.

  An `Ascent` unpacks to (init, update) like every Optax transformation, so
  `optax.chain` and the other combinators take it. The spine calls the two
  halves of `update` by themselves.

  Attributes:
    init: params -> state.
    perturb: (gradient, state, params, context) -> `Perturbation`. The gradient
      may be that of one device; the state does not change.
    remember: (gradient, state, params, step) -> state, on every step, with the
      mean gradient of all devices.
    offset: (state, params, step) -> offset of the first gradient's point from
      the params, on a SAM step; None for no offset.
    draws: perturbations per SAM step, whose gradients are averaged.
    reads_gradient: whether the perturbation depends on the first gradient.
    has_norm: whether `perturb` returns a norm.
    keeps_finite: whether `remember` leaves the state as it was where a number
      in it would not be finite. If not, the spine looks at every number of a
      new state, which costs a pass over it.
  """

  perturb: Perturb
  remember: Remember
  offset: Offset | None
  draws: int
  reads_gradient: bool
  has_norm: bool
  keeps_finite: bool

  def __new__(
    cls,
    init: _base.Init,
    perturb: Perturb,
    remember: Remember = _forget,
    offset: Offset | None = None,
    draws: int = 1,
    reads_gradient: bool = True,
    has_norm: bool = False,
    keeps_finite: bool = False,
  ) -> 'Ascent':
    def update(updates, state, params=None, **extra_args) -> Any:
      # `optax.chain` passes all extra arguments to all of its members.
      known = {k: v for k, v in extra_args.items() if k in Context._fields}
      # Another member of that chain may change the direction.
      context = Context(**known)._replace(length=None)
      if draws > 1 or (offset is not None and context.offset is None):
        raise ValueError(
          'Given an ascent that moves the point of the first gradient, or '
          'draws more than once, inside another transformation such as '
          'optax.chain. The method cannot see it there, and its noise or its '
          'draws would be lost. Put it first in ascent.chain: '
          'ascent.chain(ascent.random(ascent.gradient(rho)), '
          'optax.masked(...)).'
        )
      perturbation = perturb(updates, state, params, context)
      new_state = remember(updates, state, params, context.step)
      return perturbation.value, new_state

    self = super().__new__(cls, init, update)
    self.perturb, self.remember = perturb, remember
    self.offset, self.draws = offset, draws
    self.reads_gradient, self.has_norm = reads_gradient, has_norm
    self.keeps_finite = keeps_finite or remember is _forget
    return self


def stateless(params: _base.PyTree) -> optax.EmptyState:
  """The initial state of a part that has none."""
  del params
  return optax.EmptyState()


def as_ascent(transformation: optax.GradientTransformation) -> Ascent:
  """An ascent from any Optax transformation of gradients."""
  if isinstance(transformation, Ascent):
    return transformation
  tx = optax.with_extra_args_support(transformation)

  def seen(context):
    # The members of a chain inside may get other directions than it.
    return context._replace(length=None)._asdict()

  def perturb(gradient, state, params, context):
    return Perturbation(tx.update(gradient, state, params, **seen(context))[0])

  def remember(gradient, state, params, step):
    if not jax.tree.leaves(state):
      return state
    context = Context(step, perturbed=False)
    return tx.update(gradient, state, params, **seen(context))[1]

  return Ascent(tx.init, perturb, remember)


def chain(*members: optax.GradientTransformation) -> Ascent:
  """One ascent after another: `optax.chain` for ascents.

  `optax.chain` gives the same perturbations, but refuses a member that moves
  the point of the first gradient or draws more than once (`random`,
  `posterior`, and `gaussian` with several draws). Of a chain made here, the
  spine can call the halves of each member by themselves, and the state of the
  method shows the norm that scaled the perturbation (`direction_norm`).

  Args:
    *members: ascents and Optax transformations, the first of which gets the
      gradient. Only the first may move the point of the first gradient, or
      draw more than once.

  Returns:
    An `Ascent`.

  Raises:
    ValueError: if there is no member, or a later one has an offset or draws.

  Example:
    >>> import jax, jax.numpy as jnp, optax, sam_optax
    >>> from sam_optax import ascent
    >>> method = sam_optax.sharpness_aware(
    ...   ascent.chain(optax.centralize(), ascent.gradient(rho=0.1))
    ... )
    >>> params, loss = jnp.array([[1.0, -2.0]]), lambda w: jnp.sum(w**4)
    >>> state = method.init(params)
    >>> for _ in range(3):
    ...   grads, state = method.update(
    ...     jax.grad(loss)(params), state, params, grad_fn=jax.grad(loss)
    ...   )
    ...   params = params - 0.01 * grads
    ...   print(f'Objective: {loss(params):.2f}')
    Objective: 8.14
    Objective: 5.01
    Objective: 3.47
  """
  parts = tuple(map(as_ascent, members))
  if not parts or any(p.offset is not None or p.draws > 1 for p in parts[1:]):
    raise ValueError(
      'Given no member, or a later one that moves the first gradient or draws '
      'more than once. The first gradient is taken before the chain begins. '
      'Put that member first.'
    )

  def init(params):
    return tuple(part.init(params) for part in parts)

  def perturb(gradient, state, params, context):
    norm, length = None, context.length
    for part, part_state in zip(parts, state, strict=True):
      found = part.perturb(
        gradient, part_state, params, context._replace(length=length)
      )
      gradient = found.value
      norm = norm if found.norm is None else found.norm
      length = found.length if isinstance(found, Measured) else None
    return Perturbation(gradient, norm)

  def remember(gradient, state, params, step):
    new_state = []
    for number, (part, part_state) in enumerate(zip(parts, state, strict=True)):
      new_state.append(part.remember(gradient, part_state, params, step))
      later_has_memory = bool(jax.tree.leaves(state[number + 1 :]))
      if later_has_memory:
        context = Context(step, perturbed=False)
        gradient = part.perturb(gradient, part_state, params, context).value
    return tuple(new_state)

  first, first_offset = parts[0], parts[0].offset
  return Ascent(
    init,
    perturb,
    remember,
    first_offset and (lambda state, *rest: first_offset(state[0], *rest)),
    draws=first.draws,
    reads_gradient=first.reads_gradient,
    has_norm=any(part.has_norm for part in parts),
    keeps_finite=all(part.keeps_finite for part in parts),
  )
