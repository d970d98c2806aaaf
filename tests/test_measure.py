"""What a run measures of its steps, and what a method keeps of the examples."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sam_optax import diagnostics
from tests import tiny_config
from train import config as train_config
from train import run
from train.checks import ConfigError
from train.data.open import open_set
from train.engine import export, loop

pytestmark = pytest.mark.usefixtures('standard_promotion')


def make_config(name, **arguments):
  config = tiny_config.get_config()
  config.model.hidden = (8,)
  # Whole batches: each example is met in each epoch.
  config.batch_size = 128
  config.data.first = (1280, 100)
  config.checkpoint.every = 0
  config.method = train_config.method(name, **arguments)
  config.measure_every = 4
  return config


def measured(config, steps):
  """The records of some steps, with the state and the ids before each."""
  program = loop.Program(config, open_set(config.data))
  state = program.init(0)
  found = []
  for epoch in range(2):
    state, order = program.start_epoch(state, 0, epoch)
    for ids in order:
      if len(found) == steps:
        return program, found
      before = jax.tree.map(jnp.copy, state)
      ((state, record),) = program.steps(
        state, ids[None], 0, epoch, first=len(found)
      )
      found.append((before, ids, record))
  return program, found


@functools.partial(jax.jit, static_argnums=0)
def gradients(program, state, rows, params):
  batch = program.step.prepare(state, rows)
  loss_fn = lambda w: jnp.mean(program.step.loss_fn(state)(w, batch)[0])
  return jax.value_and_grad(loss_fn)(params)


def rows_of(program, ids):
  rows = {name: x[ids] for name, x in program.feed.full_set.rows.items()}
  return {**rows, 'id': ids}


def norm(tree):
  return np.sqrt(sum(np.sum(np.square(x)) for x in jax.tree.leaves(tree)))


def along(params, gradient, rho):
  return jax.tree.map(
    lambda w, g: w + rho * g / norm(gradient), params, gradient
  )


def test_the_norms_of_the_gradient_and_the_psf():
  program, found = measured(make_config('sam', rho=0.3), 9)
  names = {'gradient_norm', 'psf_norm', 'gradient_cosine', 'loss_rise'}
  due = [
    number for number, (*_, record) in enumerate(found) if names <= set(record)
  ]
  assert due == [0, 4, 8]
  state, ids, record = found[4]
  assert not any(name.startswith('chosen') for name in record)
  loss, first = gradients(program, state, rows_of(program, ids), state.params)
  point = along(state.params, first, 0.3)
  perturbed_loss, second = gradients(
    program, state, rows_of(program, ids), point
  )
  psf = jax.tree.map(jnp.subtract, second, first)
  expected = {
    'gradient_norm': norm(first),
    'perturbed_gradient_norm': norm(second),
    'psf_norm': norm(psf),
    'gradient_cosine': diagnostics.agreement(first, second).cosine,
    'loss_rise': perturbed_loss - loss,
  }
  for name, value in expected.items():
    np.testing.assert_allclose(record[name], value, rtol=1e-4, err_msg=name)
  np.testing.assert_allclose(record['loss'], loss, rtol=1e-5)


def test_how_the_chosen_examples_stand_for_the_batch():
  config = make_config('ausam', rho=0.3, keep=0.5, ramp_epochs=0)
  program, found = measured(config, 17)
  # In the first epoch the method uses the whole batch.
  assert 'chosen_cosine' not in found[4][-1]
  state, ids, record = found[16]
  before = np.asarray(state.method.selection.rise_count)
  ((after, _),) = program.steps(jax.tree.map(jnp.copy, state), ids[None])
  chosen = np.flatnonzero(after.method.selection.rise_count - before)
  assert len(chosen) == 64 and set(chosen) < set(ids.tolist())
  _, own = gradients(program, state, rows_of(program, chosen), state.params)
  _, whole = gradients(program, state, rows_of(program, ids), state.params)
  point = along(state.params, own, 0.3)
  own_loss, own_perturbed = gradients(
    program, state, rows_of(program, chosen), point
  )
  whole_loss, whole_perturbed = gradients(
    program, state, rows_of(program, ids), point
  )
  cosine = lambda x, y: diagnostics.agreement(x, y).cosine
  expected = {
    'chosen_cosine': cosine(own, whole),
    'chosen_perturbed_cosine': cosine(own_perturbed, whole_perturbed),
    'chosen_loss_difference': whole_loss - own_loss,
  }
  for name, value in expected.items():
    np.testing.assert_allclose(
      record[name], value, rtol=1e-3, atol=1e-6, err_msg=name
    )


def test_a_measured_run_is_the_run_and_keeps_the_numbers_of_examples(tmp_path):
  config = make_config('ausam', rho=0.3, ramp_epochs=0)
  results = []
  for every in (4, 0):
    config.measure_every = every
    folder = tmp_path / str(every)
    results.append(run.run(config, folder, bar=False).scores)
    lines = (folder / 'metrics.jsonl').read_text().splitlines()
    records = [json.loads(x) for x in lines]
    measured = [x['step'] for x in records if 'psf_norm' in x]
    # Before the steps 0, 4, ... from 0, and so with the steps 1, 5, ... from 1.
    assert measured == ([1, 5, 9, 13, 17] if every else [])
  assert results[0] == results[1]
  tables = export.read_examples(tmp_path / '0')
  assert set(tables) == {'rise_sum', 'rise_count'}
  # In the first epoch the whole batch, and in the second half of each.
  assert tables['rise_count'].sum() == 10 * 128 + 10 * 64
  assert len(tables['rise_count']) == 1280
  config.method = train_config.method('sam')
  run.run(config, tmp_path / 'sam', bar=False)
  assert export.read_examples(tmp_path / 'sam') == {}
  assert not (tmp_path / 'sam' / export.EXAMPLES).exists()


def test_what_cannot_be_measured_is_refused():
  config = make_config('sam')
  config.micro_batch = 32
  with pytest.raises(ConfigError, match='measure_every=0'):
    loop.Program(config, open_set(config.data))
