"""Losses and evaluation of segmentation."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from train.tasks import metrics, segmentation, windows


def _batch():
  logits = 3 * jax.random.normal(jax.random.key(0), (3, 4, 5, 6))
  labels = np.random.default_rng(0).integers(0, 6, (3, 4, 5)).astype(np.uint8)
  labels[0, :3] = 255  # Few pixels count, and none of the last image.
  labels[2] = 255
  return logits, jnp.asarray(labels)


def _by_hand(logits, labels):
  """The losses of the pixels that count, image by image."""
  log_softmax = np.asarray(jax.nn.log_softmax(logits), np.float64)
  return [
    np.array([
      -log_softmax[place][y[place[1:]]]
      for place in zip(
        np.full(np.sum(y != 255), number), *np.nonzero(y != 255), strict=True
      )
    ])
    for number, y in enumerate(np.asarray(labels))
  ]  # fmt: skip


def test_the_mean_is_over_the_pixels_that_count():
  logits, labels = _batch()
  pixels = _by_hand(logits, labels)
  losses = segmentation.pixel_losses(logits, labels)
  np.testing.assert_allclose(
    losses.mean(), np.concatenate(pixels).mean(), rtol=1e-6
  )
  # As optax has it, with the mean over the mask by ourselves.
  counts = labels != 255
  each = optax.softmax_cross_entropy_with_integer_labels(
    logits, labels.astype(jnp.int32), where=counts
  )
  np.testing.assert_allclose(
    losses.mean(), each.sum() / float(counts.sum()), rtol=1e-6
  )
  losses = segmentation.pixel_losses(logits, labels, over='image')
  expected = [x.mean() if len(x) else 0.0 for x in pixels]
  np.testing.assert_allclose(losses, expected, rtol=1e-6)
  with pytest.raises(ValueError, match="Give one of 'batch', 'image'"):
    segmentation.pixel_losses(logits, labels, over='pixel')


@pytest.mark.parametrize('over', ['batch', 'image'])
def test_ignored_pixels_have_no_gradient_and_spoil_none(over):
  logits, labels = _batch()
  loss = lambda x: segmentation.pixel_losses(x, labels, over=over).mean()
  grad = jax.grad(loss)(logits)
  ignored = np.asarray(labels) == 255
  assert np.isfinite(grad).all()
  np.testing.assert_array_equal(grad[ignored], 0)
  assert np.abs(grad[~ignored]).max(-1).min() > 0


def test_an_image_alone_has_one_mean():
  logits, labels = _batch()
  both = [
    segmentation.pixel_losses(logits[:1], labels[:1], over=over)
    for over in ('batch', 'image')
  ]
  np.testing.assert_allclose(*both, rtol=1e-6)


def test_the_auxiliary_loss_is_added():
  logits, labels = _batch()
  main = segmentation.pixel_losses(logits, labels)
  other = segmentation.pixel_losses(-logits, labels)
  losses = segmentation.segmentation_losses(logits, -logits, labels)
  np.testing.assert_allclose(losses, main + 0.4 * other, rtol=1e-6)
  losses = segmentation.segmentation_losses(logits, None, labels)
  np.testing.assert_array_equal(losses, main)


def test_windows_cover_an_axis():
  # The published evaluation: 473 of 512, moved by two thirds.
  assert windows.starts(512, 473) == [0, 39]
  assert windows.starts(473, 473) == [0]
  assert windows.starts(20, 9) == [0, 6, 11]
  for share in (0.0, 1.5):
    with pytest.raises(ValueError, match='above 0 and up to 1'):
      windows.starts(20, 9, share)


@pytest.mark.parametrize('shape', [(9, 9), (14, 20), (5, 12), (6, 7)])
@pytest.mark.parametrize('mirror', [False, True])
def test_windows_of_a_network_that_sees_pixels_alone_agree_with_it(
  shape, mirror
):
  images = jax.random.normal(jax.random.key(0), (2, *shape, 3))
  weights = jax.random.normal(jax.random.key(1), (3, 4))
  score = lambda x: x @ weights
  found = windows.scores(score, images, 9, mirror=mirror)
  np.testing.assert_allclose(
    found, jax.nn.softmax(score(images)), rtol=1e-4, atol=1e-6
  )


def test_a_mirrored_window_is_mirrored_back():
  images = jnp.zeros((1, 4, 4, 1)).at[0, 0, 0].set(1.0)
  # It says the column and so differs for the mirror image.
  column = jnp.arange(4.0).reshape(1, 1, 4, 1)
  score = lambda x: jnp.concatenate([column * (1 + x), 0 * x], -1)
  found = windows.scores(score, images, 4)
  straight = jax.nn.softmax(score(images))
  other = jax.nn.softmax(score(images[:, :, ::-1]))[:, :, ::-1]
  np.testing.assert_allclose(found, (straight + other) / 2, rtol=1e-6)


def test_windows_that_overlap_are_averaged():
  # Each window says its own number, the order of the windows in the batch.
  shape, window = (3, 5), 3
  plan = windows.plan(shape, window, 2 / 3, mirror=False)
  assert plan.places == ((0, 0), (0, 2))
  images = jnp.zeros((2, *shape, 1))
  assert windows.cut(plan, images).shape == (4, 3, 3, 1)
  # Of the first image 0.5 and 0.9, of the second 0.2 and 0.4.
  shares = jnp.array([0.5, 0.2, 0.9, 0.4]).reshape(4, 1, 1, 1)
  logits = jnp.log(jnp.concatenate([shares, 1 - shares], -1))
  found = windows.merge(plan, jnp.broadcast_to(logits, (4, 3, 3, 2)))
  expected = np.array([[0.5, 0.5, 0.7, 0.9, 0.9], [0.2, 0.2, 0.3, 0.4, 0.4]])
  np.testing.assert_allclose(
    found[..., 0], expected[:, None].repeat(3, 1), rtol=1e-6
  )
  np.testing.assert_allclose(found.sum(-1), 1, rtol=1e-6)


@pytest.mark.parametrize(
  ('changes', 'message'),
  [({'window': 0}, 'None for whole images'), ({'share': 2.0}, 'gaps')],
)
def test_windows_that_cannot_be(changes, message):
  with pytest.raises(ValueError, match=message):
    windows.plan((4, 4), **{'window': 2, **changes})


def test_predictions_are_scored_over_the_whole_set():
  logits, labels = _batch()
  matrix = metrics.confusion_matrix(labels, logits.argmax(-1), 6)
  assert matrix.sum() == np.sum(np.asarray(labels) != 255)


@pytest.mark.usefixtures('x64', 'standard_promotion')
def test_the_poly_schedule_of_the_specification():
  schedule = optax.polynomial_schedule(0.01, 0.0, 0.9, 30_000)
  for step, rate in (
    (0, 0.01),
    (15_000, 0.005358867312681466),
    (29_999, 9.345248855829638e-07),
  ):
    np.testing.assert_allclose(schedule(step), rate, rtol=1e-9)
