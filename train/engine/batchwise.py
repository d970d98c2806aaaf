"""The use of one batch beside the steps: to set up a network, and to compare.

Most networks need neither, and then nothing here does anything.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from train.engine import feed
from train.engine.feed import Batch
from train.engine.step import Step, TrainState
from train.parallel import devices


class Batchwise:
  """Calls the functions of a network that take a batch.

  Args:
    step: of the run.
    fed: the feed of the data set of the run.
    batch_of: (ids, examples) -> the batch as a step takes it.
    split: for each field of it whether devices have their own rows.
  """

  def __init__(
    self,
    step: Step,
    fed: feed.InMemoryFeed | feed.PrefetchingFeed,
    batch_of: Callable[[np.ndarray, Any], Batch],
    split: Any,
  ):
    self._step, self._feed = step, fed
    self._batch_of, self._split = batch_of, split
    self._compiled: dict[str, Callable[..., Any]] = {}

  def start(self, seed: int) -> tuple[Any, Any]:
    """A run's parameters and statistics before the first step.

    Args:
      seed: of the run.

    Returns:
      Both as the host has them, started by the run's first batch if the network
      asks for one.
    """
    model = self._step.model(seed)
    if model.start is None:
      return model.params, model.statistics
    # The first batch of the run, unless its method leaves examples out.
    order = np.random.default_rng((seed, 0)).permutation(
      self._step.num_examples
    )
    place = self._step.devices.place
    started = self._call(
      'start',
      self._step.start,
      (place(model.params), place(model.statistics), np.uint32(seed)),
      order,
      seed,
    )
    return jax.device_get(devices.readable(started))

  def compare(self, state: TrainState) -> dict[str, float]:
    """The network at the perturbed point beside the network.

    Args:
      state: the training state.

    Returns:
      Scalars by name, of a perturbation by the gradient on the first training
      examples; none where the network has none.
    """
    if self._step.network.compare is None:
      return {}
    order = np.arange(self._step.num_examples)
    found = self._call('compare', self._step.compare, (state,), order)
    return {name: float(x) for name, x in jax.device_get(found).items()}

  def _call(
    self,
    name: str,
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    order: np.ndarray,
    seed: int = 0,
  ) -> Any:
    ids = order[: self._step.config.batch_size].astype(np.int32)
    examples = next(self._feed.train(ids[None], seed))
    arguments = (*arguments, self._batch_of(ids, examples))
    if name not in self._compiled:
      split = (*[False] * (len(arguments) - 1), self._split)
      self._compiled[name] = self._step.devices.compile(
        function, arguments, split
      )
    return self._compiled[name](*arguments)
