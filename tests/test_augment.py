"""Augmentation against crops, mirrors and boxes enumerated with NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from train.augment.pipeline import augment, normalise, statistics
from train.augment.randaugment import randaugment

# With these `normalise` returns the raw pixel values.
RAW = {'mean': (0.0,), 'std': (1 / 255,)}
# Compiles in a third of the time that the default generator takes.
KEY = jax.random.key(7, impl='unsafe_rbg')


def _marked(count, height=6, width=5):
  """Copies of an image whose pixels are all different and not 0."""
  image = np.arange(1, height * width + 1, dtype=np.uint8)
  return np.tile(image.reshape(1, height, width, 1), (count, 1, 1, 1))


def _raw(*args, **kwargs):
  return np.rint(np.asarray(augment(*args, **RAW, **kwargs))).astype(int)


def _match(images, candidates):
  """The index of each image among the candidates; each must be one of them."""
  equal = (images[:, None] == candidates[None]).all(axis=(2, 3, 4))
  assert (equal.sum(axis=1) == 1).all()
  return equal.argmax(axis=1)


def _crops(image, pad, mode):
  height, width, _ = image.shape
  padded = np.pad(image, ((pad, pad), (pad, pad), (0, 0)), mode=mode)
  return np.stack(
    [
      padded[row : row + height, column : column + width]
      for row in range(2 * pad + 1)
      for column in range(2 * pad + 1)
    ]
  )


@pytest.mark.parametrize(
  ('fill', 'mode'), [('zero', 'constant'), ('reflect', 'reflect')]
)
def test_crops_are_numpy_crops_at_every_offset(fill, mode):
  images = _marked(1000)
  crops = _crops(images[0], 2, mode)
  cropped = _raw(KEY, images, pad=2, fill=fill)
  counts = np.bincount(_match(cropped, crops), minlength=25)
  # 40 of each expected, standard deviation 6.2.
  assert counts.min() > 10 and counts.max() < 75


def test_flip_mirrors_half_of_the_images():
  images = _marked(1000)
  both = np.stack([images[0], images[0, :, ::-1]])
  flipped = _match(_raw(KEY, images, flip=True), both)
  assert 400 < flipped.sum() < 600


def test_a_cropped_image_is_flipped_as_a_whole():
  images = _marked(1000)
  crops = _crops(images[0], 1, 'constant')
  candidates = np.concatenate([crops, crops[:, :, ::-1]])
  found = _match(_raw(KEY, images, pad=1, flip=True), candidates)
  assert set(found) == set(range(18))
  # The draws are independent of each other: about 500 agree.
  upper, flipped = found % 9 < 3, found >= 9
  assert 0.2 < flipped[upper].mean() < 0.8


def test_each_image_keeps_to_itself():
  images = np.random.default_rng(0).integers(
    0, 256, (64, 4, 4, 3), dtype=np.uint8
  )
  for image, out in zip(images, _raw(KEY, images, pad=1), strict=True):
    assert (_crops(image, 1, 'constant') == out).all(axis=(1, 2, 3)).any()


@pytest.mark.parametrize('side', [3, 4])
def test_cutout_boxes_have_every_centre(side):
  size, count = 6, 2000
  images = np.full((count, size, size, 2), 255, np.uint8)
  # The uncut channels are 1 and 2 then.
  out = augment(KEY, images, cutout=side, mean=(0.5, 0.5), std=(0.5, 0.25))
  expected = np.ones((size, size, size, size, 1)) * np.array((1.0, 2.0))
  for row in range(size):
    for column in range(size):
      top, left = row - side // 2, column - side // 2
      expected[
        row,
        column,
        max(top, 0) : top + side,
        max(left, 0) : left + side,
      ] = 0.0
  expected = expected.reshape(size**2, size, size, 2)
  counts = np.bincount(
    _match(np.rint(np.asarray(out)), expected), minlength=size**2
  )
  # 56 of each expected, standard deviation 7.3.
  assert counts.min() > 20 and counts.max() < 95
  assert (expected == 0).sum(axis=(1, 2, 3)).min() < 2 * side**2


def test_cutout_probability():
  images = np.full((1000, 4, 4, 1), 255, np.uint8)
  out = _raw(KEY, images, cutout=2, cutout_probability=0.25)
  assert 180 < (out == 0).any(axis=(1, 2, 3)).sum() < 320
  out = _raw(KEY, images, cutout=2, cutout_probability=0.0)
  assert (out == 255).all()


def test_cutout_leaves_the_other_draws_alone():
  images = _marked(50)
  plain = _raw(KEY, images, pad=2, flip=True)
  cut = _raw(KEY, images, pad=2, flip=True, cutout=2)
  assert ((cut == plain) | (cut == 0)).all()
  assert (cut != plain).any()


def test_randaugment_comes_between_the_crop_and_the_normalisation():
  images = _marked(50)
  options = {'randaugment_layers': 2, 'randaugment_magnitude': 15}
  cropped = _raw(KEY, images, pad=2).astype(np.uint8)
  expected = randaugment(jax.random.fold_in(KEY, 4), cropped, 2, 15)
  np.testing.assert_array_equal(_raw(KEY, images, pad=2, **options), expected)


def test_the_key_decides():
  images = _marked(50)
  options = {'pad': 2, 'flip': True, 'cutout': 2}
  first = _raw(KEY, images, **options)
  np.testing.assert_array_equal(first, _raw(KEY, images, **options))
  other = _raw(jax.random.fold_in(KEY, 1), images, **options)
  assert (first != other).any(axis=(1, 2, 3)).mean() > 0.9


def test_everything_off_is_normalise_and_draws_nothing():
  images = np.random.default_rng(0).integers(
    0, 256, (4, 5, 6, 3), dtype=np.uint8
  )
  mean, std = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)
  expected = (images / 255 - np.array(mean)) / np.array(std)
  out = augment(KEY, images, mean=mean, std=std)
  assert out.dtype == jnp.float32
  np.testing.assert_allclose(out, expected, atol=1e-6)
  out = normalise(jnp.asarray(images[0]), np.array(mean), np.array(std))
  np.testing.assert_allclose(out, expected[0], atol=1e-6)
  jaxpr = jax.make_jaxpr(lambda key, x: augment(key, x, mean=mean, std=std))
  assert 'random_bits' not in str(jaxpr(KEY, images))


def test_runs_inside_a_scan():
  images = _marked(50)
  keys = jax.random.split(KEY, 3)
  options = {'pad': 2, 'flip': True, 'cutout': 2, **RAW}

  @jax.jit
  def scanned(keys):
    return jax.lax.scan(
      lambda carry, key: (carry, augment(key, images, **options)), None, keys
    )[1]

  for key, out in zip(keys, scanned(keys), strict=True):
    np.testing.assert_allclose(
      out, augment(key, images, **options), rtol=1e-6, atol=1e-6
    )


def test_statistics_are_those_of_the_pixels():
  rng = np.random.default_rng(0)
  images = rng.integers(0, [10, 100, 256], (70, 4, 5, 3)).astype(np.uint8)
  mean, std = statistics(images, chunk=16)
  assert mean.dtype == std.dtype == np.float32
  np.testing.assert_allclose(mean, (images / 255).mean((0, 1, 2)), rtol=1e-6)
  np.testing.assert_allclose(std, (images / 255).std((0, 1, 2)), rtol=1e-6)
  whole = statistics(images)
  np.testing.assert_array_equal((mean, std), whole)
  x = np.asarray(normalise(jnp.asarray(images), mean, std), np.float64)
  np.testing.assert_allclose(x.mean((0, 1, 2)), 0.0, atol=1e-5)
  np.testing.assert_allclose(x.std((0, 1, 2)), 1.0, atol=1e-5)


@pytest.mark.parametrize('value', [0, 77, 255])
def test_a_constant_channel_becomes_zero(value):
  images = np.full((3, 7, 7, 1), value, np.uint8)
  mean, std = statistics(images)
  assert std == 1.0
  np.testing.assert_allclose(
    normalise(jnp.asarray(images), mean, std), 0.0, atol=1e-6
  )


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'fill': 'edge', 'pad': 1}, "Give one of 'zero', 'reflect'"),
    ({'pad': -1}, 'Give 0 or more'),
    ({'cutout': -1}, 'Give 0 or more'),
    ({'fill': 'reflect', 'pad': 4}, 'Give a smaller pad'),
    ({'cutout': 2, 'cutout_probability': 1.5}, 'between 0 and 1'),
  ],
)
def test_options_that_cannot_work(options, message):
  with pytest.raises(ValueError, match=message):
    augment(KEY, _marked(1, 4, 4), **options, **RAW)


@pytest.mark.parametrize(
  'images', [np.zeros((1, 4, 4, 1), np.float32), np.zeros((4, 4, 1), np.uint8)]
)
def test_images_that_cannot_be_augmented(images):
  with pytest.raises(ValueError, match='Give uint8'):
    augment(KEY, images, **RAW)
