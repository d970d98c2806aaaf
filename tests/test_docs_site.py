"""The documentation site: complete, without a dead link, made from the code."""

import importlib
import inspect
import os
import pathlib
import re
import subprocess
import sys
import types
import zlib

import pytest
import yaml

import sam_optax
from configs import index
from docs.generate import (
  docstrings,
  hooks,
  links,
  markup,
  mathml,
  methods,
  names,
)

ROOT = pathlib.Path(__file__).parent.parent
DOCS = ROOT / 'docs'


class Loader(yaml.SafeLoader):
  """Reads mkdocs.yml without importing what its tags name."""


Loader.add_multi_constructor('tag:yaml.org,2002:python/', lambda *given: given)


@pytest.fixture(scope='module')
def generated():
  return hooks.generated()


@pytest.fixture(scope='module')
def nav():
  """The places of all pages in the navigation, in order."""
  given = yaml.load((ROOT / 'mkdocs.yml').read_text(), Loader)['nav']
  return list(leaves(hooks.nav(given)))


def leaves(below):
  if isinstance(below, str):
    yield below
  else:
    for entry in below.values() if isinstance(below, dict) else below:
      yield from leaves(entry)


@pytest.fixture(scope='module')
def built(tmp_path_factory):
  folder = tmp_path_factory.mktemp('site')
  command = subprocess.run(
    [sys.executable, '-m', 'mkdocs', 'build', '--strict', f'-d{folder}'],
    cwd=ROOT,
    env={**os.environ, 'NO_MKDOCS_2_WARNING': '1'},
    capture_output=True,
    text=True,
  )
  # The link checks of MkDocs are warnings, which --strict makes errors.
  assert command.returncode == 0, command.stderr
  return folder


@pytest.fixture(scope='module')
def documented(built):
  """The names that have an entry, from the inventory of the site."""
  inventory = (built / 'objects.inv').read_bytes().split(b'\n', 4)[4]
  lines = zlib.decompress(inventory).decode().splitlines()
  return {line.split(' py:')[0] for line in lines}


def find(name: str):
  """What a dotted name stands for."""
  module, _, attribute = name.rpartition('.')
  try:
    return getattr(importlib.import_module(module), attribute)
  except ImportError:
    return getattr(find(module), attribute)


def public_objects(name: str):
  """The functions and classes that a user finds in a module."""
  module = importlib.import_module(name)
  is_package = hasattr(module, '__path__')
  for key, value in vars(module).items():
    if key.startswith('_') or not isinstance(value, type | types.FunctionType):
      continue
    own = value.__module__ == name
    if own or is_package and value.__module__.startswith(f'{names.LIBRARY}.'):
      yield f'{name}.{key}', value


def test_every_public_name_is_in_the_reference(documented):
  known = {
    id(find(name)) for name in documented if name.startswith(names.LIBRARY)
  }
  found = [pair for name in names.modules() for pair in public_objects(name)]
  assert len(found) > 100
  missing = [name for name, value in found if id(value) not in known]
  assert not missing
  constants = {f'{names.LIBRARY}.METHODS', f'{names.LIBRARY}.kernels.Axes'}
  assert constants <= documented


def test_every_public_module_is_in_the_reference(generated):
  found = {
    f'{names.LIBRARY}.{key}'
    for key, value in vars(sam_optax).items()
    if inspect.ismodule(value) and not key.startswith('_') and key != 'types'
  }
  assert found <= set(names.modules())
  for module in names.modules():
    assert any(f'::: {module}\n' in page for page in generated.values())


def test_the_names_of_the_program_that_others_use_are_documented(documented):
  assert set(names.PROGRAM) <= documented
  for name in names.PROGRAM:
    assert find(name).__doc__


def test_a_method_has_a_page_with_its_equation(built):
  for name in sam_optax.METHODS:
    page = (built / 'methods' / f'{name}.html').read_text()
    assert '<math' in page
    about = methods.summary(name)
    assert 'gradient' in about.cost
    if about.paper is not None:
      assert about.paper[1] in page


def test_a_name_is_described_once(built):
  """A function that has the name of its module is not shown as the module."""
  for page in ('diagnostics', 'program'):
    text = (built / 'reference' / f'{page}.html').read_text()
    heads = re.findall(r'<h[234] id="([^"]+)" class="doc doc-heading"', text)
    shorts = [head.rpartition('.')[2] for head in heads]
    assert len(shorts) >= 8
    assert len(set(shorts)) == len(shorts), page
    assert 'codes' not in shorts


def test_no_page_shows_restructuredtext(built):
  for path in built.rglob('*.html'):
    page = path.read_text()
    for left in (':math:', '.. math', '&gt;`_', ':class:', '<mi>\\'):
      assert left not in page, (path.name, left)


def test_a_published_row_is_on_the_page_of_its_method(generated):
  rows = [entry.config for entry in index.entries() if entry.config]
  assert len(rows) > 300
  pages = {name: generated[f'methods/{name}.md'] for name in sam_optax.METHODS}
  for config in set(rows):
    text = f'`{config.removeprefix("configs/")}`'
    on = [name for name, page in pages.items() if text in page]
    assert len(on) == 1, config
    count = sum(page.count(text) for page in pages.values())
    assert count == rows.count(config)


def test_a_page_lists_the_arguments_that_are_not_the_defaults(generated):
  (row,) = (
    line
    for line in generated['methods/fsam.md'].splitlines()
    if '`fsam_table2.py:resnet18-cifar100-fsam`' in line
  )
  assert '`rho=0.2`' in row and '`decay=0.6`' in row
  assert 'sigma' not in row and '81.29' in row


def test_the_navigation_has_every_page_once(nav, generated):
  own = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob('*.md')}
  shown = {place for place in links.borrowed() if place.endswith('.md')}
  assert sorted(nav) == sorted(own | shown | set(generated))


def test_every_link_resolves_in_the_repository(generated):
  """As one follows it on a page of the hosting service."""
  places = [path.relative_to(DOCS).as_posix() for path in DOCS.rglob('*.md')]
  places += [place for place in links.borrowed() if place.endswith('.md')]
  followed = 0
  for place in places:
    text = (ROOT / links.origin(place)).read_text()
    for target in links.targets(text):
      there = links.resolve(target, place)
      inside = there.removeprefix('docs/')
      assert (ROOT / there).exists() or inside in generated, (place, target)
      followed += 1
  assert followed > 30


def test_nothing_in_the_site_comes_from_elsewhere(built):
  """No font, script, style or picture is fetched when a page is read."""
  pattern = re.compile(r'<(?:script|img|link)[^>]+(?:src|href)="?(https?:)?//')
  for path in built.rglob('*.html'):
    found = pattern.search(path.read_text())
    assert found is None, (path.name, found)


def test_the_search_needs_no_server(built):
  """A page that is opened as a file may load scripts, but no JSON."""
  assert (built / 'search' / 'search_index.js').exists()
  # Nor a worker, for which this script stands in.
  page = (built / 'methods' / 'sam.html').read_text()
  assert '<script src="../assets/iframe-worker.js">' in page
  assert (built / 'assets' / 'iframe-worker.js').exists()


# Links


def test_a_link_leads_to_the_place_of_the_page_in_the_site():
  page = 'See [a](../results/digits.md#x), [b](parts.md) and ![c](demo.png).\n'
  assert links.rewrite(page, 'deep/page.md') == page.replace(
    '../results/digits.md#x', '../results/digits.md#x'
  )
  moved = links.rewrite('[a](../results/digits.md#x)\n', 'parts.md')
  assert moved == '[a](results/digits.md#x)\n'
  # From a page that is shown from elsewhere, to its neighbour and to docs/.
  assert links.rewrite('[a](digits_noise.md)\n', 'results/digits.md') == (
    '[a](digits_noise.md)\n'
  )
  assert links.rewrite('[a](../docs/parts.md)\n', 'results/digits.md') == (
    '[a](../parts.md)\n'
  )


def test_a_link_to_code_leads_to_the_repository_or_nowhere():
  page = 'The [rows](../tests/methods.py) of `[a](../tests/methods.py)`.\n'
  assert links.rewrite(page, 'parts.md').startswith('The rows of')
  there = links.rewrite(page, 'parts.md', 'https://host/blob/main')
  assert '[rows](https://host/blob/main/tests/methods.py)' in there


def test_a_dead_link_stays_for_mkdocs_to_find():
  page = '[a](../results/nothing.md)\n'
  assert links.rewrite(page, 'parts.md') == page


def test_flags_are_kept_whole_outside_of_blocks():
  page = 'Set `--config.seed=1`, not `seed`.\n```sh\nrun `--out=x`\n```\n'
  assert links.unbroken_flags(page) == page.replace(
    '`--config.seed=1`', '`--config.seed=1`{ .whole }'
  )


def test_links_in_blocks_of_code_are_left_alone():
  page = '```md\n[a](../results/digits.md)\n```\n'
  assert links.rewrite(page, 'parts.md') == page
  assert links.targets(page) == []


# Markup


def test_numbers_are_kept_with_their_units():
  page = '| 94.07 % ± 1.31 | a % b |\n```\n60 % 3\n```\n'
  assert markup.unbroken_numbers(page) == (
    '| 94.07\xa0% ±\xa01.31 | a % b |\n```\n60 % 3\n```\n'
  )


def test_arguments_of_commands_are_kept_whole(built):
  page = (built / 'program.html').read_text()
  (sweep, *_) = re.findall('train.sweep.*', page)
  shown = re.findall(
    r'<span class="argument">(.*?)</span>(?=<span class="w"|$)', sweep
  )
  words = [re.sub('<[^>]*>', '', argument) for argument in shown]
  assert words[:2] == ['--config=configs/digits.py', '--methods=sgd,sam,arsam']
  # Nothing else of the page is marked.
  assert 'class="argument"' not in (built / 'parts.html').read_text()


def test_a_picture_is_a_link_to_itself(built):
  page = (built / 'index.html').read_text()
  (target,) = re.findall('<a href="([^"]+)" class="picture"><img', page)
  assert (built / target).exists()
  assert page.count(f'src="{target}"') == 1


def test_a_config_in_a_table_may_break_behind_its_file(built):
  page = (built / 'methods' / 'fsam.html').read_text()
  assert '<td><code>fsam_table2.py:<wbr>resnet18-cifar100-fsam</code>' in page


# Docstrings


def test_equations_and_roles_become_markdown():
  text = 'One.\n\n.. math::\n  a = b, \\quad\n    c\n\nThen :math:`d\ne`.'
  assert docstrings.to_markdown(text) == (
    'One.\n\n```math\na = b, \\quad\n  c\n```\n\nThen `#!math d e`.'
  )


def test_an_equation_may_begin_behind_its_directive():
  text = '.. math:: a = b\nThen:\n\n  .. math:: c,\n    d\n'
  assert docstrings.to_markdown(text) == (
    '```math\na = b\n```\n\nThen:\n\n  ```math\n  c,\n  d\n  ```'
  )


def test_a_line_of_an_equation_may_end_in_a_space():
  text = '.. math::\n  a,\\\n    b \\\\\n  c'
  assert docstrings.to_markdown(text) == ('```math\na,\\; b \\\\\nc\n```')


def test_references_examples_and_literal_blocks_become_markdown():
  text = (
    'As in Optax::\n\n  chain(a)  # b\n\nExample:\n  >>> 1\n  1\n\n'
    'References:\n  Doe, `A Title\n  <https://a.org/b>`_, 2022.\n'
  )
  assert docstrings.to_markdown(text) == (
    'As in Optax:\n\n```python\nchain(a)  # b\n```\n\n'
    'Examples:\n  >>> 1\n  1\n\n'
    '**References:** Doe, [A Title](https://a.org/b), 2022.'
  )


def test_names_become_links():
  found = docstrings.to_markdown(
    'See `fsam`, `ascent.only` and `params`.', names.identifiers().get
  )
  assert found == (
    'See [`fsam`][sam_optax.fsam], [`ascent.only`][sam_optax.ascent.only]'
    ' and `params`.'
  )


def test_equations_are_split_only_between_equations():
  source = r'a = \begin{cases} b \quad c \end{cases}, \quad \text{x \quad y}'
  assert mathml.parts(source) == [
    r'a = \begin{cases} b \quad c \end{cases},',
    r'\text{x \quad y}',
  ]
  assert mathml.block(source).count('<math') == 2


def test_a_method_without_its_cost_is_refused(monkeypatch):
  def unfinished():
    """A method.

    Parts: `ascent.gradient`.
    """

  listed = {**sam_optax.METHODS, 'unfinished': unfinished}
  monkeypatch.setattr(sam_optax, 'METHODS', listed)
  with pytest.raises(ValueError, match='without its cost'):
    methods.summary('unfinished')
