"""Reads from HLO text what a compiled program sends between devices."""

import math
import re
from collections.abc import Collection, Iterable
from typing import NamedTuple

KINDS = (
  'all-reduce',
  'all-gather',
  'reduce-scatter',
  'collective-permute',
  'all-to-all',
)

_OPERATION = re.compile(
  rf'^ *(?:ROOT )?%?[\w.-]+ = (.*?) ({"|".join(KINDS)})(-start)?\((.*)$',
  re.MULTILINE,
)
_ARRAY = re.compile(r'\b(pred|bf16|[fsuc]\d+)\w*\[([\d,]*)\]')
_GROUP = re.compile(r'replica_groups=(?:\{\{([\d,]+)\}|\[\d+,(\d+)\])')


class Array(NamedTuple):
  """An array that an operation sends.

  Attributes:
    elements: the number of elements of the whole array, before any sharding.
    bytes: the size of the whole array.
  """

  elements: int
  bytes: int


class Collective(NamedTuple):
  """An operation between devices.

  Attributes:
    kind: one of `KINDS`.
    arrays: the arrays sent; several if the compiler combined operations.
  """

  kind: str
  arrays: tuple[Array, ...]


class Traffic(NamedTuple):
  """The sum over the collective operations of a program.

  Attributes:
    copies: by kind, the number of elements sent in arrays of parameters, over
      the number of elements of all parameters.
    operations: the number of operations that send an array of parameters.
    arrays: the number of arrays of parameters sent; larger than `operations`
      if the compiler combined some.
    scalars: the number of single numbers sent, combined with others or not.
    other_bytes: the bytes of all other arrays: examples, activations.
  """

  copies: dict[str, float]
  operations: int
  arrays: int
  scalars: int
  other_bytes: int

  @property
  def total(self) -> float:
    """Copies of the parameters, over all kinds of operations."""
    return sum(self.copies.values())


def read(text: str) -> list[Collective]:
  """Finds the operations between devices in an optimized HLO module.

  An operation inside a branch or a loop body counts once, so compile a step
  whose branches are already decided.

  Args:
    text: the module, as `compiled.as_text()` gives it.

  Returns:
    The operations, in the order of the text.
  """
  return [_collective(*match.groups()) for match in _OPERATION.finditer(text)]


def _collective(
  result: str, kind: str, start: str | None, rest: str
) -> Collective:
  arrays = [_array(*match.groups()) for match in _ARRAY.finditer(result)]
  if start and kind != 'all-reduce':
    # The result of a "-start" operation lists its operands, its results, and
    # on some backends more.
    operands = rest.split('), ')[0].count('%')
    arrays = arrays[operands : 2 * operands]
  if kind == 'reduce-scatter':
    shards = _group_size(rest)
    arrays = [Array(x.elements * shards, x.bytes * shards) for x in arrays]
  return Collective(kind, tuple(arrays))


def _array(dtype: str, shape: str) -> Array:
  elements = math.prod(int(size) for size in shape.split(',') if size)
  bits = 8 if dtype == 'pred' else int(re.sub(r'\D', '', dtype))
  return Array(elements, elements * bits // 8)


def _group_size(rest: str) -> int:
  match = _GROUP.search(rest)
  if match is None:
    raise ValueError(
      f'Given a reduce-scatter without groups: {rest[:80]!r}. The size of its '
      'operand cannot be known without them. Compile for a mesh of devices.'
    )
  listed, size = match.groups()
  return int(size) if size else len(listed.split(','))


def traffic(
  collectives: Iterable[Collective], parameters: Collection[int]
) -> Traffic:
  """Sums operations up.

  Args:
    collectives: the operations.
    parameters: the number of elements of each array of parameters. An array of
      any of these sizes counts as parameters, so no other array of the program
      may have one of them.

  Returns:
    The sums.
  """
  elements: dict[str, int] = {}
  operations = arrays = scalars = other_bytes = 0
  for kind, sent in collectives:
    ours = [x for x in sent if x.elements in parameters]
    others = [x for x in sent if x.elements not in parameters]
    if ours:
      operations += 1
      arrays += len(ours)
      elements[kind] = elements.get(kind, 0) + sum(x.elements for x in ours)
    scalars += sum(x.elements == 1 for x in others)
    other_bytes += sum(x.bytes for x in others if x.elements > 1)
  copy = sum(parameters)
  copies = {kind: count / copy for kind, count in elements.items()}
  return Traffic(copies, operations, arrays, scalars, other_bytes)
