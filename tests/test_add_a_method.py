"""The four steps of docs/add-a-method.md, with its example."""

import pathlib

import jax
import jax.numpy as jnp
import optax
import pytest

import sam_optax
from tests import (
  test_counting,
  test_documents,
  test_interface,
  test_numerics,
  test_reductions,
  tiny_config,
  tiny_runs,
)
from tests.methods import METHODS, Number, Row
from train import config as train_config
from train.engine import loop

ROOT = pathlib.Path(__file__).parent.parent
PAGE = ROOT / 'docs' / 'add-a-method.md'
NAME = 'corner_sam'


def is_the_base_optimizer_where_the_table_says(name):
  for entry in ('update', 'value_and_grad'):
    test_reductions.test_it_is_the_base_optimizer_where_the_table_says(
      name, entry
    )


# At least one test from each file of batteries.
BATTERIES = [
  is_the_base_optimizer_where_the_table_says,
  test_counting.test_the_first_steps_cost_what_the_table_says,
  test_counting.test_decide_gives_python_bools,
  test_numerics.test_a_zero_gradient_moves_nothing,
  test_interface.test_the_state_shares_no_buffer,
  test_interface.test_unknown_keywords_are_accepted,
]


@pytest.fixture
def toy(monkeypatch):
  # Steps 1 and 2: the part and the alias, exported.
  namespace = {'jax': jax, 'jnp': jnp, 'optax': optax, 'sam_optax': sam_optax}
  for block in test_documents.blocks(PAGE.read_text(), 'python'):
    exec(block, namespace)
  monkeypatch.setattr(sam_optax, NAME, namespace[NAME], raising=False)
  listed = {**sam_optax.METHODS, NAME: namespace[NAME]}
  monkeypatch.setattr(sam_optax, 'METHODS', listed)
  # Step 3: the row.
  row = Row(
    namespace[NAME],
    options={'rho': 0.1},
    is_sam=None,
    is_base={'rho': 0.0},
    evaluations=8,
    numbers={'rho': Number(0.3)},
  )
  monkeypatch.setitem(METHODS, NAME, row)


@pytest.mark.usefixtures('toy')
@pytest.mark.parametrize('battery', BATTERIES, ids=lambda f: f.__name__)
def test_the_batteries_run_over_it(battery):
  battery(NAME)


@pytest.mark.usefixtures('toy', 'standard_promotion')
def test_the_program_trains_with_it_unchanged():
  # Step 4: a variant of a config.
  config = tiny_config.get_config()
  config.batch_size, config.steps = 8, 3
  config.method = train_config.method(NAME, rho=0.02)
  result = loop.Program(config, tiny_runs.make_dataset()).run(seed=0)
  assert result.gradient_evaluations_per_step == 2
