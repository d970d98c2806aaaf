"""Where a run's progress goes: a bar, JSON lines, TensorBoard."""

import json
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tqdm

from train.tasks import Score

# What a log writes into its folder.
LINES, BOARD = 'metrics.jsonl', 'tensorboard'
PICTURE = 'predictions.png'


class Log:
  """Writes a run's records as they come.

  `metrics.jsonl` has a line per training step, ``{"step": 1, "loss": ...}``
  with steps counted from 1, and a line per test, ``{"step": n, "test_loss":
  ...}`` after n steps, with all scores of the task. TensorBoard gets the same
  numbers of every `log_every`-th step. `predictions.png` has some examples of
  the last test with what is predicted for them, TensorBoard also those before.

  Args:
    folder: where the files go, None for none.
    total_steps: length of the progress bar, None for none.
    keep: how many steps to keep of what the files hold, of a resumed run.
    main: the score of the task, which the bar shows of the training steps too.
  """

  def __init__(
    self,
    folder: str | pathlib.Path | None,
    total_steps: int | None = None,
    keep: int = 0,
    main: Score | None = None,
  ):
    self._main, self._awaited = main, ''
    self._lines = self._board = self._bar = self._folder = None
    if folder is not None:
      # Imported here so that a run without files needs no TensorBoard.
      import tensorboardX

      self._folder = folder = pathlib.Path(folder)
      folder.mkdir(parents=True, exist_ok=True)
      path = folder / LINES
      kept = [end for step, end in _whole_lines(path) if step <= keep]
      self._lines = path.open('a')
      # Cut and not written anew: at no moment is it without these lines.
      os.truncate(path, kept[-1] if kept else 0)
      self._board = tensorboardX.SummaryWriter(
        str(folder / BOARD),
        purge_step=keep + 1,
        # Without a limit: a full disk ends the thread that empties the queue,
        # and a full queue would then hold up the run for ever.
        max_queue=0,
      )
    if total_steps is not None:
      self._bar = tqdm.tqdm(
        total=total_steps, initial=keep, unit='step', leave=True
      )

  def wait_for(self, what: str) -> None:
    """Lets the bar say what the next step waits for; '' for nothing."""
    if self._bar is not None and what != self._awaited:
      self._awaited = what
      self._bar.set_postfix_str(what)

  @classmethod
  def nowhere(cls) -> 'Log':
    """A log that writes nothing."""
    return cls(None)

  def __enter__(self) -> 'Log':
    return self

  def __exit__(self, *exception: Any) -> None:
    for sink in (self._lines, self._board, self._bar):
      try:
        if sink is not None:
          sink.close()
      except OSError:
        if exception[0] is None:  # else what ended the run says more
          raise

  def steps(
    self,
    first: int,
    records: Sequence[Mapping[str, Any]],
    images_per_second: float,
  ) -> None:
    """Records training steps.

    Args:
      first: number of the first of them, from 1.
      records: a mapping from name to scalar for each.
      images_per_second: training speed of the run so far.
    """
    lines = [
      {name: value.item() for name, value in record.items()}
      for record in records
    ]
    for step, line in enumerate(lines, start=first):
      self._write({'step': step, **line})
    self._flush()
    last, step = lines[-1], first + len(lines) - 1
    if self._board is not None:
      for name, value in last.items():
        self._board.add_scalar(f'train/{name}', value, step)
      self._board.add_scalar('train/images_per_second', images_per_second, step)
    if self._bar is not None:
      self._bar.set_postfix_str(
        f'loss {last["loss"]:.3f}, {self._main_of(last)}'
        f'{images_per_second:,.0f} images/s, {last["sam_fraction"]:.0%} SAM',
        refresh=False,
      )
      self._bar.update(len(lines))

  def test(self, step: int, scores: Mapping[str, float]) -> None:
    """Records a test after `step` steps."""
    self._write(
      {'step': step, **{f'test_{name}': v for name, v in scores.items()}}
    )
    self._flush()
    if self._board is not None:
      for name, value in scores.items():
        self._board.add_scalar(f'test/{name}', value, step)

  @property
  def draws(self) -> bool:
    """Whether pictures go anywhere."""
    return self._folder is not None

  def picture(self, step: int, picture: np.ndarray | None) -> None:
    """Keeps a picture of a test's examples, uint8 ``[height, width, 3]``."""
    if self._folder is None or self._board is None or picture is None:
      return
    # Here, because what draws a picture has Pillow, and others may not.
    from PIL import Image

    part = self._folder / f'{PICTURE}.part'
    Image.fromarray(picture).save(part, 'PNG')
    os.replace(part, self._folder / PICTURE)
    self._board.add_image('test/predictions', picture, step, dataformats='HWC')

  def sync(self) -> None:
    """Writes the lines so far to the disk."""
    if self._lines is not None:
      self._lines.flush()
      os.fsync(self._lines.fileno())

  def _flush(self) -> None:
    """Lets others read the lines so far, such as `tail -f`."""
    if self._lines is not None:
      self._lines.flush()

  def _main_of(self, line: Mapping[str, Any]) -> str:
    main = self._main
    if main is None or main.name not in line:
      return ''
    return f'{main.name} {main.text(line[main.name], digits=0)}, '

  def _write(self, record: Mapping[str, Any]) -> None:
    if self._lines is not None:
      self._lines.write(json.dumps(record) + '\n')


def steps_logged(folder: pathlib.Path) -> int:
  """The last step with a complete record in a run's folder, 0 for none."""
  return max((step for step, _ in _whole_lines(folder / LINES)), default=0)


def _whole_lines(path: pathlib.Path) -> Iterator[tuple[int, int]]:
  """Each line's step and where it ends, up to one that is cut short."""
  end = 0
  if not path.exists():
    return
  with path.open('rb') as lines:
    for line in lines:
      try:
        step = json.loads(line)['step']
      except (ValueError, KeyError, TypeError):
        return
      if not (isinstance(step, int) and line.endswith(b'\n')):
        return
      end += len(line)
      yield step, end
