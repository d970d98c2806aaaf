"""Equations in LaTeX as MathML, which browsers show without a script."""

from typing import Any

from latex2mathml import converter


def block(source: str, *unused: Any, **options: Any) -> str:
  """A fenced block of the language `math`, for `pymdownx.superfences`."""
  del unused, options
  return f'<div class="equation">{converter.convert(source, display="block")}</div>'


def inline(source: str, *unused: Any) -> str:
  """Code of the language `math`, for `pymdownx.inlinehilite`."""
  del unused
  return converter.convert(source)
