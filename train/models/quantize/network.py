"""A quantised network as the program takes it: its start, and its steps."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from train.models.functional import Functional, Mean, functional
from train.models.quantize import layers
from train.models.quantize.lsq import initial_step
from train.models.quantize.settings import Settings


def with_steps(model: nnx.Module, settings: Settings) -> Functional:
  """The functional view of a quantised model.

  Args:
    model: that `wrap` quantised.
    settings: how.

  Returns:
    A `Functional` whose `start` sets the steps, whose `compare` gives
    ``flipped_codes``, the share of the weights that another point gives another
    code, and whose masks are of the steps.
  """
  codes_of = {
    path: quantiser.weight_codes
    for path, quantiser in layers.quantisers(model).items()
  }
  return functional(model)._replace(
    start=_starter(model),
    compare=lambda params, others: {
      'flipped_codes': layers.flipped(params, others, codes_of)
    },
    unperturbed=None if settings.perturb_steps else step_mask,
    undecayed=None if settings.decay_steps else step_mask,
  )


def step_mask(params: Any) -> Any:
  """A tree of bools: True for the steps among the parameters of a model."""
  names = ('weight_step', 'input_step')
  return jax.tree.map_with_path(lambda path, _: path[-1].key in names, params)


def quantize(
  model: nnx.Module,
  images: jax.Array,
  *,
  weights: int,
  activations: int,
  ends: int = 8,
  count_batch: bool = False,
) -> nnx.Module:
  """Quantises every convolution and dense layer of a model, in place.

  The weights stay as they are, so load those of a float network before. So do
  the running statistics of BatchNorm.

  Args:
    model: any model of the program.
    images: float ``[batch, h, w, c]``, a first batch as the model takes it; see
      `Functional.start` for what it sets.
    weights: bits of the kernels.
    activations: bits of the layers' inputs.
    ends: see `Settings`.
    count_batch: see `Settings`.

  Returns:
    The model itself.

  Raises:
    ValueError: if the model has no such layer or is quantised already, or the
      bits cannot be used.
  """
  settings = Settings(weights, activations, ends, count_batch)
  layers.wrap(model, images.shape[1:], settings)
  start: Any = jax.jit(_starter(model))
  _, params, statistics = nnx.split(model, nnx.Param, ...)
  started = start(
    nnx.to_pure_dict(params), nnx.to_pure_dict(statistics), images
  )
  for state, arrays in zip((params, statistics), started, strict=True):
    nnx.replace_by_pure_dict(state, arrays)
    nnx.update(model, state)
  return model


def _starter(model: nnx.Module) -> Callable[..., tuple[Any, Any]]:
  """From parameters, statistics and images to the first two, started."""
  graphdef, *_ = nnx.split(layers.in_training(model), nnx.Param, ...)
  itself: Mean = lambda x: x

  def start(params, statistics, images, mean=itself):
    live = nnx.merge(graphdef, params, statistics)
    started = {}

    def before(path, quantiser, arrays):
      if path in started or not isinstance(quantiser, layers.Quantiser):
        return  # A second use of a layer starts alike.
      inputs, kernel, *_ = arrays
      signed = mean(jnp.any(inputs < 0).astype(jnp.float32)) > 0
      quantiser.signed[...] = signed.astype(jnp.int32)
      size = mean(jnp.mean(jnp.abs(inputs.astype(jnp.float32))))
      quantiser.input_step[...] = initial_step(size, quantiser.input_codes.high)
      quantiser.weight_step[...] = initial_step(
        kernel.astype(jnp.float32), quantiser.weight_codes.high
      )
      started[path] = quantiser

    layers.use(live, images, before)
    params, statistics = (_copied(tree) for tree in (params, statistics))
    for path, quantiser in started.items():
      place = (*path, 'promote_dtype')
      steps = layers.at(params, place)
      steps['weight_step'] = quantiser.weight_step[...]
      steps['input_step'] = quantiser.input_step[...]
      layers.at(statistics, place)['signed'] = quantiser.signed[...]
    return params, statistics

  return start


def _copied(tree: Any) -> Any:
  return jax.tree.map(lambda leaf: leaf, tree)
