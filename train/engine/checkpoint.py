"""Checkpoints: everything that a run needs to resume as if never stopped.

A checkpoint has the whole training state, and where the run stands in its data,
its log and its time. Orbax writes it in the background and keeps the last few.

Of several processes only the first writes and reads, and it broadcasts what it
read, so that no folder needs to be shared. It then has the whole state in
memory, even where the state is split over devices.
"""

import contextlib
import json
import pathlib
import signal
import sys
import zlib
from collections.abc import Generator, Mapping
from typing import Any, NamedTuple, NoReturn

import jax
import jax.numpy as jnp
import numpy as np

from train.checks import said
from train.engine.preemption import Preemption, Stopped
from train.engine.records import Records
from train.engine.step import TrainState
from train.parallel import devices, processes


class CheckpointError(RuntimeError):
  """Checkpoints that cannot be written or read: what, why, what would work."""


class Progress(NamedTuple):
  """Where a run stands, beside its training state."""

  step: int = 0  # steps taken
  epoch: int = 0  # epochs begun
  # Of the epoch under way, int32 [steps, batch_size]. It cannot be drawn again:
  # the state it was drawn from is gone.
  order: np.ndarray = np.zeros((0, 0), np.int32)
  position: int = 0  # steps taken of it
  seconds: float = 0.0  # of training, without compilation and tests
  compile_seconds: float = 0.0
  scores: Mapping[str, float] = {}  # of the last test


class Checkpoints:
  """Writes a run's checkpoints and reads them back.

  While it is open, SIGTERM and Ctrl-C stop the run after the step under way; of
  several processes the signal may come to any, and they agree on a step.

  Args:
    folder: where they go, None for none.
    every: steps from one to the next.
    keep: how many of the last ones stay.
    lag: steps until one is written, by when the device is done with it.
    total_steps: of the run; the last step is saved too.
    num_devices: that the run is on.
  """

  def __init__(
    self,
    folder: pathlib.Path | None,
    every: int = 0,
    keep: int = 1,
    lag: int = 1,
    total_steps: int = 0,
    num_devices: int = 1,
  ):
    self.folder = folder
    self._num_devices = num_devices
    self._every, self._lag = every, min(lag, every)
    self._total_steps = total_steps
    self._pending: Any = None  # (state, progress) to be written
    self._preemption = Preemption()
    self._manager: Any = None  # of the process that writes
    if folder is not None and processes.is_primary():
      # Imported here so that a run without checkpoints needs no Orbax.
      import orbax.checkpoint as ocp

      several = processes.are_several()
      if several:  # with active_processes Orbax does not make it
        folder.mkdir(parents=True, exist_ok=True)
      self._args = ocp.args
      self._manager = ocp.CheckpointManager(
        folder.absolute(),
        options=ocp.CheckpointManagerOptions(
          max_to_keep=keep,
          create=not several,
          # What a killed run had half written.
          cleanup_tmp_directories=True,
          multiprocessing_options=ocp.options.MultiprocessingOptions(
            active_processes={0} if several else None
          ),
        ),
      )

  @classmethod
  def nowhere(cls, total_steps: int = 0) -> 'Checkpoints':
    """No checkpoints: a signal stops the run, which cannot be resumed."""
    return cls(None, total_steps=total_steps)

  def __enter__(self) -> 'Checkpoints':
    if self._is_nowhere_of_several():
      processes.end_at_sigterm()
    else:
      self._preemption.__enter__()
    return self

  def __exit__(self, *exception: Any) -> None:
    if not self._is_nowhere_of_several():
      self._preemption.__exit__(*exception)
    if self._manager is not None:
      with self._writing():
        self._manager.close()
    # A signal that came with the last step is for what comes after this run.
    if exception[0] is None:
      self._preemption.pass_on()

  def _is_nowhere_of_several(self) -> bool:
    return self.folder is None and processes.are_several()

  def after_step(
    self, state: TrainState, progress: Progress, records: Records
  ) -> None:
    """Saves if it is time to.

    Args:
      state: the training state.
      progress: where the run stands.
      records: of the steps so far; they are logged up to a checkpoint before
        it is written.

    Raises:
      Stopped: if SIGTERM or Ctrl-C came; the run is saved.
      CheckpointError: if a checkpoint cannot be written.
    """
    step = progress.step
    if self.folder is None:
      if self._preemption.noted and step < self._total_steps:
        self._stop(step, saved=False)
      return
    stopping = self._preemption.is_due(step)
    now = stopping or step == self._total_steps
    if self._pending is not None and not now:
      late = step - self._pending[1].step >= self._lag
      if late and not self._is_busy():
        self._write(records, step)
    if now or (self._pending is None and step % self._every == 0):
      # A copy, because the next step is given the state's own memory.
      self._pending = devices.readable(_to_arrays(state)), progress
      for leaf in jax.tree.leaves(self._pending[0]):
        leaf.copy_to_host_async()
    if now:
      self._write(records, step)
      if self._manager is not None:
        with self._writing():
          self._manager.wait_until_finished()
    if stopping and step < self._total_steps:
      self._stop(step, saved=True)

  def _stop(self, step: int, saved: bool) -> NoReturn:
    outcome = (
      'which is saved. Run the same command again to resume.'
      if saved
      else 'and nothing is saved, as the run has no checkpoints. With '
      'checkpoint.every above 0, a run can be resumed.'
    )
    raise Stopped(
      f'Stopped by {self._preemption.name} after step {step} of '
      f'{self._total_steps}, {outcome}',
      self._preemption.number or signal.SIGTERM,
    )

  def restore(
    self, state: TrainState, logged: int
  ) -> tuple[TrainState, Progress] | None:
    """Reads the last complete checkpoint.

    Later ones are deleted, for they would stand in the way of new ones.

    Args:
      state: a training state of the run, for its structure.
      logged: the last step in the log; a later checkpoint has lost its log.

    Returns:
      The training state and the progress, None if nothing was saved yet.

    Raises:
      CheckpointError: if there are checkpoints and none can be used.
    """
    if self.folder is None:
      return None
    find = lambda: self._find(state, logged)
    found = processes.broadcast(processes.on_primary(find))
    if found is None:
      return None
    arrays, progress = found
    return _from_arrays(arrays, state), progress

  def _find(self, state: Any, logged: int) -> tuple[Any, Progress] | None:
    """The arrays of the last complete checkpoint, and its progress."""
    assert self.folder is not None, 'restore() asks only where there is one'
    steps = sorted(self._manager.all_steps(), reverse=True)
    for index, step in enumerate(steps):
      try:
        if step > logged:
          raise ValueError(f'the log ends at step {logged}')
        restored = self._read(step, state)
      # Whatever a damaged file makes the readers say.
      except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        _say(f'warning: cannot use {self.folder / str(step)}: {reason[:200]}')
        continue
      for damaged in steps[:index]:
        self._manager.delete(damaged)
      _say(f'resuming after step {step}, from {self.folder / str(step)}')
      return restored
    if steps:
      raise CheckpointError(
        f'Given {self.folder}. None of its checkpoints can be used: see the '
        'warnings. Put them or the log back, or give another workdir.'
      )
    return None

  def _read(self, step, state):
    read = lambda **items: self._manager.restore(
      step, args=self._args.Composite(**items)
    )
    facts = read(progress=self._args.JsonRestore())['progress']
    shape, checksum = facts.pop('shape'), facts.pop('checksum')
    num_devices = facts.pop('num_devices', self._num_devices)
    shapes = jax.eval_shape(_to_arrays, state)
    like = {
      'state': jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes),
      'order': np.zeros(shape, np.int32),
    }
    arrays = read(arrays=self._args.StandardRestore(like))['arrays']
    if _checksum(arrays, facts) != checksum:
      raise ValueError('its content is not what was written')
    if num_devices != self._num_devices:
      _say(
        f'warning: saved on {num_devices} devices and resumed on '
        f'{self._num_devices}: the run will not be the one that was begun. '
        'Sums round otherwise, and where each device perturbs along its own '
        'gradient, that is now of other examples'
      )
    return arrays['state'], Progress(order=arrays['order'], **facts)

  def _is_busy(self):
    """Whether the last checkpoint is still being written.

    One that is slower than the training gets fewer checkpoints. Several
    processes wait for it, since they must save after the same steps.
    """
    if processes.are_several():
      return False
    return self._manager.is_saving_in_progress()

  def _write(self, records, step):
    state, progress = self._pending
    self._pending = None
    records.flush(keep=step - progress.step)
    if self._manager is None:
      return
    records.log.sync()
    arrays = {'state': jax.device_get(state), 'order': progress.order}
    facts = progress._asdict()
    del facts['order']
    record = {
      **facts,
      'shape': progress.order.shape,
      # Orbax notices a file that is cut short, but not a byte that differs.
      'checksum': _checksum(arrays, facts),
      'num_devices': self._num_devices,
    }
    with self._writing():
      self._manager.save(
        progress.step,
        args=self._args.Composite(
          arrays=self._args.StandardSave(arrays),
          progress=self._args.JsonSave(record),
        ),
        force=True,
      )

  @contextlib.contextmanager
  def _writing(self) -> Generator[None, None, None]:
    """Says what to do when the writing fails, now or in the background."""
    try:
      yield
    # OSError from Orbax's own files, the others from TensorStore's.
    except (OSError, ValueError, RuntimeError) as error:
      first = (str(error).splitlines() or [type(error).__name__])[0]
      raise CheckpointError(
        f'Given {self.folder}. A checkpoint cannot be written there: '
        f'{said(first[:200])} '
        'Those before it are whole. Make room, and run the same command again '
        'to resume after the last.'
      ) from error


@jax.jit
def _to_arrays(state: Any) -> Any:
  """A copy of a state, with the data of its keys in their place."""
  data = lambda leaf: (
    jax.random.key_data(leaf) if devices.is_key(leaf) else leaf
  )
  return jax.tree.map(lambda leaf: jnp.copy(data(leaf)), state)


def _from_arrays(arrays: Any, state: Any) -> Any:
  """The inverse, with the keys where another state has them, and placed so."""

  def leaf(like, array):
    if not devices.is_key(like):
      return array
    array = jnp.asarray(array)
    return jax.random.wrap_key_data(array, impl=jax.random.key_impl(like))

  arrays = jax.tree.map(leaf, state, arrays)
  shardings = jax.tree.map(lambda like: like.sharding, state)
  return devices.place(arrays, shardings)


def _checksum(arrays: Any, facts: Mapping[str, Any]) -> int:
  total = zlib.crc32(json.dumps(facts, sort_keys=True).encode())
  for leaf in jax.tree.leaves(arrays):
    data = np.ascontiguousarray(leaf).reshape(-1).view(np.uint8)
    total = zlib.crc32(data.data, total)
  return total


def _say(line: str) -> None:
  print(line, file=sys.stderr)
