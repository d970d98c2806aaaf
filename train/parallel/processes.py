"""Several processes as one run.

All of them take every step. Only the first reads and writes the run's folder,
and it broadcasts what it finds there. Branches depend only on values that are
equal in all processes: the replicated state, the seed, or a broadcast value.
"""

import os
import pickle
import signal
import sys
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from train.checks import ConfigError, said

_T = TypeVar('_T')
_PIECE = 2**28  # bytes


class Failed(RuntimeError):
  """Work that only the first process does has failed there."""


def start(
  distributed: bool,
  coordinator: str | None,
  num_processes: int | None,
  process_id: int | None,
) -> None:
  """Joins the other processes of the run, if there are to be any.

  Args:
    distributed: whether to find them by what the cluster says.
    coordinator: HOST:PORT of the first process, to name them by hand.
    num_processes: how many they are.
    process_id: the number of this one, from 0.

  Raises:
    ConfigError: if they cannot be found.
  """
  by_hand = {
    'coordinator': coordinator,
    'num_processes': num_processes,
    'process_id': process_id,
  }
  missing = [f'--{name}' for name, value in by_hand.items() if value is None]
  if not distributed and len(missing) == len(by_hand):
    return
  if not distributed and missing:
    raise ConfigError(
      f'Given no {" and no ".join(missing)}. Without --distributed a process '
      'needs all three to find the others. Give --coordinator=HOST:PORT '
      '--num_processes=N --process_id=I, with I from 0 to N - 1.'
    )
  try:
    jax.distributed.initialize(coordinator, num_processes, process_id)
  except (RuntimeError, TypeError, ValueError) as error:
    given = ' '.join(
      ['--distributed'] * distributed
      + [f'--{n}={value}' for n, value in by_hand.items() if value is not None]
    )
    raise ConfigError(
      f'Given {given}. The processes cannot find each other: {said(error)} '
      'On Slurm, GKE, Open MPI and TPU pods --distributed is enough; '
      'elsewhere give --coordinator=HOST:PORT --num_processes=N '
      '--process_id=I, with I from 0 to N - 1.'
    ) from error


def are_several() -> bool:
  """Whether this process is one of several."""
  # Asking JAX for their number alone would start its backend.
  return jax.distributed.is_initialized() and jax.process_count() > 1


def is_primary() -> bool:
  """Whether this process is the one that reads and writes."""
  return not are_several() or jax.process_index() == 0


def on_primary(function: Callable[[], Any]) -> Any:
  """Calls a function in the first process alone.

  Args:
    function: what to call.

  Returns:
    What it returns; None in the other processes.

  Raises:
    Failed: in the others, if it raised an error in the first.
  """
  value = error = None
  if is_primary():
    try:
      value = function()
    except Exception as raised:
      if not are_several():
        raise
      error = raised
  # The others are told before it is raised here.
  has_failed = are_several() and broadcast(error is not None)
  if error is not None:
    raise error
  if has_failed:
    raise Failed('The first process could not continue, and says why.')
  return value


def broadcast(value: _T) -> _T:
  """Sends a value of the first process to all; it is pickled on the way."""
  if not are_several():
    return value
  tell = multihost_utils.broadcast_one_to_all
  content = np.frombuffer(pickle.dumps(value), np.uint8)
  # In pieces, because a size beyond 31 bits is none to JAX.
  full, rest = tell(np.asarray(divmod(content.size, _PIECE), np.int32))
  pieces = []
  for size in [_PIECE] * int(full) + [int(rest)]:
    piece, content = content[:size], content[size:]
    pieces.append(tell(piece if is_primary() else np.zeros(size, np.uint8)))
  return pickle.loads(np.concatenate(pieces).tobytes())


def are_to_stop(step: int) -> bool:
  """Whether SIGTERM came to one of the processes and all stop after a step.

  They agree in the background on a step that none has taken yet.

  Args:
    step: the number of the step; every process asks after every step.
  """
  return are_several() and multihost_utils.reached_preemption_sync_point(step)


def end_at_sigterm() -> None:
  """Has SIGTERM end one of several processes when nothing is to be saved."""
  if are_several():  # JAX waits for the signal to agree on a step
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def exit_process(text: str, status: int = 1) -> NoReturn:
  """Ends this process by itself, with a last line.

  One of several does not wait for the others, as JAX would at the exit: they
  are waiting for it in a step, and end when they notice.
  """
  print(text, file=sys.stderr, flush=True)
  if are_several():
    sys.stdout.flush()
    os._exit(status)
  sys.exit(status)
