"""One training step as pure functions: what `loop.py` compiles.

A step is a function of the training state, the ids of its examples and the
data. Its randomness derives from the state's key and the step number. On many
devices it is what each of them does with its own examples, see `devices.py`.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import sam_optax
from train import config as train_config
from train import models
from train.augment import mixup, pipeline
from train.data import memory, stream
from train.engine import feed
from train.parallel import mesh
from train.tasks import classification, label_noise, losses

# Keys are folded with these; the augmentation splits its own from the rest.
_MIXUP = 5


class TrainState(NamedTuple):
  """Everything that a step changes, and the key it draws from."""

  step: jax.Array
  key: jax.Array
  params: Any
  # BatchNorm's running statistics, random streams; Averaged if the config has
  # an ema_decay.
  statistics: Any
  method: Any  # a SharpnessAwareState
  optimizer: optax.OptState


class Averaged(NamedTuple):
  """Statistics, and the moving average of the parameters they go with.

  The average is a statistic too: evaluation reads it, the gradient does not.
  """

  statistics: Any
  params: Any


class Step:
  """A config's step on a data set, and what it is made of.

  Args:
    config: the config of the run, see `train/config.py`.
    dataset: the data set.

  Raises:
    ConfigError: if the config cannot be run on this data set.
  """

  def __init__(
    self,
    config: train_config.Config,
    dataset: memory.Dataset | stream.Streamed,
  ):
    _check_reference(config, dataset)
    self.config = config
    self.num_examples = dataset.num_examples
    self.total_steps = train_config.check(config, self.num_examples)
    classification.check(config)
    self.devices = mesh.choose(config)
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
    self.method = self.devices.parallel(self.build_method(0))
    # A method that is an optimizer returns minus its whole step.
    whole = self.method.is_optimizer
    self.optimizer = optax.sgd(1.0) if whole else optimizer
    self._options = config.augment.to_dict()
    self._mixup = self._options.pop('mixup', 0.0)
    self.mean, self.std = _normalisation(
      self._options.pop('mean', None),
      self._options.pop('std', None),
      dataset,
    )
    self.image_shape = dataset.image_shape
    model = self.model(config.seed)
    self.apply = model.apply
    image = jax.ShapeDtypeStruct((1, *self.image_shape), jnp.float32)
    program = jax.make_jaxpr(model.apply, static_argnums=3)(
      model.params, model.statistics, image, True
    )
    self.convolves = 'conv_general_dilated' in str(program)
    self.losses = losses.LOSSES[config.loss]
    # An option that augmentation refuses is refused here, not in the first
    # step.
    jax.eval_shape(
      lambda images: self._augment(
        jax.random.key(0), images, jnp.zeros((1, self.num_classes))
      ),
      jax.ShapeDtypeStruct((1, *self.image_shape), jnp.uint8),
    )

  def model(self, seed: int) -> models.Functional:
    """A freshly initialised model."""
    options = self.config.model.to_dict()
    name = options.pop('name')
    backend = jax.default_backend()
    dtype = train_config.compute_dtype(self.config.dtype, backend)
    if dtype != 'float32':  # which is every model's own default
      options.setdefault('dtype', dtype)
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

  def build_method(self, key: Any) -> sam_optax.SharpnessAware:
    """The config's method, drawing from a key."""
    return train_config.build_method(self.config, key=key, **self._known)

  def init(self, params, statistics, seed) -> TrainState:
    """The state before the first step."""
    if self.config.ema_decay:
      # A copy, because a step gives the state's buffers away.
      statistics = Averaged(statistics, jax.tree.map(jnp.copy, params))
    return TrainState(
      step=jnp.zeros([], jnp.int32),
      key=jax.random.key(seed),
      params=params,
      statistics=statistics,
      method=self.build_method(seed).init(params),
      optimizer=self.optimizer.init(params),
    )

  def examples(self, state: TrainState, batch: Any, train: feed.Examples):
    """The augmented images and the targets of (a part of) this step's batch."""
    rows = train.rows(batch)
    options = self.config.data
    labels = label_noise.noisy(
      rows.labels,
      rows.ids,
      num_classes=self.num_classes,
      share=options.label_noise,
      seed=options.noise_seed,
      over=options.noise_over,
    )
    key = self.devices.own(jax.random.fold_in(state.key, state.step))
    targets = jax.nn.one_hot(labels, self.num_classes)
    return self._augment(key, rows.images, targets)

  def loss_fn(self, state: TrainState):
    """(params, batch) -> (losses, aux), from the statistics of the state."""
    before = self.devices.own(_split(state.statistics)[0])

    def loss_fn(params, batch):
      images, targets = self.devices.spread(batch)
      logits, statistics = self.apply(params, before, images, True)
      correct = jnp.argmax(logits, axis=-1) == jnp.argmax(targets, axis=-1)
      aux = {'statistics': statistics, 'accuracy': jnp.mean(correct)}
      if self.method.reads_logits:
        aux['logits'] = logits
      return self._losses(logits, targets), aux

    if self.config.micro_batch is None:
      return loss_fn
    return sam_optax.accumulate(loss_fn, self.config.micro_batch)

  def first_pass(self, state: TrainState, ids, train: feed.Examples):
    """The first pass, for a method that decides by its gradient."""
    examples = self.examples(state, train.batch(ids), train)
    first_pass: Any = self.method.first_pass
    return first_pass(self.loss_fn(state), state.params, examples)

  def step(
    self,
    state: TrainState,
    ids,
    train: feed.Examples,
    reference_ids,
    first=None,
    **decisions,
  ) -> tuple[TrainState, dict[str, jax.Array]]:
    """The state after a step, and the step's scalars by name."""
    prepare = lambda batch: self.examples(state, batch, train)
    loss_fn = self.loss_fn(state)
    options = {'prepare': prepare, **decisions}
    if first is not None:
      options['first'] = first
    if reference_ids is not None:
      other = prepare(reference_ids)
      options['reference_grad_fn'] = jax.grad(
        lambda params: jnp.mean(loss_fn(params, other)[0])
      )
    (loss, aux), grads, method_state = self.method.value_and_grad(
      loss_fn, state.params, state.method, train.batch(ids), ids, **options
    )
    updates, optimizer_state = self.optimizer.update(
      grads, state.optimizer, state.params
    )
    before, average = _split(state.statistics)
    statistics = self.devices.common(aux['statistics'], before)
    record = {
      'loss': loss,
      'accuracy': self.devices.common(aux['accuracy'], None),
      **_scalars(method_state),
    }
    params = optax.apply_updates(state.params, updates)
    if average is not None:
      new = 1 - self.config.ema_decay
      average = optax.incremental_update(params, average, new)
      statistics = Averaged(statistics, average)
    return (
      TrainState(
        step=state.step + 1,
        key=state.key,
        params=params,
        statistics=statistics,
        method=method_state,
        optimizer=optimizer_state,
      ),
      record,
    )

  def _augment(self, key, images, targets):
    try:
      images = pipeline.augment(
        key, images, mean=self.mean, std=self.std, **self._options
      )
      key = jax.random.fold_in(key, _MIXUP)
      return mixup.mixup(key, images, targets, self._mixup)
    except (TypeError, ValueError) as error:
      raise train_config.ConfigError(f'In augment: {error}') from error

  def _losses(self, logits: jax.Array, targets: jax.Array) -> jax.Array:
    if self.config.label_smoothing:
      targets = losses.smooth(
        targets, self.config.label_smoothing, self.config.smoothing_over
      )
    return self.losses(logits, targets)

  def evaluate(self, params, statistics, images, labels, valid):
    """Sums of the losses and of the correct answers over the valid images."""
    statistics, average = _split(statistics)
    params = params if average is None else average
    images = pipeline.normalise(images, self.mean, self.std)
    logits, _ = self.apply(params, statistics, images, False)
    test_losses = self.losses(logits, jax.nn.one_hot(labels, self.num_classes))
    correct = jnp.argmax(logits, axis=-1) == labels
    return jnp.sum(test_losses * valid), jnp.sum(correct * valid)


def _split(statistics: Any) -> tuple[Any, Any]:
  """The model's statistics and the average of its parameters, or None."""
  if isinstance(statistics, Averaged):
    return statistics
  return statistics, None


def _normalisation(
  mean: Any, std: Any, dataset: memory.Dataset | stream.Streamed
) -> tuple[np.ndarray, np.ndarray]:
  """The given constants, or what the images have."""
  if mean is None and std is None:
    return pipeline.statistics(dataset.sample())
  channels = dataset.image_shape[-1]
  values = [np.asarray(x, np.float32).ravel() for x in (mean, std)]
  whole = all(len(x) == channels and np.all(x <= 1) for x in values)
  if not (whole and np.all(values[0] >= 0) and np.all(values[1] > 0)):
    raise train_config.ConfigError(
      f'Given augment.mean={mean} and augment.std={std}. The images have '
      f'{channels} channels, each of which needs both, of pixels in [0, 1]. '
      'Divide what is of pixels up to 255, or leave out both to have them '
      'computed.'
    )
  return values[0], values[1]


def _check_reference(
  config: train_config.Config, dataset: memory.Dataset | stream.Streamed
) -> None:
  streamed = isinstance(dataset, stream.Streamed)
  if streamed and config.reference.batch_size is not None:
    raise train_config.ConfigError(
      f'Given reference.batch_size={config.reference.batch_size} and a set '
      'that is streamed from disk. The second gradient source has examples of '
      'its own in each step, which only a set in memory has at hand. Use '
      'data.stream=False, without data.crop, or another method.'
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
