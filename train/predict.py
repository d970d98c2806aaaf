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
and confidence. In Python: predictor = train.predict.load('runs/digits').
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
    out: the folder that masks are written to, as the name of the image with
      another suffix.

  Yields:
    For each file 'file' and what the task says of it: of a model of classes
    'class' and 'label' (its name and its number), 'probability', and
    'probabilities' by class, the greatest first; see docs/tasks.md for the
    others. With `out`, 'written' has the paths of the files.

  Raises:
    ConfigError: if the model's task does not speak of image files, or takes
      none of these options.
    DataError: if a file cannot be read; the files before it, but for those of
      its chunk of 256, have been given.
  """
  options = {'top': top, 'box': box}
  options = {name: x for name, x in options.items() if x is not None}
  check(predictor, options, out)
  files = iter(files)
  while chunk := list(itertools.islice(files, _CHUNK)):
    views = [predictor.view(file, resize=resize, **options) for file in chunk]
    answers = predictor.tell(views, resize=resize, **options)
    for file, answer in zip(chunk, answers, strict=True):
      line = {'file': file, **answer.line}
      if out is not None:
        line['written'] = _write(answer.files, file, out)
      yield line


def check(
  predictor: Predictor, options: Mapping[str, Any], out: pathlib.Path | None
) -> None:
  """Refuses options that the model's task has no use for.

  Args:
    predictor: the model.
    options: the given ones by name.
    out: see `lines`.

  Raises:
    ConfigError: if there is one.
  """
  files, task = predictor.files, predictor.config.task
  known = files.options if files else ()
  for name in options:
    if files is not None and name not in known:
      raise ConfigError(
        f'Given --{name} with a model of task={task!r}. The task does not read'
        f' it. Leave out --{name}.'
      )
  if out is not None and files is not None and not files.writes:
    raise ConfigError(
      f'Given --out with a model of task={task!r}. It writes no files: all that'
      ' it says is in the lines. Leave out --out.'
    )


def _write(
  files: Mapping[str, bytes], file: str, out: pathlib.Path
) -> list[str]:
  """Writes the files of an answer, and gives their paths."""
  out.mkdir(parents=True, exist_ok=True)
  written = []
  for suffix, content in files.items():
    path = out / (pathlib.Path(file).stem + suffix)
    path.write_bytes(content)
    written.append(str(path))
  return written


def check_names(files: Sequence[str], out: pathlib.Path | None) -> None:
  """Refuses images whose files in a folder would have the same name.

  Args:
    files: the paths of the images.
    out: the folder, None for none.

  Raises:
    DataError: if two would be one, or an image could be overwritten.
  """
  if out is None:
    return
  first: dict[str, str] = {}
  for file in files:
    other = first.setdefault(pathlib.Path(file).stem, file)
    if other != file:
      raise DataError(
        f'Given {other!r} and {file!r} with --out={out}. Both would be written'
        ' under one name. Predict their folders one after another, each with'
        ' its own --out.'
      )
    if pathlib.Path(file).parent.resolve() == out.resolve():
      raise DataError(
        f'Given --out={out}, which has {file!r}. A mask could overwrite an'
        ' image. Give another folder.'
      )


def find(given: Sequence[str]) -> list[str]:
  """The image files of a command line.

  Args:
    given: files, and folders, of which all images are meant, those of inner
      folders too.

  Returns:
    The paths, those of a folder in the order of their names.

  Raises:
    DataError: if there is no such file or folder, or no image in it.
  """
  if not given:
    raise DataError(
      'Given no images. There is nothing to predict. Give files or folders'
      ' after the flags: python -m train.predict --workdir=RUN IMAGES...'
    )
  files = []
  for path in map(os.path.expanduser, given):
    if not os.path.exists(path):
      raise DataError(
        f'Given {path!r}. There is no such file or folder. Give image files, or'
        ' folders of them.'
      )
    inside = _inside(path) if os.path.isdir(path) else [path]
    if not inside:
      raise DataError(
        f'Given the folder {path!r}. It has no {", ".join(folder.SUFFIXES)}'
        ' images. Give a folder that has, or the files themselves.'
      )
    files += inside
  return files


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
  files = find(args.images)
  check_names(files, args.out)
  try:
    found = lines(
      load(args.workdir), files, args.top, args.resize, args.box, args.out
    )
    for line in found:
      print(json.dumps(line, ensure_ascii=False), flush=True)
  except BrokenPipeError:
    # Who reads has seen enough, such as `head`; nothing is left to be flushed.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
  return 0


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
