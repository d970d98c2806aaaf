"""The contact sheet's layout; what it shows is for eyes."""

import numpy as np
import pytest
from PIL import Image

from tests import tiny_config
from tests.words import in_three_beats
from train.tasks import pictures
from train.tools import contact_sheet


@pytest.mark.parametrize('channels', [1, 3])
def test_a_row_for_each_image_and_a_column_for_each_name(channels):
  images = np.random.default_rng(0).integers(0, 256, (2, 56, 56, channels))
  images = images.astype(np.uint8)
  sheet = contact_sheet.draw(images, names=['image', 'inception crop'])
  assert sheet.size == (2 * (112 + 4), 2 * (112 + 4) + 16)
  pixels = np.asarray(sheet)
  for row, image in enumerate(images):
    top = 16 + row * (112 + 4)
    cell = pixels[top : top + 112 : 2, 0:112:2]
    np.testing.assert_array_equal(cell, np.broadcast_to(image, cell.shape))


def test_a_data_set_that_is_not_there(tmp_path, capsys):
  given = ['--data=/no/such.npz', f'--workdir={tmp_path / "sheet"}']
  assert contact_sheet.main(given) == 1
  assert '/no/such.npz' in capsys.readouterr().err
  assert not (tmp_path / 'sheet').exists()


def test_the_images_of_a_config_are_spread_and_drawn_as_in_training(tmp_path):
  images = np.full((12, 8, 8, 3), 40, np.uint8)
  images[:, 2:6, 1:4, 0] = 200
  labels = np.arange(12) // 4
  images[..., 2] += np.arange(12, dtype=np.uint8)[:, None, None] * 10
  path = tmp_path / 'set.npz'
  np.savez(
    path,
    train_x=images,
    train_y=labels,
    test_x=images[::4],
    test_y=labels[::4],
    class_names=np.array(['ant', 'bee', 'cow']),
  )
  given = ['--config=tests/tiny_config.py', f'--config.data.name={path}']
  given += ['--config.augment.flip=True', f'--workdir={tmp_path / "sheet"}']
  assert contact_sheet.main([*given, '--images=3']) == 0
  sheet = np.asarray(Image.open(tmp_path / 'sheet' / 'contact_sheet.png'))
  pitch = width = 8 * 14 + 4
  left = sheet.shape[1] - 6 * width
  assert left > 8 and sheet.shape == (3 * pitch + 16, left + 6 * width, 3)
  # The name is beside the middle of its row, and nothing is between rows.
  written = np.flatnonzero((sheet[:, :left] < 128).any((1, 2)))
  assert {(y - 16) // pitch for y in written} == {0, 1, 2}
  assert all(abs((y - 16) % pitch - 56) < 12 for y in written)
  mirrored = 0
  for row, number in enumerate((0, 5, 11)):  # of three classes
    cells = [
      sheet[16 + row * pitch :, left + column * width :][
        : 8 * 14 : 14, : 8 * 14 : 14
      ]
      for column in range(6)
    ]
    np.testing.assert_array_equal(cells[0], images[number])
    for cell in cells[1:]:  # not normalised any more
      assert np.array_equal(cell, cells[0]) or np.array_equal(
        cell, cells[0][:, ::-1]
      )
      mirrored += not np.array_equal(cell, cells[0])
  assert 0 < mirrored < 15


def test_a_streamed_config_is_cropped_as_in_training(tmp_path):
  pixels = np.arange(20 * 30 * 3).reshape(20, 30, 3) % 256
  for split in ('train', 'test'):
    for name in 'ab':
      (tmp_path / split / name).mkdir(parents=True)
      image = Image.fromarray(pixels.astype(np.uint8))
      image.save(tmp_path / split / name / '0.png')
  config = tiny_config.get_config()
  config.data.update({'name': str(tmp_path), 'size': 8, 'crop': 'inception'})
  sheet = np.asarray(contact_sheet.draw_config(config, draws=2))
  one, two = (sheet[16:128, left : left + 112] for left in (116, 232))
  assert not np.array_equal(one, two)


@pytest.mark.parametrize('channels', [2, 4])
def test_of_other_channels_the_first_is_shown(channels):
  images = np.random.default_rng(0).integers(0, 256, (2, 56, 56, channels))
  images = images.astype(np.uint8)
  pixels = np.asarray(contact_sheet.draw(images, names=['image']))
  expected = np.repeat(images[0][..., :1], 3, axis=-1)
  np.testing.assert_array_equal(pixels[16:128:2, 0:112:2], expected)
  np.testing.assert_array_equal(pictures.colored(images[0]), expected)


@pytest.mark.parametrize(
  'given',
  [
    ['--config=tests/tiny_config.py', '--data=digits'],
    ['--config.data.name=digits'],
    ['--config=no.py'],
  ],
)
def test_flags_that_cannot_be(given, tmp_path, capsys):
  assert contact_sheet.main([*given, f'--workdir={tmp_path / "sheet"}']) == 1
  in_three_beats(capsys.readouterr().err, 'Give')
  assert not (tmp_path / 'sheet').exists()
