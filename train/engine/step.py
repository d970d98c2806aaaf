"""One training step as pure functions, which `loop.py` compiles.

A step is a function of the training state and the batch. Its randomness derives
from the state's key and the step number. On many devices it is what each of
them does with its own examples, see `train/parallel/devices.py`.
"""

from typing import Any, NamedTuple, NoReturn

import jax
import jax.numpy as jnp
import optax

import sam_optax
from train import config as train_config
from train import models, tasks
from train.data import memory
from train.data.open import AnySet
from train.engine import gallery, micro_batch, network
from train.engine.feed import Batch
from train.engine.gallery import Examples
from train.parallel import mesh
from train.parallel.devices import is_key
from train.tasks import Rows


class Tested(NamedTuple):
  """The arrays of a network that is tested."""

  params: Any
  statistics: Any


class TrainState(NamedTuple):
  """Everything that a step changes, and the key it draws from."""

  step: jax.Array
  key: jax.Array
  params: Any
  statistics: Any  # BatchNorm's running statistics, random streams
  average: Tested | None  # moving averages, None without ema_decay
  method: Any  # a SharpnessAwareState
  optimizer: optax.OptState

  @property
  def tested(self) -> Tested:
    """What is tested and kept of a run: the averages, where it averages."""
    if self.average is not None:
      return self.average
    return Tested(self.params, self.statistics)


class Step:
  """The step of a config on a data set, and its parts.

  Args:
    config: the config of the run, see `train/config.py`.
    dataset: the data set.

  Raises:
    ConfigError: if the config cannot be run on this data set.
  """

  def __init__(
    self,
    config: train_config.Config,
    dataset: AnySet,
  ):
    check_in_memory(config, dataset)
    self.config = config
    self.num_examples = dataset.num_examples
    self.total_steps = train_config.check(config, self.num_examples)
    self.task = tasks.create(config, dataset)
    self.described = network.describe(self.task, dataset)
    self.devices = mesh.choose(config)
    self.outputs = self.task.outputs(dataset)
    self.image_shape = dataset.image_shape
    model = self.model(config.seed)
    self.apply = model.apply
    # Its functions: the arrays are those of a training state.
    self.network = model._replace(params=None, statistics=None)
    optimizer = train_config.build_optimizer(
      config, self.total_steps, model.undecayed
    )
    self._known = {
      'num_examples': self.num_examples,
      **self.outputs,
      'total_steps': self.total_steps,
      'steps_per_epoch': self.num_examples // config.batch_size,
      'learning_rate': train_config.build_schedule(config, self.total_steps),
      'base': optimizer,
    }
    # The key matters to a method's init only: it lives in the state.
    self.method = self.devices.parallel(self.build_method(0))
    check_pair(config, self.task, self.method)
    alone = self.task.losses_alone if self.method.reads_losses else None
    self.losses = alone or self.task.losses
    # A method that is an optimizer returns minus its whole step.
    whole = self.method.is_optimizer
    self.optimizer = optax.sgd(1.0) if whole else optimizer
    self._shapes = jax.eval_shape(lambda: model.params)
    image = jax.ShapeDtypeStruct((1, *self.image_shape), jnp.float32)
    program = jax.make_jaxpr(model.apply, static_argnums=3)(
      model.params, model.statistics, image, True
    )
    self.convolves = 'conv_general_dilated' in str(program)

  def model(self, seed: int) -> models.Functional:
    """A freshly initialised model."""
    return network.build(self.config, self.outputs, self.image_shape, seed)

  def build_method(self, key: Any) -> sam_optax.SharpnessAware:
    """The config's method, drawing from a key."""
    return train_config.build_method(self.config, key=key, **self._known)

  def init(self, params, statistics, seed) -> TrainState:
    """The state before the first step."""
    average = None
    if self.config.ema_decay:
      # A copy, because a step gives the state's buffers away.
      average = jax.tree.map(jnp.copy, Tested(params, statistics))
    return TrainState(
      step=jnp.zeros([], jnp.int32),
      key=jax.random.key(seed),
      params=params,
      statistics=statistics,
      average=average,
      method=self.build_method(seed).init(params),
      optimizer=self.optimizer.init(params),
    )

  def start(
    self, params: Any, statistics: Any, seed: Any, batch: Batch
  ) -> tuple[Any, Any]:
    """Both, set up by a first batch; of a network that asks for one."""
    key = self.devices.own(jax.random.fold_in(jax.random.key(seed), 0))
    rows = self.task.prepare(key, batch.rows(batch.candidates))
    images = self.devices.spread(rows)['image']
    start: Any = self.network.start
    return start(params, statistics, images, self.devices.mean)

  def compare(self, state: TrainState, batch: Batch) -> dict[str, jax.Array]:
    """The network's own scalars of the perturbed point."""
    loss_fn = self.loss_fn(state)

    def grad_fn_on(ids):
      rows = self.prepare(state, batch.rows(ids))
      return jax.grad(lambda params: jnp.mean(loss_fn(params, rows)[0]))

    ids = batch.reference_ids
    point = self.method.perturbed_params(
      grad_fn_on(batch.candidates),
      state.params,
      state.method,
      None if ids is None else grad_fn_on(ids),
    )
    compare: Any = self.network.compare
    scalars = compare(state.params, self._held(state.params, point))
    return jax.tree.map(self.devices.mean, scalars)

  def _held(self, params: Any, point: Any) -> Any:
    """A point without the perturbation of what the network wants unperturbed.

    The gradient passes: only the value is the one at the params.
    """
    if self.network.unperturbed is None:
      return point
    return jax.tree.map(
      lambda held, x, y: x + (y - jax.lax.stop_gradient(y)) if held else y,
      self.network.unperturbed(params),
      params,
      point,
    )

  def check_reference(self) -> None:
    """Refuses a method that lacks its second gradient source.

    A step refuses it too, but only when it is compiled.

    Raises:
      ConfigError: if the method asks for one and the config has none.
    """
    if self.config.reference.batch_size is None:
      method, itself = self.build_method(0), lambda params: params
      jax.eval_shape(
        lambda params: method.perturbed_params(
          itself, params, method.init(params), self._no_reference
        ),
        self._shapes,
      )

  def _no_reference(self, params: Any) -> NoReturn:
    """Of a method that asks for a second gradient source: there is none."""
    del params
    raise train_config.ConfigError(
      f'Given method.name={self.config.method.name!r} without '
      'reference.batch_size. The method takes a gradient of other examples in '
      'each step, and nothing says of how many. Give their number, such as '
      f'--config.reference.batch_size={self.config.batch_size}.'
    )

  def prepare(self, state: TrainState, rows: Rows) -> Rows:
    """Some rows of this step's batch, augmented and with their targets."""
    key = self.devices.own(jax.random.fold_in(state.key, state.step))
    return self.task.prepare(key, rows)

  def loss_fn(self, state: TrainState):
    """(params, batch) -> (losses, aux), from the statistics of the state."""
    before = self.devices.own(state.statistics)

    def loss_fn(params, batch, before=before):
      batch = self.devices.spread(batch)
      params = self._held(state.params, params)
      outputs, statistics = self.apply(params, before, batch['image'], True)
      scalars = self.task.scalars(outputs, batch)
      aux = {'statistics': statistics, 'scalars': scalars}
      if self.method.reads_logits:
        aux['logits'] = outputs
      return self.losses(outputs, batch), aux

    if self.config.micro_batch is None:
      return loss_fn
    return micro_batch.in_parts(loss_fn, before, self.config.micro_batch)

  def first_pass(self, state: TrainState, batch: Batch):
    """The first pass, for a method that decides by its gradient."""
    examples = self.prepare(state, batch.rows(batch.candidates))
    first_pass: Any = self.method.first_pass
    return first_pass(self.loss_fn(state), state.params, examples)

  def step(
    self, state: TrainState, batch: Batch, **decisions: bool
  ) -> tuple[TrainState, dict[str, jax.Array]]:
    """Takes a step.

    Args:
      state: the training state.
      batch: the examples of the step.
      **decisions: the branches that it takes, see `SharpnessAware.decide`;
        Python bools.

    Returns:
      The state after the step, and the step's scalars by name.
    """
    prepare = lambda selected: self.prepare(state, batch.rows(selected))
    loss_fn = self.loss_fn(state)
    options: dict[str, Any] = {'prepare': prepare, **decisions}
    if batch.first is not None:
      options['first'] = batch.first
    if batch.reference_ids is not None:
      other = prepare(batch.reference_ids)
      options['reference_grad_fn'] = jax.grad(
        lambda params: jnp.mean(loss_fn(params, other)[0])
      )
    else:
      options['reference_grad_fn'] = self._no_reference
    (loss, aux), grads, method = self.method.value_and_grad(
      loss_fn,
      state.params,
      state.method,
      batch.candidates,
      batch.ids,
      **options,
    )
    updates, optimizer = self.optimizer.update(
      grads, state.optimizer, state.params
    )
    params = optax.apply_updates(state.params, updates)
    statistics = self.devices.common(aux['statistics'], state.statistics)
    average = state.average
    if average is not None:
      tested = Tested(params, statistics)
      average = _averaged(average, tested, self.config.ema_decay)
    after = TrainState(
      step=state.step + 1,
      key=state.key,
      params=params,
      statistics=statistics,
      average=average,
      method=method,
      optimizer=optimizer,
    )
    scalars = self.devices.common(aux['scalars'], aux['scalars'])
    return after, {'loss': loss, **scalars, **_scalars(method)}

  def evaluate(
    self, params: Any, statistics: Any, rows: Rows, valid, shown: int = 0
  ) -> tuple[Any, Examples | None]:
    """Tests a batch.

    Args:
      params: of the network.
      statistics: likewise.
      rows: of the batch.
      valid: 0 for a row that only fills up the batch, float ``[batch]``.
      shown: of how many rows the predictions are wanted.

    Returns:
      The task's sums over the valid rows, and some of the rows with what is
      predicted for them; None where none are wanted or the task has none.
    """
    batch = self.task.prepare(None, rows)
    outputs, _ = self.apply(params, statistics, batch['image'], False)
    sums = self.task.sums(outputs, batch, valid)
    if not shown or self.task.predict is None:
      return sums, None
    found = self.task.predict(outputs, batch)
    return sums, gallery.some(Examples(rows, found, valid), shown)


def _averaged(average: Tested, tested: Tested, decay: float) -> Tested:
  """The average after a step; of keys and counts there is only the last.

  The statistics move with the parameters that they belong to: those of the last
  parameters would not normalise what the averaged ones compute.
  """

  def one(old, new):
    if not jnp.issubdtype(new.dtype, jnp.inexact):
      return new
    return optax.incremental_update(new, old, 1 - decay)

  return jax.tree.map(one, average, tested)


def check_pair(
  config: train_config.Config,
  task: tasks.Task,
  method: sam_optax.SharpnessAware,
) -> None:
  """Refuses a method that the losses or outputs of a task are not made for."""
  given = f'Given method.name={config.method.name!r} with task={config.task!r}'
  if method.reads_losses and not task.comparable:
    raise train_config.ConfigError(
      f'{given}. The method compares the losses of examples, and those that '
      f'the section {config.task!r} of the config asks for depend on the other '
      'examples of the batch. Leave them to the method (over=None), or use a '
      'method that compares none.'
    )
  if method.reads_logits and task.probabilities is None:
    raise train_config.ConfigError(
      f'{given}. The method compares the logits of an example with earlier '
      'ones, a row of classes each, and the outputs of this task are others. '
      'Use another method, or a task with a class for each image.'
    )


def check_in_memory(config: train_config.Config, dataset: AnySet) -> None:
  """Refuses a second gradient source whose set is streamed."""
  streamed = not isinstance(dataset, memory.Dataset)
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
    if leaf.ndim == 0 and not is_key(leaf)
  }
  del scalars['step']  # the record has the step already
  return scalars
