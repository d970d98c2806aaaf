"""docs/methods-table.md: every method, and its measured cost."""

import pathlib
import re

import optax
import pytest

import sam_optax
from tests import driving, methods
from tests.methods import BATCH_SIZE, METHODS, NUM_EXAMPLES

ROOT = pathlib.Path(__file__).parent.parent


def method_table() -> dict[str, str]:
  """The gradients per step by method, from the table in the documents."""
  text = (ROOT / 'docs' / 'methods-table.md').read_text()
  rows = [line for line in text.splitlines() if line.startswith('| [`')]
  cells = [[cell.strip() for cell in row.split('|')[1:-1]] for row in rows]
  return {re.findall(r'`(\w+)`', row[0])[0]: row[5] for row in cells}


def test_the_method_table_lists_every_method():
  assert set(method_table()) == set(sam_optax.METHODS)


def names(cost: str) -> set[str]:
  """The names in a cost: arguments, and measured quantities."""
  return set(re.findall(r'[a-z_]+', cost))


def cost_of(name: str, **numbers: float) -> float:
  """The cost in the table, where `2 keep` is a product."""
  product = re.sub(r'(\d) (\w)', r'\1 * \2', method_table()[name])
  return eval(product, {}, numbers)


def check_cost(name: str, entry: str, **changes: float) -> None:
  """Compares the cost in the table with the gradients that execute."""
  row = METHODS[name]
  numbers = {number: row.value(number) for number in row.numbers} | changes
  # The fraction of SAM steps approaches the probability over many steps.
  drawn = 'p' in names(method_table()[name])
  method = methods.build(name, **changes) if changes else methods.method(name)
  steps = driving.drive(method, 240 if drawn else 12, entry=entry, how='device')
  steps = steps[row.settles :]
  perturbed = [optax.tree.get(step.state, 'perturbed').item() for step in steps]

  def per_step(counts):
    return sum(map(sum, counts)) / BATCH_SIZE / len(steps)

  numbers['sam_fraction'] = sum(perturbed) / len(steps)
  numbers['reference'] = NUM_EXAMPLES / BATCH_SIZE
  gradients = cost_of(name, **numbers, forward=0, loss=0)
  loss = int(entry == 'value_and_grad')
  forward = cost_of(name, **numbers, forward=1, loss=loss) - gradients
  near = pytest.approx(gradients, abs=0.1 if drawn else 1e-6)
  assert per_step(step.gradients for step in steps) == near
  assert per_step(step.forward for step in steps) == pytest.approx(forward)


@pytest.mark.parametrize('name', METHODS)
@pytest.mark.parametrize('entry', ['update', 'value_and_grad'])
def test_the_costs_in_the_method_table_are_measured(name, entry):
  check_cost(name, entry)


@pytest.mark.parametrize(
  'name',
  [n for n, r in METHODS.items() if any(x.costs for x in r.numbers.values())],
)
def test_the_costs_in_the_method_table_depend_on_the_arguments(name):
  numbers = METHODS[name].numbers
  changes = {n: number.other for n, number in numbers.items() if number.costs}
  check_cost(name, 'value_and_grad', **changes)
