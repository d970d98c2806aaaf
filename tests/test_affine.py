"""Affine moves of images, masks and keypoints."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from train.augment import affine

SIZE = (32, 24)  # Width and height of the result.


def _marked(points, height=40, width=48, spread=2.0):
  """Images of one bump each, bright at its point, float [batch, h, w, 1]."""
  y, x = jnp.meshgrid(jnp.arange(height), jnp.arange(width), indexing='ij')
  places = jnp.stack([x, y], -1)[None].astype(jnp.float32)
  distance = jnp.square(places - points[:, None, None]).sum(-1)
  return jnp.exp(-distance / (2 * spread**2))[..., None]


def _centroids(images):
  y, x = np.meshgrid(*map(np.arange, images.shape[1:3]), indexing='ij')
  weights = np.asarray(images[..., 0], np.float64)
  total = weights.sum((1, 2))
  return np.stack(
    [(weights * x).sum((1, 2)) / total, (weights * y).sum((1, 2)) / total], -1
  )


def _draws(key):
  batch = 12
  center = jnp.array([[22.0, 19.0]] * batch)
  source = jnp.array([[48, 40]] * batch)
  return {
    'boxes': affine.draw_boxes(key, center, jnp.full(batch, 30.0), SIZE),
    'crops': affine.draw_crops(
      key, source, SIZE, scale=(0.7, 1.4), rotation=25.0
    ),
  }


@pytest.mark.parametrize('kind', ['boxes', 'crops'])
def test_one_draw_moves_image_mask_and_keypoint_alike(kind):
  move = _draws(jax.random.key(3))[kind]
  assert np.any(move.mirrored) and not np.all(move.mirrored)
  # A point of the source that comes to lie well inside the result.
  inside = jnp.array([[[15.0, 11.0]]]) + jax.random.uniform(
    jax.random.key(1), (12, 1, 2), minval=-3.0, maxval=3.0
  )
  points = affine.restore_points(move, inside)
  np.testing.assert_allclose(
    affine.move_points(move, points), inside, atol=1e-4
  )
  images = _marked(points[:, 0])
  moved = jax.jit(affine.move_images, static_argnums=2)(move, images, SIZE)
  assert moved.shape == (12, 24, 32, 1)
  np.testing.assert_allclose(_centroids(moved), inside[:, 0], atol=0.1)
  masks = (images[..., 0] > 0.5).astype(jnp.uint8)
  moved = jax.jit(affine.move_masks, static_argnums=2)(move, masks, SIZE)
  assert moved.dtype == jnp.uint8 and set(np.unique(moved)) <= {0, 1, 255}
  found = _centroids((moved == 1).astype(jnp.float32)[..., None])
  np.testing.assert_allclose(found, inside[:, 0], atol=0.5)


def test_nothing_moves_where_nothing_is_drawn():
  rng = np.random.default_rng(0)
  images = jnp.asarray(rng.integers(0, 256, (2, 24, 32, 3), np.uint8))
  masks = jnp.asarray(rng.integers(0, 21, (2, 24, 32), np.uint8))
  source = jnp.array([[32, 24], [32, 24]])
  move = affine.draw_crops(
    jax.random.key(0), source, SIZE, scale=(1.0, 1.0), flip=0.0
  )
  np.testing.assert_allclose(
    affine.move_images(move, images, SIZE), images, atol=1e-3
  )
  np.testing.assert_array_equal(affine.move_masks(move, masks, SIZE), masks)


def test_a_flip_mirrors_every_pixel():
  rng = np.random.default_rng(0)
  images = jnp.asarray(rng.integers(0, 256, (1, 24, 32, 3), np.uint8))
  masks = jnp.asarray(rng.integers(0, 21, (1, 24, 32), np.uint8))
  source = jnp.array([[32, 24]])
  move = affine.draw_crops(
    jax.random.key(0), source, SIZE, scale=(1.0, 1.0), flip=1.0
  )
  np.testing.assert_allclose(
    affine.move_images(move, images, SIZE), images[:, :, ::-1], atol=1e-3
  )
  np.testing.assert_array_equal(
    affine.move_masks(move, masks, SIZE), masks[:, :, ::-1]
  )
  np.testing.assert_allclose(
    affine.move_points(move, jnp.array([[[3.0, 5.0]]])), [[[28, 5]]], atol=1e-4
  )


def test_the_box_of_hrnet():
  center, side = jnp.array([[20.0, 15.0]]), jnp.array([16.0])
  box = functools.partial(affine.crop_box, center, side, SIZE)
  corner = jnp.array([[[0.0, 0.0], [16.0, 12.0], [32.0, 24.0]]])
  # Twice as large; the height follows the width.
  np.testing.assert_allclose(
    affine.restore_points(box(), corner),
    [[[12, 9], [20, 15], [28, 21]]],
    rtol=1e-6,
  )
  np.testing.assert_allclose(
    affine.restore_points(box(mirrored=jnp.array([True])), corner),
    [[[28, 9], [20, 15], [12, 21]]],
    rtol=1e-6,
  )
  # A quarter turn brings what is to the right of the centre in the result from
  # below the centre in the source.
  turned = box(rotation=jnp.array([np.pi / 2]))
  np.testing.assert_allclose(
    affine.restore_points(turned, jnp.array([[[20.0, 12.0]]])),
    [[[20, 17]]],
    rtol=1e-5,
  )


def test_what_is_outside_is_filled():
  images = jnp.full((1, 8, 8, 3), 200, jnp.uint8)
  masks = jnp.full((1, 8, 8), 3, jnp.uint8)
  move = affine.draw_crops(
    jax.random.key(0), jnp.array([[8, 8]]), (16, 16), scale=(1.0, 1.0)
  )
  moved = affine.move_images(move, images, (16, 16), fill=(1.0, 2.0, 3.0))
  np.testing.assert_allclose(moved[0, 0, 0], [1, 2, 3])
  np.testing.assert_allclose(moved[0, 8, 8], 200)
  moved = affine.move_masks(move, masks, (16, 16))
  # In the middle.
  np.testing.assert_array_equal(moved[0, 4:12, 4:12], 3)
  assert np.sum(np.asarray(moved) == 255) == 256 - 64


def test_crops_stay_inside_and_reach_both_ends():
  source = jnp.full((400, 2), 20)
  move = affine.draw_crops(
    jax.random.key(0), source, (16, 16), scale=(1.0, 1.0), flip=0.0
  )
  corners = affine.restore_points(move, jnp.zeros((400, 1, 2)))[:, 0]
  np.testing.assert_allclose(corners, jnp.round(corners), atol=1e-4)
  assert set(np.unique(np.round(corners))) == {0, 1, 2, 3, 4}


def test_boxes_are_drawn_as_published():
  center, side = jnp.zeros((4000, 2)), jnp.full(4000, 10.0)
  move = affine.draw_boxes(jax.random.key(0), center, side, (10, 10))
  turn = np.asarray(move.matrix[..., :2])
  factor = np.sqrt(np.abs(np.linalg.det(turn)))
  assert factor.min() >= 0.7499 and factor.max() <= 1.2501
  # A normal deviate is beyond one deviation with probability 0.317.
  clipped = np.isclose(factor, 0.75) | np.isclose(factor, 1.25)
  assert 0.28 < clipped.mean() < 0.36
  angle = np.rad2deg(np.arctan2(turn[:, 1, 0], turn[:, 1, 1]))
  assert np.abs(angle).max() <= 60.01
  assert 0.36 < np.isclose(angle, 0, atol=1e-3).mean() < 0.44
  assert 0.46 < np.mean(move.mirrored) < 0.54


def test_mirrored_examples_exchange_their_joints():
  move = affine.Move(jnp.zeros((2, 2, 3)), jnp.array([True, False]))
  joints = jnp.arange(12.0).reshape(2, 3, 2)
  order = jnp.array([1, 0, 2])
  moved = affine.swap(move, joints, order)
  np.testing.assert_array_equal(moved[0], joints[0, order])
  np.testing.assert_array_equal(moved[1], joints[1])
  visible = jnp.array([[True, False, True]] * 2)
  np.testing.assert_array_equal(
    affine.swap(move, visible, order), [[0, 1, 1], [1, 0, 1]]
  )


def test_coordinates_keep_their_precision_on_accelerators():
  def moved(center, side, images, points):
    move = affine.crop_box(center, side, SIZE)
    return (
      affine.move_images(move, images, SIZE),
      affine.move_points(move, points),
      affine.restore_points(move, points),
    )

  images, points = jnp.zeros((2, 4, 4, 3)), jnp.zeros((2, 3, 2))
  text = str(
    jax.make_jaxpr(moved)(jnp.zeros((2, 2)), jnp.ones(2), images, points)
  )
  assert text.count('dot_general[') == text.count('Precision.HIGHEST, ') >= 4, (
    text
  )
