"""RandAugment's operations against Pillow's own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from train.augment import randaugment
from train.augment.randaugment import MAX_MAGNITUDE, OPERATIONS

KEY = jax.random.key(7, impl='unsafe_rbg')
HEIGHT, WIDTH = 20, 24
apply = jax.jit(randaugment.apply, static_argnames='magnitude')


def _images():
  """Noise, a ramp, a dark image, one of few values, one that is constant."""
  rng = np.random.default_rng(0)
  noise = rng.integers(0, 256, (HEIGHT, WIDTH, 3))
  ramp = np.arange(HEIGHT * WIDTH * 3).reshape(HEIGHT, WIDTH, 3) // 6
  dark = rng.integers(30, 120, (HEIGHT, WIDTH, 3)) * np.array([1, 2, 1])
  few = rng.choice([3, 90, 200], (HEIGHT, WIDTH, 3), p=[0.98, 0.01, 0.01])
  flat = np.full((HEIGHT, WIDTH, 3), 77)
  return np.stack([noise, ramp, dark, few, flat]).astype(np.uint8)


def _affine(*matrix):
  return lambda image: image.transform(
    image.size, Image.Transform.AFFINE, matrix
  )


def _enhanced(enhancer, share, sign):
  return lambda image: enhancer(image).enhance(1 + sign * 0.9 * share)


def _pillow(name, magnitude, sign):
  """Pillow's function for an operation, as torchvision calls it."""
  share = magnitude / MAX_MAGNITUDE
  shear = sign * 0.3 * share
  right = sign * int(150 / 331 * WIDTH * share)
  down = sign * int(150 / 331 * HEIGHT * share)
  return {
    'identity': lambda image: image,
    'shear_x': _affine(1, shear, 0, 0, 1, 0),
    'shear_y': _affine(1, 0, 0, shear, 1, 0),
    'translate_x': _affine(1, 0, right, 0, 1, 0),
    'translate_y': _affine(1, 0, 0, 0, 1, down),
    'rotate': lambda image: image.rotate(sign * 30 * share),
    'brightness': _enhanced(ImageEnhance.Brightness, share, sign),
    'color': _enhanced(ImageEnhance.Color, share, sign),
    'contrast': _enhanced(ImageEnhance.Contrast, share, sign),
    'sharpness': _enhanced(ImageEnhance.Sharpness, share, sign),
    'posterize': lambda image: ImageOps.posterize(
      image, 8 - round(magnitude / 7.5)
    ),
    'solarize': lambda image: ImageOps.solarize(
      image, int(np.ceil(255 * (1 - share)))
    ),
    'autocontrast': ImageOps.autocontrast,
    'equalize': ImageOps.equalize,
  }[name]


@pytest.mark.parametrize('negative', [False, True])
@pytest.mark.parametrize('magnitude', [9, 30])
@pytest.mark.parametrize('channels', [1, 3])
def test_every_operation_is_pillows(negative, magnitude, channels):
  images = _images()[..., :channels]
  # All operations on all images in one call, as in a batch.
  count, each = len(images), len(OPERATIONS)
  batch = np.repeat(images, each, axis=0)
  operations = jnp.tile(jnp.arange(each), count)
  signs = jnp.full(count * each, negative)
  ours = np.asarray(apply(batch, operations, signs, magnitude=magnitude))
  for index, (image, result) in enumerate(zip(batch, ours, strict=True)):
    name = OPERATIONS[index % each]
    # Pillow has grey images as [h, w].
    given = Image.fromarray(image.squeeze())
    expected = _pillow(name, magnitude, -1 if negative else 1)(given)
    expected = np.asarray(expected).reshape(image.shape).astype(int)
    difference = np.abs(result.astype(int) - expected)
    if name == 'rotate':
      # Pillow counts in 1/65536 pixels: a pixel on an edge may fall either way.
      assert (difference > 0).mean() < 0.01, name
    else:
      assert difference.max() <= 1, name
      assert (difference > 0).mean() < 0.02, name


def test_no_layer_and_no_strength():
  images = _images()
  same = randaugment.randaugment(KEY, images, num_layers=0)
  np.testing.assert_array_equal(same, images)
  unchanged = ('solarize', 'autocontrast', 'equalize')
  operations = jnp.array(
    [i for i, name in enumerate(OPERATIONS) if name not in unchanged]
  )
  batch = np.repeat(images[:1], len(operations), axis=0)
  signs = jnp.zeros(len(operations), bool)
  out = apply(batch, operations, signs, magnitude=0)
  np.testing.assert_array_equal(out, batch)


def test_every_image_draws_every_operation_by_itself():
  # Of this image every operation, and every sign, makes another one.
  image = _images()[2:3]
  each, magnitude = len(OPERATIONS), 20
  signed = jnp.repeat(jnp.array([False, True]), each)
  candidates = np.asarray(
    apply(
      np.repeat(image, 2 * each, axis=0),
      jnp.tile(jnp.arange(each), 2),
      signed,
      magnitude=magnitude,
    )
  )
  draw = jax.jit(
    randaugment.randaugment, static_argnames=('num_layers', 'magnitude')
  )
  batch = np.repeat(image, 700, axis=0)
  once = np.asarray(draw(KEY, batch, num_layers=1, magnitude=magnitude))
  assert once.dtype == np.uint8
  equal = (once[:, None] == candidates[None]).all(axis=(2, 3, 4))
  assert equal.any(axis=1).all()
  counts = equal.sum(axis=0)
  both = counts.reshape(2, each)
  is_signed = (candidates[:each] != candidates[each:]).any(axis=(1, 2, 3))
  assert is_signed.sum() == 9
  # 25 of each expected, or 50 where the sign is none; deviations 4.9 and 6.8.
  assert both[:, is_signed].min() > 5 and both[:, is_signed].max() < 50
  assert both[:, ~is_signed].min() > 20 and both[:, ~is_signed].max() < 85
  again = draw(KEY, batch, num_layers=1, magnitude=magnitude)
  np.testing.assert_array_equal(again, once)
  other = draw(
    jax.random.fold_in(KEY, 1), batch, num_layers=1, magnitude=magnitude
  )
  assert (np.asarray(other) != once).any(axis=(1, 2, 3)).mean() > 0.7


def test_layers_come_one_after_the_other():
  # As many as in the tests of every operation, so that they are compiled.
  images = np.repeat(_images(), len(OPERATIONS), axis=0)
  key = jax.random.key(0, impl='unsafe_rbg')
  operation_key, sign_key = jax.random.split(key)
  shape = (2, len(images))
  operations = jax.random.randint(operation_key, shape, 0, len(OPERATIONS))
  negative = jax.random.bernoulli(sign_key, shape=shape)
  expected = images
  for layer in range(2):
    expected = apply(expected, operations[layer], negative[layer], magnitude=9)
  out = randaugment.randaugment(key, images, num_layers=2, magnitude=9)
  np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'num_layers': -1}, 'Give 0 or more'),
    ({'magnitude': 31}, 'from 0 to 30'),
    ({'magnitude': 2.5}, 'from 0 to 30'),
  ],
)
def test_options_that_cannot_work(options, message):
  with pytest.raises(ValueError, match=message):
    randaugment.randaugment(KEY, _images(), **options)


@pytest.mark.parametrize(
  'images', [np.zeros((1, 4, 4, 2), np.uint8), np.zeros((1, 4, 4, 3))]
)
def test_images_that_cannot_be_augmented(images):
  with pytest.raises(ValueError, match='Give uint8'):
    randaugment.randaugment(KEY, images)
