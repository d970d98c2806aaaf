"""Markdown tables."""

from collections.abc import Iterable, Sequence


def table(head: Sequence[str], body: Iterable[Sequence[str]]) -> str:
  """A table of one line per row, its cells already formatted."""
  line = lambda cells: f'| {" | ".join(cells)} |'
  return '\n'.join([line(head), '|---' * len(head) + '|', *map(line, body)])
