"""What a compiled program sends between devices, read from its HLO text."""

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
    elements: how many it has where it is whole.
    bytes: of all of them.
  """

  elements: int
  bytes: int


class Collective(NamedTuple):
  """An operation between devices.

  Attributes:
    kind: one of `KINDS`.
    arrays: what it sends; several where the compiler combined operations.
  """

  kind: str
  arrays: tuple[Array, ...]


class Traffic(NamedTuple):
  """What a program sends.

  Attributes:
    copies: by kind, the elements of parameters' arrays over those of all
      parameters.
    operations: operations with a parameter's array in them.
    arrays: parameters' arrays in them, more than operations where the compiler
      combined some.
    scalars: single numbers, in operations of their own or not.
    other_bytes: of arrays that are neither: examples, activations.
  """

  copies: dict[str, float]
  operations: int
  arrays: int
  scalars: int
  other_bytes: int

  @property
  def total(self) -> float:
    """Copies of the parameters in operations of all kinds."""
    return sum(self.copies.values())


def read(text: str) -> list[Collective]:
  """The operations between devices in the text of an optimized HLO module.

  One in a branch or in a loop's body counts once: give it the text of a step
  whose branches are taken already.
  """
  return [_collective(*match.groups()) for match in _OPERATION.finditer(text)]


def _collective(
  result: str, kind: str, start: str | None, rest: str
) -> Collective:
  arrays = [_array(*match.groups()) for match in _ARRAY.finditer(result)]
  if start and kind != 'all-reduce':
    # The result of a start is its operands, its results, and more.
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
      f'Given a reduce-scatter without groups: {rest[:80]!r}. How large its '
      'operand is follows from them. Compile for a mesh of devices.'
    )
  listed, size = match.groups()
  return int(size) if size else len(listed.split(','))


def traffic(
  collectives: Iterable[Collective], parameters: Collection[int]
) -> Traffic:
  """Sums operations up.

  Args:
    collectives: the operations.
    parameters: the elements of each array of the parameters. What has as many
      is taken for one of these, so nothing else should.

  Returns:
    What they send.
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
