"""The training loop: compiled steps, a data set on the devices, one result.

All of a run's randomness derives from its seed and the step number, so the
same seed gives the same run, whatever was run before it.
"""

import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

import sam_optax
from train import config as train_config
from train.data.open import AnySet
from train.data.tests import open_tests
from train.engine import feed, gallery, seen
from train.engine.batchwise import Batchwise
from train.engine.checkpoint import Checkpoints, Progress
from train.engine.clock import Clock
from train.engine.compilation import Compilation, Kind
from train.engine.decisions import Decisions
from train.engine.feed import Batch
from train.engine.log import Log
from train.engine.measure import Measure
from train.engine.records import Records
from train.engine.step import Step, TrainState
from train.engine.testing import Testing
from train.tasks import Score


class Result(NamedTuple):
  """The result of a run."""

  scores: Mapping[str, float]  # of the last test, by name
  main: Score  # which of them is shown
  images_per_second: float  # training and logging: no compilation, no test
  gradient_evaluations_per_step: float
  batch_gradients_per_step: float  # each counted as its share of the batch
  sam_fraction: float
  steps: int
  train_seconds: float
  compile_seconds: float
  # Of each further test set, see `train/engine/testing.py`.
  further: Mapping[str, Mapping[str, Any]] = {}

  def record(self) -> dict[str, Any]:
    """The result as `result.json` has it."""
    numbers = self._asdict()
    scores = numbers.pop('scores')
    del numbers['main']
    if further := numbers.pop('further'):
      numbers['tests'] = further
    return {**{f'test_{name}': x for name, x in scores.items()}, **numbers}


class Program:
  """A run's compiled functions, shared by the runs that differ in their seed.

  Args:
    config: the config of the run, see `train/config.py`.
    dataset: the data set.
    step: the step to take, if not the config's own.

  Raises:
    ConfigError: if the config cannot be run on this data set.
  """

  def __init__(
    self,
    config: train_config.Config,
    dataset: AnySet,
    step: Step | None = None,
  ):
    self.config = config
    self.step = step or Step(config, dataset)
    further = open_tests(config.data, dataset)
    self.seen = seen.see(self.step.task, dataset, further)
    self.method = self.step.method
    self.num_examples = self.step.num_examples
    self.total_steps = self.step.total_steps
    self.devices = self.step.devices
    self.feed = feed.make(dataset, self.step.task.fields, self.devices)
    # Which parts of a step's arguments have a device's own rows.
    own: Any = self.feed.splits
    self._split = (False, Batch(True, own, reference_ids=True, first=False))
    slow_in_cond = jax.default_backend() == 'cpu' and self.step.convolves
    self.on_host = config.branch == 'host' or (
      config.branch == 'auto' and slow_in_cond
    )
    self._compilation = Compilation(self.devices)
    self._init = jax.jit(self.step.init)
    self._testing = Testing(self.step, self.feed, further)
    self.further_tests = self._testing.further_scores
    self._batchwise = Batchwise(
      self.step, self.feed, self._batch, self._split[1]
    )
    self._measure = Measure(self.step)
    self.compile_seconds = 0.0
    if self.devices.count > 1:
      self._try_out()

  def run(
    self,
    seed: int,
    log: Log | None = None,
    checkpoints: Checkpoints | None = None,
    start: tuple[TrainState, Progress] | None = None,
    finished: Callable[[TrainState], None] | None = None,
  ) -> Result:
    """Trains and tests.

    Args:
      seed: of the initialisation, the order, the augmentation and the method.
      log: where the progress goes.
      checkpoints: where the run is saved, if it is.
      start: what `checkpoints` restored, None to train from scratch.
      finished: is given the state after the last step.

    Returns:
      The result.

    Raises:
      NotFinite: if the loss is no longer finite.
      CheckpointError, Stopped: see `train/engine/checkpoint.py`.
    """
    state, progress = start or (self.init(seed), Progress())
    # The clock starts when the initialisation is done and not only sent.
    jax.block_until_ready(state)
    checkpoints = checkpoints or Checkpoints.nowhere()
    batch_size = self.config.batch_size
    log_every = self.config.log_every
    test_every = self.config.eval_every * (self.num_examples // batch_size)
    # Of the program's earlier runs, and of this run before it was stopped.
    earlier = self.compile_seconds - progress.compile_seconds
    compiling = lambda: self.compile_seconds - earlier
    clock = Clock(progress.seconds + progress.compile_seconds)
    training = lambda: clock.seconds - compiling()
    log = log or Log.nowhere()
    records = Records(log, batch_size, training, logged=progress.step)
    if not self.compile_seconds:  # else an earlier run has compiled the steps
      log.wait_for('compiling')
    decisions = Decisions(self.method, self.on_host)
    while progress.step < self.total_steps:
      if progress.position == len(progress.order):
        if self.method.start_epoch is not None:
          # It changes the state that the rest of a plan was made from.
          decisions = Decisions(self.method, self.on_host)
        state, order = self.start_epoch(state, seed, progress.epoch)
        progress = progress._replace(
          epoch=progress.epoch + 1, order=order, position=0
        )
      left = progress.order[progress.position :]
      left = left[: self.total_steps - progress.step]
      for after, record in self.steps(
        state, left, seed, progress.epoch - 1, progress.step, decisions
      ):
        state, step = after, progress.step + 1
        progress = progress._replace(step=step, position=progress.position + 1)
        records.add(record)
        log.wait_for('')
        if step % log_every == 0:
          records.flush(keep=log_every)
        if step == self.total_steps or step % test_every == 0:
          records.flush()
          with clock.stopped():
            scores, examples = self._testing.scores(state)
            scores |= self._batchwise.compare(state)
            progress = progress._replace(scores=scores)
            records.test(step, scores)
            due = gallery.is_due(step // test_every, step == self.total_steps)
            if examples is not None and due and log.draws:
              picture = gallery.draw(self.step.task, examples)
              log.picture(step, picture)
        progress = progress._replace(
          seconds=training(), compile_seconds=compiling()
        )
        checkpoints.after_step(state, progress, records)
    self._compilation.forget_waiting()
    if finished is not None:
      finished(state)
    total = lambda name: optax.tree.get(state.method, name).item()
    return Result(
      scores=progress.scores,
      main=self.step.task.main,
      images_per_second=self.total_steps * batch_size / progress.seconds,
      gradient_evaluations_per_step=(
        total('gradient_evaluations') / self.total_steps
      ),
      batch_gradients_per_step=total('batch_gradients') / self.total_steps,
      sam_fraction=total('sam_fraction'),
      steps=self.total_steps,
      train_seconds=progress.seconds,
      compile_seconds=progress.compile_seconds,
      further=self.further_tests(state),
    )

  def init(self, seed: int) -> TrainState:
    """The state before the first step."""
    # As JAX would not take half of the 32 bits for an int of its own.
    state = self._init(*self._batchwise.start(seed), np.uint32(seed))
    return self.devices.place(state)

  def start_epoch(
    self, state: TrainState, seed: int, epoch: int
  ) -> tuple[TrainState, np.ndarray]:
    """Draws an epoch's order.

    Args:
      state: the training state; a method that leaves examples out of whole
        epochs changes it.
      seed: of the run.
      epoch: its number, from 0.

    Returns:
      The state, and each step's example ids, int32 [steps, batch_size]; what
      fills no batch is dropped.
    """
    included = np.arange(self.num_examples)
    if self.method.start_epoch is not None:
      method, weights = self._call(
        Kind('start_epoch'),
        self.method.start_epoch,
        state.method,
        donated=(0,),
      )
      state = state._replace(method=method)
      included = np.flatnonzero(weights)
    order = np.random.default_rng((seed, epoch)).permutation(included)
    # Even an epoch that leaves out nearly everything has a step.
    size = self.config.batch_size
    steps = max(1, len(order) // size)
    return state, np.resize(order, (steps, size)).astype(np.int32)

  def steps(
    self,
    state: TrainState,
    order: np.ndarray,
    seed: int = 0,
    epoch: int = 0,
    first: int = 0,
    decisions: Decisions | None = None,
  ) -> Iterator[tuple[TrainState, dict[str, jax.Array]]]:
    """Takes a step on each of some batches.

    The branches are decided ahead as far as they can be known, so that the
    host sends a step before the last one is done.

    Args:
      state: the training state, which is donated.
      order: the examples of each step, int32 [steps, batch_size].
      seed: of the run, for what is random in reading the examples.
      epoch: the order's, likewise.
      first: the number of the first of these steps, from 0.
      decisions: of the run, if these are not all of its steps.

    Yields:
      After each step, the new state and the step's scalars by name, with the
      measurements if they are due.
    """
    decisions = decisions or Decisions(self.method, self.on_host)
    fed = self.feed.train(order, seed, epoch)
    for position, (ids, examples) in enumerate(zip(order, fed, strict=True)):
      decided = decisions.next(state.method, order[position:])
      found = {}
      if self._measure.is_due(first + position):
        found = self._measure(state, ids, self._batch(ids, examples))
      state, record = self.train_step(state, ids, decided, examples)
      yield state, {**record, **found}

  def train_step(
    self,
    state: TrainState,
    ids: np.ndarray,
    decisions: sam_optax.Decisions | None = None,
    examples: Any = None,
  ) -> tuple[TrainState, dict[str, jax.Array]]:
    """Takes one step; compiles it when it is the first of its kind.

    Args:
      state: the training state, which is donated.
      ids: the examples of this step, int32 [batch_size].
      decisions: the branches that the step takes, where they are known.
      examples: where the examples are, if they are fed ahead.

    Returns:
      The new state, and the step's scalars by name.
    """
    if examples is None:
      examples = next(self.feed.train(ids[None]))
    batch = self._batch(ids, examples)
    if decisions is None:
      decisions, batch = self._decide(state, ids, batch)
    return self._call(
      Kind('step', **decisions),
      functools.partial(self.step.step, **decisions),
      state,
      batch,
      split=self._split,
      donated=(0,),
      beside=self._steps_beside(decisions),
    )

  def _steps_beside(
    self, decisions: sam_optax.Decisions
  ) -> dict[Kind, Callable[..., Any]]:
    """The steps of the other kinds that the host can choose."""
    return {
      Kind('step', **other): functools.partial(self.step.step, **other)
      for other in self.method.branches
      if other.keys() == decisions.keys() and other != decisions
    }

  def _decide(
    self, state: TrainState, ids: np.ndarray, batch: Batch
  ) -> tuple[sam_optax.Decisions, Batch]:
    """The branches that the host chooses; without any the step chooses."""
    if not self.on_host:
      return {}, batch
    if self.devices.count > 1 or self.method.first_pass is None:
      return self.method.decide(state.method, ids), batch
    # The choice needs the first gradient: two compiled calls.
    first = self._call(
      Kind('first_pass'),
      self.step.first_pass,
      state,
      batch,
      split=self._split,
    )
    decisions = self.method.decide(state.method, ids, first)
    return decisions, batch._replace(first=first)

  def _batch(self, ids: np.ndarray, examples: Any) -> Batch:
    place = self.devices.batch
    return Batch(place(ids), examples, place(self._reference_ids(ids)))

  def _try_out(self) -> None:
    """Refuses a method that these devices cannot run, before a compilation."""
    model = self.step.model(self.config.seed)
    state = jax.eval_shape(self.step.init, model.params, model.statistics, 0)
    ids = np.zeros(self.config.batch_size, np.int32)
    batch = Batch(ids, self.feed.like(len(ids)), self._reference_ids(ids))
    try:
      self.devices.try_out(self.step.step, (state, batch), self._split)
    except train_config.ConfigError:
      raise
    except ValueError as error:
      raise train_config.ConfigError(
        f'In method, on {self.devices.count} devices: {error}'
      ) from error

  def _call(
    self,
    kind: Kind,
    function: Callable[..., Any],
    *arguments: Any,
    split: Sequence[Any] | None = None,
    donated: Sequence[int] = (),
    beside: Mapping[Kind, Callable[..., Any]] | None = None,
  ) -> Any:
    """Calls the function compiled for a kind; one serves all seeds."""
    compiled = self._compilation.ready(kind)
    if compiled is None:
      start = time.perf_counter()
      compiled = self._compilation.wait(
        kind, function, arguments, split, donated, beside
      )
      self.compile_seconds += time.perf_counter() - start
    return compiled(*arguments)

  @property
  def compiled(self) -> Mapping[Kind, Any]:
    """The compiled functions by their kind, once all that were begun are."""
    return self._compilation.compiled

  def test(self, state: TrainState) -> dict[str, float]:
    """The task's scores over the whole test split, and the network's own."""
    scores, _ = self._testing.scores(state)
    return scores | self._batchwise.compare(state)

  def _reference_ids(self, ids: np.ndarray) -> np.ndarray | None:
    """The examples of the second gradient source, for methods that have one."""
    options = self.config.reference
    if options.batch_size is None:
      return None
    # Drawn from this step's own examples, so that it needs no other state.
    draw = np.random.default_rng((int(ids[0]), *map(int, ids[-2:])))
    order = draw.permutation(self.num_examples).astype(np.int32)
    if options.contains_batch:
      order = np.concatenate([ids, order[~np.isin(order, ids)]])
    return order[: options.batch_size]
