r"""Says what a trained model sees in images: a line of JSON for each.

Examples:
  python -m train.predict --workdir=runs/digits scan.png
  python -m train.predict --workdir=runs/digits --resize --top=3 photos/

It reads the folder `model` that a finished run leaves in its workdir, and
needs neither the data set nor the checkpoints. A line has the file, its class,
the number of the class, its probability, and the greatest probabilities by
class. A file that cannot be read has a line with its error, which stderr shows
too; the others are predicted all the same, and the exit status is 1.
In Python: predictor = train.predict.load('runs/digits').
"""

import argparse
import functools
import itertools
import json
import os
import pathlib
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from train import command
from train.checks import ConfigError, DataError
from train.data import folder
from train.engine.predictor import Predictions as Predictions
from train.engine.predictor import Predictor as Predictor
from train.engine.predictor import load as load

# Images that are in memory together.
_CHUNK = 256


def lines(
  predictor: Predictor,
  files: Iterable[str],
  top: int = 5,
  resize: bool = False,
) -> Iterator[dict[str, Any]]:
  """What a model sees in image files.

  Args:
    predictor: the model.
    files: their paths.
    top: how many probabilities to give of each, at most.
    resize: see `Predictor.read`.

  Yields:
    For each file 'file', 'class' and 'label' (its name and its number),
    'probability', and 'probabilities' by class, the greatest first. For a file
    that cannot be read 'file' and 'error': what is wrong, and what to do.

  Raises:
    ConfigError: if the model's task has no classes.
  """
  if not predictor.class_names:
    raise ConfigError(
      f'Given a model of task={predictor.config.task!r}. Its outputs are of no'
      ' classes, so that there is none to name. Use train.predict.load in'
      ' Python, which gives the outputs.'
    )
  files = iter(files)
  while chunk := list(itertools.islice(files, _CHUNK)):
    found = [_read(predictor, file, resize) for file in chunk]
    images = [one for one in found if isinstance(one, np.ndarray)]
    seen = _classes(predictor, np.stack(images), top) if images else iter(())
    for file, one in zip(chunk, found, strict=True):
      is_image = isinstance(one, np.ndarray)
      yield {'file': file, **(next(seen) if is_image else {'error': one})}


def _read(predictor: Predictor, file: str, resize: bool) -> np.ndarray | str:
  """An image, or what is wrong with its file."""
  try:
    if not os.path.lexists(file):
      raise DataError(
        f'Cannot predict {file!r}. There is no such file or folder. Give image'
        ' files, or folders of them.'
      )
    if os.path.isdir(file):
      raise DataError(
        f'Cannot predict {file!r}. It is a folder without'
        f' {", ".join(folder.SUFFIXES)} images. Give a folder that has some, or'
        ' the files themselves.'
      )
    return predictor.read(file, resize)
  except DataError as error:
    return str(error)


def _classes(
  predictor: Predictor, images: np.ndarray, top: int
) -> Iterator[dict[str, Any]]:
  """The classes of images, as `lines` gives them."""
  names = predictor.class_names
  outputs, probabilities = predictor(images)
  # By the outputs: probabilities of sigmoids can be 1 several times.
  orders = np.argsort(-outputs, axis=-1, kind='stable')[:, :top]
  for order, row in zip(orders, probabilities, strict=True):
    shown = {names[n]: round(float(row[n]), 6) for n in order}
    best = int(order[0])
    yield {
      'class': names[best],
      'label': best,
      'probability': shown[names[best]],
      'probabilities': shown,
    }


def find(given: Sequence[str]) -> list[str]:
  """The image files of a command line.

  Args:
    given: files, and folders, of which all images are meant, those of inner
      folders too.

  Returns:
    The paths, those of a folder in the order of their names. What is not
    there, or is a folder without images, stays as it was given.

  Raises:
    DataError: if nothing is given.
  """
  if not given:
    raise DataError(
      'Given no images. There is nothing to predict. Give files or folders'
      ' after the flags: python -m train.predict --workdir=RUN IMAGES...'
    )
  paths = map(os.path.expanduser, given)
  return [file for path in paths for file in _inside(path) or [path]]


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command.

  Args:
    argv: its arguments; those of the process by default.

  Returns:
    The exit status.
  """
  return command.status_of(functools.partial(_main, argv))


def _main(argv: Sequence[str] | None) -> int:
  args = _parser().parse_intermixed_args(argv)
  files, status = find(args.images), 0
  try:
    for line in lines(load(args.workdir), files, args.top, args.resize):
      if 'error' in line:
        print(f'error: {line["error"]}', file=sys.stderr, flush=True)
        status = 1
      print(_json(line), flush=True)
  except BrokenPipeError:
    # Who reads has seen enough, such as `head`; nothing is left to be flushed.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
  return status


def _json(line: dict[str, Any]) -> str:
  """A line of JSON that stdout can show."""
  text = json.dumps(line, ensure_ascii=False)
  try:
    text.encode(sys.stdout.encoding or 'utf-8')
  except UnicodeEncodeError:  # a name of no Unicode, or a terminal without
    return json.dumps(line)
  return text


def _inside(path: str) -> list[str]:
  return sorted(
    str(file)
    for file in pathlib.Path(path).rglob('*')
    if file.name.lower().endswith(folder.SUFFIXES) and file.is_file()
  )


def _parser() -> argparse.ArgumentParser:
  parser = command.parser('train.predict', __doc__ or '')
  parser.add_argument(
    'images',
    nargs='*',
    metavar='IMAGES',
    help='image files, or folders of them',
  )
  parser.add_argument(
    '--workdir',
    required=True,
    metavar='FOLDER',
    help='the folder of a finished run, or a copy of the folder model in it',
  )
  parser.add_argument(
    '--resize',
    action='store_true',
    help='cut out the middle of images of another size, resize and convert it',
  )
  parser.add_argument(
    '--top',
    type=command.count,
    default=5,
    metavar='N',
    help='how many probabilities to give (default: 5)',
  )
  return parser


if __name__ == '__main__':
  sys.exit(main())
