"""The training program: real short runs."""

import json
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import cifar10, digits
from tests.tiny_runs import (
  ROOT,
  make_dataset,
  npz_file,  # noqa: F401
  records,
  run_command,
  run_to,
  tiny,
)
from train import config as train_config
from train import run
from train.augment import pipeline
from train.engine import loop


def faces():
  """A variant of each kind that the program has a way of its own for."""
  kinds = {}
  for variant in digits.VARIANTS:
    config = digits.get_config(variant)
    method = train_config.build_method(
      config,
      key=0,
      num_examples=1437,
      num_classes=10,
      total_steps=9,
      steps_per_epoch=3,
      learning_rate=0.1,
      base=optax.sgd(0.1),
    )
    state = method.init({'norm': {'scale': jnp.ones(2)}, 'w': jnp.ones(2)})
    ids = np.arange(16, dtype=np.int32)
    decisions = () if method.first_pass else sorted(method.decide(state, ids))
    kind = (
      config.reference.batch_size,
      method.first_pass is None,
      method.plan is None,
      method.start_epoch is None,
      method.reads_logits,
      method.is_optimizer,
      *decisions,
    )
    kinds.setdefault(kind, variant)
  return list(kinds.values())


# Optax's cosine schedule divides an integer by a number.
pytestmark = pytest.mark.usefixtures('standard_promotion')


@pytest.mark.parametrize('variant', faces())
def test_a_variant_of_each_kind_trains(variant):
  config = digits.get_config(variant)
  # The variant's method, optimizer and augmentation on a network that
  # compiles in a second.
  config.model = {'name': 'resnet', 'widths': (2,), 'blocks': (0,)}
  config.batch_size, config.steps = 16, 3
  if config.reference.batch_size is not None:
    config.reference.batch_size = 32
  result = loop.Program(config, make_dataset(side=32, channels=3)).run(seed=0)
  assert result.steps == 3
  assert 1 <= result.gradient_evaluations_per_step <= 3
  assert np.isfinite(result.scores['loss'])


@pytest.mark.parametrize('module', [digits, cifar10])
def test_the_network_of_every_config_trains(module):
  config = module.get_config()
  config.batch_size, config.steps = 16, 2
  dataset = make_dataset(side=32 if config.augment.cutout else 8)
  assert np.isfinite(loop.Program(config, dataset).run(seed=0).scores['loss'])


def test_a_run_learns_and_writes_what_it_says(npz, tmp_path):
  config = tiny(data={'name': npz, 'dir': None}, steps=60)
  found = run.run(config, tmp_path / 'run')
  text = run.summary(found, tmp_path / 'run')
  result = json.loads((tmp_path / 'run' / 'result.json').read_text())
  assert result['test_accuracy'] > 0.3  # chance is 0.1
  assert f'{100 * result["test_accuracy"]:.2f} %' in text
  for line in text.splitlines():
    if line.startswith('wrote '):
      assert pathlib.Path(line.removeprefix('wrote ')).exists()
  assert list((tmp_path / 'run' / 'tensorboard').glob('events*'))
  lines = records(tmp_path / 'run')
  steps = [line['step'] for line in lines if 'loss' in line]
  assert steps == list(range(1, 61))
  last = [line for line in lines if 'loss' in line][-1]
  perturbs = sum(line['perturbed'] for line in lines if 'loss' in line)
  assert last['gradient_evaluations'] == 60 + perturbs
  assert result['sam_fraction'] == pytest.approx(perturbs / 60)
  assert result['gradient_evaluations_per_step'] == 1 + perturbs / 60
  assert result['batch_gradients_per_step'] == last['batch_gradients'] / 60
  saved = json.loads((tmp_path / 'run' / 'config.json').read_text())
  assert saved['method']['name'] == config.method.name
  assert result['jax'] == jax.__version__
  assert {'device', 'sam_optax', 'optax', 'flax'} <= set(result)


def test_the_same_seed_gives_the_same_run(tmp_path):
  dataset = make_dataset()
  program = loop.Program(tiny(), dataset)
  first = run_to(tmp_path / '0', program, seed=3)
  # Neither what ran before nor a program of its own matters.
  run_to(tmp_path / '1', program, seed=4)
  again = run_to(tmp_path / '2', program, seed=3)
  fresh = run_to(tmp_path / '3', loop.Program(tiny(), dataset), seed=3)
  assert first == again == fresh
  assert first != (tmp_path / '1' / 'metrics.jsonl').read_text()


def test_the_seed_reaches_the_draws_of_the_method(tmp_path):
  program = loop.Program(tiny(), make_dataset())
  keys = [
    jax.random.key_data(program.init(seed).method.cadence.key)
    for seed in (0, 1, 2**32 - 1)  # the last one is the greatest that may be
  ]
  assert len(np.unique(keys, axis=0)) == 3


def test_host_and_device_branches_give_the_same_run(tmp_path):
  runs = [
    run_to(
      tmp_path / branch, loop.Program(tiny(branch=branch), make_dataset()), 0
    )
    for branch in ('host', 'device')
  ]
  host, device = (
    [json.loads(line) for line in run.splitlines()] for run in runs
  )
  assert {line.get('perturbed') for line in host} >= {True, False}
  for a, b in zip(host, device, strict=True):
    assert a == pytest.approx(b, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize(
  ('branch', 'model', 'on_host'),
  [
    ('auto', {'name': 'mlp', 'hidden': (4,)}, False),
    ('auto', {'name': 'resnet', 'widths': (4,), 'blocks': (1,)}, True),
    ('device', {'name': 'resnet', 'widths': (4,), 'blocks': (1,)}, False),
    ('host', {'name': 'mlp', 'hidden': (4,)}, True),
  ],
)
def test_the_host_decides_for_convolutions_on_a_cpu(branch, model, on_host):
  config = tiny(branch=branch)
  config.model = model
  assert loop.Program(config, make_dataset()).on_host == on_host


def test_each_epoch_is_a_new_order_of_distinct_examples():
  program = loop.Program(tiny(steps=16), make_dataset())
  state = program.init(seed=0)
  epochs = [program.start_epoch(state, 0, epoch)[1] for epoch in range(2)]
  for epoch in epochs:
    assert epoch.shape == (8, 8)
    assert len(np.unique(epoch)) == 64
    assert epoch.max() < 70
  assert np.any(epochs[0] != epochs[1])
  other = program.start_epoch(program.init(seed=1), 1, 0)[1]
  assert np.any(epochs[0] != other)


def test_the_test_scores_are_of_every_test_image_once():
  program = loop.Program(tiny(), make_dataset(test=501))
  state = program.init(seed=0)
  dataset = make_dataset(test=501)
  images, labels = dataset.test['image'], dataset.test['label']
  logits, _ = program.step.apply(
    state.params,
    state.statistics,
    pipeline.normalise(images, *pipeline.statistics(dataset.train['image'])),
    False,
  )
  expected = float(np.mean(np.argmax(logits, axis=-1) == labels))
  assert program.test(state)['accuracy'] == pytest.approx(expected, abs=1e-6)


def test_the_demo_prints_a_table_and_draws_a_picture(tmp_path):
  done = run_command(
    '--config=tests.tiny_config',
    '--seeds=2',
    '--epochs=1',
    f'--workdir={tmp_path}',
    module='train.tools.demo',
  )
  assert done.returncode == 0, done.stderr
  rows = [line for line in done.stdout.splitlines() if line.startswith('| ')]
  labels = [row.split('|')[1].strip() for row in rows]
  assert labels == ['method', 'SGD', 'ARSAM']
  table, said = (tmp_path / 'table.md').read_text().strip().rsplit('\n\n', 1)
  assert table in done.stdout
  assert said.startswith(
    'With 60 % of the training labels drawn at random, SGD'
  )
  for sentence in said.split('. '):
    assert sentence.rstrip('.') in done.stdout
  assert 'Next, ' in done.stdout and 'make demo TASK=' in done.stdout
  assert (tmp_path / 'demo.png').read_bytes().startswith(b'\x89PNG')
  assert not list(tmp_path.rglob('checkpoints'))


def test_importing_the_program_needs_no_tfds():
  # It is imported when it is used, so that .npz files work without it.
  done = subprocess.run(
    [
      sys.executable,
      '-c',
      'import sys, train.__main__; '
      'sys.exit("tensorflow_datasets" in sys.modules)',
    ],
    cwd=ROOT,
  )
  assert done.returncode == 0
