"""What the papers' recipes add to a step, each against NumPy or by hand."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import tiny_config
from train import config as train_config
from train import tasks
from train.augment import mixup, pipeline
from train.data import memory
from train.engine import feed, loop
from train.engine.step import Step
from train.tasks import label_noise, losses

CLASSES = 4


# Optax's schedules divide an integer by a number.
pytestmark = pytest.mark.usefixtures('standard_promotion')


def make_dataset(channels=1):
  rng = np.random.default_rng(0)

  def split(size):
    images = rng.integers(0, 256, (size, 4, 4, channels)).astype(np.uint8)
    return images, rng.integers(0, CLASSES, size).astype(np.int32)

  return memory.labelled(*split(24), *split(10), CLASSES)


def make_config(changes=()):
  config = tiny_config.get_config('sgd')
  config.model = {'name': 'mlp', 'hidden': (3,)}
  config.update({'batch_size': 8, 'steps': 6})
  for key, value in dict(changes).items():
    *sections, name = key.split('.')
    section = config
    for part in sections:
      section = section[part]
    section[name] = value
  return config


# Targets and losses


@pytest.mark.parametrize(
  ('over', 'true', 'wrong'),
  [
    ('all', 0.8 + 0.2 / 4, 0.2 / 4),
    ('wrong', 0.8, 0.2 / 3),
    ('each', 1.0, 0.2),
  ],
)
def test_smoothing_by_hand(over, true, wrong):
  expected = np.full((CLASSES, CLASSES), wrong)
  np.fill_diagonal(expected, true)
  smoothed = losses.smooth(jnp.eye(CLASSES), 0.2, over)
  np.testing.assert_allclose(smoothed, expected, rtol=1e-6)
  # Of a blend of targets, the blend of the smoothed ones.
  blend = np.array([[0.7, 0.3, 0.0, 0.0]], np.float32)
  expected = 0.7 * expected[:1] + 0.3 * expected[1:2]
  np.testing.assert_allclose(
    losses.smooth(jnp.asarray(blend), 0.2, over), expected, rtol=1e-6
  )


def test_losses_are_those_of_numpy():
  rng = np.random.default_rng(0)
  logits = rng.normal(size=(5, CLASSES)).astype(np.float32)
  targets = rng.dirichlet(np.ones(CLASSES), 5).astype(np.float32)
  yes = 1 / (1 + np.exp(-logits))
  expected = -(targets * np.log(yes) + (1 - targets) * np.log(1 - yes)).sum(1)
  found = losses.LOSSES['sigmoid'](jnp.asarray(logits), jnp.asarray(targets))
  np.testing.assert_allclose(found, expected, rtol=1e-5)
  share = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
  expected = -(targets * np.log(share)).sum(1)
  found = losses.LOSSES['softmax'](jnp.asarray(logits), jnp.asarray(targets))
  np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_step_takes_the_loss_and_the_smoothing_of_the_config():
  changes = {
    'loss': 'sigmoid',
    'label_smoothing': 0.1,
    'smoothing_over': 'each',
  }
  task = Step(make_config(changes), make_dataset()).task
  rows = {
    'image': jnp.zeros((1, 4, 4, 1), jnp.uint8),
    'label': jnp.array([1]),
    'id': jnp.array([0]),
  }
  batch = jax.jit(task.prepare)(jax.random.key(0), rows)
  logits = jnp.array([[1.0, -2.0, 0.5, 0.0]])
  soft = jnp.array([[0.1, 1.0, 0.1, 0.1]])
  np.testing.assert_allclose(
    task.losses(logits, batch),
    losses.sigmoid_cross_entropy(logits, soft),
    rtol=1e-6,
  )
  # In the test the labels are what they are.
  hard = task.prepare(None, rows)['target']
  np.testing.assert_array_equal(hard, [[0.0, 1.0, 0.0, 0.0]])


# Label noise


noisy = jax.jit(
  label_noise.noisy, static_argnames=('num_classes', 'share', 'over')
)


def noise(labels, ids, share=0.4, seed=0, over='all'):
  options = {'num_classes': CLASSES, 'share': share, 'over': over}
  found = noisy(labels, ids, seed=seed, **options)
  return np.asarray(found)


@pytest.mark.parametrize(('over', 'wrong'), [('all', 0.3), ('wrong', 0.4)])
def test_label_noise_is_uniform_over_its_classes(over, wrong):
  ids = np.arange(4000, dtype=np.int32)
  labels = np.full(4000, 2, np.int32)
  found = noise(labels, ids, over=over)
  shares = np.bincount(found, minlength=CLASSES) / 4000
  # Deviations below 0.008 for the share, 0.005 for one class.
  assert shares[2] == pytest.approx(1 - wrong, abs=0.03)
  for other in (0, 1, 3):
    assert shares[other] == pytest.approx(wrong / 3, abs=0.02)
  # All wrong, and all drawn anew.
  full_batch = noise(labels, ids, share=1.0, over=over)
  kept = 0.25 if over == 'all' else 0.0
  assert np.mean(full_batch == 2) == pytest.approx(kept, abs=0.03)


@pytest.mark.parametrize(('over', 'wrong'), [('all', 0.3), ('wrong', 0.4)])
def test_the_number_of_replaced_labels_is_exact_or_random(over, wrong):
  ids = np.arange(4000, dtype=np.int32)
  labels = ids % CLASSES
  replaced = label_noise.exactly(4000, 0.4, seed=5)
  assert replaced.sum() == 1600
  options = {'num_classes': CLASSES, 'share': 0.4, 'seed': 5, 'over': over}
  exact = np.asarray(noisy(labels, ids, replaced=replaced, **options))
  changed = exact != labels
  assert not np.any(changed & ~replaced)
  # Those of the released code of F-SAM may be drawn the true class again.
  expected = 1600 if over == 'wrong' else pytest.approx(1200, abs=90)
  assert changed.sum() == expected
  random = np.asarray(noisy(labels, ids, **options))
  assert (random != labels).sum() == pytest.approx(4000 * wrong, abs=125)
  assert (random != labels).sum() != changed.sum()
  # Another seed chooses others; the batch does not matter.
  assert np.any(label_noise.exactly(4000, 0.4) != replaced)
  part = noisy(labels[70:90], ids[70:90], replaced=replaced, **options)
  np.testing.assert_array_equal(part, exact[70:90])


def test_a_config_has_either_number_of_wrong_labels():
  dataset = make_dataset()
  changes = {'data.label_noise': 0.5, 'data.noise_over': 'wrong'}
  ids = np.arange(24, dtype=np.int32)
  rows = {name: x[ids] for name, x in dataset.train.items()} | {'id': ids}
  counts = set()
  for seed in range(5):
    for count in ('random', 'exact'):
      config = make_config(
        {**changes, 'data.noise_seed': seed, 'data.noise_count': count}
      )
      task = tasks.create(config, dataset)
      found = task.prepare(jax.random.key(0), rows)['target']
      wrong = np.argmax(found, axis=-1) != rows['label']
      counts.add((count, int(wrong.sum())))
  assert {number for count, number in counts if count == 'exact'} == {12}
  assert len(counts) > 2  # and of the others, several


def test_an_example_has_one_noisy_label():
  labels = np.arange(4000, dtype=np.int32) % CLASSES
  ids = np.arange(4000, dtype=np.int32)
  found = noise(labels, ids)
  order = np.random.default_rng(0).permutation(4000).astype(np.int32)
  np.testing.assert_array_equal(noise(labels[order], order), found[order])
  assert np.any(noise(labels, ids, seed=1) != found)
  np.testing.assert_array_equal(noise(labels, ids, share=0.0), labels)


def test_noise_is_of_the_data_and_never_in_the_test():
  dataset = make_dataset()
  changes = {'data.label_noise': 0.7, 'data.noise_seed': 3}
  noised, clean = (
    loop.Program(make_config(changes), dataset) for changes in (changes, {})
  )
  ids = np.arange(24, dtype=np.int32)[::-1]
  labels = dataset.train['label'][ids]
  batch = feed.Batch(ids, noised.feed.full_set)
  rows = batch.rows(ids)
  examples = jax.jit(lambda state: noised.step.prepare(state, rows)['target'])
  targets = [examples(noised.init(seed)) for seed in (0, 1)]
  expected = noise(labels, ids, share=0.7, seed=3)
  assert np.any(expected != labels)
  for found in targets:
    np.testing.assert_array_equal(np.argmax(found, axis=-1), expected)
  assert noised.test(noised.init(0)) == clean.test(clean.init(0))


# The base optimizer


PARAMS = {'kernel': jnp.array([[3.0, 4.0]]), 'bias': jnp.array([2.0])}
GRADS = {'kernel': jnp.array([[0.0, 6.0]]), 'bias': jnp.array([8.0])}


@pytest.mark.parametrize('name', ['sgd', 'adamw'])
@pytest.mark.parametrize('decayed', ['all', 'kernels'])
def test_weight_decay_has_a_mask(name, decayed):
  changes = {
    'optimizer.name': name,
    'optimizer.decayed': decayed,
    'optimizer.weight_decay': 0.1,
    'optimizer.learning_rate': 0.5,
  }
  optimizer = train_config.build_optimizer(make_config(changes), 10)
  zeros = jax.tree.map(jnp.zeros_like, PARAMS)
  updates, _ = optimizer.update(zeros, optimizer.init(PARAMS), PARAMS)
  np.testing.assert_allclose(updates['kernel'], [[-0.15, -0.2]], rtol=1e-6)
  expected = [-0.1] if decayed == 'all' else [0.0]
  np.testing.assert_allclose(updates['bias'], expected, rtol=1e-6)


def test_the_gradient_is_clipped_before_the_weight_decay():
  changes = {
    'optimizer.clip': 5.0,  # the norm of the gradient is 10
    'optimizer.weight_decay': 0.1,
    'optimizer.learning_rate': 1.0,
  }
  optimizer = train_config.build_optimizer(make_config(changes), 10)
  updates, _ = optimizer.update(GRADS, optimizer.init(PARAMS), PARAMS)
  np.testing.assert_allclose(updates['kernel'], [[-0.3, -3.4]], rtol=1e-6)
  np.testing.assert_allclose(updates['bias'], [-4.2], rtol=1e-6)


@pytest.mark.parametrize(
  ('options', 'expected'),
  [
    ({'schedule': 'linear'}, [2.0, 1.8, 1.0, 0.0, 0.0]),
    ({'schedule': 'linear', 'end': 0.1}, [2.0, 1.82, 1.1, 0.2, 0.2]),
    ({'schedule': 'cosine', 'end': 0.5}, [2.0, None, 1.5, 1.0, 1.0]),
    ({'schedule': 'drops'}, [2.0, 2.0, 0.4, 0.016, 0.016]),
    (
      {'schedule': 'drops', 'drop_at': (0.1, 0.5), 'drop': 0.1},
      [2.0, 0.2, 0.02, 0.02, 0.02],
    ),
    ({'schedule': 'constant'}, [2.0] * 5),
  ],
)
@pytest.mark.parametrize('warmup', [0, 4])
def test_schedules_by_hand(options, expected, warmup):
  config = make_config({f'optimizer.{k}': v for k, v in options.items()})
  config.optimizer.learning_rate = 2.0
  config.optimizer.warmup_steps = warmup
  rate = train_config.build_schedule(config, 20 + warmup)
  for step, value in zip((0, 2, 10, 20, 30), expected, strict=True):
    if value is not None:
      assert rate(step + warmup) == pytest.approx(value, rel=1e-5, abs=1e-7)
  if warmup:
    assert rate(1) == pytest.approx(0.5)


# In the step


def test_the_average_of_the_weights_is_what_is_tested():
  dataset = make_dataset()
  # With statistics of BatchNorm, which are averaged likewise.
  network = {'name': 'resnet', 'widths': (2,), 'blocks': (0,)}
  changes = {'model': network, 'optimizer.learning_rate': 1.0}
  program = loop.Program(make_config({**changes, 'ema_decay': 0.75}), dataset)
  state, order = program.start_epoch(program.init(0), 0, 0)
  raw = lambda state: (state.params, state.statistics)
  expected = jax.tree.map(np.array, raw(state))
  for ids in order[:2]:
    state, _ = program.train_step(state, ids)
    expected = jax.tree.map(
      lambda e, p: 0.75 * e + 0.25 * np.array(p), expected, raw(state)
    )
  for found, leaf in zip(
    *map(jax.tree.leaves, (state.average, expected)), strict=True
  ):
    np.testing.assert_allclose(found, leaf, rtol=1e-5, atol=1e-7)
  # The same training, and the average in the place of its parameters.
  plain = loop.Program(make_config(changes), dataset)
  other, _ = plain.start_epoch(plain.init(0), 0, 0)
  for ids in order[:2]:
    other, _ = plain.train_step(other, ids)
  for pair in zip(*map(jax.tree.leaves, map(raw, (state, other))), strict=True):
    np.testing.assert_array_equal(*pair)
  params, statistics = expected
  averaged = plain.test(other._replace(params=params, statistics=statistics))
  averaged = averaged['loss']
  assert program.test(state)['loss'] == pytest.approx(averaged, rel=1e-5)
  for part in (other, other._replace(params=params)):
    assert plain.test(part)['loss'] != pytest.approx(averaged, rel=1e-4)


def test_mixup_blends_what_a_step_sees():
  dataset = make_dataset()
  ids = np.arange(8, dtype=np.int32)
  mixed, plain = (
    Step(make_config({'augment.mixup': alpha}), dataset) for alpha in (0.4, 0.0)
  )
  program = loop.Program(make_config(), dataset, plain)
  state = program.init(0)
  rows = feed.Batch(ids, program.feed.full_set).rows(ids)

  @jax.jit
  def draw(state):
    pair = lambda step: tuple(step.prepare(state, rows).values())
    key = jax.random.fold_in(jax.random.fold_in(state.key, state.step), 5)
    expected = mixup.mixup(key, *pair(plain), 0.4)
    return pair(plain)[1], expected, pair(mixed)

  targets, expected, found = draw(state)
  for pair in zip(found, expected, strict=True):
    np.testing.assert_allclose(*pair, rtol=1e-5, atol=1e-6)
  assert np.all(np.sum(targets * found[1], axis=-1) >= 0.5)
  assert np.any(np.sum(targets * found[1], axis=-1) < 1)


def test_published_constants_take_the_place_of_the_statistics():
  dataset = make_dataset(channels=3)
  constants = {
    'augment.mean': (0.4914, 0.4822, 0.4465),
    'augment.std': (0.247, 0.2435, 0.2616),
  }
  images = dataset.test['image']
  normalised = lambda changes: Step(make_config(changes), dataset).task.prepare(
    None, {'image': images, 'label': dataset.test['label']}
  )['image']
  for found, (mean, std) in (
    (normalised(constants), constants.values()),
    (normalised({}), pipeline.statistics(dataset.train['image'])),
  ):
    expected = (images / np.float32(255) - np.float32(mean)) / np.float32(std)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


BAD = [
  ({'loss': 'sigmiod'}, "Did you mean 'sigmoid'"),
  ({'smoothing_over': 'al'}, "Did you mean 'all'"),
  ({'smoothing_over': 'each'}, "loss='sigmoid'"),
  ({'data.label_noise': 1.5}, 'data.label_noise=1.5'),
  ({'data.noise_count': 'some'}, 'random, exact'),
  ({'data.noise_over': 'some'}, 'all, wrong'),
  ({'data.noise_seed': -1}, 'data.noise_seed=-1'),
  ({'reference.batch_size': 25}, 'Use at most 24'),
  (
    {'reference.batch_size': 7, 'reference.contains_batch': True},
    'A batch has 8',
  ),
  ({'ema_decay': 1.0}, 'below 1'),
  ({'optimizer.clip': 0.0}, 'above 0'),
  ({'optimizer.decayed': 'kernel'}, "Did you mean 'kernels'"),
  ({'optimizer.end': 2.0}, 'from 0 to 1'),
  ({'optimizer.schedule': 'drops', 'optimizer.drop_at': (30,)}, 'drop_at=30'),
  ({'optimizer.schedule': 'drops', 'optimizer.drop': -1.0}, 'drop=-1.0'),
  ({'augment.mixup': -1.0}, 'Use 0 or more'),
  ({'augment.randaugment_layers': -1}, 'Give 0 or more'),
  ({'augment.mean': (0.5,)}, 'leave out both'),
  ({'augment.mean': (125.0,), 'augment.std': (60.0,)}, 'Divide'),
  ({'augment.mean': (0.5, 0.5), 'augment.std': (0.5, 0.5)}, '1 channels'),
  ({'augment.mean': (0.5,), 'augment.std': (0.0,)}, 'Divide'),
]


@pytest.mark.parametrize(('changes', 'message'), BAD)
def test_a_recipe_that_cannot_work_is_refused(changes, message):
  with pytest.raises(train_config.ConfigError, match=message) as error:
    Step(make_config(changes), make_dataset())
  # Given, why not, what would work.
  assert len(re.findall(r'[.:] ', str(error.value))) >= 2
