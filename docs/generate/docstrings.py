"""Docstrings as Markdown.

They are written as in Optax: sections of Google's style, with equations, roles
and links of reStructuredText. MkDocs reads Markdown, so these are translated
while griffe loads the code.
"""

import dataclasses
import re
import textwrap
from collections.abc import Callable
from typing import Any

import griffe

from docs.generate import names

# A line of the block is empty, or indented deeper than the directive.
_BLOCK = r'((?:[ ]*\n|\1[ ]{2,}\S.*\n)+)'
# An equation may begin behind the directive, and even end there.
_EQUATION = re.compile(
  rf'^([ ]*)\.\. math::[ ]*(?:\n{_BLOCK}|(\S.*\n(?:\1[ ]{{2,}}\S.*\n)*))',
  re.MULTILINE,
)
_LITERAL = re.compile(
  rf'^([ ]*)(?!\.\. )(\S.*):(?=:\n)::?\n[ ]*\n{_BLOCK}', re.MULTILINE
)
_ROLE = re.compile(r':(\w+):`([^`]+)`')
_LINK = re.compile(r'`([^`<]+?)\s+<(https?://[^>]+)>`_')
_REFERENCES = re.compile(
  r'^References:\n((?:[ ]*\n|[ ]+\S.*\n)+)', re.MULTILINE
)
# The description of a returned value, up to a colon that is part of it.
_RETURNED = re.compile(r'^(Returns:\n[ ]+[^:\n]*):(?= )', re.MULTILINE)
_EXAMPLE = re.compile(r'^Example:$', re.MULTILINE)
_CODE = re.compile(r'(?<!`)`([A-Za-z_][\w.]*)`(?!`)')


def to_markdown(
  text: str, find: Callable[[str], str | None] = lambda name: None
) -> str:
  """Translates a docstring.

  Args:
    text: the docstring, without the indentation of the code.
    find: the identifier in the reference of a name in backticks, None for a
      name that is no link.

  Returns:
    Markdown, with the sections of Google's style as they are.
  """
  text = _EQUATION.sub(_equation, text + '\n')
  text = _LITERAL.sub(_literal, text)
  text = _ROLE.sub(_role, text)
  text = _LINK.sub(lambda m: f'[{_one_line(m[1])}]({m[2]})', text)
  text = _REFERENCES.sub(_references, text)
  # Griffe takes the words before a colon for a type.
  text = _RETURNED.sub(r'\1&#58;', text)
  text = _EXAMPLE.sub('Examples:', text)
  return _CODE.sub(lambda match: _linked(match, find), text).rstrip()


class Markdown(griffe.Extension):
  """Translates every docstring of a package once griffe has loaded it."""

  def on_package(self, *, pkg: griffe.Module, **unused) -> None:
    """Translates the docstrings of a package, in place."""
    del unused
    _unhide(pkg)
    _translate(pkg, names.identifiers())


def _unhide(parent: griffe.Object) -> None:
  """Puts a function before the module of its name, as an import does.

  `diagnostics/__init__.py` imports `sharpness` from `diagnostics/sharpness.py`.
  Griffe keeps the module under that name, and a page of the function would show
  all of the module. What the package imports from it becomes the package's own.
  """
  imports = getattr(parent, 'imports', {})
  for name, module in list(parent.members.items()):
    if module.is_alias or not module.is_module:
      continue
    _unhide(module)
    if imports.get(name) == f'{module.path}.{name}':
      within = f'{module.path}.'
      moved = {
        short: module.members[path.removeprefix(within)]
        for short, path in imports.items()
        if path.startswith(within)
      }
      for short, member in moved.items():
        parent.set_member(short, member)


def _translate(parent: griffe.Object, identifiers: dict[str, str]) -> None:
  if parent.docstring is not None:
    # A page does not link to itself.
    own = parent.name
    find = lambda name: None if name == own else identifiers.get(name)
    parent.docstring.value = to_markdown(parent.docstring.value, find)
  if isinstance(parent, griffe.Function):
    parent.returns = _brief(parent.returns)
  for member in parent.members.values():
    if not member.is_alias:
      _translate(member, identifiers)


def _brief(annotation: Any) -> Any:
  """An annotation without the private names of modules, in place."""
  if isinstance(annotation, griffe.ExprAttribute):
    is_private = str(annotation.first) in ('_base', '_abc')
    return annotation.last if is_private else annotation
  if isinstance(annotation, griffe.Expr):
    for field in dataclasses.fields(annotation):
      value = getattr(annotation, field.name)
      if isinstance(value, griffe.Expr):
        setattr(annotation, field.name, _brief(value))
      elif isinstance(value, list):
        setattr(annotation, field.name, [_brief(item) for item in value])
  return annotation


def _equation(match: re.Match[str]) -> str:
  # The rest of an equation that begins behind the directive hangs.
  body = match[2] or re.sub(r'\n[ ]+', r'\n', match[3])
  indent, body = match[1], textwrap.dedent(body).strip('\n')
  # A backslash at the end of a line is a space, which the converter of LaTeX
  # reads otherwise; two of them end a row.
  body = re.sub(r'(?<!\\)\\\n\s*', r'\\; ', body)
  return _fenced(indent, 'math', body.replace('`', ''))


def _literal(match: re.Match[str]) -> str:
  indent, lead, body = match[1], match[2], textwrap.dedent(match[3]).strip('\n')
  return f'{indent}{lead}:\n\n{_fenced(indent, "python", body)}'


def _fenced(indent: str, language: str, body: str) -> str:
  fenced = f'```{language}\n{body}\n```\n\n'
  return textwrap.indent(fenced, indent)


def _role(match: re.Match[str]) -> str:
  role, body = match[1], _one_line(match[2])
  return f'`#!math {body}`' if role == 'math' else f'`{body}`'


def _references(match: re.Match[str]) -> str:
  body = textwrap.dedent(match[1]).strip('\n')
  return f'**References:** {body}\n'


def _linked(match: re.Match[str], find: Callable[[str], str | None]) -> str:
  identifier = find(match[1])
  return match[0] if identifier is None else f'[{match[0]}][{identifier}]'


def _one_line(text: str) -> str:
  return ' '.join(text.split())
