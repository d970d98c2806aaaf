"""Signals that stop a run, and the exit statuses that say so."""

import contextlib
import signal
from collections.abc import Iterator

# As a shell has them: 128 and the signal's number.
INTERRUPTED, STOPPED = 130, 143


class Stopped(Exception):
  """SIGTERM came, and the run is saved: how to resume it."""


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
  """Has SIGTERM and Ctrl-C stop what runs in it, a training after saving."""

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
