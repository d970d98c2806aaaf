"""The training loop: one compiled step, a data set on the device, one result.

The step is a pure function of the training state, this step's example ids and
the data. All of a run's randomness derives from its seed and the step number,
so the same seed gives the same run, whatever was run before it.
"""

import contextlib
import functools
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from train import augment, data, models
from train import config as train_config
from train.log import Log


class TrainState(NamedTuple):
  """Everything that a step changes, and the key it draws from."""

  step: jax.Array
  key: jax.Array
  params: Any
  statistics: Any  # BatchNorm's running statistics, random streams
  method: Any  # a SharpnessAwareState
  optimizer: optax.OptState


class Result(NamedTuple):
  """What a run came to."""

  test_accuracy: float
  test_loss: float
  images_per_second: float  # training alone: no compilation, no evaluation
  gradient_evaluations_per_step: float
  look_share: float
  steps: int
  train_seconds: float
  compile_seconds: float


class NotFinite(RuntimeError):
  """The loss is no number any more: what happened, why, and what to try."""


class Program:
  """A run's compiled functions, shared by the runs that differ in their seed.

  Args:
    config: the config of the run, see `train/config.py`.
    dataset: the data set.

  Raises:
    ConfigError: if the config cannot be run on this data set.
  """

  def __init__(self, config: train_config.Config, dataset: data.Dataset):
    self.config = config
    self.num_examples = len(dataset.train_images)
    self.total_steps = train_config.check(config, self.num_examples)
    self.num_classes = dataset.num_classes
    optimizer = train_config.build_optimizer(config, self.total_steps)
    self._known = {
      'num_examples': self.num_examples,
      'num_classes': self.num_classes,
      'total_steps': self.total_steps,
      'steps_per_epoch': self.num_examples // config.batch_size,
      'learning_rate': train_config.build_schedule(config, self.total_steps),
      'base': optimizer,
    }
    # The key matters to a method's init only: it lives in the state.
    self.method = train_config.build_method(config, key=0, **self._known)
    # A method that is an optimizer returns minus its whole step.
    whole = self.method.is_optimizer
    self.optimizer = optax.sgd(1.0) if whole else optimizer
    self.image_shape = dataset.train_images.shape[1:]
    self._apply = self._model(config.seed).apply
    self._mean, self._std = augment.statistics(dataset.train_images)
    self._train = jax.device_put((dataset.train_images, dataset.train_labels))
    self._test = dataset.test_images, dataset.test_labels
    self._on_host = config.branch == 'host' or (
      config.branch == 'auto' and jax.default_backend() == 'cpu'
    )
    self._compiled = {}
    self._init = jax.jit(self._init_state)
    self._evaluate = jax.jit(self._evaluate_batch)
    self.compile_seconds = 0.0
    # An option that augmentation refuses is refused here, not in the first
    # step.
    jax.eval_shape(
      lambda images: self._augment(jax.random.key(0), images),
      jax.ShapeDtypeStruct((1, *self.image_shape), jnp.uint8),
    )

  def run(self, seed: int, log: Log | None = None) -> Result:
    """Trains from scratch and tests.

    Args:
      seed: of the initialisation, the order, the augmentation and the method.
      log: where the progress goes.

    Returns:
      The result.

    Raises:
      NotFinite: if the loss is no number any more.
    """
    log = Log.nowhere() if log is None else log
    state = self.init(seed)
    batch_size = self.config.batch_size
    per_epoch = self.num_examples // batch_size
    clock, pending, scores = _Clock(), [], {}
    compiled = self.compile_seconds
    step = epoch = 0
    while step < self.total_steps:
      state, order = self.start_epoch(state, seed, epoch)
      epoch += 1
      for ids in order[: self.total_steps - step]:
        state, record = self.train_step(state, ids)
        pending.append(record)
        step += 1
        last = step == self.total_steps
        if last or step % self.config.log_every == 0:
          # Fetching the records waits for the steps behind them.
          records = jax.device_get(pending)
          pending = []
          seconds = clock.seconds - (self.compile_seconds - compiled)
          with clock.stopped():
            first = step - len(records) + 1
            _check_finite(first, records)
            log.steps(first, records, step * batch_size / seconds)
        if last or step % (per_epoch * self.config.eval_every) == 0:
          with clock.stopped():
            scores = self.test(state)
            log.test(step, scores)
    compiled = self.compile_seconds - compiled
    seconds = clock.seconds - compiled
    evaluations = int(optax.tree.get(state.method, 'gradient_evaluations'))
    return Result(
      test_accuracy=scores['accuracy'],
      test_loss=scores['loss'],
      images_per_second=self.total_steps * batch_size / seconds,
      gradient_evaluations_per_step=evaluations / self.total_steps,
      look_share=float(optax.tree.get(state.method, 'look_share')),
      steps=self.total_steps,
      train_seconds=seconds,
      compile_seconds=compiled,
    )

  def init(self, seed: int) -> TrainState:
    """The state before the first step."""
    model = self._model(seed)
    return self._init(model.params, model.statistics, seed)

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
        'start_epoch', self.method.start_epoch, (0,), state.method
      )
      state = state._replace(method=method)
      included = np.flatnonzero(weights)
    order = np.random.default_rng((seed, epoch)).permutation(included)
    # Even an epoch that leaves out nearly everything has a step.
    size = self.config.batch_size
    steps = max(1, len(order) // size)
    return state, np.resize(order, (steps, size)).astype(np.int32)

  def train_step(
    self, state: TrainState, ids: np.ndarray
  ) -> tuple[TrainState, dict[str, jax.Array]]:
    """One step; compiles it when it is the first of its kind.

    Args:
      state: the training state, which is donated.
      ids: the examples of this step, int32 [batch_size].

    Returns:
      The new state, and the step's scalars by name.
    """
    arguments = [state, ids, self._train, self._reference_ids(state, ids)]
    decisions = {}
    first_pass = self.method.first_pass
    if self._on_host and first_pass is not None:
      # The choice needs the first gradient: two compiled calls.
      first = self._call(
        'first_pass',
        lambda state, ids, train: first_pass(
          self._loss_fn(state), state.params, self._examples(state, ids, train)
        ),
        (),
        *arguments[:3],
      )
      decisions = self.method.decide(state.method, ids, first)
      arguments.append(first)
    elif self._on_host:
      decisions = self.method.decide(state.method, ids)
    kind = tuple(sorted(decisions.items()))
    return self._call(kind, self._step, (0,), *arguments)

  def _call(self, name, function, donated, *arguments):
    """Calls the function compiled for a name, for all seeds alike."""
    if name not in self._compiled:
      start = time.perf_counter()
      decisions = dict(name) if isinstance(name, tuple) else {}
      jitted = jax.jit(
        functools.partial(function, **decisions), donate_argnums=donated
      )
      self._compiled[name] = jitted.lower(*arguments).compile()
      self.compile_seconds += time.perf_counter() - start
    return self._compiled[name](*arguments)

  @property
  def compiled(self) -> Mapping[Any, Any]:
    """The compiled functions of the steps taken so far, by their kind."""
    return self._compiled

  def test(self, state: TrainState) -> dict[str, float]:
    """Loss and accuracy over the whole test split."""
    images, labels = self._test
    size = min(500, len(images))
    sums = np.zeros(2)
    for start in range(0, len(images), size):
      # The last batch is filled up with the first images, which do not count.
      rows = np.arange(start, start + size)
      valid = (rows < len(images)).astype(np.float32)
      rows = rows % len(images)
      sums += jax.device_get(
        self._evaluate(
          state.params, state.statistics, images[rows], labels[rows], valid
        )
      )
    loss, accuracy = sums / len(images)
    return {'loss': float(loss), 'accuracy': float(accuracy)}

  def _model(self, seed: int) -> models.Functional:
    options = self.config.model.to_dict()
    name = options.pop('name')
    try:
      model = models.create(
        name,
        num_classes=self.num_classes,
        image_shape=self.image_shape,
        seed=seed,
        **options,
      )
    except ValueError as error:
      raise train_config.ConfigError(f'In model: {error}') from error
    return models.functional(model)

  def _init_state(self, params, statistics, seed) -> TrainState:
    method = train_config.build_method(self.config, key=seed, **self._known)
    return TrainState(
      step=jnp.zeros([], jnp.int32),
      key=jax.random.key(seed),
      params=params,
      statistics=statistics,
      method=method.init(params),
      optimizer=self.optimizer.init(params),
    )

  def _reference_ids(
    self, state: TrainState, ids: np.ndarray
  ) -> np.ndarray | None:
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

  def _examples(self, state: TrainState, ids, train):
    images, labels = train
    key = jax.random.fold_in(state.key, state.step)
    return self._augment(key, images[ids]), labels[ids]

  def _loss_fn(self, state: TrainState):
    """(params, batch) -> (losses, aux), from the statistics of the state."""

    def loss_fn(params, batch):
      logits, statistics = self._apply(params, state.statistics, batch[0], True)
      correct = jnp.argmax(logits, axis=-1) == batch[1]
      aux = {'statistics': statistics, 'accuracy': jnp.mean(correct)}
      if self.method.reads_logits:
        aux['logits'] = logits
      return self._losses(logits, batch[1]), aux

    return loss_fn

  def _step(
    self,
    state: TrainState,
    ids,
    train,
    reference_ids,
    first=None,
    **decisions,
  ):
    batch = self._examples(state, ids, train)
    loss_fn = self._loss_fn(state)
    options = {**decisions}
    if first is not None:
      options['first'] = first
    if reference_ids is not None:
      other = self._examples(state, reference_ids, train)
      options['reference_grad_fn'] = jax.grad(
        lambda params: jnp.mean(loss_fn(params, other)[0])
      )
    (loss, aux), grads, method_state = self.method.value_and_grad(
      loss_fn, state.params, state.method, batch, ids, **options
    )
    updates, optimizer_state = self.optimizer.update(
      grads, state.optimizer, state.params
    )
    record = {
      'loss': loss,
      'accuracy': aux['accuracy'],
      **_scalars(method_state),
    }
    return (
      TrainState(
        step=state.step + 1,
        key=state.key,
        params=optax.apply_updates(state.params, updates),
        statistics=aux['statistics'],
        method=method_state,
        optimizer=optimizer_state,
      ),
      record,
    )

  def _augment(self, key: jax.Array, images: jax.Array) -> jax.Array:
    try:
      return augment.augment(
        key,
        images,
        mean=self._mean,
        std=self._std,
        **self.config.augment.to_dict(),
      )
    except (TypeError, ValueError) as error:
      raise train_config.ConfigError(f'In augment: {error}') from error

  def _losses(self, logits: jax.Array, labels: jax.Array) -> jax.Array:
    targets = jax.nn.one_hot(labels, self.num_classes)
    if self.config.label_smoothing:
      targets = optax.smooth_labels(targets, self.config.label_smoothing)
    return optax.softmax_cross_entropy(logits, targets)

  def _evaluate_batch(self, params, statistics, images, labels, valid):
    images = augment.normalise(images, self._mean, self._std)
    logits, _ = self._apply(params, statistics, images, False)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    correct = jnp.argmax(logits, axis=-1) == labels
    return jnp.sum(losses * valid), jnp.sum(correct * valid)


class _Clock:
  """Counts seconds from its making, but for those it is stopped."""

  def __init__(self):
    self._start = time.perf_counter()

  @property
  def seconds(self) -> float:
    return time.perf_counter() - self._start

  @contextlib.contextmanager
  def stopped(self):
    begun = time.perf_counter()
    held = begun - self._start
    yield
    self._start = time.perf_counter() - held


def _check_finite(first: int, records: Sequence[Mapping[str, Any]]) -> None:
  for step, record in enumerate(records, start=first):
    if not np.isfinite(record['loss']):
      raise NotFinite(
        f'The loss is {record["loss"]} at step {step}. Training cannot '
        'recover from it. Lower optimizer.learning_rate or method.rho.'
      )


def _scalars(state: Any) -> dict[str, jax.Array]:
  """The numbers in a method's state that people plot, by field name."""
  leaves, _ = jax.tree_util.tree_flatten_with_path(state)
  scalars = {
    str(getattr(path[-1], 'name', path[-1])): leaf
    for path, leaf in leaves
    if leaf.ndim == 0 and not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
  }
  del scalars['step']  # every part counts the same steps
  return scalars
