"""A probe that records which evaluations of a problem execute.

It records at which points gradients are taken, if they run eagerly, and on how
many examples each gradient and each forward pass executes, also under `jit`.
"""

import functools
from collections import Counter
from typing import Any

import jax
import numpy as np


class Probe:
  """A record of the evaluations of the problem.

  Attributes:
    points: the points at which gradients are taken, if they run eagerly.
    gradients: the number of examples of each gradient that executed.
    passes: the number of examples of each forward pass that executed, including
      those of the gradients.
  """

  points: list[Any] = []
  gradients: list[int] = []
  passes: list[int] = []


def reset() -> None:
  """Clears the record."""
  Probe.points, Probe.gradients, Probe.passes = [], [], []


def seen() -> tuple[list[Any], list[int], list[int]]:
  """(points, gradients, forward): the last fields of a `Step`."""
  # The gradient of a linear loss needs no forward pass.
  forward = Counter(Probe.passes) - Counter(Probe.gradients)
  return Probe.points, sorted(Probe.gradients), sorted(forward.elements())


def probe(params: Any, batch: Any = None, tag: Any = None) -> Any:
  """The identity on `params`; the host records its forward and backward pass.

  Args:
    params: returned as they are.
    batch: its number of examples is recorded, 0 without one.
    tag: if given, (tag, number of examples) is recorded.
  """
  sizes = [len(leaf) for leaf in jax.tree.leaves(batch)]
  size = sizes[0] if sizes else 0
  return _probe(size if tag is None else (tag, size), params)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _probe(examples, params):
  return _note('passes', examples, params)


def _forward(examples, params):
  if not _is_traced(params):
    Probe.points.append(params)
  return _note('passes', examples, params), None


def _backward(examples, _, gradient):
  return (_note('gradients', examples, gradient),)


_probe.defvjp(_forward, _backward)


def _is_traced(tree):
  return any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves(tree))


def _note(kind, examples, tree):
  """Returns the tree; the host records that it was computed.

  Under `jit` the host is called when the program runs. The values pass through
  the call, and the call is pure, so the compiler drops it together with an
  evaluation whose result is unused.
  """

  def on_host(leaves):
    getattr(Probe, kind).append(examples)
    return [np.asarray(leaf) for leaf in leaves]

  leaves, structure = jax.tree.flatten(tree)
  if not _is_traced(tree):
    getattr(Probe, kind).append(examples)
  elif leaves:
    shapes = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in leaves]
    leaves = jax.pure_callback(on_host, shapes, leaves)
  return jax.tree.unflatten(structure, leaves)
