"""Counts what XLA compiles."""

import contextlib
from collections.abc import Iterator

import jax


@contextlib.contextmanager
def counted() -> Iterator[list[str]]:
  """Gives a list that grows by an entry with each compilation within."""
  found: list[str] = []

  def listen(event, seconds, **details):
    del seconds, details
    if 'backend_compile' in event:
      found.append(event)

  jax.monitoring.register_event_duration_secs_listener(listen)
  try:
    yield found
  finally:
    jax.monitoring.unregister_event_duration_listener(listen)
