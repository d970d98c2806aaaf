"""A finished run: its network, and the loss on some of its training set."""

import functools
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from train import tasks
from train.data.open import open_set
from train.engine import export, feed, predictor
from train.report.results import SavedRun
from train.tasks import Rows


class Trained(NamedTuple):
  """A network after training.

  Attributes:
    name: of the run, for the legends.
    folder: of the run.
    params: the parameters; averaged, as the statistics, where the run averages.
    loss_fn: params -> mean loss on some training examples. BatchNorm takes its
      running statistics, and the augmentation is drawn once: the same params
      always have the same loss.
    rows_of: ids -> the training examples as they are in the data set.
    prepared: rows -> what the network is given, and its targets.
    tables: by name, a number for each training example that the method keeps.
    relabelled: whether some labels were changed for training, and the targets
      tell which.
  """

  name: str
  folder: pathlib.Path
  params: Any
  loss_fn: Callable[[Any], jax.Array]
  rows_of: Callable[[np.ndarray], Rows]
  prepared: Callable[[Rows], Rows]
  tables: Mapping[str, np.ndarray]
  relabelled: bool


def load(run: SavedRun, name: str, examples: int, seed: int = 0) -> Trained:
  """Loads a finished run, with its data set and without its checkpoints.

  Args:
    run: the run.
    name: for the legends.
    examples: how many training examples the loss is of, chosen at random; all
      where there are fewer.
    seed: of the choice and of the augmentation.

  Returns:
    The network and its loss.

  Raises:
    DataError: if there is no model, or its data set is not here.
    ConfigError: if this version of the program cannot build it.
  """
  exported = export.read(run.folder)
  config = exported.described.normalising(exported.config)
  dataset = open_set(config.data)
  task = tasks.create(config, dataset)
  model = predictor.restore(exported, task)
  fed = feed.make(dataset, task.fields)
  key = jax.random.key(seed)

  def rows_of(ids: np.ndarray) -> Rows:
    ids = np.asarray(ids, np.int32)
    batch = feed.Batch(ids, next(fed.train(ids[None])))
    return batch.rows(batch.candidates)

  order = np.random.default_rng(seed).permutation(dataset.num_examples)
  prepared = jax.jit(functools.partial(task.prepare, key))
  batch = prepared(rows_of(order[:examples]))

  def loss_fn(params):
    outputs, _ = model.apply(params, model.statistics, batch['image'], False)
    return jnp.mean(task.losses(outputs, batch))

  tables = export.read_examples(run.folder)
  params = jax.tree.map(jnp.asarray, model.params)
  # Mixup blends the targets of several examples.
  relabelled = bool(config.data.label_noise) and not config.augment.mixup
  return Trained(
    name, run.folder, params, loss_fn, rows_of, prepared, tables, relabelled
  )
