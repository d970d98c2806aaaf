"""Signals that stop a run, and the exit statuses that say so.

No signal raises an error: one that passes through a compilation leaves XLA's
objects half built, and the interpreter then often crashes when it ends. A
signal is noted, and the run stops between two steps; where nothing can be
saved, or at the second signal, the process ends at once.
"""

import os
import signal
import sys
import threading
from typing import Any, NoReturn

from train import checks
from train.parallel import processes

# As a shell has them: 128 and the signal's number.
INTERRUPTED, STOPPED = 130, 143
_NAMES: dict[int, str] = {signal.SIGINT: 'Ctrl-C', signal.SIGTERM: 'SIGTERM'}

# Those that are open, the innermost last: whoever they are of can save.
_open: list['Preemption'] = []


class Stopped(Exception):
  """A signal came, and what was trained is saved: how to resume it.

  Args:
    text: what to say.
    number: of the signal.
  """

  def __init__(self, text: str, number: int = signal.SIGTERM):
    super().__init__(text)
    self.status = 128 + number


class Preemption:
  """Notes SIGTERM and Ctrl-C while it is open, to stop after a step.

  Of several processes the signal may come to any, and they agree on a step.
  One that is opened inside another tells it what came too late for itself.
  """

  def __init__(self):
    self.number: int | None = None  # of the signal that came
    self._before: dict[int, Any] = {}  # the handlers outside

  def __enter__(self) -> 'Preemption':
    _open.append(self)
    # JAX takes SIGTERM itself, to tell the other processes.
    own = (signal.SIGINT,) if processes.are_several() else tuple(_NAMES)
    for number in own:
      # What is started with `nohup` or `&` ignores Ctrl-C, and still does.
      if signal.getsignal(number) != signal.SIG_IGN:
        self._before[number] = signal.signal(number, self._note)
    return self

  def __exit__(self, *exception: Any) -> None:
    for number, handler in self._before.items():
      signal.signal(number, handler)
    _open.remove(self)

  @property
  def noted(self) -> bool:
    """Whether a signal came."""
    return self.number is not None

  @property
  def name(self) -> str:
    """Of the signal that came, for people."""
    return _NAMES.get(self.number or signal.SIGTERM, 'a signal')

  def is_due(self, step: int) -> bool:
    """Whether the run is to stop; every process asks after every step."""
    if processes.are_to_stop(step) and not self.noted:
      self.number = signal.SIGTERM
    return self.noted

  def pass_on(self) -> None:
    """Tells the one outside of a signal, which that has not seen."""
    if self.noted and len(_open) > 0 and not _open[-1].noted:
      _open[-1].number = self.number

  def stop_if_noted(self) -> None:
    """Raises Stopped if a signal came between two runs."""
    if self.number is not None:
      raise Stopped(
        f'Stopped by {self.name} between two steps. Run the same command again '
        'to resume.',
        self.number,
      )

  def _note(self, number: int, frame: Any) -> None:
    del frame
    if processes.are_several():  # they stop together, as at a SIGTERM
      signal.raise_signal(signal.SIGTERM)
    elif self.noted:
      _end(number)
    self.number = number


def watch() -> None:
  """Has Ctrl-C and SIGTERM end this process without an error in its middle.

  For a program's own process, once: it stays so. A thread answers the signals,
  because Python's handlers wait until a compilation is over.
  """
  end = lambda number, frame: _end(number)
  numbers = [n for n in _NAMES if signal.getsignal(n) != signal.SIG_IGN]
  for number in numbers:
    signal.signal(number, end)
  ours, theirs = os.pipe()
  os.set_blocking(theirs, False)
  signal.set_wakeup_fd(theirs, warn_on_full_buffer=False)
  threading.excepthook = _report
  sys.unraisablehook = _report_ignored
  threading.Thread(target=_answer, args=(ours,), daemon=True).start()


def _report(raised: threading.ExceptHookArgs) -> None:
  """Leaves to the main thread to say that a disk is full, as it will."""
  # The thread of TensorBoard's files dies of it, and of what is closed then.
  writes = type(raised.thread).__module__.startswith('tensorboardX')
  error = raised.exc_value
  if checks.shortage(error) or (writes and isinstance(error, OSError)):
    return
  threading.__excepthook__(raised)


def _report_ignored(ignored: Any) -> None:
  """Leaves out what follows a write that failed, by TensorStore and at exit."""
  error = ignored.exc_value
  closed = str(error) == 'Event loop is closed'
  if not closed and checks.shortage(error) is None:
    sys.__unraisablehook__(ignored)


def _answer(pipe: int) -> None:
  """Answers each signal when it comes, whatever the main thread does."""
  count = 0
  while True:
    number = os.read(pipe, 1)[0]
    if number not in _NAMES or processes.are_several():
      continue
    count += 1
    if not _open or count > 1:
      _end(number)
    _write(
      f'\n{_NAMES[signal.Signals(number)]}: stopping after the step under way. '
      'Once more ends the process at once.\n'
    )


def _end(number: int) -> NoReturn:
  """Ends the process, without the end of the interpreter, which may crash."""
  _write(
    f'\nEnded by {_NAMES[signal.Signals(number)]}. A run with checkpoints is '
    'resumed from its last one by the same command.\n'
  )
  os._exit(128 + number)


def _write(text: str) -> None:
  """Writes to stderr, past Python's buffer, which may be in use."""
  try:
    os.write(2, text.encode())
  except OSError:  # nobody reads it any more
    pass
