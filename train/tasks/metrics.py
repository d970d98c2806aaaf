"""Metrics of whole test sets, as sums over batches and what follows from them.

Each sum is an array of counts: those of the batches add up to the test set's,
on one device or on several.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

# What the papers print for MPII, and the joints that each part averages.
MPII_PARTS: Mapping[str, tuple[int, ...]] = {
  'head': (9,),
  'shoulder': (12, 13),
  'elbow': (11, 14),
  'wrist': (10, 15),
  'hip': (2, 3),
  'knee': (1, 4),
  'ankle': (0, 5),
}
# Pelvis and thorax, which are not in MPII's mean.
MPII_LEFT_OUT = (6, 7)


def confusion_matrix(
  labels: jax.Array,
  predictions: jax.Array,
  num_classes: int,
  ignore: int = 255,
) -> jax.Array:
  """Counts how often each class is predicted for each class.

  Args:
    labels: integers in ``[0, num_classes)`` or ``ignore``, any shape.
    predictions: integers in ``[0, num_classes)``, of the labels' shape.
    num_classes: number of classes.
    ignore: the label of what is not counted.

  Returns:
    int32 ``[num_classes, num_classes]``: labels in rows, predictions in
    columns.
  """
  labels, predictions = (
    jnp.ravel(x).astype(jnp.int32) for x in (labels, predictions)
  )
  # What falls out of the counts is dropped.
  place = jnp.where(
    labels == ignore,
    num_classes**2,
    labels * num_classes + predictions,
  )
  counts = jnp.zeros(num_classes**2, jnp.int32).at[place].add(1, mode='drop')
  return counts.reshape(num_classes, num_classes)


def iou(matrix: jax.Array | np.ndarray) -> np.ndarray:
  """Computes the intersection over union of each class.

  ``TP / (TP + FP + FN)``, of one matrix for the whole test set: a mean over
  images is another number.

  Args:
    matrix: counts ``[classes, classes]``, labels in rows.

  Returns:
    float64 ``[classes]`` on the host, in [0, 1]; nan for a class that neither
    the labels nor the predictions have. ``numpy.nanmean`` is then the mean over
    the classes that occur.
  """
  counts = np.asarray(matrix, np.float64)
  both = np.diagonal(counts)
  either = counts.sum(axis=0) + counts.sum(axis=1) - both
  return np.divide(
    both, either, out=np.full(len(counts), np.nan), where=either > 0
  )


class Hits(NamedTuple):
  """How many joints there were, and how many of them were found.

  Attributes:
    correct: int32 ``[joints]``.
    labelled: int32 ``[joints]``.
  """

  correct: jax.Array | np.ndarray
  labelled: jax.Array | np.ndarray


def pck(
  predicted: jax.Array,
  truth: jax.Array,
  visible: jax.Array,
  reference: jax.Array,
  threshold: float,
) -> Hits:
  """Counts the joints that are predicted within a share of a length.

  With the size of the head as the length it is PCKh. HRNet's code prints under
  "@0.1" the number for a threshold of 0.11, SimCC's that for 0.10.

  Args:
    predicted: float ``[batch, joints, 2]``, in pixels.
    truth: float ``[batch, joints, 2]``, likewise.
    visible: bool ``[batch, joints]``: the joints that have a label; others are
      not counted.
    reference: float ``[batch]``, the length in pixels; a person whose length
      is no finite number above 0 is not counted.
    threshold: the share; a distance that is equal is within.

  Returns:
    The counts.
  """
  distance = jnp.sqrt(jnp.sum(jnp.square(predicted - truth), axis=-1))
  measured = jnp.isfinite(reference) & (reference > 0)
  counted = visible & measured[:, None]
  correct = counted & (distance <= threshold * reference[:, None])
  return Hits(
    jnp.sum(correct, axis=0, dtype=jnp.int32),
    jnp.sum(counted, axis=0, dtype=jnp.int32),
  )


def joint_means(
  hits: Hits,
  parts: Mapping[str, Sequence[int]] = MPII_PARTS,
  left_out: Sequence[int] = MPII_LEFT_OUT,
) -> dict[str, float]:
  """Computes the shares of the joints that were found, by part and in all.

  A part is the mean of the shares of its joints, as MPII's evaluation has it.
  The mean in all pools the labelled joints, so that a joint counts as often as
  it is labelled.

  Args:
    hits: the counts of the test set.
    parts: the joints of each part.
    left_out: joints that are not in the mean.

  Returns:
    Each part and ``'mean'``, in [0, 1]; nan where no joint is labelled.
  """
  correct, labelled = (np.asarray(x, np.float64) for x in hits)
  shares = np.divide(
    correct, labelled, out=np.full(len(correct), np.nan), where=labelled > 0
  )
  means = {
    part: float(shares[list(joints)].mean()) for part, joints in parts.items()
  }
  kept = np.setdiff1d(np.arange(len(correct)), left_out)
  total = labelled[kept].sum()
  means['mean'] = float(correct[kept].sum() / total) if total else np.nan
  return means
