"""The branches of the coming steps, decided by the host some steps ahead."""

from typing import Any

import numpy as np

import sam_optax


class Decisions:
  """Decides for each step of a run which branches it takes.

  A plan of the method covers as many steps as its state determines. What is
  left of a plan at the end of an epoch serves the next one, so that the host
  waits for the devices only where the state must be known.

  Args:
    method: the method.
    on_host: False where the step itself decides.
  """

  def __init__(self, method: sam_optax.SharpnessAware, on_host: bool = True):
    self._plan = method.plan if on_host else None
    # Only those of this epoch are known.
    self._by_ids = any('full_batch' in answer for answer in method.branches)
    self._planned: list[sam_optax.Decisions] = []

  def next(self, state: Any, order: np.ndarray) -> sam_optax.Decisions | None:
    """Decides for the next step; call it once for each.

    Args:
      state: of the method, before the step.
      order: the example ids of this step and of those that follow it in its
        epoch, int32 ``[steps, batch_size]``.

    Returns:
      The branches that the step takes, see `SharpnessAware.plan`; None where
      nothing is decided ahead.
    """
    if self._plan is None:
      return None
    if not self._planned:
      self._planned = self._plan(state, order if self._by_ids else None)
    return self._planned.pop(0)
