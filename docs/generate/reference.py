"""The pages of the API reference: a page for each public module."""

import ast

import sam_optax
from docs.generate import names

# What a page begins with, besides the docstring of its module.
_LEADS = {
  'sam_optax': """\
The methods themselves have [pages of their own](../methods/index.md), and
`sam_optax.METHODS` maps each of their names to its function. The version is
`sam_optax.__version__`.

In signatures, a `ScalarOrSchedule` is a number or an Optax schedule (a function
from the step to a number), a `Key` is a PRNG key or an integer seed, a `Mask`
is a tree of booleans or a function from the parameters to one, and a `PyTree`
is any tree of arrays.
""",
}
_PROGRAM_LEAD = """\
The training program is run from a checkout and is not installed with the
library. These of its functions are kept stable for code of your own; the
command line is described in [the training program](../program.md).
"""


def pages() -> dict[str, str]:
  """The pages in Markdown, by their place in the site."""
  found = {_place(module): _page(module) for module in names.modules()}
  found['reference/program.md'] = _program()
  return found


def _place(module: str) -> str:
  short = module.removeprefix(names.LIBRARY).lstrip('.')
  return f'reference/{short or "index"}.md'


def _page(module: str) -> str:
  own, shared = [], []
  for name in names.public(module):
    (shared if names.is_shared(module, name) else own).append(name)
  methods = sam_optax.METHODS if module == names.LIBRARY else ()
  parts = [f'# {module}\n', _module(module), _LEADS.get(module, '')]
  if module == names.LIBRARY:
    # The page of the site itself has the name of the library for its title.
    parts.insert(0, '---\ntitle: API reference\n---\n')
    parts.append(_contents())
  parts += [_object(f'{module}.{name}') for name in own if name not in methods]
  if shared:
    links = [f'[`sam_optax.{name}`][sam_optax.{name}]' for name in shared]
    # A module may have nothing that the package does not have.
    lead = 'Also here' if own else 'It has'
    parts.append(f'{lead}: {", ".join(links)}.\n')
  return '\n'.join(filter(None, parts))


def _contents() -> str:
  """A table of the other pages, with the first line of each module."""
  lines = ['| page | what it has |', '|---|---|']
  for module in names.modules()[1:]:
    text = ast.get_docstring(ast.parse(names.source(module))) or ''
    first = text.partition('\n')[0].rstrip('.')
    page = _place(module).removeprefix('reference/')
    lines.append(f'| [`{module}`]({page}) | {first} |')
  lines.append(
    '| [The program](program.md) | What code of your own may use of `train` |'
  )
  return '\n'.join([*lines, ''])


def _program() -> str:
  parts = ['# The program', _PROGRAM_LEAD, *map(_object, names.PROGRAM)]
  return '\n\n'.join(parts)


def _module(name: str) -> str:
  """The docstring of a module alone."""
  return (
    f'::: {name}\n'
    '    options:\n'
    '      members: false\n'
    '      show_root_heading: false\n'
    '      show_root_toc_entry: false\n'
  )


def _object(name: str) -> str:
  text = f'::: {name}\n'
  # A table of all methods, whose pages show them better.
  if name == f'{names.LIBRARY}.METHODS':
    text += '    options:\n      show_attribute_values: false\n'
  return text
