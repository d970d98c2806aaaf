"""Further test sets: digits, corrupted digits, some of their classes."""

import functools
import json
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from configs import published, rsam_table4
from tests import tiny_config
from tests.words import in_three_beats
from train import run, tasks, workdir
from train.checks import ConfigError, DataError
from train.data import builders, classes, digits, tests
from train.data.open import open_set
from train.engine import loop, seen, testing
from train.report import further, results
from train.tasks import Score

SHIFT = {'dim': lambda x: x // 4, 'turned': lambda x: x[:, ::-1]}


pytestmark = pytest.mark.usefixtures('standard_promotion')


def make_config(**sections):
  config = tiny_config.get_config()
  config.data.tests = sections
  config.steps = 60
  config.batch_size = 64
  config.checkpoint.every = 0
  return config


@pytest.fixture(scope='module')
def split():
  return digits.find().test


@pytest.fixture(scope='module')
def folders(tmp_path_factory, split):
  """The test digits as files: as they are, some classes, and corrupted."""
  root = tmp_path_factory.mktemp('sets')

  def write(place, change, wanted=range(10)):
    for number, (pixels, label) in enumerate(
      zip(split.images, split.labels, strict=True)
    ):
      if label in wanted:
        folder = root / place / str(label)
        folder.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(change(pixels[..., 0]))
        image.save(folder / f'{number:04}.png')

  write('same', lambda x: x)
  write('some', lambda x: x, (3, 5, 8))
  for name, change in SHIFT.items():
    for strength in ('1', '2'):
      write(f'corrupted/{name}/{strength}', change)
  return root


@pytest.fixture(scope='module')
def trained(folders):
  """A program with all kinds of sets, and a state after some steps."""
  config = make_config(
    same={'name': str(folders / 'same')},
    some={'name': str(folders / 'some')},
    own={'name': str(folders / 'some'), 'classes': 'own'},
    corrupted={'name': str(folders / 'corrupted')},
  )
  with jax.numpy_dtype_promotion('standard'):
    program = loop.Program(config, open_set(config.data))
    state = program.init(0)
    state, order = program.start_epoch(state, 0, 0)
    *_, (state, _) = program.steps(state, order)
  return program, state


def predict(program, state, images):
  image = program.step.task.prepare(None, {'image': images, 'label': 0})
  outputs, _ = program.step.apply(
    state.params, state.statistics, image['image'], False
  )
  return np.asarray(outputs)


def test_scores_are_those_of_the_images(trained, split):
  program, state = trained
  found = program.further_tests(state)
  logits = lambda change=lambda x: x: predict(
    program, state, np.stack([change(x) for x in split.images])
  )
  right = lambda outputs: outputs.argmax(-1) == split.labels
  # The same set by another way; its loss too.
  assert found['same'] == pytest.approx(program.test(state), abs=1e-6)
  # A set of some classes, whose predictions are free or among them alone.
  mask = np.isin(split.labels, (3, 5, 8))
  expected = right(logits())[mask].mean()
  assert found['some']['accuracy'] == pytest.approx(expected, abs=1e-6)
  among = np.full(10, -np.inf)
  among[[3, 5, 8]] = 0
  restricted = right(logits() + among)[mask].mean()
  assert found['own']['accuracy'] == pytest.approx(restricted, abs=1e-6)
  assert restricted > expected
  # The mean over the parts.
  parts = found['corrupted']['parts']
  assert list(parts) == ['dim/1', 'dim/2', 'turned/1', 'turned/2']
  for name, change in SHIFT.items():
    own = right(logits(change)).mean()
    assert parts[f'{name}/1']['accuracy'] == pytest.approx(own, abs=1e-6)
  mean = np.mean([part['accuracy'] for part in parts.values()])
  assert found['corrupted']['accuracy'] == pytest.approx(mean, abs=1e-9)
  assert len({part['accuracy'] for part in parts.values()}) == 2


def test_any_of_several_labels_counts_and_none_is_left_out(
  trained, folders, split, tmp_path
):
  program, state = trained
  best = predict(program, state, split.images).argmax(-1)
  names = [f'{number:04}.png' for number in range(len(best))]
  # Of each second image the prediction and another; of some nothing.
  several = lambda number: [int(best[number]), int(best[number] + 1) % 10]
  lists = {
    name: several(number)[number % 2 :] if number % 5 else []
    for number, name in enumerate(names)
  }
  path = tmp_path / 'real.json'
  kept = [number for number in range(len(best)) if number % 5]
  expected = np.mean([number % 2 == 0 for number in kept])
  # By the names of the files, and in their order.
  for content in (lists, list(lists.values())):
    path.write_text(json.dumps(content))
    config = make_config(
      real={'name': str(folders / 'same'), 'labels': str(path)}
    )
    (real,) = tests.open_tests(config.data, open_set(config.data))
    assert real.parts[0].size == len(kept)
    with_real = testing.Testing(program.step, program.feed, [real])
    found = with_real.further_scores(state)['real']
    assert found['accuracy'] == pytest.approx(expected, abs=1e-6)


def test_a_name_of_two_images_has_no_labels_of_its_own(tmp_path):
  path = str(tmp_path / 'real.json')
  pathlib.Path(path).write_text('[[0], [1]]')
  facts = {'num_classes': 2}
  with pytest.raises(DataError, match="are called '1.png'") as error:
    classes.read_lists(path, [['cat/1.png', 'dog/1.png']], facts)
  in_three_beats(str(error.value), 'cat/1.png', 'dog/1.png')
  # In two parts, such as two kinds of corruption, it is one image.
  parts = [['fog/1.png', 'fog/2.png'], ['snow/2.png', 'snow/1.png']]
  found = classes.read_lists(path, parts, facts)
  assert found == {'1.png': [0], '2.png': [1]}


def test_an_image_without_a_right_label_does_not_count(trained):
  program, _ = trained
  task = program.step.task
  rows = {
    'image': np.zeros((3, 8, 8, 1), np.uint8),
    'right': np.eye(10, dtype=bool)[:3] & (np.arange(3) > 0)[:, None],
    'possible': np.ones((3, 10), bool),
  }
  logits = jnp.eye(10)[jnp.array([0, 1, 5])]
  sums = task.sums(logits, task.prepare(None, rows), jnp.ones(3))
  assert (float(sums['count']), float(sums['correct'])) == (2, 1)


def test_classes_are_mapped(folders, tmp_path):
  path = tmp_path / 'mapped.json'
  path.write_text(json.dumps({'3': '8', '5': 5, '8': '3'}))
  config = make_config(
    some={'name': str(folders / 'some'), 'mapped': str(path), 'classes': 'own'}
  )
  (found,) = tests.open_tests(config.data, open_set(config.data))
  rows = found.parts[0].rows(np.arange(found.parts[0].size))
  labels = found.parts[0].rows.source.labels  # of 3, 5 and 8
  expected = np.array([8, 5, 3])[labels]
  np.testing.assert_array_equal(rows['right'].argmax(-1), expected)
  assert rows['right'].sum() == len(labels)
  np.testing.assert_array_equal(rows['possible'][0].nonzero()[0], [3, 5, 8])


def test_the_result_has_the_scores(folders, tmp_path, capsys):
  config = make_config(
    corrupted={'name': (str(folders / 'corrupted/dim'), 'digits')}
  )
  config.steps = 2
  result = run.run(config, tmp_path / 'run', bar=False)
  left = json.loads((tmp_path / 'run' / workdir.DATA).read_text())
  assert list(left['tests']) == ['corrupted']
  saved = json.loads((tmp_path / 'run/result.json').read_text())
  assert saved['tests'] == result.further
  assert len(saved['tests']['corrupted']['parts']) == 3
  assert 'test accuracy, corrupted' in run.summary(result, tmp_path)


def changed(path):
  Image.fromarray(np.full((8, 8), 7, np.uint8)).save(path)


def moved(path):
  path.rename(path.parent.parent / '5' / path.name)


def gone(path):
  path.unlink()


@pytest.mark.parametrize(
  'change', [changed, moved, gone], ids=lambda x: x.__name__
)
def test_a_set_that_changed_has_another_digest(change, folders, tmp_path):
  shutil.copytree(folders / 'some', tmp_path / 'some')
  config = make_config(
    same={'name': str(folders / 'same')}, some={'name': str(tmp_path / 'some')}
  )
  dataset = open_set(config.data)
  task = tasks.create(config, dataset)
  see = lambda: seen.see(
    task, dataset, tests.open_tests(config.data, dataset)
  ).record()
  first = see()
  assert list(first['tests']) == ['same', 'some'] and see() == first
  (tmp_path / 'run').mkdir()
  workdir.begin_data(tmp_path / 'run', first)
  (tmp_path / 'run' / 'metrics.jsonl').write_text('{}\n')  # it has begun
  workdir.check_data(tmp_path / 'run', first)
  change(next((tmp_path / 'some' / '3').iterdir()))
  other = see()
  assert other['tests']['same'] == first['tests']['same']
  assert other['digest'] == first['digest']
  with pytest.raises(ConfigError, match='data.tests.some was another') as error:
    workdir.check_data(tmp_path / 'run', other)
  in_three_beats(str(error.value))


def test_how_a_set_is_labelled_is_in_its_digest(folders, tmp_path):
  path = tmp_path / 'mapped.json'
  digests = set()
  for table in ({'3': 3, '5': 5, '8': 8}, {'3': 8, '5': 5, '8': 3}):
    path.write_text(json.dumps(table))
    for chosen in ('all', 'own'):
      section = {'mapped': str(path), 'classes': chosen}
      config = make_config(some={'name': str(folders / 'some'), **section})
      (one,) = tests.open_tests(config.data, open_set(config.data))
      digests.add(one.digest())
  assert len(digests) == 4


def test_a_report_has_the_published_scores_of_the_sets():
  row = functools.partial(published.Row, model='m', method='sam')
  numbers = {
    'm-own-sam': row(accuracy=90.0, dataset='own'),
    'm-other-sgd': row(accuracy=1.0, dataset='other', method='sgd'),
    'm-other-sam': row(accuracy=50.0, dataset='other'),
  }
  names = results.Names({'m-own-sam': 'm-own-sam'}, published=numbers)
  main = Score('accuracy', '%', higher_is_better=True)
  runs = [
    results.SavedRun(
      'm-own-sam',
      '',
      seed,
      pathlib.Path(),
      {},
      {'tests': {'other': {'accuracy': accuracy, 'loss': 1.0}}},
      None,
      main,
    )
    for seed, accuracy in enumerate((0.5, 0.53))
  ]
  assert further.text(runs, names, main).splitlines()[-1] == (
    '| m-own-sam | other | 2 | 51.50 % ± 2.12 | 50.00 % | +1.50 |'
  )
  assert further.text([runs[0]._replace(result={})], names, main) == ''


def test_the_table_of_five_sets_is_published_set_by_set():
  for variant in rsam_table4.VARIANTS:
    config = rsam_table4.get_config(variant)
    for name in config.data.tests:
      number = further.of_set(variant, name, rsam_table4.PUBLISHED)
      assert number is not None and number.dataset == name
      assert variant == published.name(number._replace(dataset='imagenet'))


@pytest.mark.parametrize(
  ('section', 'match'),
  [
    ({}, 'no name'),
    ({'name': 'digits', 'class': 'own'}, "'classes'"),
    ({'name': 'digits', 'classes': 'some'}, 'all, own'),
    ({'name': 'digits', 'classes': 'own'}, 'nothing is left out'),
    ({'name': 'digits', 'labels': 'absent.json'}, 'is no folder'),
    ({'name': 'digits', 'mapped': 'absent.json'}, 'absent.json'),
    ({'name': './absent'}, 'No such path'),
  ],
)
def test_mistakes(section, match):
  config = make_config(one=section)
  with pytest.raises((ConfigError, DataError), match=match):
    tests.open_tests(config.data, open_set(config.data))


def test_a_class_that_is_not_trained_is_refused(folders):
  config = make_config(same={'name': str(folders / 'same')})
  dataset = open_set(config.data)
  facts = {'num_classes': 3, 'class_names': ('a', 'b', 'c')}
  with pytest.raises(DataError, match="class '3' is none of the 3"):
    tests.open_tests(config.data, dataset._replace(facts=facts))


# -- A set of TFDS ------------------------------------------------------------


class Several(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """The test digits with one label, or with any number of them."""

  VERSION = tfds.core.Version('1.0.0')

  def _info(self):
    label = tfds.features.ClassLabel(num_classes=10)
    return tfds.core.DatasetInfo(
      builder=self,
      features=tfds.features.FeaturesDict(
        {
          'image': tfds.features.Image(shape=(8, 8, 1)),
          'label': label,
          'real_label': tfds.features.Sequence(label),
        }
      ),
      disable_shuffling=True,
    )

  def _split_generators(self, dl_manager):
    del dl_manager
    return {
      'validation': self._generate_examples(range(40)),
      'other': self._generate_examples(range(7)),
    }

  def _generate_examples(self, numbers):
    found = digits.find().test
    for number in numbers:
      label = int(found.labels[number])
      # None, the right one, or two others.
      real = [[], [label], [(label + 1) % 10, (label + 2) % 10]][number % 3]
      yield (
        number,
        {
          'image': builders._png(found.images[number, ..., 0]),
          'label': label,
          'real_label': real,
        },
      )


@pytest.fixture(scope='module')
def prepared(tmp_path_factory):
  where = str(tmp_path_factory.mktemp('tfds'))
  tfds.disable_progress_bar()
  builders.prepare(Several(data_dir=where))
  return where


def test_a_set_of_tfds_is_tested_on(trained, prepared, split):
  program, state = trained
  config = make_config(
    one={'name': 'several'},
    real={'name': 'several', 'label': 'real_label'},
    other={'name': 'several', 'split': 'other'},
  )
  config.data.dir = prepared
  opened = tests.open_tests(config.data, open_set(config.data))
  # A set without the split `test` has `validation`.
  sizes = {one.name: one.parts[0].size for one in opened}
  assert sizes == {'one': 40, 'real': 40, 'other': 7}
  found = testing.Testing(program.step, program.feed, opened).further_scores(
    state
  )
  best = predict(program, state, split.images[:40]).argmax(-1)
  right = best == split.labels[:40]
  assert found['one']['accuracy'] == pytest.approx(right.mean(), abs=1e-6)
  assert found['other']['accuracy'] == pytest.approx(right[:7].mean(), abs=1e-6)
  number = np.arange(40)
  ahead = (best - split.labels[:40]) % 10
  real = np.where(number % 3 == 1, right, np.isin(ahead, (1, 2)))
  expected = real[number % 3 > 0].mean()
  assert found['real']['accuracy'] == pytest.approx(expected, abs=1e-6)
  assert expected != pytest.approx(right.mean(), abs=0.05)


@pytest.mark.parametrize(
  ('section', 'match'),
  [
    ({'name': 'several', 'label': 'labels'}, 'lacks labels'),
    ({'name': 'several', 'split': 'test'}, 'lacks test'),
    ({'name': 'severall'}, 'no such data set'),
    ({'name': 'several', 'labels': 'real.json'}, 'go by the names of files'),
  ],
)
def test_mistakes_in_a_set_of_tfds(section, match, prepared):
  config = make_config(one=section)
  config.data.dir = prepared
  with pytest.raises(DataError, match=match):
    tests.open_tests(config.data, open_set(config.data))
