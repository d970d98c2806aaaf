"""Signals that stop a run, and the exit statuses that say so."""

import contextlib
import signal
from collections.abc import Iterator
from typing import Any

from train.parallel import processes

# As a shell has them: 128 and the signal's number.
INTERRUPTED, STOPPED = 130, 143


class Stopped(Exception):
  """SIGTERM came, and the run is saved: how to resume it."""


class Preemption:
  """Notes SIGTERM while it is open, so that a run stops after a step.

  Of several processes the signal may come to any, and they agree on a step.
  """

  def __init__(self):
    self.noted = False
    self._before: Any = None  # the handler outside

  def __enter__(self) -> 'Preemption':
    if not processes.are_several():
      self._before = signal.signal(signal.SIGTERM, self._note)
    return self

  def __exit__(self, *exception: Any) -> None:
    if not processes.are_several():
      signal.signal(signal.SIGTERM, self._before)

  def is_due(self, step: int) -> bool:
    """Whether the run is to stop; every process asks after every step."""
    self.noted |= processes.are_to_stop(step)
    return self.noted

  def pass_on(self) -> None:
    """Gives the signal to the handler outside, which has not seen it."""
    if self.noted and callable(self._before):
      self._before(signal.SIGTERM, None)

  def _note(self, *signal_and_frame: Any) -> None:
    del signal_and_frame
    self.noted = True


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
  """Has SIGTERM and Ctrl-C stop its body; a run that trains saves first."""

  def stop(*_):
    raise KeyboardInterrupt(
      'Stopped between two steps. Run the same command again to resume.'
    )

  # A run replaces the first by its own handler while it trains.
  handlers = {
    signal.SIGTERM: stop,
    signal.SIGINT: lambda *_: signal.raise_signal(signal.SIGTERM),
  }
  before = {
    number: signal.signal(number, handlers[number]) for number in handlers
  }
  try:
    yield
  finally:
    for number, handler in before.items():
      signal.signal(number, handler)
