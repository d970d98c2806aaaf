"""Mixup against the blends that it must be one of."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from train.augment.mixup import mixup

KEY = jax.random.key(7, impl='unsafe_rbg')
COUNT = 16
jitted = jax.jit(mixup, static_argnames='alpha')


def _batch():
  """Image i has i in every pixel, and is of class i."""
  images = np.arange(COUNT, dtype=np.float32)[:, None, None, None]
  return np.tile(images, (1, 2, 3, 1)), np.eye(COUNT, dtype=np.float32)


def _weight_and_order(targets):
  """Both, as the targets tell them."""
  targets = np.asarray(targets)
  weight = targets.diagonal().min()
  others = targets - weight * np.eye(COUNT)
  return weight, others.argmax(axis=1)


def test_images_and_targets_are_blended_alike():
  images, targets = _batch()
  mixed, soft = jitted(KEY, images, targets, alpha=1.0)
  assert mixed.shape == images.shape and soft.shape == targets.shape
  assert mixed.dtype == soft.dtype == jnp.float32
  weight, order = _weight_and_order(soft)
  assert 0.5 <= weight < 1
  # One weight, and each example once as a partner.
  assert sorted(order) == list(range(COUNT))
  assert (order != np.arange(COUNT)).mean() > 0.5
  expected = weight * images + (1 - weight) * images[order]
  np.testing.assert_allclose(mixed, expected, rtol=1e-5)
  expected = weight * targets + (1 - weight) * targets[order]
  np.testing.assert_allclose(soft, expected, rtol=1e-5, atol=1e-7)


def test_the_weights_are_a_folded_beta_distribution():
  images, targets = _batch()
  images, targets = jnp.asarray(images), jnp.asarray(targets)
  keys = jax.random.split(KEY, 400)
  draw = lambda alpha: jax.jit(
    jax.vmap(lambda key: mixup(key, images, targets, alpha)[1])
  )(keys)
  soft = draw(0.2)
  weights, orders = zip(*map(_weight_and_order, soft), strict=True)
  assert len(set(map(tuple, orders))) > 300
  # The mean of max(w, 1 - w) by numerical draws of NumPy.
  own = np.random.default_rng(0).beta(0.2, 0.2, 100_000)
  expected = np.maximum(own, 1 - own)
  assert np.mean(weights) == pytest.approx(expected.mean(), abs=0.02)
  assert np.std(weights) == pytest.approx(expected.std(), abs=0.02)


def test_the_key_decides():
  batch = _batch()
  first = jitted(KEY, *batch, alpha=1.0)
  again = jitted(KEY, *batch, alpha=1.0)
  other = jitted(jax.random.fold_in(KEY, 1), *batch, alpha=1.0)
  np.testing.assert_array_equal(first[0], again[0])
  assert np.any(first[0] != other[0])


def test_off_is_the_batch():
  images, targets = _batch()
  off = mixup(KEY, images, targets, 0.0)
  assert off[0] is images and off[1] is targets


def test_an_alpha_that_cannot_work():
  with pytest.raises(ValueError, match='Give 0.2'):
    mixup(KEY, *_batch(), -0.1)
