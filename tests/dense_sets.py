"""Small data sets in memory for segmentation and pose."""

import numpy as np

from train.data.memory import Dataset


def scenes(count=6):
  """Images of 12x16 pixels: a colour for each of four classes, in squares.

  The first row of the masks does not count.
  """
  rng = np.random.default_rng(0)
  masks = rng.integers(0, 4, (count, 3, 4)).astype(np.uint8)
  masks = masks.repeat(4, 1).repeat(4, 2)
  masks[:, :1] = 255
  images = np.stack([masks * 40, masks * 30, 255 - masks], -1)
  extent = np.tile(np.array([16, 12], np.int32), (count, 1))
  rows = {'image': images, 'mask': masks, 'extent': extent}
  return Dataset(rows, rows, {'num_classes': 4})


def people(count=5, joints=16, head_size=6.0):
  """Images of 32x32 pixels of noise, with a person's joints in each."""
  rng = np.random.default_rng(0)
  places = rng.uniform(8, 24, (count, joints, 2)).astype(np.float32)
  visible = rng.random((count, joints)) < 0.8
  rows = {
    'image': rng.integers(0, 256, (count, 32, 32, 3)).astype(np.uint8),
    'joints': places,
    'visible': visible,
    'center': np.full((count, 2), 16, np.float32),
    'side': np.full(count, 32, np.float32),
    'head_size': np.full(count, head_size, np.float32),
  }
  return Dataset(rows, rows, {'joints': joints})
