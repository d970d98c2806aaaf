"""Draws the augmentations of a data set's first images, for inspection.

Examples:
  python -m train.tools.contact_sheet --data=cifar10 --workdir=runs/sheet
"""

import argparse
import functools
import pathlib
import sys
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image, ImageDraw

from train import command
from train.augment import mixup, pipeline
from train.data import crop, memory

_GAP = 4
_HEADER = 16
_CELL = 112  # pixels that a column is at least wide, for its name


def columns(side: int) -> dict[str, Callable[..., np.ndarray]]:
  """The columns by name: functions of (key, images), uint8 both ways.

  Args:
    side: of the images, which the crop's padding and the cut go with.
  """
  pad, hole = max(1, side // 8), max(1, side // 2)
  options = {
    'pad, zero': {'pad': pad},
    'pad, reflect': {'pad': pad, 'fill': 'reflect'},
    'flip': {'flip': True},
    'cutout': {'cutout': hole},
    'randaugment 1, 15': _randaugment(1, 15),
    'randaugment 2, 9': _randaugment(2, 9),
    'randaugment 2, 20': _randaugment(2, 20),
    'all of them': {
      'pad': pad,
      'flip': True,
      'cutout': hole,
      'cutout_probability': 0.5,
      **_randaugment(2, 9),
    },
  }
  return {
    'image': lambda key, images: images,
    **{name: _augmented(**chosen) for name, chosen in options.items()},
    'mixup 1': _mixed,
    'inception crop': _cropped,
  }


def draw(
  images: np.ndarray, seed: int = 0, names: Sequence[str] | None = None
) -> Image.Image:
  """Draws a row for each image and a column for each augmentation.

  Args:
    images: uint8 ``[n, h, w, c]``, ``c`` 1 or 3.
    seed: of the draws.
    names: the columns; all of them by default.

  Returns:
    The picture.
  """
  known = columns(images.shape[1])
  names = list(known) if names is None else names
  zoom = -(-_CELL // images.shape[2])
  height, width = (side * zoom + _GAP for side in images.shape[1:3])
  sheet = Image.new(
    'RGB', (len(names) * width, len(images) * height + _HEADER), 'white'
  )
  text = ImageDraw.Draw(sheet)
  for column, name in enumerate(names):
    key = jax.random.fold_in(jax.random.key(seed), column)
    text.text((column * width, 2), name, fill='black')
    for row, image in enumerate(known[name](key, images)):
      cell = Image.fromarray(
        image.squeeze(-1) if image.shape[-1] == 1 else image
      )
      cell = cell.resize(
        (width - _GAP, height - _GAP), Image.Resampling.NEAREST
      )
      sheet.paste(cell, (column * width, row * height + _HEADER))
  return sheet


def _randaugment(layers: int, magnitude: int) -> dict[str, int]:
  return {'randaugment_layers': layers, 'randaugment_magnitude': magnitude}


def _augmented(**options) -> Callable[..., np.ndarray]:
  def augmented(key, images):
    # Pixels in [0, 1], with a cut black.
    mean, std = [0.0] * images.shape[-1], [1.0] * images.shape[-1]
    return _pixels(pipeline.augment(key, images, mean=mean, std=std, **options))

  return augmented


def _mixed(key: jax.Array, images: np.ndarray) -> np.ndarray:
  targets = jnp.zeros((len(images), 1))
  x = jnp.asarray(images, jnp.float32) / 255
  return _pixels(mixup.mixup(key, x, targets, 1.0)[0])


def _cropped(key: jax.Array, images: np.ndarray) -> np.ndarray:
  seed = np.asarray(jax.random.key_data(key))
  side = images.shape[1]
  return np.stack(
    [
      crop.inception_crop(np.random.default_rng((*seed, row)), image, side)
      for row, image in enumerate(images)
    ]
  )


def _pixels(x: jax.Array) -> np.ndarray:
  return np.rint(np.asarray(x) * 255).astype(np.uint8)


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command.

  Args:
    argv: its arguments; the process's by default.

  Returns:
    The exit status.
  """
  return command.status_of(functools.partial(_main, argv))


def _main(argv: Sequence[str] | None) -> None:
  args = _parser().parse_args(argv)
  dataset = memory.load(args.data, args.data_dir)
  args.workdir.mkdir(parents=True, exist_ok=True)
  path = args.workdir / 'contact_sheet.png'
  draw(dataset.train['image'][: args.images], args.seed).save(path)
  print(f'wrote {path}')


def _parser() -> argparse.ArgumentParser:
  parser = command.parser('train.tools.contact_sheet', __doc__ or '')
  parser.add_argument(
    '--data',
    default='digits',
    metavar='NAME',
    help='the data set, as data.name in a config (default: digits)',
  )
  parser.add_argument(
    '--data_dir', metavar='FOLDER', help='as data.dir in a config'
  )
  parser.add_argument(
    '--workdir',
    required=True,
    type=pathlib.Path,
    metavar='FOLDER',
    help='where contact_sheet.png goes',
  )
  parser.add_argument(
    '--images',
    type=command.count,
    default=8,
    metavar='N',
    help='how many rows (default: 8)',
  )
  parser.add_argument(
    '--seed', type=int, default=0, metavar='N', help='of the draws (default: 0)'
  )
  return parser


if __name__ == '__main__':
  sys.exit(main())
