"""The training program: real short runs, and every error before it writes."""

import json
import pathlib
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import cifar10, digits
from tests import tiny_config
from train import config as train_config
from train import run
from train.augment import pipeline
from train.checks import DataError
from train.data import memory
from train.engine import loop
from train.engine.log import Log
from train.engine.records import NotFinite, Records
from train.engine.step import Step

ROOT = pathlib.Path(__file__).parent.parent


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
@pytest.fixture(autouse=True)
def _standard_promotion(standard_promotion):
  yield


def make_dataset(train=70, test=30, side=8, channels=1):
  """Random images whose class is in their brightness."""
  generator = np.random.default_rng(0)

  def split(size):
    labels = generator.integers(0, 10, size).astype(np.int32)
    shape = (size, side, side, channels)
    images = generator.integers(0, 30, shape) + 22 * labels[:, None, None, None]
    return images.astype(np.uint8), labels

  return memory.labelled(*split(train), *split(test), 10)


@pytest.fixture
def npz(tmp_path):
  dataset = make_dataset()
  path = tmp_path / 'data.npz'
  np.savez(
    path,
    train_x=dataset.train['image'],
    train_y=dataset.train['label'],
    test_x=dataset.test['image'],
    test_y=dataset.test['label'],
  )
  return str(path)


def tiny(variant='arsam', **changes):
  config = tiny_config.get_config(variant)
  config.update({'batch_size': 8, 'steps': 12, 'log_every': 5, **changes})
  return config


def records(folder):
  lines = (folder / 'metrics.jsonl').read_text().splitlines()
  return [json.loads(line) for line in lines]


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


def run_to(folder, program, seed):
  with Log(folder) as log:
    program.run(seed, log)
  return (folder / 'metrics.jsonl').read_text()


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
    for seed in (0, 1)
  ]
  assert not np.array_equal(*keys)


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


def test_statistics_come_from_one_pass_per_step():
  # With one pass counted twice BatchNorm's mean would have moved further.
  config = tiny('arsam', steps=1)
  config.model = {'name': 'resnet', 'widths': (4,), 'blocks': (1,)}
  stepped = []
  for variant in tiny_config.VARIANTS:
    config.method = tiny(variant).method
    program = loop.Program(config, make_dataset())
    state, order = program.start_epoch(program.init(seed=0), 0, 0)
    state, _ = program.train_step(state, order[0])
    stepped.append(state.statistics)
  for one, two in zip(*map(jax.tree.leaves, stepped), strict=True):
    np.testing.assert_allclose(one, two, rtol=1e-5)


@pytest.mark.parametrize(
  ('backend', 'dtype', 'expected'),
  [
    ('cpu', 'auto', 'float32'),
    ('gpu', 'auto', 'bfloat16'),
    ('tpu', 'auto', 'bfloat16'),
    ('gpu', 'float32', 'float32'),
    ('cpu', 'bfloat16', 'bfloat16'),
  ],
)
def test_the_device_decides_what_is_computed_in(
  backend, dtype, expected, monkeypatch
):
  monkeypatch.setattr(jax, 'default_backend', lambda: backend)
  step = Step(tiny('sgd', dtype=dtype), make_dataset())
  model = step.model(seed=0)
  images = jax.ShapeDtypeStruct((8, 8, 8, 1), np.float32)
  program = jax.make_jaxpr(step.apply, static_argnums=3)(
    model.params, model.statistics, images, True
  )
  products = [
    eqn for eqn in program.eqns if eqn.primitive.name == 'dot_general'
  ]
  assert products
  for eqn in products:
    assert {str(var.aval.dtype) for var in eqn.invars} == {expected}
  assert {str(x.dtype) for x in jax.tree.leaves(model.params)} == {'float32'}


def test_a_dtype_of_the_models_own_goes_first(monkeypatch):
  monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
  config = tiny('sgd')
  config.model.dtype = 'float32'
  step = Step(config, make_dataset())
  program = jax.make_jaxpr(step.apply, static_argnums=3)(
    *step.model(seed=0)[:2], np.zeros((8, 8, 8, 1), np.float32), True
  )
  assert 'bf16' not in str(program)


def test_micro_batches_give_the_same_run(tmp_path):
  # ESAM passes half of the batch of eight, so 3, 3, 2 and then 3, 1.
  runs = [tiny('sgd', micro_batch=size) for size in (None, 3)]
  lines = []
  for number, config in enumerate(runs):
    config.method = train_config.method('esam')
    program = loop.Program(config, make_dataset())
    lines.append(run_to(tmp_path / str(number), program, 0).splitlines())
  for a, b in zip(*lines, strict=True):
    assert json.loads(a) == pytest.approx(json.loads(b), rel=1e-4, abs=1e-6)


def test_statistics_are_the_mean_of_those_of_the_micro_batches():
  found = {}
  for size in (None, 2):
    config = tiny('sgd', micro_batch=size)
    config.model = {'name': 'resnet', 'widths': (2,), 'blocks': (0,)}
    step = Step(config, make_dataset())
    model = step.model(seed=0)
    state = step.init(model.params, model.statistics, 0)
    images = np.random.default_rng(0).normal(size=(4, 8, 8, 1))
    batch = {
      'image': images.astype(np.float32),
      'target': np.eye(10, dtype=np.float32)[:4],
    }
    forward = jax.jit(step.loss_fn(state))
    found[size] = forward(state.params, batch)[1]['statistics']
    if size is None:  # what accumulate calls the micro-batches: 0 2 and 1 3
      parts = [
        forward(state.params, {name: x[k::2] for name, x in batch.items()})
        for k in range(2)
      ]
  parts = [aux['statistics'] for _, aux in parts]
  mean = jax.tree.map(lambda x, y: (x + y) / 2, *parts)
  for one, two in zip(*map(jax.tree.leaves, (found[2], mean)), strict=True):
    np.testing.assert_allclose(one, two, rtol=1e-5)


BAD = {
  'negative rho': (['method', 'rho'], -0.1, 'rho=-0.1'),
  'unknown method': (['method', 'name'], 'arsm', "Did you mean 'arsam'"),
  'unknown model': (['model', 'name'], 'mpl', "Did you mean 'mlp'"),
  'unknown optimizer': (['optimizer', 'name'], 'sgdd', "Did you mean 'sgd'"),
  'unknown schedule': (['optimizer', 'schedule'], 'cos', 'cosine'),
  'negative learning rate': (['optimizer', 'learning_rate'], -1.0, '-1.0'),
  'batch too large': (['batch_size'], 71, 'Use at most 70'),
  'no batch': (['batch_size'], 0, 'batch_size=0'),
  'no epoch': (['epochs'], 0, 'epochs=0'),
  'negative seed': (['seed'], -1, 'seed=-1'),
  'seed beyond 32 bits': (['seed'], 2**32, 'from 0 to 4294967295'),
  'label smoothing': (['label_smoothing'], 1.0, 'label_smoothing=1.0'),
  'unknown fill': (['augment', 'fill'], 'zeros', 'zero'),
  'no micro-batch': (['micro_batch'], 0, 'micro_batch=0'),
  'unknown dtype': (['dtype'], 'float16', "'bfloat16'"),
  'unknown branch': (['branch'], 'cpu', 'host'),
  'missing data': (['data', 'name'], '/no/such/file.npz', '/no/such/file.npz'),
  'unknown data': (['data', 'name'], 'cifar11', 'cifar'),
}


@pytest.mark.parametrize('name', BAD)
def test_a_bad_config_fails_before_anything_is_written(name, npz, tmp_path):
  keys, value, expected = BAD[name]
  config = tiny(data={'name': npz, 'dir': str(tmp_path / 'tfds')})
  section = config
  for key in keys[:-1]:
    section = section[key]
  section[keys[-1]] = value
  folder = tmp_path / 'run'
  with pytest.raises((train_config.ConfigError, DataError)) as error:
    run.run(config, folder)
  assert expected in str(error.value)
  # Given, why not, what would work.
  assert len(re.findall(r'[.:] ', str(error.value))) >= 2
  assert not folder.exists()


def test_a_table_smaller_than_the_data_set_is_refused(npz, tmp_path):
  config = tiny(data={'name': npz, 'dir': None})
  config.method = train_config.method('ausam', num_examples=69)
  with pytest.raises(train_config.ConfigError, match='70 examples'):
    run.run(config, tmp_path / 'run')
  config.method.num_examples = 70
  run.run(config, tmp_path / 'run')


def test_an_argument_that_the_method_lacks_is_refused():
  with pytest.raises(train_config.ConfigError, match="Did you mean 'decay'"):
    train_config.method('fsam', decai=0.5)


def test_a_folder_with_a_run_is_left_alone(npz, tmp_path):
  config = tiny(data={'name': npz, 'dir': None})
  folder = tmp_path / 'run'
  run.run(config, folder)
  before = (folder / 'metrics.jsonl').read_bytes()
  with pytest.raises(train_config.ConfigError, match='already holds a run'):
    run.run(config, folder)
  assert (folder / 'metrics.jsonl').read_bytes() == before


def test_a_loss_that_is_no_number_stops_the_run():
  config = tiny()
  config.optimizer.learning_rate = 1e30
  config.optimizer.momentum = 0.0
  with pytest.raises(NotFinite, match='Lower'):
    loop.Program(config, make_dataset()).run(seed=0)
  # Before a second step could show it in the training loss.
  config.steps = 1
  with pytest.raises(NotFinite, match='test loss is .* at step 1'):
    loop.Program(config, make_dataset()).run(seed=0)


def test_the_steps_before_a_loss_that_is_no_number_are_logged(tmp_path):
  losses = [1.0, 2.0, np.nan, 3.0]
  with Log(tmp_path) as log:
    records = Records(log, batch_size=1, seconds=lambda: 1.0, logged=4)
    for loss in losses:
      records.add({'loss': jnp.asarray(loss)})
    with pytest.raises(NotFinite, match='nan at step 7'):
      records.flush()
  lines = (tmp_path / 'metrics.jsonl').read_text().splitlines()
  assert [json.loads(line) for line in lines] == [
    {'step': 5, 'loss': 1.0},
    {'step': 6, 'loss': 2.0},
  ]


def test_the_bar_says_that_it_compiles_until_the_first_step(capsys):
  program = loop.Program(tiny('sgd'), make_dataset())
  shown = []
  for seed in range(2):
    with Log(None, 12) as log:
      program.run(seed, log)
    shown.append(capsys.readouterr().err.split('\r'))
  first, second = shown
  waiting = [i for i, bar in enumerate(first) if 'compiling' in bar]
  assert waiting
  after = first[waiting[-1] + 1]
  assert ' 0/12 ' in first[waiting[-1]] and ' 0/12 ' in after
  assert not any('compiling' in bar for bar in second)  # it is done by then


def run_command(*arguments, module='train'):
  return subprocess.run(
    [sys.executable, '-m', module, *arguments],
    cwd=ROOT,
    capture_output=True,
    text=True,
    timeout=300,
  )


@pytest.mark.parametrize(
  ('arguments', 'expected'),
  [
    (['--config.method.rhoo=1'], 'Did you mean "rho"'),
    (['--config.optimizr.clip=1'], 'Did you mean "optimizer"'),
    (['--config.method.segment=0'], 'Given segment=0'),
    (['--config=tests/tiny_config.py:arsm'], "Did you mean 'arsam'"),
  ],
)
def test_the_command_says_what_is_wrong_and_fails(
  arguments, expected, npz, tmp_path
):
  folder = tmp_path / 'run'
  done = run_command(
    '--config=tests/tiny_config.py:arsam',
    f'--config.data.name={npz}',
    '--config.batch_size=8',
    f'--workdir={folder}',
    *arguments,
  )
  assert done.returncode == 1
  assert 'Traceback' not in done.stderr
  assert done.stderr.strip().startswith('error: ')
  assert expected in done.stderr
  assert not folder.exists()


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
