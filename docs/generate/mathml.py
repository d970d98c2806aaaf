"""Equations in LaTeX as MathML, which browsers show without a script."""

import re
from typing import Any

from latex2mathml import converter

_SPACE = re.compile(r'\\q?quad\b')
_TOKEN = re.compile(r'\\begin\b|\\end\b|\\q?quad\b|[{}]')


def block(source: str, *unused: Any, **options: Any) -> str:
  r"""A fenced block of the language `math`, for `pymdownx.superfences`.

  Equations that a `\quad` separates stand side by side if there is room for
  them, and below each other on a narrow screen.
  """
  del unused, options
  shown = [_convert(part, display='block') for part in parts(source)]
  return f'<div class="equation">{"".join(map(_cell, shown))}</div>'


def inline(source: str, *unused: Any) -> str:
  """Code of the language `math`, for `pymdownx.inlinehilite`."""
  del unused
  return _convert(source)


def parts(source: str) -> list[str]:
  r"""Splits LaTeX at each `\quad` that is in no group and no environment."""
  found, start, depth = [], 0, 0
  for match in _TOKEN.finditer(source):
    token = match[0]
    if depth == 0 and _SPACE.match(token):
      found.append(source[start : match.start()])
      start = match.end()
    depth += token in ('{', r'\begin')
    depth -= token in ('}', r'\end')
  found.append(source[start:])
  return [part.strip() for part in found if part.strip()]


def _convert(source: str, **options: Any) -> str:
  # The converter leaves an escaped underscore in text as it is.
  return converter.convert(source, **options).replace(r'\_', '_')


def _cell(equation: str) -> str:
  return f'<span>{equation}</span>'
