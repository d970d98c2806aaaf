"""Tells what of a data set the program sees, before it trains on it."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from train import checks
from train.tasks import Task


class Seen(NamedTuple):
  """A data set as the program sees it.

  Attributes:
    line: how many images of which shape, and of what, in one line.
    notes: what of the set is rarely meant, and what to do about it.
    digest: another one means that other data are there.
  """

  line: str
  notes: Sequence[str]
  digest: str
  tests: Mapping[str, str] = {}  # digests of the further test sets, by name

  def record(self) -> dict[str, Any]:
    """What a run leaves of it in its folder."""
    tests = {'tests': dict(self.tests)} if self.tests else {}
    return {'digest': self.digest, 'seen': self.line, **tests}

  def say(self) -> None:
    """Prints the line, and each note as a warning on stderr."""
    print(f'data: {self.line}', flush=True)
    for note in self.notes:
      checks.warn(note)


def see(task: Task, dataset: Any, further: Sequence[Any] = ()) -> Seen:
  """Sees a data set.

  Args:
    task: the task on it.
    dataset: the data set.
    further: test sets beside its own, see `train/data/tests.py`.

  Returns:
    What it is.
  """
  shape = 'x'.join(map(str, dataset.image_shape))
  line = (
    f'{dataset.num_examples:,} training and {dataset.num_tested:,} test images'
    f' of {shape}'
  )
  if task.seen is not None:
    line = f'{line}, {task.seen(dataset)}'
  digests = {one.name: one.digest() for one in further}
  return Seen(line, dataset.notes, dataset.digest(), digests)
