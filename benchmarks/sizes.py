"""Problems of growing size, and the cost of the methods on each."""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import compare, measure, program, rows
from train import models
from train.data import memory
from train.engine.step import Step

MEASURED = ('sam', 'fsam', 'arsam', 'ausam')


class Size(NamedTuple):
  """A problem: a perceptron, its batch and its training set.

  If `pieces` is not 0, the network is one layer, split into that many arrays.
  """

  batch: int = 128
  width: int = 256
  depth: int = 2
  examples: int = 4096
  side: int = 8
  channels: int = 3
  pieces: int = 0


class InPieces(Step):
  """The step of a network of one layer whose kernel is split into many arrays.

  Args:
    pieces: the number of arrays; each has as many columns of the kernel.
    config: see `Step`.
    dataset: see `Step`.
  """

  WIDTH = 6000

  def __init__(self, pieces: int, config: Any, dataset: memory.Dataset):
    self._pieces = pieces
    super().__init__(config, dataset)

  def model(self, seed: int) -> models.Functional:
    """The layer, freshly initialised."""
    features = math.prod(self.image_shape)
    generator = np.random.default_rng(seed)
    kernel = generator.normal(0, features**-0.5, (features, self.WIDTH))
    pieces = np.split(kernel.astype(np.float32), self._pieces, axis=1)
    # A constant, so that the parameters are the pieces alone.
    shape = (self.WIDTH, self.outputs['num_classes'])
    head = generator.normal(0, self.WIDTH**-0.5, shape)

    def apply(params, statistics, images, train):
      del train
      x = images.reshape(images.shape[0], -1) @ jnp.concatenate(params, axis=1)
      return jax.nn.relu(x) @ head.astype(np.float32), statistics

    return models.Functional([jnp.array(piece) for piece in pieces], {}, apply)


# Each panel by the quantity that grows in it, with the problem at each size.
PANELS = {
  'images in a batch': {
    batch: Size(batch=batch) for batch in (32, 64, 128, 256, 512, 1024)
  },
  'width of a layer': {
    width: Size(width=width) for width in (64, 128, 256, 512, 1024, 2048)
  },
  'number of layers': {
    depth: Size(depth=depth) for depth in (1, 2, 4, 8, 16, 32)
  },
  # Images of one pixel, so that the set fits in memory.
  'training examples': {
    examples: Size(width=512, examples=examples, side=1, channels=1)
    for examples in (1_000, 10_000, 100_000, 1_000_000, 14_000_000)
  },
  # The total size is the same. The last two take minutes to compile on a CPU.
  'parameter arrays': {
    pieces: Size(pieces=pieces) for pieces in (1, 10, 100, 500, 2000)
  },
}


def measure_size(
  size: Size, rounds: measure.Rounds, steps: int | None
) -> dict[str, Any]:
  """Measures the methods relative to SGD on one problem.

  Args:
    size: the problem.
    rounds: number of turns of each method.
    steps: steps in a turn; None for as many as SGD takes in a quarter second.

  Returns:
    {'milliseconds': of a step of SGD, 'ratios': {method: [median, quartiles]},
    'unsettled': the methods that are not known as closely as `rounds` asks}.
  """
  model = {'name': 'mlp', 'hidden': (size.width,) * size.depth}
  dataset = program.random_dataset(size.examples, size.side, size.channels)
  kind = Step
  if size.pieces:
    kind = functools.partial(InPieces, size.pieces)
  taking = {}
  for name, spec in rows.chosen(','.join(MEASURED)).items():
    config = program.make_config(spec, model, size.batch)
    # One pixel cannot be cropped, and only the method matters here.
    config.augment.pad, config.augment.flip = 0, False
    taking[name] = program.ProgramRow(spec, config, dataset, kind)
    taking[name].warm_up()
  sgd = taking['sgd']
  steps = steps or measure.steps_in(compare.TURN_SECONDS, sgd.turn(2) / 2)
  unsettled = functools.partial(
    compare.unsettled, taking, steps=steps, within=rounds.within
  )
  turns = measure.interleave(
    taking, rounds, steps, lambda turns: not unsettled(turns)
  )
  return {
    'milliseconds': 1000 * measure.seconds_per_step(turns['sgd'], steps),
    'ratios': {
      name: list(measure.over(turns[name], turns['sgd'])) for name in MEASURED
    },
    'unsettled': unsettled(turns),
  }
