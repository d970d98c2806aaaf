"""The rows that run in JAX: the training program's step, the forward pass."""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks import measure
from benchmarks.rows import Spec
from train import config as train_config
from train import models
from train.data import memory
from train.engine import loop
from train.engine.step import Step


def random_dataset(num_examples: int, side: int, channels: int = 3) -> Any:
  """Random images of ten classes."""
  generator = np.random.default_rng(0)
  shape = (num_examples, side, side, channels)
  images = generator.integers(0, 256, shape, np.uint8)
  labels = generator.integers(0, 10, num_examples, np.int32)
  return memory.labelled(images, labels, images[:16], labels[:16], 10)


def make_config(
  spec: Spec, model: Mapping[str, Any], batch: int, steps: int = 1000
) -> Any:
  """The program's config of a row: CIFAR's augmentation, SGD, momentum."""
  config = train_config.default()
  config.batch_size = batch
  config.mesh = (1,)
  config.steps = steps
  config.eval_every = 10**9  # tests are not what is measured
  config.dtype = 'float32'  # but for a network whose options say otherwise
  config.model = dict(model)
  config.augment.pad = 4
  config.augment.flip = True
  config.optimizer.learning_rate = 0.01
  config.optimizer.schedule = 'constant'
  if spec.reference:
    config.reference.batch_size = batch
  config.method = train_config.method(spec.method, **spec.changes)
  return config


def make_program(
  spec: Spec,
  config: Any,
  dataset: memory.Dataset,
  kind: Callable[..., Step] = Step,
) -> loop.Program:
  """The training program with a row's method, and a step of some kind."""
  step = kind(config, dataset)
  if spec.build is not None:
    # The program builds methods by their names; this one has none.
    step.build_method = lambda key: spec.build(config)
    step.method = step.build_method(0)
    step.optimizer = optax.sgd(1.0)
  return loop.Program(config, dataset, step)


class ProgramRow:
  """The training program's own step, with its data and decisions.

  Args:
    spec: what the row measures.
    config: the program's config of it.
    dataset: what the batches are drawn from.
    kind: (config, dataset) -> the step.
  """

  def __init__(
    self,
    spec: Spec,
    config: Any,
    dataset: memory.Dataset,
    kind: Callable[..., Step] = Step,
  ):
    self.spec = spec
    self.forwards = spec.forwards
    self.program = make_program(spec, config, dataset, kind)
    self.state = self.program.init(seed=0)
    self.share = _share(spec, config)
    self._ids = draw_ids(self.program.num_examples, config.batch_size)

  def warm_up(self, steps: int = 2) -> None:
    """Compiles and runs the step as it begins, then as it goes on."""
    self.turn(steps)
    # Scalars and tables alike keep their shape and dtype.
    settled = {
      name: jnp.full_like(optax.tree.get(self.state.method, name), number)
      for name, number in self.spec.settled.items()
    }
    method = optax.tree.set(self.state.method, **settled)
    self.state = self.state._replace(method=method)
    self.turn(steps)

  def turn(self, steps: int) -> float:
    """Runs a turn; returns its seconds without compilation."""
    order = np.stack([next(self._ids) for _ in range(steps)])
    compiled = self.program.compile_seconds
    start = time.perf_counter()
    for state, _ in self.program.steps(self.state, order):
      self.state = state
    jax.block_until_ready(self.state)
    compiled = self.program.compile_seconds - compiled
    return time.perf_counter() - start - compiled

  @property
  def gradients(self) -> float:
    """Gradients of a whole batch so far, by the method's own count."""
    count = optax.tree.get(self.state.method, 'gradient_evaluations')
    return self.share * int(count)

  @property
  def compile_seconds(self) -> float:
    """What compiling its steps took."""
    return self.program.compile_seconds

  @property
  def peak_bytes(self) -> int | None:
    """What the largest of its steps holds."""
    return measure.peak_bytes(self.program.compiled.values())

  @property
  def parameter_bytes(self) -> int:
    """One copy of the parameters."""
    return sum(leaf.nbytes for leaf in jax.tree.leaves(self.state.params))


class ForwardRow:
  """The forward pass alone, in training mode, on a batch already made.

  Args:
    config: a program's config.
    dataset: what the images' shape is taken from.
  """

  gradients = forwards = 0.0

  def __init__(self, config: Any, dataset: memory.Dataset):
    options = config.model.to_dict()
    shape = dataset.train['image'].shape[1:]
    model = models.functional(
      models.create(
        options.pop('name'),
        num_classes=dataset.facts['num_classes'],
        image_shape=shape,
        seed=0,
        **options,
      )
    )
    key = jax.random.key(0)
    images = jax.random.normal(key, (config.batch_size, *shape))
    labels = jnp.zeros(config.batch_size, jnp.int32)

    @jax.jit
    def forward(params, statistics, images, labels):
      logits, statistics = model.apply(params, statistics, images, True)
      losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
      return losses, statistics

    self._call = lambda: forward(model.params, model.statistics, images, labels)

  def warm_up(self) -> None:
    """Compiles and runs it."""
    self.turn(2)

  def turn(self, steps: int) -> float:
    """Runs a turn; returns its seconds."""
    start = time.perf_counter()
    for _ in range(steps):
      result = self._call()
    jax.block_until_ready(result)
    return time.perf_counter() - start


def _share(spec: Spec, config: Any) -> float:
  """The share of a batch that a counted gradient is taken on."""
  if spec.share is not None:
    return spec.share
  batch = config.batch_size
  return max(1, int(config.method.get('keep', 1.0) * batch + 1e-6)) / batch


def draw_ids(num_examples: int, batch: int) -> Iterator[np.ndarray]:
  """The examples of each batch, the same for all rows."""
  generator = np.random.default_rng(0)
  while True:
    ids = generator.choice(num_examples, batch, replace=False)
    yield ids.astype(np.int32)
