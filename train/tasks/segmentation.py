"""Segmentation: a class for each pixel."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from train import checks
from train.augment import affine, pipeline
from train.augment.pipeline import IMAGENET_MEAN, IMAGENET_STD
from train.checks import Config, DataError
from train.tasks import masks as shown_masks
from train.tasks import metrics, task, windows
from train.tasks.task import Field, Rows, Score, Task

_OVER = ('batch', 'image')
_IGNORED = 255  # in the mask of a pixel that does not count


def pixel_losses(
  logits: jax.Array,
  labels: jax.Array,
  *,
  over: str = 'batch',
  ignore: int = _IGNORED,
) -> jax.Array:
  """Computes the cross entropy of each image.

  Pixels with the label to ignore have neither a loss nor a gradient.

  Args:
    logits: float ``[batch, h, w, classes]``.
    labels: integers ``[batch, h, w]``, in ``[0, classes)`` or ``ignore``.
    over: which mean of the pixels the mean over the batch is: ``'batch'``, all
      of them alike, as in the codes of PSPNet and DeepLab; or ``'image'``, that
      of the images' means, in which a pixel of an image with few of them counts
      more. A method that chooses examples compares images, so it needs the
      latter. The batch is the part that is given here: on several devices, or
      with micro-batches, the parts then count alike, whatever their pixels.
    ignore: the label of pixels that do not count.

  Returns:
    float32 ``[batch]``; 0 for an image without pixels that count.
  """
  _check_over(over)
  counts = labels != ignore
  known = jnp.where(counts, labels, 0).astype(jnp.int32)
  losses = optax.softmax_cross_entropy_with_integer_labels(
    logits.astype(jnp.float32), known
  )
  total = jnp.sum(jnp.where(counts, losses, 0.0), axis=(1, 2))
  pixels = jnp.sum(counts, axis=(1, 2), dtype=jnp.float32)
  if over == 'batch':
    pixels = jnp.broadcast_to(jnp.mean(pixels), pixels.shape)
  return total / jnp.where(pixels > 0, pixels, 1.0)


def segmentation_losses(
  logits: jax.Array,
  auxiliary: jax.Array | None,
  labels: jax.Array,
  *,
  auxiliary_weight: float = 0.4,
  over: str = 'batch',
  ignore: int = _IGNORED,
) -> jax.Array:
  """Computes the loss of each image, with the auxiliary head's.

  Args:
    logits: float ``[batch, h, w, classes]``.
    auxiliary: likewise, of the auxiliary head (``None``: none).
    labels: as :func:`pixel_losses` takes them.
    auxiliary_weight: of the auxiliary head's loss.
    over: as :func:`pixel_losses` takes it.
    ignore: likewise.

  Returns:
    float32 ``[batch]``.
  """
  losses = pixel_losses(logits, labels, over=over, ignore=ignore)
  if auxiliary is None:
    return losses
  others = pixel_losses(auxiliary, labels, over=over, ignore=ignore)
  return losses + auxiliary_weight * others


def _check_over(over: str) -> None:
  if over not in _OVER:
    raise ValueError(
      f'Cannot average pixels with over={over!r}: there are two means. Give '
      f'one of {", ".join(map(repr, _OVER))}.'
    )


def segmentation(config: Config, dataset: Any) -> Task:
  """A class for each pixel, with the options of :func:`row`.

  Args:
    config: the config of the run; its section 'segmentation' has the options.
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
  crop: int | None = None,
  scale: Sequence[float] = (0.5, 2.0),
  rotation: float = 0.0,
  mean: Sequence[float] = IMAGENET_MEAN,
  std: Sequence[float] = IMAGENET_STD,
  over: str | None = None,
  auxiliary_weight: float = 0.4,
  classes: Sequence[int] | None = None,
  window: int | None = None,
  window_share: float = 2 / 3,
  flip_test: bool = False,
) -> Task:
  """A class for each pixel; scored by the mean intersection over union.

  Trained on crops of the scaled, turned and mirrored images; tested on whole
  images, at once or window by window.

  Args:
    dataset: rows with 'mask' and 'extent', whose facts have 'num_classes'.
    crop: side of the crops in pixels (``None``: the images' shorter side).
    scale: least and greatest factor on an image's sides.
    rotation: greatest angle in degrees, of every second image.
    mean: of each channel, of pixels in [0, 1].
    std: likewise.
    over: as :func:`pixel_losses` takes it (``None``: ``'image'`` for a method
      that compares examples, and ``'batch'`` for the others).
    auxiliary_weight: of the auxiliary head's loss, where there is one.
    classes: those whose mean is the score (``None``: those that occur).
    window: side of the windows that an image is tested by, the side of the
      crops as a rule (``None``: whole images). The network sees a batch of as
      many windows as the images of a test batch have together.
    window_share: of a window that the next one is moved by, at most.
    flip_test: whether the test averages over the mirror image.

  Returns:
    The task.
  """
  num_classes = task.fact(dataset, 'num_classes')
  pipeline.normalisation(mean, std, dataset)  # which checks them
  for name, side in (('crop', crop), ('window', window)):
    if side is not None:
      task.whole(name, side, 1)
  _check_range(scale, rotation, auxiliary_weight)
  _check_scored(over, classes, num_classes)
  crop = min(dataset.image_shape[:2]) if crop is None else crop
  size = (crop, crop)
  fill = tuple(255 * value for value in mean)
  plan = windows.plan(dataset.image_shape, window, window_share, flip_test)
  test = plan if window is not None or flip_test else None
  names = task.names(dataset, 'class_names', num_classes)

  def prepare(key: jax.Array | None, rows: Rows) -> Rows:
    images, masks = rows['image'].astype(jnp.float32), rows['mask']
    if key is not None:
      move = affine.draw_crops(
        key, rows['extent'], size, scale=scale, rotation=rotation
      )
      images = affine.move_images(move, images, size, fill)
      masks = affine.move_masks(move, masks, size)
    images = pipeline.normalise(images, mean, std)
    if key is None and test is not None:
      images = windows.cut(test, images)
    return {'image': images, 'mask': masks}

  losses = functools.partial(_losses, auxiliary_weight)

  return Task(
    fields={
      'mask': Field(dataset.image_shape[:2], 'uint8', _IGNORED),
      'extent': Field((2,), 'int32', 0),
    },
    outputs=lambda dataset: {'num_classes': num_classes},
    prepare=prepare,
    losses=functools.partial(losses, over=over or 'batch'),
    scalars=_scalars,
    sums=functools.partial(_sums, num_classes, test),
    scores=functools.partial(_scores, classes),
    main=Score('miou', '%', higher_is_better=True),
    normalisation=(mean, std),
    seen=functools.partial(_seen, num_classes),
    losses_alone=functools.partial(losses, over='image'),
    comparable=over != 'batch',
    predict=functools.partial(_predict, test),
    draw=functools.partial(shown_masks.draw, names),
    # Beside an image in the data set is another colour than beside a crop.
    files=shown_masks.files(names, dataset.facts.get('colour', fill)),
  )


def _check_range(
  scale: Sequence[float], rotation: float, auxiliary_weight: float
) -> None:
  if np.shape(scale) != (2,) or not 0 < scale[0] <= scale[1] < np.inf:
    raise ValueError(
      f'Cannot scale images by {scale=}: it is the least and the greatest'
      ' factor on their sides. Give two numbers above 0, such as (0.5, 2).'
    )
  why = 'It is the greatest angle in degrees, on either side'
  checks.between('rotation', rotation, 0, 180, why)
  checks.at_least('auxiliary_weight', auxiliary_weight, 0)


def _check_scored(
  over: str | None, classes: Sequence[int] | None, num_classes: int
) -> None:
  if over is not None:
    _check_over(over)
  if classes is None:
    return
  listed = np.ndim(classes) == 1 and len(classes) > 0
  known = listed and all(x in range(num_classes) for x in classes)
  if not known or len(set(classes)) < len(classes):
    raise ValueError(
      f'Cannot score {classes=}: they are numbers of the {num_classes} classes,'
      f' each once. Give some from 0 to {num_classes - 1}, or None for those'
      ' that occur.'
    )


def _losses(
  auxiliary_weight: float, maps: Any, batch: Rows, over: str
) -> jax.Array:
  return segmentation_losses(
    maps.logits,
    maps.auxiliary,
    batch['mask'],
    auxiliary_weight=auxiliary_weight,
    over=over,
  )


def _scalars(maps: Any, batch: Rows) -> dict[str, jax.Array]:
  counts = batch['mask'] != _IGNORED
  right = jnp.argmax(maps.logits, axis=-1) == batch['mask'].astype(jnp.int32)
  found = jnp.sum(right & counts, dtype=jnp.float32)
  pixels = jnp.sum(counts, dtype=jnp.float32)
  return {'pixel_accuracy': found / jnp.maximum(pixels, 1)}


def _test_logits(test: windows.Windows | None, maps: Any) -> jax.Array:
  """Of whole images, by whose windows the network may have seen them."""
  if test is None:
    return maps.logits
  # As logits again, where no probability is 0.
  mean = windows.merge(test, maps.logits)
  return jnp.log(jnp.maximum(mean, jnp.finfo(mean.dtype).tiny))


def _predict(
  test: windows.Windows | None, maps: Any, batch: Rows
) -> dict[str, jax.Array]:
  del batch
  classes = jnp.argmax(_test_logits(test, maps), axis=-1)
  return {'mask': classes.astype(jnp.uint8)}


def _sums(
  num_classes: int,
  test: windows.Windows | None,
  maps: Any,
  batch: Rows,
  valid: jax.Array,
) -> Any:
  kept = valid[:, None, None] > 0
  labels = jnp.where(kept, batch['mask'], jnp.asarray(_IGNORED, jnp.uint8))
  logits = _test_logits(test, maps)
  predictions = jnp.argmax(logits, axis=-1)
  image_losses = pixel_losses(logits, batch['mask'], over='image')
  return {
    'loss': jnp.sum(image_losses * valid),
    'count': jnp.sum(valid),
    'matrix': metrics.confusion_matrix(labels, predictions, num_classes),
  }


def _scores(classes: Sequence[int] | None, sums: Any) -> dict[str, float]:
  each = metrics.iou(sums['matrix'])
  chosen = each if classes is None else each[list(classes)]
  if np.isnan(chosen).all():
    what = 'pixel has a label' if classes is None else f'{classes=} occurs'
    raise DataError(
      f'Cannot score the test images: of them no {what}, so that there is no'
      ' mean. Give masks with labels, or other classes.'
    )
  return {
    'loss': float(sums['loss'] / sums['count']),
    'miou': float(np.nanmean(chosen)),
    # A class that does not occur has no score.
    **{
      f'iou_{number}': float(value)
      for number, value in enumerate(each)
      if not np.isnan(value)
    },
  }


def _seen(num_classes: int, dataset: Any) -> str:
  masks = dataset.values('mask')
  if masks is None:  # on disk, where they are read with their images
    return f'{num_classes} classes'
  # The last count is of pixels that do not count.
  shown = [
    np.bincount(mask.ravel(), minlength=256)[:num_classes] > 0 for mask in masks
  ]
  counts = np.sum(shown, axis=0).tolist()
  names = task.names(dataset, 'class_names', num_classes)
  some = [number for number, count in enumerate(counts) if count]
  text = task.counted([counts[n] for n in some], [names[n] for n in some])
  return f'{num_classes} classes, by images that show them ({text})'
