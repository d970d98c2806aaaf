"""A demonstration as a row: a config, what it needs, what it draws."""

import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from train.report import curves
from train.report.results import SavedRun
from train.tasks import Score

# The finished runs of each row of the table, by the row's label.
Groups: TypeAlias = Mapping[str, Sequence[SavedRun]]


def draw_cadence(
  groups: Groups, main: Score, title: str, path: pathlib.Path
) -> None:
  """Draws the scores over the steps, and when the methods perturb.

  Args:
    groups: the runs.
    main: the score to draw.
    title: of the picture.
    path: of the PNG file to write.
  """
  curves.picture(_read(groups), main, title, path, cadence=True)


def draw_losses(
  groups: Groups, main: Score, title: str, path: pathlib.Path
) -> None:
  """Draws scores, training losses and SAM steps, see `draw_cadence`."""
  curves.picture(_read(groups), main, title, path)


def _read(groups: Groups) -> curves.Groups:
  return {
    label: [curves.read(run.folder) for run in group]
    for label, group in groups.items()
  }


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
      and with DEMO: the variants to train by their labels in the table. What
      is seen is told relative to the first of them.
    seeds: runs of each variant.
    settings: ``--config.KEY=VALUE`` of every run.
    about: what is special about the runs, in a few words; '' for nothing.
    prepare: (workdir) -> more settings. It makes what the runs start from, such
      as data or a trained network.
    picture: (groups, main score, title, path) -> None. It writes a PNG file;
      ``groups`` has the finished runs by their labels, and `run.folder` has the
      trained model of each, see `train.predict.load`.
    words: (groups, main score) -> sentences that follow what the table says:
      what was seen, and what it does not show.
    further: which commands to run next, each with what it is good for.
  """

  config: str
  seeds: int = 3
  settings: Sequence[str] = ()
  about: str = ''
  prepare: Callable[[pathlib.Path], Sequence[str]] = needs_nothing
  picture: Callable[[Groups, Score, str, pathlib.Path], None] = draw_cadence
  words: Callable[[Groups, Score], Sequence[str]] = says_nothing
  further: Sequence[tuple[str, str]] = ()
