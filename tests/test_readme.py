"""The README: short, and its diff changes SGD into SAM."""

import pathlib
import re

import optax

import sam_optax
from tests import test_documents

ROOT = pathlib.Path(__file__).parent.parent
TEXT = (ROOT / 'README.md').read_text()


def side(diff: str, left_out: str) -> str:
  """One side of a diff as a program."""
  lines = [x for x in diff.splitlines() if not x.startswith(left_out)]
  return '\n'.join(line[1:] for line in lines)


def after(program: str) -> dict:
  """The variables of a program after the block that the README begins with."""
  namespace = {}
  with test_documents.as_a_user():
    exec(test_documents.blocks(TEXT, 'python')[0], namespace)
    exec(program, namespace)
  return namespace


def test_the_diff_changes_sgd_into_sam():
  (diff,) = test_documents.blocks(TEXT, 'diff')
  sgd, sam = after(side(diff, '+')), after(side(diff, '-'))
  assert optax.tree.get(sam['opt_state'], 'sam_fraction') == 1
  # The perturbed gradient of mean(w^2) at 1 is greater by 2 rho / sqrt(3) / 3.
  moved = lambda names: 1 - names['params']['w'][0]
  assert moved(sgd) > 0
  ratio = moved(sam) / moved(sgd)
  assert abs(ratio - (1 + 0.05 / 3**0.5)) < 1e-5
  changed = [line for line in diff.splitlines() if line[:1] in ('+', '-')]
  assert len(changed) <= 10


def test_it_is_short():
  assert len(TEXT.splitlines()) < 150


def test_every_link_leads_to_a_file():
  links = re.findall(r'\]\(([^)#\s]+)', TEXT)
  local = [link for link in links if '://' not in link]
  assert len(local) > 10
  assert [link for link in local if not (ROOT / link).exists()] == []


def test_the_number_of_methods_is_some_thirty():
  # Besides the four that the first sentence names.
  assert 30 <= len(sam_optax.METHODS) - 4 < 40
