"""The compiled functions of a run, each kind of its steps among them.

A method whose host decides takes steps of two to four kinds, each of which is a
program of its own. When the first of them is needed, the others are compiled
too: beside it where there are cores for both, else behind it, while the first
steps run. So the first step waits for its own kind alone, and a later kind is
often ready when its turn comes.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent import futures
from typing import Any, NamedTuple

from train.parallel.devices import Devices


def _at_once() -> int:
  """How many programs to compile at the same time.

  XLA uses about two threads for one program. On two cores a second program
  would take from the one that the first step waits for.
  """
  return min(2, max(1, (os.cpu_count() or 1) // 2))


class Kind(NamedTuple):
  """The key of a compiled function: its name and the branches it takes."""

  function: str
  perturb: bool | None = None
  full_batch: bool | None = None


class Compilation:
  """Compiles functions, each when its kind is needed for the first time.

  Args:
    devices: of the run.
    at_once: how many programs to compile at the same time; by default as many
      as the cores are good for.
  """

  def __init__(self, devices: Devices, at_once: int | None = None):
    self._devices = devices
    self._compiled: dict[Kind, Callable[..., Any]] = {}
    self._started: dict[Kind, futures.Future[Any]] = {}
    self._threads = futures.ThreadPoolExecutor(at_once or _at_once())

  def ready(self, kind: Kind) -> Callable[..., Any] | None:
    """The compiled function of a kind, None if a caller would have to wait."""
    started = self._started.get(kind)
    if started is not None and started.done():
      self._compiled[kind] = self._started.pop(kind).result()
    return self._compiled.get(kind)

  def wait(
    self,
    kind: Kind,
    function: Callable[..., Any],
    arguments: Sequence[Any],
    split: Sequence[Any] | None = None,
    donated: Sequence[int] = (),
    beside: Mapping[Kind, Callable[..., Any]] | None = None,
  ) -> Callable[..., Any]:
    """Compiles the function of a kind.

    Args:
      kind: its kind.
      function: the function.
      arguments: placed as it will get them; see `Devices.lower`.
      split: see `Devices.lower`.
      donated: see `Devices.lower`.
      beside: functions of the same arguments, by their kinds, that will be
        needed too; those that can be traced meanwhile are compiled next.

    Returns:
      The compiled function, as soon as it is ready; the others may not be.
    """

    def lower(function):
      # Traced here, where the settings of JAX are those of the caller. XLA
      # compiles without the lock of the interpreter.
      return self._devices.lower(function, arguments, split, donated)

    others = {
      other: function
      for other, function in (beside or {}).items()
      if other not in self._compiled and other not in self._started
    }
    if kind not in self._started:
      lowered = lower(function)
      if not others:
        self._compiled[kind] = lowered.compile()
        return self._compiled[kind]
      self._started[kind] = self._threads.submit(lowered.compile)
    for other, function in others.items():
      if self._started[kind].done():
        break  # the first step would wait for the tracing of the others
      self._started[other] = self._threads.submit(lower(function).compile)
    self._compiled[kind] = self._started.pop(kind).result()
    return self._compiled[kind]

  def forget_waiting(self) -> None:
    """Drops what was not begun, so that the process can end."""
    waiting = [kind for kind, begun in self._started.items() if begun.cancel()]
    for kind in waiting:
      del self._started[kind]

  @property
  def compiled(self) -> Mapping[Kind, Callable[..., Any]]:
    """The compiled functions by their kind; waits for those in progress."""
    for kind in list(self._started):
      self._compiled[kind] = self._started.pop(kind).result()
    return self._compiled
