"""What the site needs of a page that its Markdown does not say."""

import re

from docs.generate import links

# A number and its unit or its spread. The line may break before the spread.
_NUMBER = re.compile(r'(?<=\d) (?=%(?!\w))|(?<=±) (?=\d)')
_PICTURE = re.compile(r'<img [^>]*?src="([^"]+\.png)"[^>]*>')
_COMMANDS = re.compile(
  r'(?<=<div class="language-sh highlight">).*?(?=</pre>)'
  r'|(?<=<div class="language-bash highlight">).*?(?=</pre>)',
  re.DOTALL,
)
# From a space to the next; a space may be a span, as each coloured part is.
_ARGUMENT = re.compile(
  r'(?:(?<=\s)|(?<=\s</span>))-(?:<span class="[^"]*">[^<\s]*</span>|[^<\s])+'
)
# A variant of a config file in a table, such as `arsam_table1.py:resnet18`.
_VARIANT = re.compile(r'(<td><code>\w+\.py:)(?=\w)')


def unbroken_numbers(markdown: str) -> str:
  """Keeps a number and its unit on one line: `94.07 % ± 1.31`."""
  return links.outside_code(
    markdown, lambda line: _NUMBER.sub('\N{NO-BREAK SPACE}', line)
  )


def linked_pictures(html: str) -> str:
  """Makes each picture a link to itself, since a page on a phone shrinks it."""
  return _PICTURE.sub(r'<a href="\1" class="picture">\g<0></a>', html)


def breakable_variants(html: str) -> str:
  """Lets the name of a config in a table break behind its file."""
  return _VARIANT.sub(r'\1<wbr>', html)


def whole_arguments(html: str) -> str:
  """Keeps an argument of a command on one line, as far as it fits.

  A browser may break a line after the hyphens of a flag. For the class
  `argument` docs/assets/site.css has a rule.
  """
  return _COMMANDS.sub(
    lambda block: _ARGUMENT.sub(
      r'<span class="argument">\g<0></span>', block[0]
    ),
    html,
  )


def finished(html: str) -> str:
  """A page with all of these changes of its HTML."""
  return whole_arguments(breakable_variants(linked_pictures(html)))
