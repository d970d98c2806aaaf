"""The types that the parts of a method share: a vocabulary, no behaviour.

A method answers four questions, each with one part: `Ascent` (where to perturb
to), `Cadence` (on which steps), `Descent` (along what to descend) and
`Selection` (on which examples). A part is a named tuple of pure functions, and
in every part use is apart from memory: the functions that give a direction or
a decision never change the state, and the function that changes the state
(`Ascent.remember`, `update` in the others) returns nothing else. It is called
once per step, with the mean gradient of all devices.

Every part gets gradients in float32 or wider, and the number of the step from
the spine; none of them counts steps.
"""

import numbers
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import optax

PyTree = Any
State = Any
Number = float | jax.Array
ScalarOrSchedule = Number | optax.Schedule
Key = int | jax.Array
Mask = PyTree | Callable[[PyTree], PyTree]


class Init(Protocol):
  """The state before the first step."""

  def __call__(self, params: PyTree) -> State: ...


class GradFn(Protocol):
  """The gradient of the loss on this step's batch: params -> gradient."""

  def __call__(self, params: PyTree, /) -> PyTree: ...


class LossFn(Protocol):
  """(params, batch) -> (losses of shape [batch], aux)."""

  def __call__(
    self, params: PyTree, batch: PyTree, /
  ) -> tuple[jax.Array, Any]: ...


class Cadence(NamedTuple):
  """On which steps to perturb.

  `decide` is True or False where the answer is known when the method is
  built; otherwise a function to a boolean scalar that comes out the same on
  every device.
  """

  init: Callable[[], State]
  # (state, step) -> perturb, or (state, step, gradient) if `by_gradient`.
  decide: bool | Callable[..., jax.Array]
  # (gradient, perturbed gradient or None on a plain step, state, step) -> state
  update: Callable[[PyTree, PyTree | None, State, jax.Array], State]
  by_gradient: bool = False
  # (state, step) -> int32: for how many steps from this one `decide` may be
  # called with this state; None for this one alone.
  foresight: Callable[[State, jax.Array], jax.Array] | None = None


class Descent(NamedTuple):
  """Along what to descend, on a SAM step and on a plain one."""

  init: Callable[[PyTree], State]
  # (gradient, perturbed gradient, state, step) -> direction
  on_perturbed: Callable[[PyTree, PyTree, State, jax.Array], PyTree]
  # (gradient, state, step) -> direction
  on_plain: Callable[[PyTree, State, jax.Array], PyTree]
  # (gradient, perturbed gradient or None on a plain step, state, step) -> state
  update: Callable[[PyTree, PyTree | None, State, jax.Array], State]
  # whether `on_perturbed` or `update` uses the gradient on a SAM step
  reads_gradient: bool = True
  # whether `update` leaves the state as it was where a number in it would not
  # be finite; if not, the spine looks at every number of a new state
  keeps_finite: bool = False


class Choice(NamedTuple):
  """How a selection chooses from a batch by the ids of its examples."""

  # (state, example_ids) -> whether a SAM step takes the full batch after all; a
  # later one with these ids does not if this one does not. A plain step does so
  # only where the cadence decides by the gradient, which comes too late.
  full_batch: Callable[[State, jax.Array], jax.Array]
  # (state, example_ids, step, batch_size) -> positions in example_ids, int32
  # [kept]; these may be one device's part of the step's batch_size examples
  positions: Callable[[State, jax.Array, jax.Array, int], jax.Array]
  # whether `full_batch` can be True
  may_be_full: bool = True


class Pruning(NamedTuple):
  """How a selection leaves examples out of whole epochs."""

  # (state, step) -> state, at the start of an epoch
  start_epoch: Callable[[State, jax.Array], State]
  # state -> the weight of each example's loss in this epoch, float32
  # [num_examples]; 0 for one that the epoch leaves out
  weights: Callable[[State], jax.Array]


class Selection(NamedTuple):
  """On which examples: the full batch where nothing but `init` is set."""

  init: Callable[[], State]
  # before the first pass, from the history of each example
  choice: Choice | None = None
  # before the batches are drawn
  pruning: Pruning | None = None
  # between the passes: (losses, perturbed losses) -> positions, int32 [kept],
  # of the examples in the second pass
  between: Callable[[jax.Array, jax.Array], jax.Array] | None = None
  # (losses, perturbed losses or None on a plain step, state, example_ids) ->
  # state; None if nothing is recorded
  update: (
    Callable[[jax.Array, jax.Array | None, State, jax.Array], State] | None
  ) = None
  # rows of its tables, below which every example id must be; None for no table
  num_examples: int | None = None

  @property
  def reads_losses(self) -> bool:
    """Whether it needs one loss for each example."""
    return any(x is not None for x in (self.pruning, self.between, self.update))


def value_at(
  number: ScalarOrSchedule, step: jax.typing.ArrayLike | None, dtype: Any = None
) -> Any:
  """The value of a number or schedule at a step (from 0), in a dtype."""
  value: Any = number
  if callable(number):
    if step is None:
      raise ValueError(
        'Given a schedule and no step. An ascent keeps no count of its own; '
        'sharpness_aware() tells it the step. By itself, pass the number: '
        'update(gradient, state, params, step=step).'
      )
    value = number(step)
    found = getattr(value, 'dtype', None)
    is_number = found is not None and jnp.issubdtype(found, jnp.number)
    is_number |= isinstance(value, numbers.Real)
    if not is_number or jnp.iscomplexobj(value) or jnp.ndim(value):
      what = type(value).__name__
      if found is not None:
        what = f'{found} of shape {jnp.shape(value)}'
      raise ValueError(
        f'Given a schedule whose value is {what}. One real number is needed at '
        'each step. Return a scalar.'
      )
  return value if dtype is None else jnp.asarray(value, dtype)
