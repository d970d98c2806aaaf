"""Pose: the place of each joint of a person.

How it is predicted, as a column and a row, is in `train/tasks/simcc.py`.
"""

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from train import checks
from train.augment import affine, pipeline
from train.augment.pipeline import IMAGENET_MEAN, IMAGENET_STD
from train.checks import Config, DataError
from train.tasks import metrics, simcc, skeletons, task
from train.tasks.simcc import Axes
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
  pairs: Sequence[Sequence[int]] | None = None,
) -> Task:
  """The place of each joint of a person; scored by PCKh.

  People are cut out of their images to the images' size, scaled, turned and
  mirrored in training. The score is the pooled share of joints within half of
  the head's size; beside it stand the parts of MPII's skeleton, and the shares
  at 0.10 and, as HRNet's code reads "@0.1", at 0.11.

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
    pairs: as :func:`train.tasks.skeletons.skeleton` takes it.

  Returns:
    The task.
  """
  joints = task.fact(dataset, 'joints')
  pipeline.normalisation(mean, std, dataset)  # which checks them
  _check_bins(split, sigma, smoothing)
  _check_moves(dataset, scale, rotation)
  _check_heads(dataset)
  skeleton = skeletons.skeleton(joints, pairs, flip or flip_test)
  pairs = skeleton.pairs
  height, width = dataset.image_shape[:2]
  names = task.names(dataset, 'joint_names', joints)
  if joints == skeletons.MPII_JOINTS and skeleton is not skeletons.MPII:
    names = tuple(map(str, range(joints)))  # not MPII's, as the set takes them
  bins = _Bins((width, height), split, sigma, smoothing)
  test = _Test(bins, flip_test, pairs)
  draw_move = functools.partial(
    affine.draw_boxes,
    size=(width, height),
    scale=scale,
    rotation=rotation,
    flip=0.5 if flip else 0.0,
  )

  def prepare(key: jax.Array | None, rows: Rows) -> Rows:
    center, side = rows['center'], rows['side']
    if key is None:
      move = affine.crop_box(center, side, (width, height))
    else:
      move = draw_move(key, center, side)
    images = affine.move_images(move, rows['image'], (width, height))
    images = pipeline.normalise(images, mean, std)
    if key is None and flip_test:
      images = jnp.concatenate([images, images[:, :, ::-1]])
    moved = _moved_joints(bins, move, rows, simcc.swapped(joints, pairs))
    kept = {name: rows[name] for name in ('joints', 'visible', 'head_size')}
    return {'image': images, 'move': move, **moved, **kept}

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
    losses=_losses,
    scalars=functools.partial(_scalars, split),
    sums=functools.partial(_sums, test),
    scores=functools.partial(_scores, skeleton),
    main=Score('pckh_0.5', '%', higher_is_better=True),
    normalisation=(mean, std),
    seen=lambda dataset: (
      f'{joints} joints, {np.mean(dataset.values("visible")):.0%} of which'
      ' count'
    ),
    predict=functools.partial(_predict, test),
    draw=functools.partial(skeletons.draw, skeleton.limbs),
    files=skeletons.files(names),
  )


def _check_bins(split: int, sigma: float | None, smoothing: float) -> None:
  task.whole('split', split, 1)
  if sigma is not None:
    simcc.check_sigma(sigma)
  if not 0 <= smoothing < 1:
    raise ValueError(
      f'Cannot smooth targets with {smoothing=}: it is the share of the other'
      ' bins. Give a number from 0 to below 1.'
    )


def _check_moves(dataset: Any, scale: float, rotation: float) -> None:
  why = 'It is the standard deviation of the angle in degrees'
  checks.between('rotation', rotation, 0, 180, why)
  if not 0 <= scale < 1:
    raise ValueError(
      f'Cannot scale people by {scale=}: it is the greatest change of a factor'
      ' around 1. Give a number from 0 to below 1.'
    )
  # People that are streamed are cut out before, with a part around the box.
  cut = getattr(dataset, 'row_shape', None)
  if cut is None:
    return
  # A square that is turned needs most at half a right angle.
  angle = math.radians(min(2 * rotation, 45))
  turned = math.cos(angle) + math.sin(angle)
  most = cut[0] / dataset.image_shape[0] / turned - 1
  if scale > most:
    raise ValueError(
      f'Cannot scale people by {scale=} with {rotation=}: they are read from'
      ' disk with as much around them as a smaller one reaches, and beyond it'
      f' would be black. Use scale={math.floor(100 * most) / 100} or less.'
    )


def _check_heads(dataset: Any) -> None:
  """Refuses people in memory of whom nobody in the test can be scored."""
  # Held out for validation are people of the training split, which may lack it.
  test = getattr(dataset, 'test', None)
  sizes = test.get('head_size') if isinstance(test, Mapping) else None
  if sizes is not None and not np.any(np.isfinite(sizes) & (sizes > 0)):
    raise ValueError(
      'Cannot score people of whom nobody has a head_size, by which the score'
      ' divides. Give it for those that are tested, which with data.validation'
      ' are of the training split.'
    )


class _Bins(NamedTuple):
  """How places become bins."""

  size: tuple[int, int]  # (width, height) in pixels
  split: int
  sigma: float | None
  smoothing: float

  def targets(self, places: jax.Array) -> Axes:
    """The targets of places ``[..., 2]`` in pixels."""
    return Axes(*(self._of(places[..., n], self.size[n]) for n in range(2)))

  def reached(self, places: jax.Array) -> jax.Array:
    """Whether the bins say anything of a place, bool ``[...]``."""
    if self.sigma is None:
      return simcc.bins_inside(places, self.size, self.split)
    return simcc.window_reaches(places, self.size, self.sigma)

  def _of(self, coordinates: jax.Array, side: int) -> jax.Array:
    if self.sigma is None:
      return simcc.smoothed_bins(coordinates, side, self.split, self.smoothing)
    return simcc.simcc_targets(coordinates, side, self.split, self.sigma)


class _Test(NamedTuple):
  """How people are found in the outputs of a test batch."""

  bins: _Bins
  flip: bool  # the second half of the outputs is of the mirror images
  pairs: Sequence[Sequence[int]]


def _moved_joints(
  bins: _Bins, move: affine.Move, rows: Rows, order: jax.Array
) -> Rows:
  """The targets of the moved joints, and which of them count."""
  places = affine.move_points(move, rows['joints'])
  places = affine.swap(move, places, order)
  visible = affine.swap(move, rows['visible'], order)
  both = bins.targets(places)
  counts = visible & bins.reached(places)
  return {'x': both.x, 'y': both.y, 'weight': counts.astype(jnp.float32)}


def _losses(logits: Any, batch: Rows) -> jax.Array:
  targets = Axes(batch['x'], batch['y'])
  return simcc.simcc_losses(logits, targets, batch['weight'])


def _scalars(split: int, logits: Any, batch: Rows) -> dict[str, jax.Array]:
  found = simcc.decode(logits, split)
  truth = simcc.decode(Axes(batch['x'], batch['y']), split)
  distance = jnp.linalg.norm(found - truth, axis=-1)
  total = jnp.maximum(jnp.sum(batch['weight']), 1)
  return {'distance': jnp.sum(distance * batch['weight']) / total}


def _straight(logits: Any, people: int) -> Axes:
  """The outputs of the images that are not mirrored."""
  return Axes(logits.x[:people], logits.y[:people])


def _predict(test: _Test, logits: Any, batch: Rows) -> dict[str, jax.Array]:
  sigma, people = test.bins.sigma, len(batch['weight'])
  straight = _straight(logits, people)
  if test.flip:
    mirrored = Axes(logits.x[people:], logits.y[people:])
    over = 'probabilities' if sigma is None else 'logits'
    best = simcc.flip_average(straight, mirrored, test.pairs, over)
  else:
    best = Axes(*map(jax.nn.softmax, straight))
  found = simcc.decode(best, test.bins.split)
  highest = simcc.highest(sigma, test.bins.smoothing)
  return {
    'joints': affine.restore_points(batch['move'], found),
    'confidence': simcc.confidences(best, highest),
  }


def _sums(test: _Test, logits: Any, batch: Rows, valid: jax.Array) -> Any:
  found = _predict(test, logits, batch)['joints']
  counted = batch['visible'] & (valid[:, None] > 0)
  return {
    'loss': jnp.sum(_losses(_straight(logits, len(valid)), batch) * valid),
    'count': jnp.sum(valid),
    **{
      name: metrics.pck(
        found, batch['joints'], counted, batch['head_size'], threshold
      )
      for name, threshold in _THRESHOLDS.items()
    },
  }


def _scores(skeleton: skeletons.Skeleton, sums: Any) -> dict[str, float]:
  means = {
    name: metrics.joint_means(
      metrics.Hits(*sums[name]), skeleton.parts, skeleton.left_out
    )
    for name in _THRESHOLDS
  }
  parts = dict(means['pckh_0.5'])
  if math.isnan(parts.pop('mean')):
    raise DataError(
      'Cannot score the test people: none of them has both a labelled joint and'
      ' a head_size above 0, so that there is no mean. Give both.'
    )
  return {
    'loss': float(sums['loss'] / sums['count']),
    **{name: each['mean'] for name, each in means.items()},
    # A part without labels has no score.
    **{part: value for part, value in parts.items() if not math.isnan(value)},
  }
