"""Classification: one label for an image."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from train import checks
from train.augment import mixup, pipeline
from train.checks import Config, ConfigError
from train.tasks import label_noise, losses, pictures
from train.tasks.pictures import Panel
from train.tasks.task import (
  Answer,
  Field,
  Files,
  Rows,
  Score,
  Task,
  counted,
  fact,
)
from train.tasks.task import names as known_names

# The logit of a class that may not be predicted: its probability is 0, and no
# product with it is infinite.
_NEVER = -1e9

# Probabilities that are told of an image file.
_TOP = 5

# The key of the augmentation is folded with this one; what augmentation itself
# draws splits from the rest.
_MIXUP = 5


def classification(config: Config, dataset: Any) -> Task:
  """One label for an image; scored by the share of right answers.

  Targets are distributions over the classes: one-hot labels (some of them
  wrong, with `data.label_noise`), blended by mixup and then smoothed. In the
  test they are the labels as they are. Of a further test set, any of the right
  labels counts, and images without one do not; the prediction is the best of
  the possible classes; and the loss is to the mean of the right labels.

  Args:
    config: the config of the run.
    dataset: the data set, whose facts have `num_classes`.

  Returns:
    The task.

  Raises:
    ConfigError: if an option cannot be used.
  """
  _check(config)
  num_classes = fact(dataset, 'num_classes')
  options = config.augment.to_dict()
  alpha = options.pop('mixup', 0.0)
  mean, std = pipeline.normalisation(
    options.pop('mean', None), options.pop('std', None), dataset
  )
  options |= {'mean': mean, 'std': std}
  augment = pipeline.from_options(options, dataset)
  loss = losses.LOSSES[config.loss]
  probabilities = losses.PROBABILITIES[config.loss]
  names = known_names(dataset, 'class_names', num_classes)

  def prepare(key: jax.Array | None, rows: Rows) -> Rows:
    images = augment(key, rows['image'])
    if key is None and 'right' in rows:
      return {'image': images, **_any_of(rows)}
    if key is None:
      return {
        'image': images,
        'target': jax.nn.one_hot(rows['label'], num_classes),
      }
    labels = _with_noise(config.data, dataset, rows)
    images, targets = mixup.mixup(
      jax.random.fold_in(key, _MIXUP),
      images,
      jax.nn.one_hot(labels, num_classes),
      alpha,
    )
    if config.label_smoothing:
      targets = losses.smooth(
        targets, config.label_smoothing, config.smoothing_over
      )
    return {'image': images, 'target': targets}

  def sums(logits: jax.Array, batch: Rows, valid: jax.Array) -> Any:
    if 'possible' in batch:
      logits = jnp.where(batch['possible'], logits, _NEVER)
      valid = valid * jnp.any(batch['target'] > 0, axis=-1)
    return {
      'loss': jnp.sum(loss(logits, batch['target']) * valid),
      'correct': jnp.sum(_correct(logits, batch) * valid),
      'count': jnp.sum(valid),
    }

  return Task(
    fields={'label': Field((), 'int32', 0)},
    outputs=lambda dataset: {'num_classes': dataset.facts['num_classes']},
    prepare=prepare,
    losses=lambda logits, batch: loss(logits, batch['target']),
    scalars=lambda logits, batch: {
      'accuracy': jnp.mean(_correct(logits, batch))
    },
    sums=sums,
    scores=lambda sums: {
      'loss': float(sums['loss'] / sums['count']),
      'accuracy': float(sums['correct'] / sums['count']),
    },
    main=Score('accuracy', '%', higher_is_better=True),
    normalisation=(mean, std),
    probabilities=probabilities,
    seen=_seen,
    predict=lambda logits, batch: {
      'outputs': logits,
      'probabilities': probabilities(logits),
    },
    draw=functools.partial(_draw, names),
    files=Files(tell=functools.partial(_tell, names), options=('top',)),
    test_fields=('right', 'possible'),
  )


def _draw(
  names: Sequence[str], row: Rows, prediction: Mapping[str, Any]
) -> Sequence[Panel]:
  """An image with its class, and the class that is predicted for it."""
  best = int(np.argmax(prediction['outputs']))
  share = float(prediction['probabilities'][best])
  truth = names[int(row['label'])]
  text = f'{names[best]} {share:.0%}'
  if names[best] != truth:
    text += f', is {truth}'
  image = pictures.colored(np.asarray(row['image']))
  return (Panel(text, pictures.enlarged(image)),)


def _tell(
  names: Sequence[str],
  prediction: Mapping[str, Any],
  back: Any,
  options: Mapping[str, Any],
) -> Answer:
  """The class of an image, and the greatest probabilities by class."""
  del back
  top = options.get('top') or _TOP
  # By the outputs: probabilities of sigmoids can be 1 several times.
  order = np.argsort(-prediction['outputs'], kind='stable')[:top]
  row = prediction['probabilities']
  shown = {names[n]: round(float(row[n]), 6) for n in order}
  best = int(order[0])
  line = {
    'class': names[best],
    'label': best,
    'probability': shown[names[best]],
    'probabilities': shown,
  }
  return Answer(line)


def _with_noise(options: Any, dataset: Any, rows: Rows) -> jax.Array:
  """The labels of some training examples, some of them wrong."""
  share, seed = options.label_noise, options.noise_seed
  replaced = None
  if share and options.noise_count == 'exact':
    # Only here: a data set that is described for prediction has no size.
    replaced = label_noise.exactly(dataset.num_examples, share, seed)
  return label_noise.noisy(
    rows['label'],
    rows['id'],
    num_classes=dataset.facts['num_classes'],
    share=share,
    seed=seed,
    over=options.noise_over,
    replaced=replaced,
  )


def _seen(dataset: Any) -> str:
  count = dataset.facts['num_classes']
  labels = dataset.values('label')
  if labels is None:  # on disk, where they are read with their images
    return f'{count} classes'
  names = dataset.facts.get('class_names') or range(count)
  counts = np.bincount(labels, minlength=count).tolist()
  return f'{count} classes ({counted(counts, names)})'


def _any_of(rows: Rows) -> Rows:
  """The targets of a further test set: each right label has a like share."""
  right = rows['right'].astype(jnp.float32)
  count = jnp.sum(right, axis=-1, keepdims=True)
  return {
    'target': right / jnp.maximum(count, 1),
    'possible': rows['possible'],
  }


def _correct(logits: jax.Array, batch: Rows) -> jax.Array:
  best = jnp.argmax(logits, axis=-1)
  if 'possible' in batch:
    target = jnp.take_along_axis(batch['target'], best[:, None], axis=-1)
    return target[:, 0] > 0
  return best == jnp.argmax(batch['target'], axis=-1)


def _check(config: Config) -> None:
  """Refuses what a config says of labels and losses, if it cannot be used."""
  checks.pick('loss', config.loss, losses.LOSSES)
  checks.pick(
    'smoothing_over',
    config.smoothing_over,
    dict.fromkeys(losses.SMOOTHED_OVER),
  )
  if not 0 <= config.label_smoothing < 1:
    raise ConfigError(
      f'Given label_smoothing={config.label_smoothing}. It is the share of the '
      'label that others get. Use a value from 0 to below 1.'
    )
  if config.smoothing_over == 'each' and config.loss == 'softmax':
    raise ConfigError(
      "Given smoothing_over='each' with loss='softmax'. Its targets are no "
      "distribution, which softmax needs. Use 'all' or 'wrong', or "
      "loss='sigmoid'."
    )
  checks.between(
    'data.label_noise',
    config.data.label_noise,
    0,
    1,
    'It is the share of the training labels that is replaced',
  )
  for name, known in (
    ('noise_over', label_noise.OVER),
    ('noise_count', label_noise.COUNTS),
  ):
    checks.pick(f'data.{name}', config.data[name], dict.fromkeys(known))
  checks.at_least('augment.mixup', config.augment.mixup, 0)
