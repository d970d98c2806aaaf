"""A demonstration as a row: a config, what it needs, what it draws."""

import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from train.report import curves
from train.report.results import SavedRun
from train.tasks import Score

# The finished runs of each row of the table, by the row's label.
Groups: TypeAlias = Mapping[str, Sequence[SavedRun]]


def draw_curves(
  groups: Groups, main: Score, title: str, path: pathlib.Path
) -> None:
  """Draws the scores over the steps, and when the methods perturb.

  Args:
    groups: the runs.
    main: the score to draw.
    title: of the picture.
    path: of the PNG file to write.
  """
  curves.picture(
    {
      label: [curves.read(run.folder) for run in group]
      for label, group in groups.items()
    },
    main,
    title,
    path,
    cadence=True,
  )


def needs_nothing(workdir: pathlib.Path) -> Sequence[str]:
  """Prepares nothing, and sets no key of the config."""
  del workdir
  return ()


def says_nothing(groups: Groups, main: Score) -> Sequence[str]:
  """Says nothing beyond the table."""
  del groups, main
  return ()


class Demo(NamedTuple):
  """What `make demo TASK=...` trains and shows.

  Attributes:
    config: a config file, as a path or the name of a module, with VARIANTS,
      and with DEMO: the variants to train by their labels in the table.
    seeds: runs of each variant.
    prepare: (workdir) -> settings ``--config.KEY=VALUE`` of every run. It makes
      what the runs start from, such as data or a trained network.
    picture: (groups, main score, title, path) -> None. It writes a PNG file;
      ``groups`` has the finished runs by their labels, and `run.folder` has the
      trained model of each, see `train.predict.load`.
    words: (groups, main score) -> lines that follow the table: what was seen,
      and what it does not show.
  """

  config: str
  seeds: int = 3
  prepare: Callable[[pathlib.Path], Sequence[str]] = needs_nothing
  picture: Callable[[Groups, Score, str, pathlib.Path], None] = draw_curves
  words: Callable[[Groups, Score], Sequence[str]] = says_nothing
