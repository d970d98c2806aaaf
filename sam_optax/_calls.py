"""How the functions of a method are called: types that an editor shows.

A wrapper of a method, such as `if_finite`, makes functions of these types too.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypedDict

import jax
import numpy as np

from sam_optax import _base, _evaluate

# int32 [batch], the position of each example in the data set.
Ids = jax.Array | np.ndarray[Any, Any] | Sequence[int]


class Decisions(TypedDict, total=False):
  """The branches of a step, as keyword arguments of both entry points."""

  perturb: bool
  full_batch: bool


class Update(Protocol):
  """`SharpnessAware.update` without the method that it belongs to."""

  def __call__(
    self,
    updates: _base.PyTree,
    state: _base.State,
    params: _base.PyTree = None,
    **extra_args: Any,
  ) -> tuple[_base.PyTree, _base.State]: ...


class ValueAndGrad(Protocol):
  """`SharpnessAware.value_and_grad` without the method that it belongs to."""

  def __call__(
    self,
    loss_fn: _base.LossFn,
    params: _base.PyTree,
    state: _base.State,
    batch: _base.PyTree,
    example_ids: Ids | None = None,
    /,
    *,
    reference_grad_fn: _base.GradFn | None = None,
    prepare: Callable[[_base.PyTree], _base.PyTree] | None = None,
    perturb: bool | None = None,
    full_batch: bool | None = None,
    first: _evaluate.Evaluation | None = None,
  ) -> tuple[tuple[jax.Array, Any], _base.PyTree, _base.State]: ...


class Decide(Protocol):
  """The branches of the coming step, decided outside `jit`."""

  def __call__(
    self,
    state: _base.State,
    example_ids: Ids | None = None,
    first: _evaluate.Evaluation | None = None,
  ) -> Decisions: ...


class Plan(Protocol):
  """The branches of the coming steps, whose ids are int32 [steps, batch]."""

  def __call__(
    self,
    state: _base.State,
    example_ids: jax.Array | np.ndarray[Any, Any] | None = None,
  ) -> list[Decisions]: ...


class FirstPass(Protocol):
  """The first evaluation of a step, of the whole batch."""

  def __call__(
    self, loss_fn: _base.LossFn, params: _base.PyTree, batch: _base.PyTree
  ) -> _evaluate.Evaluation: ...


class StartEpoch(Protocol):
  """(state, the weight of each example in the epoch, float32)."""

  def __call__(self, state: _base.State) -> tuple[_base.State, jax.Array]: ...


class PerturbedParams(Protocol):
  """The parameters at which a SAM step would take its second gradient."""

  def __call__(
    self,
    grad_fn: _base.GradFn,
    params: _base.PyTree,
    state: _base.State,
    reference_grad_fn: _base.GradFn | None = None,
  ) -> _base.PyTree: ...
