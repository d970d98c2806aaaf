"""Pages that lie elsewhere in the repository, and links between all of them.

A link is written so that it holds in the repository: from `docs/a.md` to
`../results/b.md`. In the site the same page may have another place, so links
are rewritten when a page is built.
"""

import functools
import posixpath
import re
from collections.abc import Callable

from docs.generate.names import ROOT

# Where the folders of pages outside of docs/ are in the site.
_FOLDERS = {
  'results': 'results',
  'benchmarks/results': 'benchmarks',
  'examples/notebooks': 'examples',
}
_FILES = {
  'CHANGELOG.md': 'changelog.md',
  'configs/published/README.md': 'published.md',
}
_SHOWN = {'.md', '.png', '.svg', '.ipynb'}
_FENCE = re.compile(r'^\s*(```+|~~~+)')
_TARGET = re.compile(r'(\]\()([^)\s]+)|(^\[[^\]]+\]: )(\S+)')
# Up to the width of a phone.
_FLAG = re.compile(r'(?<!`)`--[^`\s]{1,34}`(?![`{])')
_WHOLE = re.compile(r'(!?)\[([^\]]*)\]\(([^)\s]+)\)')


@functools.cache
def borrowed() -> dict[str, str]:
  """Places in the repository by places in the site, outside of docs/."""
  found = {site: repository for repository, site in _FILES.items()}
  for folder, place in _FOLDERS.items():
    for path in sorted((ROOT / folder).rglob('*')):
      if path.suffix in _SHOWN:
        inside = path.relative_to(ROOT / folder).as_posix()
        found[f'{place}/{inside}'] = f'{folder}/{inside}'
  return found


def origin(site: str) -> str:
  """The place in the repository of a page of the site."""
  return borrowed().get(site, f'docs/{site}')


def in_site(repository: str) -> str | None:
  """The place in the site of a file of the repository, None if it has none."""
  if repository.startswith('docs/'):
    return repository.removeprefix('docs/')
  places = {there: site for site, there in borrowed().items()}
  return places.get(repository)


def targets(markdown: str) -> list[str]:
  """The links of a page to other pages and files, as they are written."""
  found = []

  def note(target):
    found.append(target)
    return target

  _rewritten(markdown, note)
  return [target for target in found if _is_local(target)]


def rewrite(markdown: str, site: str, source_url: str | None = None) -> str:
  """Makes the links of a page those of the site.

  Args:
    markdown: the page.
    site: its place in the site.
    source_url: where the files of the repository are shown, to which their
      paths are appended; without it, links to code become plain text.

  Returns:
    The page.
  """

  def moved(target):
    path, mark, anchor = target.partition('#')
    if not _is_local(target) or not path:
      return target
    there = resolve(target, site)
    place = in_site(there)
    if place is not None:
      return posixpath.relpath(place, posixpath.dirname(site)) + mark + anchor
    if source_url is not None and (ROOT / there).exists():
      return f'{source_url}/{there}'
    return target

  return _without_code_links(_rewritten(markdown, moved), site)


def resolve(target: str, site: str) -> str:
  """The place in the repository that a link on a page leads to."""
  path = target.partition('#')[0]
  base = posixpath.dirname(origin(site))
  return posixpath.normpath(posixpath.join(base, path))


def unbroken_flags(markdown: str) -> str:
  """Keeps short flags such as `--config.seed` on one line.

  A browser may break a line after their hyphens. `attr_list` gives them the
  class `whole`, for which docs/assets/site.css has a rule.
  """
  return outside_code(
    markdown, lambda line: _FLAG.sub(r'\g<0>{ .whole }', line)
  )


def outside_code(markdown: str, change: Callable[[str], str]) -> str:
  """Changes the lines of a page that are in no block of code."""
  lines, fence = [], None
  for line in markdown.splitlines():
    match = _FENCE.match(line)
    if match and fence is None:
      fence = match[1]
    elif match and match[1].startswith(fence or ''):
      fence = None
    elif fence is None:
      line = change(line)
    lines.append(line)
  return '\n'.join(lines) + '\n'


def _rewritten(markdown: str, change: Callable[[str], str]) -> str:
  """The page with every link outside of code changed."""

  def changed(match):
    lead, target = (match[1], match[2]) if match[1] else (match[3], match[4])
    return lead + change(target)

  return outside_code(markdown, lambda line: _TARGET.sub(changed, line))


def _without_code_links(markdown: str, site: str) -> str:
  """Links to files of the repository that no page shows, as their text."""

  def plain(match):
    there = resolve(match[3], site)
    shown = not _is_local(match[3]) or in_site(there) is not None
    return match[2] if not shown and (ROOT / there).exists() else match[0]

  return outside_code(markdown, lambda line: _WHOLE.sub(plain, line))


def _is_local(target: str) -> bool:
  return not re.match(r'[a-z]+:', target) and not target.startswith('/')
