"""Runs the docstrings of an installed sam_optax, with jax and optax only.

  python doctest_installed.py

Run a copy of this file in a folder outside of the checkout. It imports every
module, runs every example of the docstrings that needs no framework, and says
how many. The exit status is 1 if one fails.
"""

import doctest
import importlib
import importlib.util
import pkgutil
import re
import sys

import sam_optax

# Examples in docstrings import these, and an installation may be without.
FRAMEWORKS = ('flax', 'equinox')
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


def main() -> int:
  """Runs them, and returns the exit status."""
  if 'site-packages' not in sam_optax.__file__:
    print(f'This is not an installation: {sam_optax.__file__}')
    return 1
  found, left_out = [], []
  missing = [name for name in FRAMEWORKS if not importlib.util.find_spec(name)]
  modules = pkgutil.walk_packages(sam_optax.__path__, 'sam_optax.')
  for name in ['sam_optax', *(module.name for module in modules)]:
    module = importlib.import_module(name)
    for test in doctest.DocTestFinder(exclude_empty=True).find(module):
      code = ''.join(example.source for example in test.examples)
      if any(
        re.search(rf'^(from|import) {name}', code, re.M) for name in missing
      ):
        left_out.append(test.name)
      elif test.examples:
        found.append(test)
  runner = doctest.DocTestRunner(optionflags=FLAGS)
  for test in found:
    runner.run(test)
  result = runner.summarize()
  print(
    f'sam_optax {sam_optax.__version__}: {len(found)} docstrings,'
    f' {result.attempted} examples, {result.failed} failed; left out for want'
    f' of a framework: {", ".join(left_out) or "none"}'
  )
  return int(result.failed > 0 or not found)


if __name__ == '__main__':
  sys.exit(main())
