"""The time of a training step over SGD's, measured interleaved.

python -m benchmarks.step_time

Each row runs the training program's own step (augmentation, the choice of the
branch and the base optimizer included) on random images. The rows take turns,
a few steps each, so that a machine whose speed drifts slows them alike.
"""

import statistics
import time

import jax
import numpy as np
from absl import app, flags

from train import config as train_config
from train import data, loop

_ROUNDS = flags.DEFINE_integer('rounds', 40, 'Turns of each row.', 1)
_STEPS = flags.DEFINE_integer('steps', 5, 'Steps in a turn.', 1)
_SIDE = flags.DEFINE_integer('side', 32, 'Pixels on a side.', 1)
_BATCH = flags.DEFINE_integer('batch', 128, 'Images in a batch.', 1)

# The method of each row; SGD first.
ROWS = {
  'SGD': ('base', {}),
  'SAM': ('sam', {}),
  'F-SAM': ('fsam', {}),
  'R-SAM': ('rsam', {}),
  # alpha = 0 holds the probability at 1 / segment.
  'ARSAM, p = 0.25': (
    'arsam',
    {'alpha': 0.0, 'segment': 4, 'warmup_steps': 0},
  ),
}


class Row:
  """A program, its state, and the time its turns took."""

  def __init__(self, name, changes, dataset):
    config = train_config.default()
    config.batch_size = _BATCH.value
    config.steps = _ROUNDS.value * _STEPS.value
    config.model = {
      'name': 'resnet',
      'widths': (16, 32, 64),
      'blocks': (1, 1, 1),
    }
    config.augment.pad = 4
    config.augment.flip = True
    config.method = train_config.method(name, **changes)
    self.program = loop.Program(config, dataset)
    self.state = self.program.init(seed=0)
    self.generator = np.random.default_rng(0)
    self.seconds = []

  def turn(self):
    """Runs a turn of steps and records its time without compilation."""
    compiled = self.program.compile_seconds
    start = time.perf_counter()
    for _ in range(_STEPS.value):
      ids = self.generator.permutation(self.program.num_examples)
      ids = ids[: _BATCH.value].astype(np.int32)
      self.state, _ = self.program.train_step(self.state, ids)
    jax.block_until_ready(self.state.params)
    compiled = self.program.compile_seconds - compiled
    self.seconds.append(time.perf_counter() - start - compiled)

  @property
  def evaluations(self):
    """Gradient evaluations per step so far."""
    steps = len(self.seconds) * _STEPS.value
    return int(self.state.method.gradient_evaluations) / steps


def main(argv):
  """Measures and prints the table."""
  del argv
  generator = np.random.default_rng(0)
  shape = (1000, _SIDE.value, _SIDE.value, 3)
  images = generator.integers(0, 256, shape, np.uint8)
  labels = generator.integers(0, 10, 1000, np.int32)
  dataset = data.Dataset(images, labels, images[:10], labels[:10], 10)
  rows = {
    label: Row(name, changes, dataset)
    for label, (name, changes) in ROWS.items()
  }
  for _ in range(_ROUNDS.value):
    for row in rows.values():
      row.turn()
  first = next(iter(rows.values()))
  print('| method | gradients/step | ms/step | over SGD | ideal/measured |')
  print('|---|---|---|---|---|')
  for label, row in rows.items():
    # A mean over turns, since a drawn cadence's turns differ in their work,
    # of ratios turn by turn, since the machine's speed drifts.
    ratio = statistics.mean(row.seconds) / statistics.mean(first.seconds)
    milliseconds = 1000 * statistics.median(row.seconds) / _STEPS.value
    print(
      f'| {label} | {row.evaluations:.3f} | {milliseconds:.1f} '
      f'| {ratio:.3f} | {row.evaluations / ratio:.3f} |'
    )


if __name__ == '__main__':
  app.run(main)
