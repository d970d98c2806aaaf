"""The options of `train.predict` that are of some tasks, and its files."""

import os
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


def targets(files: Sequence[str], out: pathlib.Path) -> dict[str, pathlib.Path]:
  """Where the files of the answers go: the inner folders are kept.

  Args:
    files: the paths of the images.
    out: the folder.

  Returns:
    For each image a path without a suffix: below `out`, as the image lies below
    the folder that all of them have in common.

  Raises:
    DataError: if two would be one, or an image could be overwritten.
  """
  whole = {file: pathlib.Path(file).resolve() for file in files}
  common = os.path.commonpath([path.parent for path in whole.values()])
  found: dict[str, pathlib.Path] = {}
  first: dict[pathlib.Path, str] = {}
  for file, path in whole.items():
    found[file] = target = out / path.relative_to(common).with_suffix('')
    other = first.setdefault(target, file)
    if whole[other] != path:
      raise DataError(
        f'Given {other!r} and {file!r} with --out={out}. Both would be written'
        ' under one name. Predict them one after another, each with its own'
        ' --out.'
      )
    if path.parent == target.parent.resolve():
      raise DataError(
        f'Given --out={out}, which has {file!r}. A mask could overwrite an'
        ' image. Give another folder.'
      )
  return found


def write(files: Mapping[str, bytes], target: pathlib.Path) -> list[str]:
  """Writes the files of an answer.

  Args:
    files: their contents by suffix.
    target: their path without the suffix; its folder is made.

  Returns:
    Their paths.
  """
  target.parent.mkdir(parents=True, exist_ok=True)
  written = []
  for suffix, content in files.items():
    path = target.with_name(target.name + suffix)
    path.write_bytes(content)
    written.append(str(path))
  return written
