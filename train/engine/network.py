"""A config's network, and what it has to know of a data set.

Both are all that a trained model needs to be used: not the data set itself.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from train import config as train_config
from train import models
from train.checks import said
from train.config import Config, ConfigError
from train.models import quantize
from train.tasks import Task


class Described(NamedTuple):
  """What is known of a data set without its examples.

  Attributes:
    image_shape: height, width and channels.
    fields: what an example has beside its image.
    facts: what else is known, such as 'num_classes'.
    mean: each channel's, of pixels in [0, 1], to normalise with.
    std: likewise. None where nothing is normalised.
  """

  image_shape: tuple[int, int, int]
  fields: tuple[str, ...]
  facts: Mapping[str, Any]
  mean: tuple[float, ...] | None
  std: tuple[float, ...] | None

  def normalising(self, config: Config) -> Config:
    """The config with these constants in place of those to be computed."""
    config = config.copy_and_resolve_references()
    if self.mean is not None:
      config.augment.mean, config.augment.std = self.mean, self.std
    return config


def describe(task: Task, dataset: Any) -> Described:
  """Describes a data set.

  Args:
    task: the task on it.
    dataset: the data set.

  Returns:
    Its description; the constants are float32 numbers.
  """
  height, width, channels = dataset.image_shape
  mean, std = None, None
  if task.normalisation is not None:
    mean, std = (
      tuple(np.asarray(x, np.float32).tolist()) for x in task.normalisation
    )
  return Described(
    image_shape=(height, width, channels),
    fields=tuple(dataset.fields),
    facts=dataset.facts,
    mean=mean,
    std=std,
  )


def build(
  config: Config,
  outputs: Mapping[str, Any],
  image_shape: Sequence[int],
  seed: int,
) -> models.Functional:
  """Builds a config's network, freshly initialised.

  Args:
    config: the config of the run.
    outputs: what the task asks of it, see `Task.outputs`.
    image_shape: height, width and channels.
    seed: of the initialisation.

  Returns:
    The network.

  Raises:
    ConfigError: if it cannot be built.
  """
  options = config.model.to_dict()
  name = options.pop('name', None)
  if name is None:
    raise ConfigError(
      f'Given model={options}. It has no name, so that there is no network to '
      f'build. Give one of {", ".join(models.names())} as model.name.'
    )
  dtype = train_config.compute_dtype(config.dtype, jax.default_backend())
  if dtype != 'float32':  # which is every model's own default
    options.setdefault('dtype', dtype)
  quantized = options.pop('quantize', None)
  try:
    settings = None if quantized is None else quantize.read(quantized)
    model = models.create(
      name,
      **outputs,
      image_shape=image_shape,
      seed=seed,
      quantize=settings,
      **options,
    )
  except ValueError as error:
    raise ConfigError(f'In model: {error}') from error
  except TypeError as error:
    raise ConfigError(
      f'Given model={config.model.to_dict()}. No network can be built of these '
      f'options: {said(str(error).splitlines()[0])} Give each option a '
      f'value as the docstring of {name!r} in train/models has it.'
    ) from error
  if settings is None:
    return models.functional(model)
  return quantize.with_steps(model, settings)
