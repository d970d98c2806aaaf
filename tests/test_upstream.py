"""The faults of `optax.contrib.sam` that docs/upstream describes.

Each page has tests that fail with the installed Optax. If one of them passes
one day, Optax has changed, and its page with it. The change that a page
describes is made here in the source of Optax, and its tests pass then.
"""

import inspect
import pathlib
import types

import jax
import jax.numpy as jnp
import pytest
from optax import contrib

from tests import test_documents

PAGES = pathlib.Path(__file__).parent.parent / 'docs' / 'upstream'
# The way a test fails, and the change: old and new text of Optax's source.
FAULTS = {
  ('zero-gradient', 'test_a_zero_gradient_moves_nothing'): (
    (AssertionError, r'nan nan nan'),
    (
      'updates = jax.tree.map(lambda g: g / g_norm, updates)',
      'factor = jnp.where(g_norm > 0, 1 / jnp.where(g_norm > 0, g_norm, 1), 0)'
      '\n    updates = jax.tree.map(lambda g: g * factor, updates)',
    ),
  ),
  ('unused-branch', 'test_the_unused_descent_does_not_matter'): (
    (AssertionError, r'nan nan nan'),
    ('cond * if_t + (1 - cond) * if_f', 'jnp.where(cond, if_t, if_f)'),
  ),
  ('unused-branch', 'test_an_optimizer_may_hold_a_typed_key'): (
    (TypeError, 'key<fry>'),
    ('cond * if_t + (1 - cond) * if_f', 'jnp.where(cond, if_t, if_f)'),
  ),
  ('ascent-schedule', 'test_the_radius_follows_its_schedule'): (
    (AssertionError, r'1\.0.*, 1\.0.*, 1\.0'),
    (
      'adv_state = adv_optimizer.init(outer_params)',
      'adv_state = jax.tree.map(lambda old, new: old if jnp.issubdtype('
      'old.dtype, jnp.integer) else new, adv_state, '
      'adv_optimizer.init(outer_params))',
    ),
  ),
}


def code(page: str) -> types.CodeType:
  (block,) = test_documents.blocks((PAGES / f'{page}.md').read_text(), 'python')
  return compile(block, page, 'exec')


def run(page: str, test: str, contrib) -> None:
  """Runs a test of a page, with this `contrib`."""
  namespace = {}
  exec(code(page), namespace)
  namespace['contrib'] = contrib
  with jax.numpy_dtype_promotion('standard'):
    namespace[test]()


@pytest.mark.parametrize('page, test', FAULTS)
def test_the_installed_optax_has_the_fault(page, test):
  (error, words), _ = FAULTS[page, test]
  with pytest.raises(error, match=words):
    run(page, test, contrib)


@pytest.mark.parametrize('page, test', FAULTS)
def test_the_change_mends_it(page, test):
  _, (old, new) = FAULTS[page, test]
  source = inspect.getsource(inspect.getmodule(contrib.sam))
  assert source.count(old) == 1
  changed = types.ModuleType('changed')
  exec(source.replace(old, new), vars(changed))
  run(page, test, changed)


def test_every_test_of_a_page_is_run():
  defined = {
    (page.stem, name)
    for page in PAGES.glob('*.md')
    if test_documents.blocks(page.read_text(), 'python')
    for name in code(page.stem).co_names
    if name.startswith('test_')
  }
  assert defined == set(FAULTS)


def test_a_schedule_advances_without_the_reset():
  namespace = {}
  exec(code('ascent-schedule'), namespace)
  with jax.numpy_dtype_promotion('standard'):
    radii = namespace['radii'](reset_state=False)
  assert jnp.allclose(jnp.array(radii), jnp.array([1.0, 0.75, 0.5]))
