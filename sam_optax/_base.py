"""The vocabulary: the types that the parts of a method share, no behaviour.

A method answers four questions, each with one part: `Ascent` (where to perturb),
`Cadence` (when), `Descent` (what to descend along) and `Selection` (whom of
the batch to ask). A part is a NamedTuple of pure functions named after when
they are called. Every part sees gradients in float32 or wider.
"""

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


class GradFn(Protocol):
  """The gradient of the loss on this step's batch: params -> gradient."""

  def __call__(self, params: PyTree, /) -> PyTree: ...


class LossFn(Protocol):
  """(params, batch) -> (losses of shape [batch], aux)."""

  def __call__(
    self, params: PyTree, batch: PyTree, /
  ) -> tuple[jax.Array, Any]: ...


class Ascent(NamedTuple):
  """Where to perturb, for an ascent that is more than gradient -> perturbation.

  An ascent that is not is a plain `optax.GradientTransformation` from gradient
  to perturbation. To either the spine passes these keywords:

    perturbed: a Python bool; False on a step that does not perturb, when only the
      new state matters.
    offset: what `offset` returned this step.
    draw: the number of this draw, below `draws`.
    gradient_at: point -> gradient on this step's examples. Each call is one
      more gradient evaluation, and is counted.
    reference: point -> gradient on the caller's other data, or None. A call is
      counted too.
    mean: tree -> its mean over the devices that perturb along gradients of their
      own; the identity where there is one. What becomes of a state's numbers
      is averaged anyway.
  """

  init: Callable[[PyTree], State]
  update: Callable[..., tuple[PyTree, State]]
  # (state, params) -> offset of the first pass from the params; None for none
  offset: Callable[[State, PyTree], PyTree] | None = None
  # perturbations per SAM step; the gradients there are averaged
  draws: int = 1
  # whether the perturbation depends on the gradient of the first pass
  reads_gradient: bool = True


class Cadence(NamedTuple):
  """When to perturb.

  `decide` is True or False where the answer is known when the method is
  built; otherwise a function to a boolean scalar that comes out the same on
  every device.
  """

  init: Callable[[], State]
  # (state, step) -> perturb, or (state, step, gradient) if `by_gradient`.
  decide: bool | Callable[..., jax.Array]
  # (gradient, perturbed gradient, state, step) -> state
  on_perturbed: Callable[[PyTree, PyTree, State, jax.Array], State]
  # (gradient, state, step) -> state
  on_plain: Callable[[PyTree, State, jax.Array], State]
  by_gradient: bool = False
  # (state, step) -> int32: of how many steps from this one `decide` may be
  # asked with this state; None for this one alone.
  foresight: Callable[[State, jax.Array], jax.Array] | None = None


class Descent(NamedTuple):
  """What to descend along."""

  init: Callable[[PyTree], State]
  # (gradient, perturbed gradient, state, step) -> (direction, state)
  on_perturbed: Callable[
    [PyTree, PyTree, State, jax.Array], tuple[PyTree, State]
  ]
  # (gradient, state, step) -> (direction, state)
  on_plain: Callable[[PyTree, State, jax.Array], tuple[PyTree, State]]


class Choice(NamedTuple):
  """How a selection chooses from a batch by its examples' ids."""

  # (state, example_ids) -> whether the whole batch goes in after all; if it
  # does not, it does not later either
  full_batch: Callable[[State, jax.Array], jax.Array]
  # (state, example_ids, step, batch_size) -> positions in example_ids, int32
  # [kept]; these may be a device's part of the step's batch_size examples
  positions: Callable[[State, jax.Array, jax.Array, int], jax.Array]


class Pruning(NamedTuple):
  """How a selection leaves examples out of whole epochs."""

  # (state, step) -> state, at the start of an epoch
  start_epoch: Callable[[State, jax.Array], State]
  # state -> the weight of each example's loss in this epoch, float32
  # [num_examples]; 0 for one that the epoch leaves out
  weights: Callable[[State], jax.Array]


class Selection(NamedTuple):
  """Whom to ask: which examples; all of the batch where nothing else is set."""

  init: Callable[[], State]
  # before the first pass, from what is known of each example
  choice: Choice | None = None
  # before the batches are drawn
  pruning: Pruning | None = None
  # between the passes: (losses, perturbed losses) -> positions, int32 [kept],
  # of those in the second pass
  between: Callable[[jax.Array, jax.Array], jax.Array] | None = None
  # (losses, perturbed losses, state, example_ids) -> state, after a SAM step
  on_perturbed: (
    Callable[[jax.Array, jax.Array, State, jax.Array], State] | None
  ) = None
  # (losses, state, example_ids) -> state, after a step that did not perturb
  on_plain: Callable[[jax.Array, State, jax.Array], State] | None = None


def as_ascent(ascent: Ascent | optax.GradientTransformation) -> Ascent:
  """An ascent that may have been given as a plain transformation."""
  if isinstance(ascent, Ascent):
    return ascent
  return Ascent(*optax.with_extra_args_support(ascent))


def value_at(
  number: ScalarOrSchedule, step: jax.Array, dtype: Any = None
) -> Any:
  """The value of a number or schedule at a step (from 0), in a dtype."""
  value = number(step) if callable(number) else number
  return value if dtype is None else jnp.asarray(value, dtype)
