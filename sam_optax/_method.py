"""A method and its entry points, from its four parts."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import optax

from sam_optax import (
  _ascent,
  _base,
  _calls,
  _check,
  _collectives,
  _decide,
  _evaluate,
  _examples,
  _given,
  _multi_steps,
  _step,
  _update,
)
from sam_optax import cadence as _cadence
from sam_optax import descent as _descent
from sam_optax import selection as _selection


class SharpnessAware(optax.GradientTransformationExtraArgs):
  """An Optax transformation with a second entry point, `value_and_grad`.

  It unpacks to (init, update) like every Optax transformation. A wrapper makes
  another with `method._replace(...)`: what the wrapper does not name is kept. A
  wrapper that changes `update` also names `for_collectives`, which builds the
  method anew for several devices.

  Attributes:
    init: params -> state.
    decide: (state, example_ids=None, first=None) -> keyword arguments, Python
      bools, that fix the branches of the coming step: `perturb` and, for a
      method that chooses examples, `full_batch`. Called outside `jit`, it lets
      a host choose between compiled steps; see `sharpness_aware`.
    plan: (state, example_ids=None) -> a list of such decisions, for the coming
      steps as far as the state determines them (one at least), so that a host
      need not wait for every step; example_ids is int32 [steps, batch], the
      ids of the coming steps, for a method that chooses examples. None where
      nothing is known ahead, or everything.
    branches: every answer of `decide`, so that a host can compile the steps of
      all kinds at the same time; empty where they are not known.
    first_pass: (loss_fn, params, batch) -> the first evaluation, for `decide`
      and then `value_and_grad`, so that a host can decide by the gradient;
      None where the decision does not need it.
    start_epoch: state -> (state, weights), for a method that leaves examples
      out of whole epochs; None for the others. Call it before an epoch, and
      draw its batches from the examples whose weight is not 0. `weights` is
      float32 [num_examples].
    perturbed_params: (grad_fn, params, state, reference_grad_fn=None) -> the
      parameters at which a SAM step would take its second gradient (of its
      first draw), for a record of how far it perturbs. It costs the gradients
      up to there. The params themselves for a method that never perturbs.
    for_collectives: collectives -> the same method across devices; the hook
      that `parallel` uses.
    reads_logits: whether the aux of loss_fn must be a dict with 'logits'.
    reads_losses: whether it compares the losses of single examples, each of
      which must then be of its example alone.
    is_optimizer: whether the result is minus a whole step, to be followed by
      `optax.sgd(1.0)` and nothing else.
    is_parallel: whether `parallel` made it.
  """

  decide: _calls.Decide
  plan: _calls.Plan | None
  branches: tuple[_calls.Decisions, ...]
  first_pass: _calls.FirstPass | None
  start_epoch: _calls.StartEpoch | None
  perturbed_params: _calls.PerturbedParams
  for_collectives: Callable[[_collectives.Collectives], 'SharpnessAware']
  reads_logits: bool
  reads_losses: bool
  is_optimizer: bool
  is_parallel: bool
  _value_and_grad: _calls.ValueAndGrad

  # Called as cls(init, update) by copies alone: `copy.deepcopy` then restores
  # the rest, and `jax.tree.map` gives a plain transformation.
  def __new__(
    cls,
    init: _base.Init,
    update: _calls.Update,
    value_and_grad: _calls.ValueAndGrad | None = None,
    decide: _calls.Decide | None = None,
    plan: _calls.Plan | None = None,
    branches: tuple[_calls.Decisions, ...] = (),
    first_pass: _calls.FirstPass | None = None,
    start_epoch: _calls.StartEpoch | None = None,
    perturbed_params: _calls.PerturbedParams | None = None,
    for_collectives: "Callable[..., 'SharpnessAware'] | None" = None,
    reads_logits: bool = False,
    reads_losses: bool = False,
    is_optimizer: bool = False,
    is_parallel: bool = False,
  ) -> 'SharpnessAware':
    self = super().__new__(cls, init, update)
    # In one call, since None stands for a function in such a copy alone.
    vars(self).update(
      _value_and_grad=value_and_grad,
      decide=decide,
      plan=plan,
      branches=branches,
      first_pass=first_pass,
      start_epoch=start_epoch,
      perturbed_params=perturbed_params,
      for_collectives=for_collectives,
      reads_logits=reads_logits,
      reads_losses=reads_losses,
      is_optimizer=is_optimizer,
      is_parallel=is_parallel,
    )
    return self

  def __repr__(self) -> str:
    # A function by its name: itself it would be shown as an address.
    shown = [
      name.removeprefix('_') if callable(value) else f'{name}={value!r}'
      for name, value in vars(self).items()
      if value
    ]
    return f'{type(self).__name__}({", ".join([*self._fields, *shown])})'

  # Python calls it final because a new field would be lost; here none is.
  def _replace(  # pyright: ignore[reportIncompatibleMethodOverride]
    self, **changes: Any
  ) -> 'SharpnessAware':
    own = {k.removeprefix('_'): v for k, v in vars(self).items()}
    pair: dict[str, Any] = {'init': self[0], 'update': self[1]}
    return type(self)(**(pair | own | changes))

  # A field for Optax, and here a method, so that an editor shows its arguments.
  def update(  # pyright: ignore[reportIncompatibleVariableOverride]
    self,
    updates: _base.PyTree,
    state: _base.State,
    params: _base.PyTree = None,
    *,
    grad_fn: _base.GradFn | None = None,
    loss_fn: _base.LossFn | None = None,
    batch: _base.PyTree = None,
    example_ids: _calls.Ids | None = None,
    reference_grad_fn: _base.GradFn | None = None,
    perturb: bool | None = None,
    full_batch: bool | None = None,
    **extra_args: Any,
  ) -> tuple[_base.PyTree, _base.State]:
    """Turns a gradient into a sharpness-aware gradient.

    Args:
      updates: the gradient at the params, of the loss on this step's batch, as
        `grad_fn` gives it: nothing may stand before the method in a chain and
        change it (see `check_chain`).
      state: what `init` or the last call returned.
      params: the parameters.
      grad_fn: params -> gradient on the same batch; called for the second
        gradient.
      loss_fn: (params, batch) -> (losses of shape [batch], aux), for methods
        that choose examples, or where there is no grad_fn; ignored elsewhere.
        The first gradient is then evaluated again, with the losses.
      batch: the batch, with loss_fn.
      example_ids: int32 [batch], the position of each example in the data set,
        for methods that keep a history of each example.
      reference_grad_fn: params -> gradient on other data, for methods that
        compare with it.
      perturb: True for a SAM step, False for a plain step, None to let the
        cadence decide. Static: a Python bool.
      full_batch: likewise, whether to use the full batch.
      **extra_args: ignored, such as `value=` for another member of a chain.

    Returns:
      (direction, new state); the direction has the dtypes of `updates`.

    Raises:
      ValueError: if an argument that the method needs is missing; the message
        shows the call.
    """
    update: Any = self[1]
    return update(
      updates,
      state,
      params,
      grad_fn=grad_fn,
      loss_fn=loss_fn,
      batch=batch,
      example_ids=example_ids,
      reference_grad_fn=reference_grad_fn,
      perturb=perturb,
      full_batch=full_batch,
      **extra_args,
    )

  def value_and_grad(
    self,
    loss_fn: _base.LossFn,
    params: _base.PyTree,
    state: _base.State,
    batch: _base.PyTree,
    example_ids: _calls.Ids | None = None,
    *,
    reference_grad_fn: _base.GradFn | None = None,
    prepare: Callable[[_base.PyTree], _base.PyTree] | None = None,
    perturb: bool | None = None,
    full_batch: bool | None = None,
    first: _evaluate.Evaluation | None = None,
  ) -> tuple[tuple[jax.Array, Any], _base.PyTree, _base.State]:
    """Evaluates the loss and a sharpness-aware gradient.

    Args:
      loss_fn: (params, batch) -> (losses of shape [batch], aux).
      params: the parameters.
      state: what `init` or the last call returned.
      batch: the batch; every leaf has the examples as its first axis.
      example_ids: int32 [batch], the position of each example in the data set,
        for methods that keep a history of each example.
      reference_grad_fn: params -> gradient on other data, for methods that
        compare with it.
      prepare: batch -> batch, applied once, before both passes, to the
        examples that the step uses: augmentation, or reading them by id.
      perturb: True for a SAM step, False for a plain step, None to let the
        cadence decide. Static: a Python bool.
      full_batch: likewise, whether to use the full batch.
      first: the result of `first_pass` on the prepared batch, if it was called.

    Returns:
      ((loss, aux), grads, new state). The mean loss and aux are of the first
      pass; any Optax optimizer takes the grads.

    Raises:
      ValueError: if an argument that the method needs is missing.
    """
    return self._value_and_grad(
      loss_fn,
      params,
      state,
      batch,
      example_ids,
      reference_grad_fn=reference_grad_fn,
      prepare=prepare,
      perturb=perturb,
      full_batch=full_batch,
      first=first,
    )


def sharpness_aware(
  ascent: optax.GradientTransformation,
  cadence: _base.Cadence | None = None,
  descent: _base.Descent | None = None,
  selection: _base.Selection | None = None,
) -> SharpnessAware:
  """A method from its four parts: ascent, cadence, descent and selection.

  Every published method in `sam_optax` is one call of this function; so is a
  combination that no paper has.

  The result turns a gradient into a sharpness-aware gradient. It comes first in
  `optax.chain`, and clipping, weight decay and the base optimizer follow it:
  ``optax.chain(method, optax.clip_by_global_norm(1.0), optax.sgd(0.1))``. What
  stood before it would change the first gradient and not the second; the chain
  cannot tell, but `check_chain` does.

  Random parts draw independently, also with the same key (their default).

  It branches with `jax.lax.cond`, so a plain step pays for one gradient. On
  CPU, XLA runs the gradient of a convolution inside `cond` 40 to 60 times
  slower. There, jit the step with `perturb` and `full_batch` static, and choose
  the branch in Python: ``step(..., **method.decide(state))``.

  Args:
    ascent: from gradient to perturbation, any Optax transformation.
    cadence: on which steps to perturb; on every step by default.
    descent: along what to descend; the perturbed gradient by default.
    selection: on which examples; the full batch by default.

  Returns:
    A `SharpnessAware` transformation.

  Raises:
    ValueError: if the parts cannot work together.

  Example:
    >>> import jax, jax.numpy as jnp, optax, sam_optax
    >>> from sam_optax import ascent, cadence, descent
    >>> method = sam_optax.sharpness_aware(  # no paper has this one
    ...   ascent.chain(ascent.friendly(), ascent.adaptive(rho=0.5)),
    ...   cadence.every(2),
    ...   descent.surrogate_gap(alpha=0.1),
    ... )
    >>> tx = optax.chain(method, optax.sgd(0.01))
    >>> params, loss = jnp.array([1.0, -2.0]), lambda w: jnp.sum(w**4)
    >>> grad_fn, state = jax.grad(loss), tx.init(params)
    >>> for _ in range(4):
    ...   updates, state = tx.update(
    ...     grad_fn(params), state, params, grad_fn=grad_fn
    ...   )
    ...   params = optax.apply_updates(params, updates)
    ...   print(f'Objective: {loss(params):.2f}')
    Objective: 4.43
    Objective: 3.34
    Objective: 3.13
    Objective: 2.48
    >>> int(optax.tree.get(state, 'gradient_evaluations'))
    6
  """
  cadence = _cadence.every(1) if cadence is None else cadence
  descent = _descent.perturbed() if descent is None else descent
  selection = _selection.full_batch() if selection is None else selection
  _check_parts(ascent, cadence, descent, selection)
  parts = _step.Parts(_ascent.as_ascent(ascent), cadence, descent, selection)
  if parts.ascent.offset is not None and parts.cadence.by_gradient:
    raise ValueError(
      'Given an ascent that moves the point of the first gradient, and a '
      'cadence that decides by that gradient. A plain step needs the gradient '
      'at the parameters, which was not taken. Use a cadence that decides '
      'before it, such as cadence.bernoulli.'
    )
  return _from_parts(parts, _collectives.SINGLE_DEVICE)


# The type of each part, in the order of the arguments.
_KINDS = {
  'ascent': optax.GradientTransformation,
  'cadence': _base.Cadence,
  'descent': _base.Descent,
  'selection': _base.Selection,
}


def _check_parts(*parts: Any) -> None:
  """Raises ValueError if a part is of another kind than its place."""
  for (place, kind), part in zip(_KINDS.items(), parts, strict=True):
    if isinstance(part, kind) and not isinstance(part, SharpnessAware):
      continue
    what = f'a {type(part).__name__}'
    why = 'The four parts differ in kind, and each has its place'
    if isinstance(part, SharpnessAware):
      what, why = 'a whole method', 'It is made of four parts already'
    elif callable(part):
      what = getattr(part, '__name__', what)
      why = 'It is the function that makes a part, not the part'
    raise ValueError(
      f'Given {what} as the {place}. {why}. Call sharpness_aware('
      'ascent.gradient(rho), cadence.every(k), descent.perturbed(), '
      'selection.full_batch()), or name the parts: cadence=cadence.every(2).'
    )


def _from_parts(
  parts: _step.Parts, collectives: _collectives.Collectives
) -> SharpnessAware:
  """The method with these parts, on these devices."""
  _, cadence, _, selection = parts

  def init(params):
    _multi_steps.check()
    _check.not_masked(params)
    return _step.initial_state(parts, _given.params(params))

  def first_pass(loss_fn, params, batch):
    evaluator = _evaluate.from_loss_fn(
      loss_fn, batch, None, None, None, collectives
    )
    return evaluator.at(_given.params(params))

  def perturbed_params(grad_fn, params, state, reference_grad_fn=None):
    evaluator = _evaluate.from_grad_fn(grad_fn, reference_grad_fn, collectives)
    params = _given.params(params)
    state = check_state(state, params)
    return _step.perturbed_params(parts, evaluator, params, state, collectives)

  pruning: Any = selection.pruning

  def start_epoch(state):
    state = _given.state(state, _step.SharpnessAwareState)
    chosen = pruning.start_epoch(state.selection, state.step)
    return state._replace(selection=chosen), pruning.weights(chosen)

  check_state = _given.make_check_state(
    functools.partial(_step.initial_state, parts), _step.SharpnessAwareState
  )
  value_and_grad = _examples.make_value_and_grad(
    parts, check_state, collectives
  )
  # The gradient that decides is then of the whole batch, without weights.
  is_plain_mean = selection.choice is None and pruning is None
  return SharpnessAware(
    init=init,
    update=_update.make_update(parts, value_and_grad, check_state, collectives),
    value_and_grad=value_and_grad,
    decide=_decide.make_decide(cadence, selection),
    plan=_decide.make_plan(cadence, selection),
    branches=_decide.make_branches(cadence, selection),
    first_pass=first_pass if cadence.by_gradient and is_plain_mean else None,
    start_epoch=None if pruning is None else start_epoch,
    perturbed_params=perturbed_params,
    for_collectives=functools.partial(_from_parts, parts),
    reads_losses=selection.reads_losses,
  )
