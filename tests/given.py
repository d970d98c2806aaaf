"""Calls with wrong arguments, and the methods that stand for their routes.

Most refusals live in the spine, and one method for each way through it is
enough. `ROUTES` has these methods, chosen by their traits in THE TABLE.
"""

import contextlib
import re
from collections.abc import Iterable

import jax
import pytest

from tests import driving
from tests.methods import METHODS, NUM_EXAMPLES, PERTURBING, method
from tests.words import well_formed

# The traits by which a call takes another way through the library.
ON_THE_WAY = (
  'another_loss',
  'whole_step',
  'needs_examples',
  'needs_ids',
  'needs_reference',
  'first_at_params',
  'perturbs',
)


def representatives(
  traits: Iterable[str] = ON_THE_WAY, among: Iterable[str] = METHODS
) -> list[str]:
  """The first method with each combination of these traits."""
  found = {}
  for name in among:
    key = tuple(getattr(METHODS[name], trait) for trait in traits)
    found.setdefault((*key, has_table(name)), name)
  return list(found.values())


def shapes(name):
  """The state of a method, as shapes."""
  return jax.eval_shape(method(name).init, driving.start())


def has_table(name):
  """Whether the state of a method has a row for each example."""
  sizes = [leaf.shape[:1] for leaf in jax.tree.leaves(shapes(name))]
  return (NUM_EXAMPLES,) in sizes


ROUTES = representatives()
WITH_TABLE = list(filter(has_table, METHODS))
SAM, START = method('sam'), driving.start()
BY_GRAD_FN = [n for n in PERTURBING if not METHODS[n].needs_examples]
# They take the rows of some examples from the batch.
TAKES_ROWS = [n for n, r in METHODS.items() if r.needs_examples and r.batches]

every_method = pytest.mark.parametrize('name', METHODS)
every_route = pytest.mark.parametrize('name', ROUTES)


@contextlib.contextmanager
def refused(*parts):
  """Expects a ValueError in three beats with these parts in its text."""
  parts = [re.escape(part) for part in parts]
  pattern = '.*'.join(['^Given ', *parts])
  pattern = re.compile(pattern, re.DOTALL)
  with pytest.raises(ValueError, match=pattern) as error:
    yield error
  well_formed(str(error.value))


def called(tx, entry='value_and_grad', losses=None, **changes):
  """One call of a method with some arguments changed."""
  losses = driving.losses_for(tx) if losses is None else losses
  params, (batch, ids) = driving.start(), driving.batch_at(0)
  given = {'params': params, 'batch': batch, 'example_ids': ids}
  given |= {'state': tx.init(params), 'loss_fn': losses} | changes
  known = driving.keywords(driving.losses_for(tx), batch, ids)
  reference = {'reference_grad_fn': known['reference_grad_fn']}
  decided = {'perturb': True} if tx.decide is not None else {}
  if entry == 'value_and_grad':
    return tx.value_and_grad(
      given['loss_fn'],
      given['params'],
      given['state'],
      given['batch'],
      given['example_ids'],
      **(reference | {k: v for k, v in given.items() if k in reference}),
      **decided,
    )
  updates = given.pop('updates', None)
  if updates is None:
    updates = known['grad_fn'](params)
  state, params = given.pop('state'), given.pop('params')
  return tx.update(updates, state, params, **(known | given | decided))


def traced(tx, entry='value_and_grad', **changes):
  """The shapes of a call's results: it is traced, and nothing is compiled."""
  return jax.eval_shape(lambda: called(tx, entry, **changes))


def assert_refused_or_right(row):
  """Asserts what a row of a table of calls says.

  Args:
    row: (call, words): the words of the refusal, in order; None if the call is
      right, and then it returns whether its result is.
  """
  call, words = row
  if words is None:
    assert call()
    return
  with refused(*words):
    call()


def same(first, second):
  """A call that says whether two calls give equal results."""
  return lambda: driving.equal(first(), second())


def step_of(tx):
  """The gradient of one step of SAM, for what must equal it."""
  return called(tx, 'update', loss_fn=None)[0]
