"""Every example runs as it is, trains, fits on a page, and has its notebook."""

import json
import pathlib

import jax
import numpy as np
import pytest
from flax import nnx

import sam_optax
from examples import notebooks

ROOT = pathlib.Path(__file__).parent.parent
FOLDER = ROOT / 'examples'


def as_a_reader():
  """The settings of a reader, who has none of our strict ones."""
  return (
    jax.numpy_dtype_promotion('standard'),
    jax.numpy_rank_promotion('allow'),
  )


@pytest.fixture(scope='module', params=notebooks.names())
def example(request):
  """The name of an example, and what it defines after it ran."""
  source = (FOLDER / f'{request.param}.py').read_text()
  # A part of its steps. The notebooks have taken all of them.
  for whole, part in ('epochs=60', 'epochs=10'), ('steps=150', 'steps=40'):
    source = source.replace(whole, part)
  after, (promotion, rank) = {}, as_a_reader()
  with promotion, rank:
    exec(compile(source, request.param, 'exec'), after)
  return request.param, after


def test_it_trains(example):
  _, after = example
  for history in after['histories'].values():
    losses = history['training loss']
    assert np.isfinite(losses).all()
    assert losses[-1] < 0.7 * losses[0]
    if 'test accuracy' in history:
      # A guess is right once in ten times.
      assert history['test accuracy'][-1] > 0.3


def test_its_method_is_not_the_base_optimizer(example):
  _, after = example
  first, *_, last = [
    history['training loss'] for history in after['histories'].values()
  ]
  assert not np.allclose(first, last)


@pytest.mark.parametrize('name', notebooks.names())
def test_it_fits_on_a_page_and_is_listed(name):
  assert len((FOLDER / f'{name}.py').read_text().splitlines()) < 100
  assert f'| `{name}.py` |' in (FOLDER / 'README.md').read_text()


@pytest.mark.parametrize('name', notebooks.names())
def test_its_notebook_has_its_code(name):
  made = json.loads((FOLDER / 'notebooks' / f'{name}.ipynb').read_text())
  found = [
    (cell['cell_type'], ''.join(cell['source'])) for cell in made['cells']
  ]
  assert found == notebooks.cells(name), 'run python examples/notebooks.py'
  # It ran: the last cell drew something, and the page shows the picture.
  (output,) = made['cells'][-1]['outputs']
  assert 'image/png' in output['data']
  page = (FOLDER / 'notebooks' / f'{name}.md').read_text()
  (picture,) = {
    line.partition('](')[2].rstrip(')')
    for line in page.splitlines()
    if line.startswith('![')
  }
  assert (FOLDER / 'notebooks' / picture).exists()


def test_lora_trains_the_adapters_alone(example):
  name, after = example
  if name != 'lora':
    return
  adapted = after['with_adapters'](after['trained'])
  frozen = lambda model: nnx.to_pure_dict(
    nnx.state(model, nnx.All(nnx.Param, nnx.Not(nnx.LoRAParam)))
  )
  adapters = lambda model: nnx.to_pure_dict(nnx.state(model, nnx.LoRAParam))
  before, first = jax.tree.map(np.array, (frozen(adapted), adapters(adapted)))
  promotion, rank = as_a_reader()
  with promotion, rank:
    after['train'](
      adapted, sam_optax.sam(), after['turned'], nnx.LoRAParam, steps=1
    )
  assert jax.tree.all(jax.tree.map(np.array_equal, before, frozen(adapted)))
  moved = jax.tree.map(
    lambda a, b: not (a == b).all(), first, adapters(adapted)
  )
  # All of them in the first step: at the perturbed point, no matrix is zero.
  assert jax.tree.all(moved)
