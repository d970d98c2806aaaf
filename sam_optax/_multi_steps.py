"""A method inside `optax.MultiSteps` is refused."""

import sys

import optax


def check() -> None:
  """Raises inside optax.MultiSteps.

  There the second gradient would be of the last micro-batch alone, and be paid
  for on every micro-batch. Nothing in the calls that MultiSteps makes reveals
  it: `init` and `update` get the same arguments as without it. The only trace
  of the wrapper is its frame on the call stack, so that is read, once, when the
  state is made.
  """
  frame = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
  while frame is not None:
    if isinstance(frame.f_locals.get('self'), optax.MultiSteps):
      raise ValueError(
        'Given a sharpness-aware method inside optax.MultiSteps. Its second '
        'gradient would be of the last micro-batch only. Accumulate inside '
        'grad_fn instead, with loss_fn = sam_optax.accumulate(loss_fn, '
        'micro_batch_size) and jax.grad of its mean, and drop MultiSteps.'
      )
    frame = frame.f_back
