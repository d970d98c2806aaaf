"""One HTML file that opens offline: text, a table, and the pictures in it."""

import base64
import html
import io
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from PIL import Image

from train.report.curves import pyplot

_STYLE = """\
body { font: 16px/1.5 system-ui, sans-serif; color: #222; max-width: 72rem;
  margin: 2rem auto; padding: 0 1rem; }
img { max-width: 100%; height: auto; }
figure { margin: 1rem 0 2rem; }
figcaption { color: #555; max-width: 48rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .75rem; border-bottom: 1px solid #ddd;
  text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
.note { border-left: 4px solid #c60; padding: .5rem 1rem; background: #fff6ee; }
"""
NOTE = (
  'Sharpness does not by itself predict how well a network generalises. Across'
  ' networks that were trained differently, it "does not correlate well with'
  ' generalization" but rather with parameters of the training such as the'
  ' learning rate: Andriushchenko, Croce, Müller, Hein and Flammarion, '
)
PAPER = 'A Modern Look at the Relationship between Sharpness and Generalization'
LINK = 'https://arxiv.org/abs/2302.07011'


class Section(NamedTuple):
  """A part of the page.

  Attributes:
    title: above it.
    text: what the pictures show, and how they were made.
    pictures: the names of PNG files in the folder of the page.
  """

  title: str
  text: str
  pictures: Sequence[str]


def save(picture: Any, path: pathlib.Path) -> str:
  """Saves a Matplotlib figure or an image; returns the name of the file."""
  if isinstance(picture, Image.Image):
    picture.save(path)
  else:
    picture.savefig(path, dpi=110)
    pyplot().close(picture)
  return path.name


def write(
  folder: pathlib.Path,
  title: str,
  head: Sequence[str],
  body: Sequence[Sequence[str]],
  sections: Sequence[Section],
) -> pathlib.Path:
  """Writes index.html.

  Args:
    folder: where to, with the pictures.
    title: of the page.
    head: of the table of numbers.
    body: its rows.
    sections: below it.

  Returns:
    The file.
  """
  out = io.StringIO()
  title = html.escape(title)
  out.write(
    '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
    '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
    f'<title>{title}</title>\n<style>\n{_STYLE}</style>\n</head>\n<body>\n'
    f'<h1>{title}</h1>\n<p class="note">{html.escape(NOTE)}'
    f'<a href="{LINK}">{PAPER}</a>, 2023.</p>\n'
  )
  cells = lambda tag, row: ''.join(
    f'<{tag}>{html.escape(cell)}</{tag}>' for cell in row
  )
  out.write(f'<div class="wide"><table>\n<tr>{cells("th", head)}</tr>\n')
  out.writelines(f'<tr>{cells("td", row)}</tr>\n' for row in body)
  out.write('</table></div>\n')
  for section in sections:
    out.write(f'<h2>{html.escape(section.title)}</h2>\n<figure>\n')
    for name in section.pictures:
      encoded = base64.b64encode((folder / name).read_bytes()).decode()
      out.write(
        f'<img alt="{html.escape(section.title)}" '
        f'src="data:image/png;base64,{encoded}">\n'
      )
    text = html.escape(section.text)
    out.write(f'<figcaption>{text}</figcaption>\n</figure>\n')
  out.write('</body>\n</html>\n')
  path = folder / 'index.html'
  path.write_text(out.getvalue(), 'utf-8')
  return path
