"""Pose as two classifications for each joint, of its column and of its row.

SimCC cuts each axis into ``split`` bins for a pixel and predicts the bin of the
joint. The target is one bin with label smoothing, or, in SA-SimCC, a Gaussian
around the joint.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from train.augment import affine, pipeline
from train.augment.pipeline import IMAGENET_MEAN, IMAGENET_STD
from train.checks import Config
from train.tasks import metrics, skeletons, task
from train.tasks.task import Field, Rows, Score, Task

# Joints of MPII that change places in a mirrored image.
MPII_PAIRS = ((0, 5), (1, 4), (2, 3), (10, 15), (11, 14), (12, 13))

# The last is what HRNet's code prints as "@0.1".
_THRESHOLDS = {'pckh_0.5': 0.5, 'pckh_0.1': 0.1, 'pckh_0.11': 0.11}


class Axes(NamedTuple):
  """A value for each bin of both axes, such as the logits of a network.

  Attributes:
    x: float ``[batch, joints, width * split]``.
    y: float ``[batch, joints, height * split]``.
  """

  x: jax.Array
  y: jax.Array


def simcc_targets(
  coordinates: jax.Array,
  size: int,
  split: int,
  sigma: float,
  rounded: bool = False,
) -> jax.Array:
  r"""Builds the targets of SA-SimCC for one axis.

  .. math::
    t_i = \exp(-(i - k c)^2 / (2 \sigma^2)) / (\sigma \sqrt{2 \pi})

  with :math:`c` the coordinate and :math:`k` the split. They sum to 1 inside
  the image and to less at its borders, as in the authors' code.

  Args:
    coordinates: float ``[...]``, in pixels.
    size: pixels of the axis.
    split: bins for a pixel.
    sigma: standard deviation in bins, above 0.
    rounded: whether the centre is rounded to a bin first, as in mmpose.

  Returns:
    ``[..., size * split]``, of the coordinates' dtype.

  References:
    Li et al., `SimCC: a Simple Coordinate Classification Perspective for Human
    Pose Estimation <https://arxiv.org/abs/2107.03332>`_, 2022
  """
  _check_sigma(sigma)
  center = coordinates * split
  center = jnp.round(center) if rounded else center
  bins = _bins(size, split, coordinates)
  density = jnp.exp(-0.5 * jnp.square((bins - center[..., None]) / sigma))
  return density / (sigma * (2 * jnp.pi) ** 0.5)


def smoothed_bins(
  coordinates: jax.Array, size: int, split: int, smoothing: float
) -> jax.Array:
  """Builds the targets of plain SimCC for one axis.

  The bin that is nearest to the coordinate has ``1 - smoothing``; the others
  share the rest alike.

  Args:
    coordinates: float ``[...]``, in pixels. Outside the image no bin has more
      than the others have: see :func:`bins_inside`.
    size: pixels of the axis.
    split: bins for a pixel.
    smoothing: the share of the others, in [0, 1); 0.2 for MPII.

  Returns:
    ``[..., size * split]``, of the coordinates' dtype.
  """
  bins = _bins(size, split, coordinates)
  at = bins == jnp.round(coordinates * split)[..., None]
  others = smoothing / (size * split - 1)
  return jnp.where(at, 1 - smoothing, others).astype(coordinates.dtype)


def bins_inside(
  coordinates: jax.Array, sizes: Sequence[int], split: int
) -> jax.Array:
  """Tells which joints have a bin on both axes, for plain SimCC.

  Args:
    coordinates: float ``[..., 2]``, x and y in pixels.
    sizes: width and height in pixels.
    split: bins for a pixel.

  Returns:
    bool ``[...]``.
  """
  place = jnp.round(coordinates * split)
  bins = jnp.array(sizes, coordinates.dtype) * split
  bins = bins.reshape((1,) * (coordinates.ndim - 1) + (2,))
  return jnp.all((place >= 0) & (place < bins), axis=-1)


def window_reaches(
  coordinates: jax.Array, sizes: Sequence[int], sigma: float
) -> jax.Array:
  """Tells which joints are near enough to the image, for SA-SimCC.

  A joint counts while the window of three sigma around it meets the image. The
  authors' code, which this follows, takes sigma for pixels here, while the
  targets take it for bins.

  Args:
    coordinates: float ``[..., 2]``, x and y in pixels.
    sizes: width and height in pixels.
    sigma: as :func:`simcc_targets` takes it.

  Returns:
    bool ``[...]``.
  """
  low = jnp.trunc(coordinates - 3 * sigma)
  high = jnp.trunc(coordinates + 3 * sigma + 1)
  sides = jnp.array(sizes, coordinates.dtype)
  sides = sides.reshape((1,) * (coordinates.ndim - 1) + (2,))
  return jnp.all((low < sides) & (high >= 0), axis=-1)


def simcc_losses(logits: Axes, targets: Axes, weights: jax.Array) -> jax.Array:
  """Computes the loss of each person.

  The Kullback-Leibler divergence from the softmax of the logits to the targets,
  averaged over the bins, summed over both axes, and averaged over all joints,
  those without weight included. The mean over a batch is the loss of the
  authors' code for MPII.

  Args:
    logits: of the network.
    targets: of the same shapes, each 0 or more.
    weights: float ``[batch, joints]``, 0 for a joint that does not count.

  Returns:
    float ``[batch]``.
  """

  def divergence(logits: jax.Array, targets: jax.Array) -> jax.Array:
    total = optax.kl_divergence(jax.nn.log_softmax(logits), targets)
    return total / logits.shape[-1]

  each = divergence(logits.x, targets.x) + divergence(logits.y, targets.y)
  return jnp.mean(each * weights, axis=-1)


def decode(scores: Axes, split: int) -> jax.Array:
  """Reads the coordinates off: the best bin of each axis.

  Args:
    scores: logits or probabilities.
    split: bins for a pixel.

  Returns:
    float32 ``[batch, joints, 2]``, x and y in pixels of the crop.
  """
  best = jnp.stack(
    [jnp.argmax(scores.x, axis=-1), jnp.argmax(scores.y, axis=-1)], axis=-1
  )
  return best.astype(jnp.float32) / split


def confidences(probabilities: Axes, highest: float) -> jax.Array:
  """How sure a network is of each joint.

  Args:
    probabilities: of the bins.
    highest: the greatest probability of a bin in the targets, above 0.

  Returns:
    float32 ``[batch, joints]`` in [0, 1]: the greatest probability of an axis
    relative to that of a target, of the axis that is less sure; 1 where it is
    as high or higher.
  """
  best = jnp.minimum(
    jnp.max(probabilities.x, axis=-1), jnp.max(probabilities.y, axis=-1)
  )
  return jnp.minimum(best / highest, 1.0)


def flip_average(
  logits: Axes,
  mirrored: Axes,
  pairs: Sequence[Sequence[int]] = MPII_PAIRS,
  average: str = 'logits',
  shift: bool = True,
) -> Axes:
  """Averages what a network says of an image and of its mirror image.

  Args:
    logits: of the image.
    mirrored: logits of the mirror image.
    pairs: joints that change places.
    average: ``'logits'`` as for SA-SimCC, or ``'probabilities'`` as for plain
      SimCC.
    shift: whether the mirrored bins move down by one, which lines them up where
      a pixel has two bins: the mirror image of bin ``b`` is ``bins - 2 - b``
      there.

  Returns:
    Probabilities.
  """
  if average not in ('logits', 'probabilities'):
    raise ValueError(
      f'Cannot average with average={average!r}: there are two ways. Give '
      "'logits' or 'probabilities'."
    )
  order = swapped(mirrored.x.shape[1], pairs)
  x, y = mirrored.x[:, order, ::-1], mirrored.y[:, order]
  if shift:
    # The last bin has nobody to take from.
    x = jnp.concatenate([x[..., 1:], x[..., -1:]], axis=-1)
  if average == 'logits':
    return Axes(
      jax.nn.softmax((logits.x + x) / 2), jax.nn.softmax((logits.y + y) / 2)
    )
  soft = jax.nn.softmax
  return Axes((soft(logits.x) + soft(x)) / 2, (soft(logits.y) + soft(y)) / 2)


def swapped(joints: int, pairs: Sequence[Sequence[int]]) -> jax.Array:
  """The order of the joints after those of each pair change places."""
  order = list(range(joints))
  for left, right in pairs:
    order[left], order[right] = right, left
  return jnp.array(order)


def _bins(size: int, split: int, coordinates: jax.Array) -> jax.Array:
  bins = jnp.arange(size * split, dtype=coordinates.dtype)
  return bins.reshape((1,) * coordinates.ndim + (-1,))


def _check_sigma(sigma: float) -> None:
  if not sigma > 0:
    raise ValueError(
      f'Cannot spread a joint with sigma={sigma}: it is the standard deviation '
      'of a Gaussian in bins. Give a number above 0, such as 6 for 512 bins.'
    )


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
    _check_sigma(sigma)
  height, width = dataset.image_shape[:2]
  size = (width, height)
  joints = task.fact(dataset, 'joints')
  average = 'probabilities' if sigma is None else 'logits'
  # Of a bin, in the targets.
  highest = 1 - smoothing if sigma is None else 1 / (sigma * math.tau**0.5)
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
    return {'joints': found, 'confidence': confidences(best, highest)}

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
