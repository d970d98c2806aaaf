"""The contact sheet's layout; what it shows is for eyes."""

import numpy as np
import pytest

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
