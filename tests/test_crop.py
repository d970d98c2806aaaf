"""The Inception crop against rectangles, ranges and Pillow's resize."""

import numpy as np
import pytest
from PIL import Image

from train.data.crop import draw_box, inception_crop


def draw(seed=0):
  return np.random.default_rng(seed)


def noise(height=30, width=40, channels=3):
  shape = (height, width, channels)
  return draw().integers(0, 256, shape).astype(np.uint8)


def test_boxes_lie_inside_and_fill_the_ranges():
  generator, scale, ratio = draw(), (0.2, 0.6), (0.5, 2.0)
  boxes = [draw_box(generator, (90, 120, 3), scale, ratio) for _ in range(2000)]
  left, top, width, height = np.array(boxes).T
  assert left.min() >= 0 and (left + width).max() <= 120
  assert top.min() >= 0 and (top + height).max() <= 90
  # Rounding to whole pixels moves both by a few percent.
  area, wider = width * height / (90 * 120), width / height
  assert 0.19 < area.min() < 0.22 and 0.5 < area.max() < 0.62
  assert 0.47 < wider.min() < 0.53 and 1.9 < wider.max() < 2.1
  # Every place that is free is as likely.
  place = left[width < 120] / (120 - width[width < 120])
  assert place.mean() == pytest.approx(0.5, abs=0.03)
  assert place.std() == pytest.approx(1 / np.sqrt(12), abs=0.02)
  place = top[height < 90] / (90 - height[height < 90])
  assert place.mean() == pytest.approx(0.5, abs=0.03)
  # Of two boxes in turn, one does not tell the other.
  assert abs(np.corrcoef(area[:-1], area[1:])[0, 1]) < 0.1


def test_area_and_logarithm_of_the_ratio_are_uniform():
  generator = draw()
  # Of a large image, so that every box fits and none is drawn again.
  shape, scale, ratio = (3000, 3000, 3), (0.05, 0.4), (0.5, 2.0)
  boxes = np.array(
    [draw_box(generator, shape, scale, ratio) for _ in range(2000)]
  )
  area = boxes[:, 2] * boxes[:, 3] / 3000**2
  wider = np.log(boxes[:, 2] / boxes[:, 3])
  assert area.mean() == pytest.approx(0.225, abs=0.01)
  assert area.std() == pytest.approx(0.35 / np.sqrt(12), abs=0.01)
  assert wider.mean() == pytest.approx(0.0, abs=0.04)
  assert wider.std() == pytest.approx(2 * np.log(2) / np.sqrt(12), abs=0.02)


def test_a_crop_is_pillows_resize_of_its_box():
  image = noise()
  left, top, width, height = draw_box(draw(3), (30, 40, 3), (0.1, 0.5), (1, 2))
  cut = Image.fromarray(image[top : top + height, left : left + width])
  expected = cut.resize((16, 16), Image.Resampling.BILINEAR)
  found = inception_crop(draw(3), image, 16, (0.1, 0.5), (1, 2))
  assert found.dtype == np.uint8 and found.shape == (16, 16, 3)
  np.testing.assert_array_equal(found, expected)
  grey = inception_crop(draw(3), image[..., :1], 16, (0.1, 0.5), (1, 2))
  np.testing.assert_array_equal(grey, np.asarray(expected)[..., :1])


def test_the_generator_decides():
  image = noise()
  first = inception_crop(draw((0, 1)), image, 8)
  np.testing.assert_array_equal(inception_crop(draw((0, 1)), image, 8), first)
  assert np.any(inception_crop(draw((0, 2)), image, 8) != first)


def test_the_whole_of_a_square_is_itself():
  image = noise(24, 24)
  same = inception_crop(draw(), image, 24, (1.0, 1.0), (1.0, 1.0))
  np.testing.assert_array_equal(same, image)


def test_what_never_fits_is_cut_from_the_middle():
  wide = draw_box(draw(), (10, 100, 3), (1.0, 1.0), (0.8, 1.5))
  assert wide == (42, 0, 15, 10)
  tall = draw_box(draw(), (100, 10, 3), (1.0, 1.0), (0.8, 1.5))
  assert tall == (0, 44, 10, 12)


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'size': 0}, 'Give 1 or more'),
    ({'scale': (0.0, 1.0)}, 'share of the area'),
    ({'scale': (0.5, 0.2)}, 'rising'),
    ({'ratio': (2.0, 1.0)}, 'width over height'),
    ({'image': np.zeros((4, 4), np.uint8)}, 'Give uint8'),
  ],
)
def test_what_cannot_be_cropped(options, message):
  with pytest.raises(ValueError, match=message):
    inception_crop(
      **{'generator': draw(), 'image': noise(), 'size': 8} | options
    )
