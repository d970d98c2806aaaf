"""The functional view of a Flax NNX model: arrays in, arrays out."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
from flax import nnx

# A scalar of one device -> its mean over the devices.
Mean: TypeAlias = Callable[[jax.Array], jax.Array]


class Functional(NamedTuple):
  """A model as pure arrays and one pure function.

  Attributes:
    params: nested dict of the trainable arrays, without ``nnx.Variable``.
    statistics: nested dict of every other array of the model: BatchNorm's
      running statistics and the state of random streams; empty if it has none.
    apply: ``(params, statistics, images, train) -> (logits, statistics)``.
      ``train`` is a Python bool. With ``train=False`` nothing is random and the
      statistics come back as they went in. The same statistics give the same
      dropout, so two passes of one step share it when both start from them.
    start: ``(params, statistics, images, mean) -> (params, statistics)``, of a
      model that a first batch sets up before training: layer by layer, each on
      what those before it give. ``mean`` is a `Mean`. BatchNorm normalises by
      the batch, and its running statistics stay. None for any other model.
    compare: ``(params, others) -> scalars by name``, how the model differs at
      another point; None where there is nothing to say.
    unperturbed: ``params -> tree of bools``, the leaves that a perturbation
      does not move; None for none.
    undecayed: likewise, of weight decay.
  """

  params: Any
  statistics: Any
  apply: Callable[[Any, Any, jax.Array, bool], tuple[jax.Array, Any]]
  start: Callable[..., tuple[Any, Any]] | None = None
  compare: Callable[[Any, Any], dict[str, jax.Array]] | None = None
  unperturbed: Callable[[Any], Any] | None = None
  undecayed: Callable[[Any], Any] | None = None


def functional(model: nnx.Module) -> Functional:
  """Splits a model into arrays and a pure function of them.

  The arrays are the model's own: a step that donates them takes them from the
  model too.

  Args:
    model: a module that maps images ``[batch, h, w, c]`` to logits. Layers that
      differ between training and evaluation follow Flax's names,
      ``use_running_average`` and ``deterministic``, in ``set_view``.

  Returns:
    A :class:`Functional` whose ``apply`` agrees with calling the model.
  """
  # Both graphs are fixed here, outside of any trace, and hold no array: inside
  # jit they are constants, whatever Flax's version makes of hashing them.
  training, params, statistics = nnx.split(
    _view(model, train=True), nnx.Param, ...
  )
  evaluation = nnx.graphdef(_view(model, train=False))

  def apply(
    params: Any, statistics: Any, images: jax.Array, train: bool
  ) -> tuple[jax.Array, Any]:
    if not train:
      return nnx.merge(evaluation, params, statistics)(images), statistics
    live = nnx.merge(training, params, statistics)
    logits = live(images)
    return logits, _arrays(nnx.state(live, nnx.Not(nnx.Param)))

  return Functional(_arrays(params), _arrays(statistics), apply)


def _view(model: nnx.Module, train: bool) -> nnx.Module:
  return nnx.view(
    model,
    use_running_average=not train,
    deterministic=not train,
    raise_if_not_found=False,
  )


def _arrays(state: nnx.State[Any, Any]) -> Any:
  return nnx.to_pure_dict(state)
