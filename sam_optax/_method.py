"""A method from its parts, and the two doors to its step.

`update` is for Optax pipelines, `value_and_grad` for loops that want the loss
and the auxiliary outputs. Both run the same step, `_step.take_step`.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from sam_optax import _base, _check, _decide, _devices, _step, _tree
from sam_optax import cadence as _cadence
from sam_optax import descent as _descent
from sam_optax import selection as _selection

_CALL = (
  'updates, opt_state = tx.update(grad_fn(params), opt_state, params, '
  'grad_fn=grad_fn), with grad_fn = jax.grad(lambda p: loss(p, batch))'
)
_CALL_WITH_EXAMPLES = (
  'updates, opt_state = tx.update(grads, opt_state, params, '
  'loss_fn=loss_fn, batch=batch, example_ids=ids), with loss_fn(params, '
  'batch) -> (losses of shape [batch], aux)'
)


class SharpnessAware(optax.GradientTransformationExtraArgs):
  """An Optax transformation with an evaluation door.

  It unpacks to (init, update) like every Optax transformation, and has more
  functions:

  Attributes:
    value_and_grad: (loss_fn, params, state, batch, example_ids=None, *,
      reference_grad_fn=None, prepare=None, perturb=None, full_batch=None,
      first=None) -> ((loss, aux), grads, state), where loss_fn(params, batch)
      -> (losses [batch], aux). The loss and aux are of the first pass. `grads`
      goes to any Optax optimizer. `reference_grad_fn` is params -> gradient on
      other data, for the methods that compare with it. `prepare` is batch ->
      batch, what is done to the examples before both passes, once, and only
      to those that are asked: augmentation, or reading them by their ids.
    decide: (state, example_ids=None, first=None) -> the keyword arguments,
      Python bools, that take this step's branches ahead of the call. Called
      outside `jit`, it lets a host choose between compiled steps; see
      `sharpness_aware`.
    plan: (state, example_ids) -> a list of such decisions, for the coming steps
      as far as the state determines them (one at least), of a host that would
      not wait for every step; example_ids is int32 [steps, batch], those of
      the coming steps. None where nothing is known ahead, or everything is.
    first_pass: (loss_fn, params, batch) -> the first pass, for `decide` and
      then `value_and_grad`, so that a host can choose by the gradient; None
      where the choice does not need it.
    start_epoch: state -> (state, weights), for a method that leaves examples
      out of whole epochs; None for the others. Call it before an epoch, and
      draw its batches from the examples whose weight is not 0. `weights` is
      float32 [num_examples].
    reads_logits: whether loss_fn's aux must be a dict with 'logits'.
    is_optimizer: whether what it returns is minus a whole step, to be
      followed by `optax.sgd(1.0)` and nothing else.
  """

  value_and_grad: Callable[..., tuple[tuple[jax.Array, Any], Any, Any]]
  decide: Callable[..., dict[str, bool]]
  plan: Callable[..., list[dict[str, bool]]] | None
  first_pass: Callable[..., Any] | None
  start_epoch: Callable[[Any], tuple[Any, jax.Array]] | None
  reads_logits: bool
  is_optimizer: bool

  # The defaults are for what copies a transformation as the pair that it
  # unpacks to, such as `copy.deepcopy` and `jax.tree.map`.
  def __new__(
    cls,
    init,
    update,
    value_and_grad: Any = None,
    decide: Any = None,
    plan=None,
    first_pass=None,
    start_epoch=None,
    reads_logits=False,
    is_optimizer=False,
  ):
    self = super().__new__(cls, init, update)
    self.value_and_grad = value_and_grad
    self.decide = decide
    self.plan = plan
    self.first_pass = first_pass
    self.start_epoch = start_epoch
    self.reads_logits = reads_logits
    self.is_optimizer = is_optimizer
    return self

  def _replace(self, **changes):
    pair = {'init': self.init, 'update': self.update}
    return type(self)(**(pair | vars(self) | changes))


def sharpness_aware(
  ascent: optax.GradientTransformation | _base.Ascent,
  cadence: _base.Cadence | None = None,
  descent: _base.Descent | None = None,
  selection: _base.Selection | None = None,
) -> SharpnessAware:
  """A method from its four parts: where, when, what and whom.

  Every published method in `sam_optax` is one call of this function; so is a
  combination that no paper has.

  The result turns a gradient into a sharpness-aware gradient; the base
  optimizer follows it in `optax.chain`. Its branch is a `jax.lax.cond`, so a
  step that does not perturb pays for one gradient. On CPU, XLA runs the gradient
  of a convolution inside `cond` 40 to 60 times slower than outside, so let
  the host choose there: jit the step with `perturb` and `full_batch` static, and
  call ``step(..., **method.decide(state))``.

  Args:
    ascent: a transformation from gradient to perturbation, or an `Ascent`.
    cadence: when to perturb; every step by default.
    descent: what to descend along; the perturbed gradient by default.
    selection: which examples are asked; all of the batch by default.

  Returns:
    A `SharpnessAware` transformation.

  Raises:
    ValueError: if the parts cannot work together.

  Example:
    >>> import jax, jax.numpy as jnp, optax, sam_optax
    >>> from sam_optax import ascent, cadence, descent
    >>> method = sam_optax.sharpness_aware(  # no paper has this one
    ...   optax.chain(ascent.friendly(), ascent.adaptive(rho=0.5)),
    ...   cadence.every(2),
    ...   descent.surrogate_gap(alpha=0.1),
    ... )
    >>> params = jnp.array([1.0, -2.0])
    >>> grad_fn = jax.grad(lambda w: jnp.sum(w**4))
    >>> state = method.init(params)
    >>> for _ in range(4):
    ...   grads, state = method.update(
    ...     grad_fn(params), state, params, grad_fn=grad_fn
    ...   )
    >>> int(optax.tree.get(state, 'gradient_evaluations'))
    6
  """
  cadence = _cadence.every(1) if cadence is None else cadence
  descent = _descent.perturbed() if descent is None else descent
  selection = _selection.full_batch() if selection is None else selection
  ascent = _base.as_ascent(ascent)
  if ascent.offset is not None and cadence.by_gradient:
    raise ValueError(
      'Given an ascent that moves the point of the first gradient, and a '
      'cadence that decides by that gradient. A step that does not perturb '
      'needs the gradient at the parameters, which was not taken. Use a '
      'cadence that decides before it, such as cadence.bernoulli.'
    )
  choice, pruning = selection.choice, selection.pruning
  needs_ids = choice is not None or pruning is not None
  needs_examples = needs_ids or selection.between is not None
  parts = _step.Parts(ascent, cadence, descent, selection)

  def init(params):
    _check.not_in_multi_steps()
    _check.not_masked(params)
    return _step.SharpnessAwareState(
      step=jnp.zeros([], jnp.int32),
      perturbed=jnp.zeros([], jnp.bool_),
      sam_fraction=jnp.zeros([]),
      gradient_evaluations=jnp.zeros([], jnp.int32),
      ascent=ascent.init(params),
      cadence=cadence.init(),
      descent=descent.init(params),
      selection=selection.init(),
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
    across=_devices.ONE,
    **extra_args,
  ):
    del extra_args
    if params is None:
      raise ValueError(
        'Given no params. The second gradient is taken at params + '
        f'perturbation. Call {_CALL}.'
      )
    _check.not_masked(params)
    if loss_fn is not None and (needs_examples or grad_fn is None):
      _, direction, state = value_and_grad(
        loss_fn,
        params,
        state,
        batch,
        example_ids,
        reference_grad_fn=reference_grad_fn,
        perturb=perturb,
        full_batch=full_batch,
        across=across,
      )
      return _tree.cast_like(direction, updates), state
    if needs_examples:
      raise ValueError(
        'Given no loss_fn. This method chooses examples by their losses, '
        f'which grad_fn does not show. Call {_CALL_WITH_EXAMPLES}.'
      )

    def evaluate(point, positions=None):
      del positions
      if grad_fn is None:
        raise ValueError(
          'Given no grad_fn. A second gradient is needed, and `updates` holds '
          f'only the first. Call {_CALL}.'
        )
      gradient = grad_fn(point)
      if jax.tree.structure(gradient) != jax.tree.structure(updates):
        raise ValueError(
          'Given a grad_fn that returns '
          f'{jax.tree.structure(gradient)}. It must return what `updates` '
          f'is: {jax.tree.structure(updates)}. Use jax.grad(loss), or '
          'lambda p: jax.value_and_grad(loss)(p)[1].'
        )
      return _step.Pass(gradient)

    problem = _step.Problem(evaluate, None, reference_grad_fn)
    elsewhere = perturb is not False and ascent.offset is not None
    # Of a gradient that is not the device's own, its own is not to be had.
    if elsewhere or not _devices.is_own(across, updates):
      first = None
    else:
      first = _step.Pass(updates)
    _, direction, new_state, _ = _step.take_step(
      parts, problem, first, updates, params, state, None, perturb, across
    )
    return direction, new_state

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
    across=_devices.ONE,
  ):
    if needs_examples and batch is None:
      raise ValueError(
        'Given no batch. This method chooses examples by their losses. Call '
        f'{_CALL_WITH_EXAMPLES}.'
      )
    if example_ids is not None:
      example_ids = jnp.asarray(example_ids)

    def step_on(examples, ids):
      weights = None
      if pruning is not None:
        table = pruning.weights(state.selection)
        weights = table.at[ids].get(mode='fill', fill_value=1)
      if prepare is not None:
        examples = prepare(examples)
      problem = _step.make_problem(
        loss_fn, examples, reference_grad_fn, weights, across
      )
      bare = _step.without_table(state)
      clean, direction, new_state, seen = _step.take_step(
        parts, problem, first, params, params, bare, ids, perturb, across
      )
      return (clean.loss, clean.aux), direction, new_state, seen

    def recorded(value, direction, new_state, seen):
      return (
        value,
        direction,
        _step.record(selection, seen, state.selection, new_state),
      )

    if not needs_ids:
      return recorded(*step_on(batch, example_ids))
    if example_ids is None:
      raise ValueError(
        'Given no example_ids. This method keeps a history of each example. '
        "Pass each example's position in the data set, int32 [batch]."
      )
    if choice is None:
      return recorded(*step_on(batch, example_ids))

    def on_full_batch():
      return step_on(batch, example_ids)

    def on_chosen(choice=choice):
      drawn_from = _devices.own_keys(across, state.selection)
      batch_size = example_ids.shape[0] * _devices.count(across)
      positions = _devices.choose(
        across,
        lambda ids: choice.positions(drawn_from, ids, state.step, batch_size),
        example_ids,
      )
      chosen = _devices.rows(across, positions, (batch, example_ids))
      *result, seen = step_on(*chosen)
      return *result, _step.padded(seen, batch_size)

    if full_batch is None:
      full_batch = _devices.any_of(
        across, choice.full_batch(state.selection, example_ids)
      )
    try:
      return recorded(*_step.branch(full_batch, on_full_batch, on_chosen))
    except TypeError as error:
      auxes = [jax.eval_shape(f)[0][1] for f in (on_full_batch, on_chosen)]
      if auxes[0] == auxes[1]:
        raise
      raise ValueError(
        'Given a loss_fn whose aux has a batch axis. This method passes the '
        'whole batch on some steps and a part on others, and one compiled '
        f'step returns one shape: {auxes[0]} or {auxes[1]}. Return means, or '
        'let the host choose between two compiled steps: pass '
        '**method.decide(state, example_ids) as static arguments.'
      ) from error

  def first_pass(loss_fn, params, batch):
    return _step.make_problem(loss_fn, batch, None).evaluate(params)

  return SharpnessAware(
    init,
    update,
    value_and_grad,
    _decide.make_decide(cadence, choice),
    _decide.make_plan(cadence, choice),
    first_pass if cadence.by_gradient and choice is None else None,
    None if pruning is None else _make_start_epoch(pruning),
  )


def _make_start_epoch(pruning: _base.Pruning) -> Callable[..., Any]:
  def start_epoch(state):
    chosen = pruning.start_epoch(state.selection, state.step)
    return state._replace(selection=chosen), pruning.weights(chosen)

  return start_epoch
