r"""Draws training images as they are and as they are augmented, to look at.

Examples:
  python -m train.tools.contact_sheet --config=configs/own_images.py \
      --config.data.name=photos --workdir=runs/sheet
  python -m train.tools.contact_sheet --data=cifar10 --workdir=runs/sheet

With a config, a row is an image with its class, and several draws of what the
run would train on. Without one, a column is an augmentation that a config can
have. The images are spread over the training set.
"""

import argparse
import functools
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image, ImageDraw

from train import command, tasks, variants
from train.augment import mixup, pipeline
from train.checks import Config, ConfigError
from train.data import crop, memory
from train.data.open import open_set
from train.tasks import pictures

_GAP = 4
_HEADER = 16
_CELL = 112  # pixels that a column is at least wide, for its name
_NAME = 160  # pixels that the name of a row is at most wide


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
  drawn = {}
  for column, name in enumerate(names):
    key = jax.random.fold_in(jax.random.key(seed), column)
    drawn[name] = known[name](key, images)
  return _sheet(drawn, images.shape[1:3])


def draw_config(
  config: Config, count: int = 8, draws: int = 5, seed: int = 0
) -> Image.Image:
  """Draws what a run of a config trains on.

  Args:
    config: the config.
    count: how many training images.
    draws: how many times each is drawn, as in as many epochs.
    seed: of the draws.

  Returns:
    The picture.

  Raises:
    ConfigError, DataError: if the config, or its data set, cannot be used.
  """
  dataset = open_set(config.data)
  task = tasks.create(config, dataset)
  ids = _spread(dataset.num_examples, count)
  drawn, names = {}, None
  for number in range(draws):
    rows = _rows(dataset, ids, seed, epoch=number)
    if names is None:
      drawn['image'], names = rows['image'], _classes(dataset, rows)
    key = jax.random.fold_in(jax.random.key(seed), number)
    batch = task.prepare(key, {**rows, 'id': jnp.asarray(ids)})
    mean, std = task.normalisation or (0.0, 1.0)
    # What a cut or a border has may lie outside of the pixels.
    pixels = np.clip(np.asarray(batch['image']) * std + mean, 0, 1)
    drawn[f'training, epoch {number + 1}'] = _pixels(pixels)
  return _sheet(drawn, dataset.image_shape[:2], names)


def _sheet(
  drawn: Mapping[str, np.ndarray],
  shape: Sequence[int],
  names: Sequence[str] | None = None,
) -> Image.Image:
  """Lays out columns of images, under their names, and rows beside theirs."""
  count = len(next(iter(drawn.values())))
  zoom = -(-_CELL // shape[1])
  height, width = (side * zoom + _GAP for side in shape)
  names, margin = _margin(names or [])
  size = margin + len(drawn) * width, _HEADER + count * height
  sheet = Image.new('RGB', size, 'white')
  text = ImageDraw.Draw(sheet)
  for column, (name, images) in enumerate(drawn.items()):
    left = margin + column * width
    text.text((left, 2), name, fill='black')
    for row, image in enumerate(images):
      cell = Image.fromarray(pictures.colored(image))
      cell = cell.resize(
        (width - _GAP, height - _GAP), Image.Resampling.NEAREST
      )
      sheet.paste(cell, (left, _HEADER + row * height))
  for row, name in enumerate(names):
    middle = _HEADER + row * height + (height - _GAP) // 2
    text.text((_GAP, middle), name, fill='black', anchor='lm')
  return sheet


def _margin(names: Sequence[str]) -> tuple[list[str], int]:
  """The names of rows, cut where they are long, and the pixels they take."""
  text = ImageDraw.Draw(Image.new('RGB', (1, 1)))
  cut = [pictures.fitting(text, name, _NAME) for name in names]
  widest = max((text.textlength(name) for name in cut), default=None)
  return cut, 0 if widest is None else math.ceil(widest) + 2 * _GAP


def _spread(size: int, count: int) -> np.ndarray:
  """Positions spread over a set, whose classes may be one after another."""
  return np.linspace(0, size - 1, min(count, size)).astype(np.int32)


def _rows(
  dataset: Any, ids: np.ndarray, seed: int, epoch: int
) -> dict[str, np.ndarray]:
  if isinstance(dataset, memory.Dataset):
    return {name: values[ids] for name, values in dataset.train.items()}
  return next(iter(dataset.train_batches(ids[None], seed, epoch)))


def _classes(dataset: Any, rows: Mapping[str, np.ndarray]) -> list[str] | None:
  """The class of each row, where it has one."""
  labels = rows.get('label')
  if labels is None or np.ndim(labels) != 1:
    return None
  names = dataset.facts.get('class_names') or range(labels.max() + 1)
  return [str(names[label]) for label in labels]


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


def _pixels(x: jax.Array | np.ndarray) -> np.ndarray:
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
  args, settings = command.parse(_parser(), argv)
  command.check_folder(args.workdir)
  if args.config is None:
    if settings:
      raise ConfigError(
        f'Given {settings[0]} without --config. There is no config whose key '
        'it would set. Give the config file too.'
      )
    dataset = memory.load(args.data or 'digits', args.data_dir)
    ids = _spread(dataset.num_examples, args.images)
    sheet = draw(dataset.train['image'][ids], args.seed)
  elif args.data or args.data_dir:
    raise ConfigError(
      'Given --config, and --data or --data_dir. Both say which data. Give '
      '--config.data.name=NAME and --config.data.dir=FOLDER with the config.'
    )
  else:
    config = variants.load(args.config, settings)
    sheet = draw_config(config, args.images, seed=args.seed)
  args.workdir.mkdir(parents=True, exist_ok=True)
  path = args.workdir / 'contact_sheet.png'
  sheet.save(path)
  print(f'wrote {path}')


def _parser() -> argparse.ArgumentParser:
  parser = command.parser(
    'train.tools.contact_sheet', __doc__ or '', overrides=True
  )
  parser.add_argument(
    '--config',
    metavar='FILE[:VARIANT]',
    help='draw the training images of this config',
  )
  parser.add_argument(
    '--data',
    metavar='NAME',
    help='without a config: the data set, as data.name (default: digits)',
  )
  parser.add_argument(
    '--data_dir', metavar='FOLDER', help='likewise, as data.dir in a config'
  )
  parser.add_argument(
    '--workdir',
    required=True,
    type=command.folder,
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
