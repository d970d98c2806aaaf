"""What MkDocs calls while it builds the site, see `hooks` in mkdocs.yml."""

import fnmatch
from typing import Any

from mkdocs.structure import files as mkdocs_files

from docs.generate import links, markup, methods, reference
from docs.generate.names import ROOT


def generated() -> dict[str, str]:
  """The pages that no file holds, by their place in the site."""
  return {**methods.pages(), **reference.pages()}


def nav(given: Any) -> Any:
  """The navigation of mkdocs.yml, with the pages that it stands for.

  Args:
    given: the navigation. `methods/*` in it stands for the pages of the
      methods, and another pattern for the pages with such a place.

  Returns:
    The navigation with every page by name.
  """
  if isinstance(given, dict):
    below = {title: nav(pages) for title, pages in given.items()}
    return {title: pages for title, pages in below.items() if pages}
  if isinstance(given, list):
    return [entry for below in given for entry in _entries(below) if entry]
  return given


def _entries(below: Any) -> list[Any]:
  if below == 'methods/*':
    return methods.nav()
  if isinstance(below, str) and '*' in below:
    own = sorted((ROOT / 'docs').rglob('*.md'))
    places = [
      *reference.pages(),
      *links.borrowed(),
      *(path.relative_to(ROOT / 'docs').as_posix() for path in own),
    ]
    return [
      place
      for place in places
      if fnmatch.fnmatch(place, below) and place.endswith('.md')
    ]
  return [nav(below)]


def on_config(config: Any) -> Any:
  """Completes the navigation."""
  config.nav = nav(config.nav)
  return config


def on_files(files: Any, config: Any) -> Any:
  """Adds the pages that are made, and those from elsewhere."""
  for place, content in generated().items():
    files.append(mkdocs_files.File.generated(config, place, content=content))
  for place, there in links.borrowed().items():
    files.append(
      mkdocs_files.File.generated(config, place, abs_src_path=str(ROOT / there))
    )
  return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
  """Makes links those of the site, and keeps flags and numbers whole."""
  del files
  source = f'{config.repo_url}/blob/main' if config.repo_url else None
  written = links.rewrite(markdown, page.file.src_uri, source)
  return markup.unbroken_numbers(links.unbroken_flags(written))


def on_page_content(html: str, page: Any, config: Any, files: Any) -> str:
  """Makes pictures links to themselves, and says where lines may break."""
  del page, config, files
  return markup.finished(html)
