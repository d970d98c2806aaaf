r"""Says what a trained model sees in images: a line of JSON for each.

Examples:
  python -m train.predict --workdir=runs/digits scan.png
  python -m train.predict --workdir=runs/digits --resize --top=3 photos/
  python -m train.predict --workdir=runs/animals --out=masks photos/
  python -m train.predict --workdir=runs/people --box=40,10,120,300 photo.jpg

It reads the folder `model` that a finished run leaves in its workdir, and
needs neither the data set nor the checkpoints. A line has the file and, of
classification, its class, the number of the class, its probability, and the
greatest probabilities by class; of segmentation the share of the pixels of each
class, and --out writes the masks; of pose the joints of one person, with x, y
and confidence. A file that cannot be read has a line with its error, which
stderr shows too; the others are predicted all the same, and the exit status
is 1. In Python: predictor = train.predict.load('runs/digits').
"""

import argparse
import functools
import itertools
import json
import math
import os
import pathlib
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from train import answers, command
from train.checks import DataError
from train.data import folder
from train.engine.predictor import Predictions as Predictions
from train.engine.predictor import Predictor as Predictor
from train.engine.predictor import load as load
from train.tasks import View

# Images that are in memory together.
_CHUNK = 256


def lines(
  predictor: Predictor,
  files: Iterable[str],
  top: int | None = None,
  resize: bool = False,
  box: Sequence[float] | None = None,
  out: pathlib.Path | None = None,
) -> Iterator[dict[str, Any]]:
  """What a model sees in image files.

  Args:
    predictor: the model.
    files: their paths.
    top: how many probabilities to give of each, at most; 5 by default.
    resize: see `Predictor.read`.
    box: left, top, width and height of a person in pixels of the image.
    out: the folder that masks are written to, see `answers.targets`.

  Yields:
    For each file 'file' and what the task says of it: of a model of classes
    'class' and 'label' (its name and its number), 'probability', and
    'probabilities' by class, the greatest first; see docs/tasks.md for the
    others. With `out`, 'written' has the paths of the files. For a file that
    cannot be read 'file' and 'error': what is wrong, and what to do.

  Raises:
    ConfigError: if the model's task does not speak of image files, or takes
      none of these options.
    DataError: if two files with `out` would be one.
  """
  given = {'top': top, 'box': box}
  options = {name: x for name, x in given.items() if x is not None}
  answers.check(predictor, options, out)
  options['resize'] = resize
  targets = {}
  if out is not None:
    files = list(files)
    targets = answers.targets(files, out)
  files = iter(files)
  while chunk := list(itertools.islice(files, _CHUNK)):
    views = [_view(predictor, file, options) for file in chunk]
    whole = [view for view in views if isinstance(view, View)]
    told = predictor.tell(whole, **options) if whole else iter(())
    for file, view in zip(chunk, views, strict=True):
      if isinstance(view, str):
        yield {'file': file, 'error': view}
        continue
      answer = next(told)
      line = {'file': file, **answer.line}
      if out is not None:
        line['written'] = answers.write(answer.files, targets[file])
      yield line


def _view(
  predictor: Predictor, file: str, options: Mapping[str, Any]
) -> View | str:
  """An image as the model takes it, or what is wrong with its file."""
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
    return predictor.view(file, **options)
  except DataError as error:
    return str(error)


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
  found = lines(
    load(args.workdir), files, args.top, args.resize, args.box, args.out
  )
  try:
    for line in found:
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


def _box(text: str) -> tuple[float, ...]:
  """Four numbers with commas, as argparse takes a type."""
  try:
    box = tuple(float(part) for part in text.split(','))
  except ValueError:
    box = ()
  if len(box) != 4 or not all(map(math.isfinite, box)) or min(box[2:]) <= 0:
    raise argparse.ArgumentTypeError(
      f'given {text!r}, which is no box; use LEFT,TOP,WIDTH,HEIGHT in pixels,'
      ' such as 40,10,120,300'
    )
  return box


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
    metavar='N',
    help='how many probabilities to give, of a model of classes (default: 5)',
  )
  parser.add_argument(
    '--out',
    type=command.folder,
    metavar='FOLDER',
    help='where the masks go, of a model of segmentation (default: nowhere)',
  )
  parser.add_argument(
    '--box',
    type=_box,
    metavar='LEFT,TOP,WIDTH,HEIGHT',
    help='the person in pixels, of a model of pose (default: the whole image)',
  )
  return parser


if __name__ == '__main__':
  sys.exit(main())
