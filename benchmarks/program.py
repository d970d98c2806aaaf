"""Rows that run in JAX: the step of the training program, a forward pass."""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

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
  """The config of a row: augmentation as on CIFAR, SGD with momentum."""
  config = train_config.default()
  config.batch_size = batch
  config.mesh = (1,)
  config.steps = steps
  config.eval_every = 10**9  # never: only the training steps are measured
  config.dtype = 'float32'  # the options of a network may differ
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
  """The training program with the method of a row.

  Args:
    spec: the row.
    config: its config.
    dataset: the data set.
    kind: (config, dataset) -> the step.
  """
  step = kind(config, dataset)
  if spec.build is not None:
    # The program builds methods by name, but this one is not in METHODS.
    step.build_method = lambda key: spec.build(config)
    step.method = step.build_method(0)
    step.optimizer = optax.sgd(1.0)
  return loop.Program(config, dataset, step)


class Alone(NamedTuple):
  """The steps of a run without the rest of the program."""

  seconds: float
  gradients: float  # in units of the whole batch


def steps_alone(whole: loop.Program, seed: int) -> Alone:
  """Takes the steps of a run, without its logging, records and test.

  They are the same steps, on the same batches: where a method takes its second
  gradient on some steps, a run with fewer of them would seem slow for its
  gradients, as what is not a gradient is shared among fewer.

  Args:
    whole: the program, which has compiled its steps.
    seed: of the run.
  """
  state, total = whole.init(seed), whole.total_steps
  per_epoch = whole.num_examples // whole.config.batch_size
  orders = [
    whole.start_epoch(state, seed, epoch)[1]
    for epoch in range(-(-total // per_epoch))
  ]
  jax.block_until_ready(state)
  start = time.perf_counter()
  for after, _ in whole.steps(state, np.concatenate(orders)[:total], seed):
    state = after
  jax.block_until_ready(state)
  seconds = time.perf_counter() - start
  return Alone(seconds, optax.tree.get(state.method, 'batch_gradients').item())


class ProgramRow:
  """The step of the training program, with its data and decisions.

  Args:
    spec: the row.
    config: its config.
    dataset: the set that batches are drawn from.
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
    self._ids = draw_ids(self.program.num_examples, config.batch_size)

  def warm_up(self, steps: int = 2) -> None:
    """Compiles and runs the first steps, then those of the steady state."""
    self.turn(steps)
    # Each field keeps its shape and dtype, be it a scalar or a table.
    settled = {
      name: jnp.full_like(optax.tree.get(self.state.method, name), number)
      for name, number in self.spec.settled.items()
    }
    method = optax.tree.set(self.state.method, **settled)
    self.state = self.state._replace(method=method)
    self.turn(steps)
    # No step of another kind may be compiling while turns are measured.
    start = time.perf_counter()
    compiled = self.program.compiled
    self.program.compile_seconds += time.perf_counter() - start
    jax.block_until_ready(self.state)
    del compiled

  def take_step(self) -> None:
    """Takes one step to its end; the first one compiles."""
    order = next(self._ids)[None]
    for state, _ in self.program.steps(self.state, order):
      self.state = state
    jax.block_until_ready(self.state)

  def turn(self, steps: int) -> float:
    """Runs a turn; returns its seconds, not counting compilation."""
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
    """Gradients so far in units of the whole batch, as the state counts."""
    return float(optax.tree.get(self.state.method, 'batch_gradients'))

  @property
  def compile_seconds(self) -> float:
    """Seconds that compiling the steps took."""
    return self.program.compile_seconds

  @property
  def peak_bytes(self) -> int | None:
    """Peak memory of the largest compiled step."""
    return measure.peak_bytes(self.program.compiled.values())

  @property
  def parameter_bytes(self) -> int:
    """Size of one copy of the parameters."""
    return sum(leaf.nbytes for leaf in jax.tree.leaves(self.state.params))


class ForwardRow:
  """The forward pass alone, in training mode, on a prepared batch.

  Args:
    config: a config of the training program.
    dataset: the set that the shape of the images is taken from.
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


def draw_ids(num_examples: int, batch: int) -> Iterator[np.ndarray]:
  """The examples of each batch, the same for all rows."""
  generator = np.random.default_rng(0)
  while True:
    ids = generator.choice(num_examples, batch, replace=False)
    yield ids.astype(np.int32)
