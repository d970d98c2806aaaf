"""What a run leaves of its model, and what it says of images."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
from PIL import Image

from tests.test_tasks import brightness
from tests.tiny_runs import ROOT, make_dataset, npz_file, tiny  # noqa: F401
from train import predict, run, tasks
from train.checks import ConfigError, DataError
from train.engine import export

CLASSES = ('ant', 'bee', 'cow')
RESNET = {'name': 'resnet', 'widths': (2,), 'blocks': (0,)}
VIT = {'name': 'vit', 'patch': 4, 'width': 8, 'depth': 1, 'heads': 2}


# Optax's cosine schedule divides an integer by a number.
pytestmark = pytest.mark.usefixtures('standard_promotion')


def trained(folder, name, **changes):
  """A finished run, and its result as its file has it."""
  config = tiny('sgd', steps=12)
  config.data.name = str(name)
  config.optimizer.learning_rate = 0.02
  for key, value in changes.items():
    config[key] = value
  run.run(config, folder, bar=False)
  return json.loads((folder / 'result.json').read_text())


def scores(predictor, test):
  """The loss and the accuracy over a test set, from the probabilities."""
  outputs, probabilities = predictor(test['image'])
  labels = test['label']
  loss = -np.log(probabilities[np.arange(len(labels)), labels]).mean()
  return loss, np.mean(outputs.argmax(axis=-1) == labels)


@pytest.mark.parametrize(
  'changes',
  [
    pytest.param({'model': RESNET}, id='batch_norm'),
    pytest.param({'model': RESNET, 'ema_decay': 0.9}, id='averaged'),
    # Of which an average takes the last.
    pytest.param(
      {'model': {**VIT, 'dropout': 0.1}, 'ema_decay': 0.9}, id='random_streams'
    ),
    pytest.param({'parallel': 'pmap', 'mesh': None}, id='pmap'),
    pytest.param({'parallel': 'jit', 'mesh': (2, 2)}, id='split_parameters'),
  ],
)
def test_predictions_are_those_of_the_last_test(changes, npz, tmp_path):
  result = trained(tmp_path / 'run', npz, **changes)
  predictor = predict.load(tmp_path / 'run')
  loss, accuracy = scores(predictor, make_dataset().test)
  assert accuracy == result['test_accuracy']
  # Which the parameters, the statistics and the constants all change.
  assert loss == pytest.approx(result['test_loss'], rel=1e-5)
  facts = json.loads((tmp_path / 'run' / 'model' / 'model.json').read_text())
  assert facts['averaged'] == ('ema_decay' in changes)
  assert predictor.class_names == tuple('0123456789')


def test_averaged_parameters_are_what_is_kept(npz, tmp_path):
  for decay in (0.0, 0.9):
    trained(tmp_path / str(decay), npz, ema_decay=decay)
  last, averaged = (
    export.read(tmp_path / decay).arrays for decay in ('0.0', '0.9')
  )
  assert last.keys() == averaged.keys()
  assert any(np.any(last[name] != averaged[name]) for name in last)


def test_any_number_of_images(npz, tmp_path, monkeypatch):
  trained(tmp_path / 'run', npz, test_batch_size=200)
  predictor = predict.load(tmp_path / 'run' / 'model')  # the folder by itself
  sizes, call = [], predictor._call

  def counted(function, rows, *more):
    sizes.append(len(rows['image']))
    return call(function, rows, *more)

  monkeypatch.setattr(predictor, '_call', counted)
  images = make_dataset(test=530).test['image']
  whole = predictor(images)
  assert whole.outputs.shape == whole.probabilities.shape == (530, 10)
  # As many as in a batch of its test, for whose memory there was room.
  assert sizes == [200, 200, 200]
  np.testing.assert_allclose(whole.probabilities.sum(axis=-1), 1, rtol=1e-5)
  for some in (slice(1), slice(3), slice(199, 202)):
    np.testing.assert_allclose(
      predictor(images[some]).outputs, whole.outputs[some], rtol=1e-4, atol=1e-5
    )


def test_the_same_run_leaves_the_same_model(npz, tmp_path):
  folder = tmp_path / 'run'
  trained(folder, npz, checkpoint={'every': 5, 'keep': 1})
  files = [folder / 'model' / name for name in (export.ARRAYS, export.FACTS)]
  before = [file.read_bytes() for file in files]
  # Killed after the last checkpoint: the end is made up for.
  (folder / 'result.json').unlink()
  shutil.rmtree(folder / 'model')
  trained(folder, npz, checkpoint={'every': 5, 'keep': 1})
  assert [file.read_bytes() for file in files] == before
  assert sorted(path.name for path in (folder / 'model').iterdir()) == [
    export.FACTS,
    export.ARRAYS,
  ]


@pytest.fixture(scope='module')
def pictures(tmp_path_factory):
  """A run on a folder of images, whose test images alone are left of it.

  What the run was given and its checkpoints are gone.
  """
  top = tmp_path_factory.mktemp('pictures')
  generator = np.random.default_rng(0)
  for split, count in (('train', 12), ('test', 5)):
    for number, name in enumerate(CLASSES):
      inside = top / 'data' / split / name
      inside.mkdir(parents=True)
      for index in range(count):
        pixels = generator.integers(0, 40, (8, 8, 3)) + 60 * number
        image = Image.fromarray(pixels.astype(np.uint8))
        image.save(inside / f'{index}.png')
  with jax.numpy_dtype_promotion('standard'):
    result = trained(top / 'run', top / 'data', steps=30)
  shutil.move(top / 'data' / 'test', top / 'images')
  shutil.rmtree(top / 'data')
  shutil.move(top / 'run' / 'model', top / 'kept')
  shutil.rmtree(top / 'run')
  return top, result


def test_the_command_needs_neither_data_nor_checkpoints(pictures):
  top, result = pictures
  ended = subprocess.run(
    [
      sys.executable,
      *('-m', 'train.predict', '--workdir=kept', '--top=2', 'images'),
    ],
    cwd=top,
    env={**os.environ, 'PYTHONPATH': str(ROOT)},
    capture_output=True,
    text=True,
  )
  assert ended.returncode == 0, ended.stderr
  lines = [json.loads(line) for line in ended.stdout.splitlines()]
  files = sorted((top / 'images').rglob('*.png'))
  assert [line['file'] for line in lines] == [
    str(file.relative_to(top)) for file in files
  ]
  right = [pathlib.Path(x['file']).parent.name == x['class'] for x in lines]
  assert np.mean(right) == result['test_accuracy'] > 0.4
  predictor = predict.load(top / 'kept')
  assert predictor.class_names == CLASSES
  images = np.stack([predictor.read(file) for file in files])
  probabilities = predictor(images).probabilities
  for line, row in zip(lines, probabilities, strict=True):
    best, second = np.argsort(-row)[:2]
    assert CLASSES[line['label']] == line['class'] == CLASSES[best]
    assert list(line['probabilities']) == [CLASSES[best], CLASSES[second]]
    assert line['probability'] == pytest.approx(row[best], abs=1e-6)


def test_images_of_another_shape_are_cut_and_resized_if_asked(pictures):
  top, _ = pictures
  predictor = predict.load(top / 'kept')
  columns = np.arange(24, dtype=np.uint8) * 10
  Image.fromarray(np.tile(columns, (16, 1))).save(top / 'wide.png')
  # The middle 16 columns, each two of which become one, and three channels.
  read = predictor.read(top / 'wide.png', resize=True)
  assert read.shape == (8, 8, 3)
  expected = columns[4:20].reshape(8, 2).mean(axis=1)
  np.testing.assert_allclose(read[0, :, 0], expected, atol=8)
  assert np.all(read == read[:1, :, :1])


def test_images_are_resized_as_the_run_did(pictures, tmp_path):
  top, _ = pictures
  for split in ('train', 'test'):
    shutil.copytree(top / 'images', tmp_path / 'data' / split)
  data = tiny().data
  data.name, data.size = str(tmp_path / 'data'), 4
  result = trained(tmp_path / 'run', data.name, data=data)
  predictor = predict.load(tmp_path / 'run')
  assert predictor.image_shape == (4, 4, 3)
  files = predict.find([str(top / 'images')])
  lines = list(predict.lines(predictor, files))
  right = [pathlib.Path(x['file']).parent.name == x['class'] for x in lines]
  assert np.mean(right) == result['test_accuracy']


REFUSED = {
  'no images': (['--workdir=kept'], 'Given no images'),
  'no such run': (['--workdir=no', 'images'], 'There is no such folder'),
  'no model': (['--workdir=images', 'images'], 'holds no model/model.json'),
  'an empty run': (['--workdir=empty', 'images'], 'holds no model/model.json'),
  'a file': (['--workdir=text.png', 'images'], 'There is no such folder'),
  'no folder': (['--workdir=', 'images'], 'names no folder'),
}
BAD_FILES = {
  'no.png': 'no such file or folder',
  'empty': 'a folder without .png',
  'text.png': 'not a whole image',
  'nothing.png': 'not a whole image',
  'half.png': 'not a whole image',
  'large.png': '--resize',
  'grey.png': '--resize',
  'deep.png': 'only images of 8 bits',
  'gone.png': 'not a whole image',
}


@pytest.fixture
def bad_files(pictures, monkeypatch):
  """Goes to a folder of files that are no images of the model."""
  monkeypatch.chdir(pictures[0])
  pathlib.Path('empty').mkdir(exist_ok=True)
  pathlib.Path('text.png').write_text('no image')
  pathlib.Path('nothing.png').write_bytes(b'')
  Image.fromarray(np.zeros((9, 8, 3), np.uint8)).save('large.png')
  Image.fromarray(np.zeros((8, 8), np.uint8)).save('grey.png')
  Image.fromarray(np.zeros((8, 8), np.uint16)).save('deep.png')
  noise = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
  Image.fromarray(noise).save('half.png')
  content = pathlib.Path('half.png').read_bytes()
  pathlib.Path('half.png').write_bytes(content[: len(content) // 2])
  if not os.path.lexists('gone.png'):
    pathlib.Path('gone.png').symlink_to('nowhere')


@pytest.mark.parametrize('case', REFUSED)
def test_what_cannot_be_predicted_is_refused(case, bad_files, capsys):
  arguments, expected = REFUSED[case]
  assert predict.main(arguments) == 1
  said, error = capsys.readouterr()
  assert said == ''
  assert error.startswith('error: ') and expected in error
  # Given, why not, what would work; in one line.
  assert error.count('. ') >= 2 and error.count('\n') == 1


def test_a_bad_file_is_reported_and_the_others_continue(bad_files, capsys):
  good = predict.find(['images'])
  given = [good[0]]
  for name in BAD_FILES:
    given += [name, good[1]]
  assert predict.main(['--workdir=kept', *given]) == 1
  said, error = capsys.readouterr()
  lines = [json.loads(line) for line in said.splitlines()]
  assert [line['file'] for line in lines] == given
  for line in lines:
    name = line['file']
    if name in BAD_FILES:
      assert set(line) == {'file', 'error'}
      assert BAD_FILES[name] in line['error'] and name in line['error']
      assert line['error'].count('. ') >= 2
    else:  # as if it were alone
      assert [line] == [x for x in lines[:3] if x['file'] == name][:1]
  wrong = [f'error: {x["error"]}' for x in lines if 'error' in x]
  assert error.splitlines() == wrong
  assert predict.main(['--workdir=kept', good[0]]) == 0
  assert json.loads(capsys.readouterr().out) == lines[0]


def test_a_name_that_is_no_text_is_shown(bad_files, capsys):
  name = 'no\udcff.png'
  assert predict.main(['--workdir=kept', name]) == 1
  assert json.loads(capsys.readouterr().out)['file'] == name


def cut(folder):
  path = folder / export.ARRAYS
  path.write_bytes(path.read_bytes()[:-9])


def flip(folder):
  content = bytearray((folder / export.ARRAYS).read_bytes())
  content[-5] ^= 4
  (folder / export.ARRAYS).write_bytes(content)


def half(folder):
  path = folder / export.FACTS
  path.write_text(path.read_text()[:200])


def bare(folder):
  (folder / export.FACTS).write_text('{}')


def a_list(folder):
  (folder / export.FACTS).write_text('[]')


def without_arrays(folder):
  (folder / export.ARRAYS).unlink()


def of_another_network(folder):
  facts = json.loads((folder / export.FACTS).read_text())
  facts['config']['model']['hidden'] = [3]
  (folder / export.FACTS).write_text(json.dumps(facts))


DAMAGES = (cut, flip, half, bare, a_list, without_arrays, of_another_network)


@pytest.mark.parametrize('damage', DAMAGES, ids=lambda x: x.__name__)
def test_a_damaged_model_is_refused(damage, pictures, tmp_path):
  shutil.copytree(pictures[0] / 'kept', tmp_path / 'model')
  damage(tmp_path / 'model')
  with pytest.raises(DataError, match='Cannot use the model') as error:
    predict.load(tmp_path)
  assert str(error.value).count('. ') >= 2


@pytest.mark.parametrize(
  ('images', 'expected'),
  [
    (np.zeros((2, 8, 8, 3), np.float32), 'float32'),
    (np.zeros((8, 8, 3), np.uint8), r'\(8, 8, 3\)'),
    (np.zeros((2, 8, 8, 1), np.uint8), r'\(2, 8, 8, 1\)'),
    (np.zeros((0, 8, 8, 3), np.uint8), '0 images'),
  ],
)
def test_arrays_of_another_kind_are_refused(images, expected, pictures):
  predictor = predict.load(pictures[0] / 'kept')
  with pytest.raises(DataError, match=expected):
    predictor(images)


def test_sigmoids_are_ordered_by_their_outputs(npz, tmp_path):
  result = trained(tmp_path / 'run', npz, loss='sigmoid')
  predictor = predict.load(tmp_path / 'run')
  outputs, probabilities = predictor(make_dataset().test['image'])
  expected = np.exp(-np.logaddexp(0, -outputs.astype(np.float64)))
  np.testing.assert_allclose(probabilities, expected, rtol=1e-5, atol=1e-30)
  right = outputs.argmax(axis=-1) == make_dataset().test['label']
  assert right.mean() == result['test_accuracy']


def test_a_task_without_classes_gives_its_outputs(
  npz,
  tmp_path,
  monkeypatch,
):
  monkeypatch.setitem(tasks.TASKS, 'brightness', brightness)
  result = trained(tmp_path / 'run', npz, task='brightness')
  predictor = predict.load(tmp_path / 'run')
  images = make_dataset().test['image']
  outputs, probabilities = predictor(images)
  assert probabilities is None
  errors = np.abs(outputs[:, 0] - images.mean(axis=(1, 2, 3)) / 255)
  assert errors.mean() == pytest.approx(result['test_error'], rel=1e-5)
  with pytest.raises(ConfigError, match='no classes'):
    next(predict.lines(predictor, ['any.png']))


def test_a_task_that_tests_on_several_versions_is_refused(pictures):
  predictor = predict.load(pictures[0] / 'kept')
  task = predictor._task

  def twice(key, rows):
    batch = task.prepare(key, rows)
    return {**batch, 'image': batch['image'].repeat(2, axis=0)}

  predictor._task = task._replace(prepare=twice)
  with pytest.raises(ConfigError, match='more than once'):
    predictor(np.zeros((3, 8, 8, 3), np.uint8))


def test_a_task_that_needs_more_than_images_is_refused(
  npz,
  tmp_path,
  monkeypatch,
):
  def placed(config, dataset):
    task = brightness(config, dataset)
    box = tasks.Field((), 'int32', 0, places_image=True)
    return task._replace(fields={**task.fields, 'label': box})

  monkeypatch.setitem(tasks.TASKS, 'brightness', placed)
  trained(tmp_path / 'run', npz, task='brightness')
  with pytest.raises(ConfigError, match='reads label beside') as error:
    predict.load(tmp_path / 'run')
  assert str(error.value).count('. ') >= 2


def test_somebody_elses_model_is_not_overwritten(npz, tmp_path):
  (tmp_path / 'model').mkdir()
  (tmp_path / 'model' / export.ARRAYS).write_text('precious')
  with pytest.raises(ConfigError, match='could be overwritten'):
    trained(tmp_path, npz)
  assert (tmp_path / 'model' / export.ARRAYS).read_text() == 'precious'
