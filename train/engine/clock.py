"""The clock of a run."""

import contextlib
import time
from collections.abc import Generator


class Clock:
  """Counts seconds, except while it is stopped.

  Args:
    seconds: that it begins with.
  """

  def __init__(self, seconds: float):
    self._start = time.perf_counter() - seconds

  @property
  def seconds(self) -> float:
    """The seconds so far."""
    return time.perf_counter() - self._start

  @contextlib.contextmanager
  def stopped(self) -> Generator[None, None, None]:
    """Stops it for the time of a `with` statement."""
    begun = time.perf_counter()
    held = begun - self._start
    yield
    self._start = time.perf_counter() - held
