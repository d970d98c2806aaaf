"""The metrics of segmentation and pose."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from train.tasks import metrics


def test_the_numbers_of_the_specification():
  labels = jnp.array([0, 0, 1, 1, 2, 255, 2, 1])
  predictions = jnp.array([0, 1, 1, 1, 0, 2, 2, 2])
  matrix = metrics.confusion_matrix(labels, predictions, 3)
  np.testing.assert_array_equal(matrix, [[1, 1, 0], [0, 2, 1], [1, 0, 1]])
  scores = metrics.iou(matrix)
  np.testing.assert_allclose(scores, [1 / 3, 1 / 2, 1 / 3], rtol=1e-12)
  np.testing.assert_allclose(scores.mean(), 0.3888888888888889, rtol=1e-12)


@pytest.mark.parametrize('dtype', [jnp.int32, jnp.uint8])
def test_they_agree_with_scikit_learn(dtype):
  rng = np.random.default_rng(0)
  labels = rng.integers(0, 7, (3, 11, 13))
  labels[rng.random(labels.shape) < 0.1] = 255
  predictions = rng.integers(0, 7, labels.shape)
  count = jax.jit(metrics.confusion_matrix, static_argnums=2)
  # Over the images one by one: the sums add up.
  matrix = sum(
    np.asarray(count(jnp.asarray(a, dtype), jnp.asarray(b, dtype), 7))
    for a, b in zip(labels, predictions, strict=True)
  )
  kept = labels != 255
  expected = sklearn_metrics.confusion_matrix(labels[kept], predictions[kept])
  np.testing.assert_array_equal(matrix, expected)
  np.testing.assert_allclose(
    metrics.iou(matrix),
    sklearn_metrics.jaccard_score(
      labels[kept], predictions[kept], average=None
    ),
    rtol=1e-12,
  )


def test_a_class_that_does_not_occur_has_no_iou():
  matrix = metrics.confusion_matrix(
    jnp.array([0, 0, 2]), jnp.array([0, 0, 0]), 4
  )
  np.testing.assert_allclose(metrics.iou(matrix), [2 / 3, np.nan, 0, np.nan])


def test_joints_within_a_share_of_the_reference():
  truth = jnp.zeros((2, 3, 2)) + 10.0
  # Distances of 5, 0 and 3 pixels, then of 5.1, 1 and 20.
  moves = [[[3, 4], [0, 0], [0, 3]], [[5.1, 0], [1, 0], [12, 16]]]
  visible = jnp.array([[True, True, False], [True, True, True]])
  count = jax.jit(metrics.pck)
  hits = count(
    truth + jnp.array(moves), truth, visible, jnp.array([10.0, 10.0]), 0.5
  )
  np.testing.assert_array_equal(hits.correct, [1, 2, 0])
  np.testing.assert_array_equal(hits.labelled, [2, 2, 1])
  # The reference is that of the person.
  hits = count(
    truth + jnp.array(moves), truth, visible, jnp.array([9.0, 40.0]), 0.5
  )
  np.testing.assert_array_equal(hits.correct, [1, 2, 1])
  # Without one, a person does not count.
  for reference in (0.0, -3.0, np.nan, np.inf):
    sizes = jnp.array([reference, 40.0])
    hits = count(truth + jnp.array(moves), truth, visible, sizes, 0.5)
    np.testing.assert_array_equal(hits.labelled, visible[1])
    np.testing.assert_array_equal(hits.correct, [1, 1, 1])


def test_the_parts_of_mpii_and_the_pooled_mean():
  correct, labelled = np.arange(16), np.full(16, 20)
  correct[6:8], labelled[3] = 20, 4
  correct[3] = 1
  means = metrics.joint_means(metrics.Hits(correct, labelled))
  assert means['head'] == pytest.approx(9 / 20)
  assert means['shoulder'] == pytest.approx((12 + 13) / 40)
  assert means['hip'] == pytest.approx((2 / 20 + 1 / 4) / 2)
  assert means['ankle'] == pytest.approx(5 / 40)
  # Pelvis and thorax are not in it, the upper neck is.
  total = sum(range(16)) - 6 - 7 - 3 + 1
  assert means['mean'] == pytest.approx(total / (13 * 20 + 4))
  nothing = metrics.joint_means(metrics.Hits(np.zeros(16), np.zeros(16)))
  assert all(np.isnan(value) for value in nothing.values())
