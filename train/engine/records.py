"""The scalars of steps on their way to the log, and a check of them."""

from collections.abc import Callable, Mapping

import jax
import numpy as np

from train.engine.log import Log


class NotFinite(RuntimeError):
  """The loss is no longer finite: what happened, why, and what to try."""


class Records:
  """The scalars of steps on their way to the log, which lags some steps.

  Fetching a step's scalars waits for the step. The device has work meanwhile
  if the steps fetched are not the last that were sent to it.
  """

  def __init__(
    self,
    log: Log,
    batch_size: int,
    seconds: Callable[[], float],
    logged: int = 0,
  ):
    self.log = log
    self._batch_size, self._seconds = batch_size, seconds
    self._pending, self._logged = [], logged

  def add(self, record: dict[str, jax.Array]) -> None:
    """Takes the scalars of the next step."""
    for value in record.values():
      value.copy_to_host_async()
    self._pending.append(record)

  def flush(self, keep: int = 0) -> None:
    """Logs what is pending but for the last `keep` steps."""
    count = max(len(self._pending) - keep, 0)
    ready, self._pending = self._pending[:count], self._pending[count:]
    if not ready:
      return
    ready = jax.device_get(ready)
    first, self._logged = self._logged + 1, self._logged + count
    speed = self._logged * self._batch_size / self._seconds()
    bad = [i for i, x in enumerate(ready) if not np.isfinite(x['loss'])]
    good = bad[0] if bad else count
    if good:
      self.log.steps(first, ready[:good], speed)
    if bad:
      _check_finite('loss', ready[good]['loss'], first + good)

  def test(self, step: int, scores: Mapping[str, float]) -> None:
    """Logs a test after so many steps."""
    for name, score in scores.items():
      _check_finite(f'test {name}', score, step)
    self.log.test(step, scores)


def _check_finite(name: str, value: float, step: int) -> None:
  """Raises NotFinite if a number at a step is not finite."""
  if not np.isfinite(value):
    raise NotFinite(
      f'The {name} is {value} at step {step}. Training cannot recover from it. '
      'Lower optimizer.learning_rate or method.rho, in another workdir.'
    )
