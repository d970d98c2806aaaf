"""Pose: the place of each joint of a person.

How it is predicted, as a column and a row, is in `train/tasks/simcc.py`.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from train.augment import affine, pipeline
from train.augment.pipeline import IMAGENET_MEAN, IMAGENET_STD
from train.checks import Config
from train.tasks import metrics, simcc, skeletons, task
from train.tasks.simcc import MPII_PAIRS as MPII_PAIRS
from train.tasks.simcc import Axes as Axes
from train.tasks.simcc import bins_inside as bins_inside
from train.tasks.simcc import decode as decode
from train.tasks.simcc import flip_average as flip_average
from train.tasks.simcc import simcc_losses as simcc_losses
from train.tasks.simcc import simcc_targets as simcc_targets
from train.tasks.simcc import smoothed_bins as smoothed_bins
from train.tasks.simcc import swapped as swapped
from train.tasks.simcc import window_reaches as window_reaches
from train.tasks.task import Field, Rows, Score, Task

# The last is what HRNet's code prints as "@0.1".
_THRESHOLDS = {'pckh_0.5': 0.5, 'pckh_0.1': 0.1, 'pckh_0.11': 0.11}


def pose(config: Config, dataset: Any) -> Task:
  """The place of each joint, with the options of :func:`row`.

  Args:
    config: the config of the run; its section 'pose' has the options.
    dataset: the data set.

  Returns:
    The task.

  Raises:
    ConfigError: if an option cannot be used.
  """
  return task.build(row, config, dataset)


def row(
  dataset: Any,
  *,
  split: int = 2,
  sigma: float | None = 6.0,
  smoothing: float = 0.2,
  scale: float = 0.25,
  rotation: float = 30.0,
  flip: bool = True,
  flip_test: bool = True,
  mean: Sequence[float] = IMAGENET_MEAN,
  std: Sequence[float] = IMAGENET_STD,
  pairs: Sequence[Sequence[int]] = MPII_PAIRS,
) -> Task:
  """The place of each joint of a person; scored by PCKh.

  People are cut out of their images to the images' size, scaled, turned and
  mirrored in training. The score is the pooled share of joints within half of
  the head's size; beside it stand the parts, and the shares at 0.10 and, as
  HRNet's code reads "@0.1", at 0.11.

  Args:
    dataset: rows of MPII's fields, whose facts have 'joints'.
    split: bins for a pixel.
    sigma: of SA-SimCC, in bins; ``None`` for plain SimCC.
    smoothing: of plain SimCC.
    scale: as :func:`train.augment.affine.draw_boxes` takes it.
    rotation: likewise.
    flip: whether every second person is mirrored in training.
    flip_test: whether the test averages over the mirror image.
    mean: of each channel, of pixels in [0, 1].
    std: likewise.
    pairs: joints that change places in a mirrored image.

  Returns:
    The task.
  """
  if sigma is not None:
    simcc.check_sigma(sigma)
  height, width = dataset.image_shape[:2]
  size = (width, height)
  joints = task.fact(dataset, 'joints')
  average = 'probabilities' if sigma is None else 'logits'
  highest = simcc.highest(sigma, smoothing)
  names = task.names(dataset, 'joint_names', joints)

  def target(places: jax.Array, side: int) -> jax.Array:
    if sigma is None:
      return smoothed_bins(places, side, split, smoothing)
    return simcc_targets(places, side, split, sigma)

  def targets(places: jax.Array) -> Axes:
    return Axes(target(places[..., 0], width), target(places[..., 1], height))

  def prepare(key: jax.Array | None, rows: Rows) -> Rows:
    center, side = rows['center'], rows['side']
    if key is None:
      move = affine.crop_box(center, side, size)
    else:
      move = affine.draw_boxes(
        key,
        center,
        side,
        size,
        scale=scale,
        rotation=rotation,
        flip=0.5 if flip else 0.0,
      )
    images = affine.move_images(move, rows['image'], size)
    images = pipeline.normalise(images, mean, std)
    if key is None and flip_test:
      images = jnp.concatenate([images, images[:, :, ::-1]])
    order = swapped(joints, pairs)
    places = affine.move_points(move, rows['joints'])
    places = affine.swap(move, places, order)
    visible = affine.swap(move, rows['visible'], order)
    near = (
      bins_inside(places, size, split)
      if sigma is None
      else window_reaches(places, size, sigma)
    )
    both = targets(places)
    return {
      'image': images,
      'x': both.x,
      'y': both.y,
      'weight': (visible & near).astype(jnp.float32),
      'move': move,
      'joints': rows['joints'],
      'visible': rows['visible'],
      'head_size': rows['head_size'],
    }

  def losses(logits: Any, batch: Rows) -> jax.Array:
    return simcc_losses(logits, Axes(batch['x'], batch['y']), batch['weight'])

  def scalars(logits: Any, batch: Rows) -> dict[str, jax.Array]:
    found = decode(logits, split)
    truth = decode(Axes(batch['x'], batch['y']), split)
    distance = jnp.linalg.norm(found - truth, axis=-1)
    total = jnp.maximum(jnp.sum(batch['weight']), 1)
    return {'distance': jnp.sum(distance * batch['weight']) / total}

  def probabilities(logits: Any, batch: Rows) -> Axes:
    people = len(batch['weight'])
    straight = Axes(logits.x[:people], logits.y[:people])
    if not flip_test:
      return Axes(*map(jax.nn.softmax, straight))
    mirrored = Axes(logits.x[people:], logits.y[people:])
    return flip_average(straight, mirrored, pairs, average)

  def predict(logits: Any, batch: Rows) -> dict[str, jax.Array]:
    best = probabilities(logits, batch)
    found = affine.restore_points(batch['move'], decode(best, split))
    return {'joints': found, 'confidence': simcc.confidences(best, highest)}

  def sums(logits: Any, batch: Rows, valid: jax.Array) -> Any:
    people = len(valid)
    straight = Axes(logits.x[:people], logits.y[:people])
    found = predict(logits, batch)['joints']
    counted = batch['visible'] & (valid[:, None] > 0)
    return {
      'loss': jnp.sum(losses(straight, batch) * valid),
      'count': jnp.sum(valid),
      **{
        name: metrics.pck(
          found, batch['joints'], counted, batch['head_size'], threshold
        )
        for name, threshold in _THRESHOLDS.items()
      },
    }

  def scores(sums: Any) -> dict[str, float]:
    means = {
      name: metrics.joint_means(metrics.Hits(*sums[name]))
      for name in _THRESHOLDS
    }
    parts = dict(means['pckh_0.5'])
    parts.pop('mean')
    return {
      'loss': float(sums['loss'] / sums['count']),
      **{name: each['mean'] for name, each in means.items()},
      # A part without labels has no score.
      **{part: value for part, value in parts.items() if not math.isnan(value)},
    }

  points = (joints, 2)
  return Task(
    fields={
      'joints': Field(points, 'float32', 0),
      'visible': Field(points[:1], 'bool', 0),
      'center': Field((2,), 'float32', 0, places_image=True),
      'side': Field((), 'float32', 1, places_image=True),
      'head_size': Field((), 'float32', 1),
    },
    outputs=lambda dataset: {'joints': joints, 'split': split},
    prepare=prepare,
    losses=losses,
    scalars=scalars,
    sums=sums,
    scores=scores,
    main=Score('pckh_0.5', '%', higher_is_better=True),
    normalisation=(mean, std),
    seen=lambda dataset: (
      f'{joints} joints, {np.mean(dataset.values("visible")):.0%} of which'
      ' count'
    ),
    predict=predict,
    draw=skeletons.draw,
    files=skeletons.files(names),
  )
