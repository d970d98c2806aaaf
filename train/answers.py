"""The options of `train.predict` that are of some tasks, and its files."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from train.checks import ConfigError, DataError
from train.engine.predictor import Predictor


def check(
  predictor: Predictor, options: Mapping[str, Any], out: pathlib.Path | None
) -> None:
  """Refuses options that the model's task has no use for.

  Args:
    predictor: the model.
    options: the given ones by name.
    out: the folder for files, None for none.

  Raises:
    ConfigError: if there is one.
  """
  files, task = predictor.files, predictor.config.task
  for name in options:
    if name not in files.options:
      raise ConfigError(
        f'Given --{name} with a model of task={task!r}. The task does not read'
        f' it. Leave out --{name}.'
      )
  if out is not None and not files.writes:
    raise ConfigError(
      f'Given --out with a model of task={task!r}. It writes no files: all that'
      ' it says is in the lines. Leave out --out.'
    )


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


def write(
  files: Mapping[str, bytes], file: str, out: pathlib.Path
) -> list[str]:
  """Writes the files of an answer.

  Args:
    files: their contents by suffix.
    file: the path of the image, whose name they get.
    out: the folder, which is made.

  Returns:
    Their paths.
  """
  out.mkdir(parents=True, exist_ok=True)
  written = []
  for suffix, content in files.items():
    path = out / (pathlib.Path(file).stem + suffix)
    path.write_bytes(content)
    written.append(str(path))
  return written
