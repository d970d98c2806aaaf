"""Reports: numbers that were worked out by hand, from folders made by hand."""

import json
import shutil
from typing import NamedTuple

import numpy as np
import pytest

from tests import tiny_config
from tests.words import in_three_beats, snapshot
from train import workdir
from train.report import __main__ as command
from train.report import curves, document, results
from train.tasks import Score

MAIN = Score('accuracy', '%', higher_is_better=True)
VERSIONS = {'sam_optax': '0.1.0', 'jax': '1.2', 'optax': '3.4', 'flax': '5.6'}
MODULE = {
  'TABLE': 'Table 1 of nobody.',
  'VARIANTS': ['b', 'a'],
  'PUBLISHED': {'a': (90.5, None), 'b': (80.25, 0.125)},
}


def write_run(folder, accuracy=None, speed=1.0, seed=0, share=0.5, config=None):
  """A run of four steps, unfinished where it has no accuracy."""
  folder.mkdir(parents=True)
  saved = {'seed': seed, **(config or {})}
  (folder / 'config.json').write_text(json.dumps(saved))
  workdir.write_task(folder, 'any', MAIN._asdict())
  lines = []
  for step in (1, 2, 3, 4):
    perturbed = step <= 4 * share
    lines.append(
      {
        'step': step,
        'loss': 2 / step,
        'perturbed': perturbed,
        'sam_fraction': min(1, 4 * share / step),
        'batch_gradients': step + min(step, int(4 * share)),
      }
    )
    if step % 2 == 0:
      lines.append({'step': step, 'test_loss': 1.0, 'test_accuracy': step / 5})
  text = ''.join(json.dumps(line) + '\n' for line in lines)
  (folder / 'metrics.jsonl').write_text(text)
  if accuracy is not None:
    result = {
      'test_accuracy': accuracy,
      'test_loss': 0.0,
      'images_per_second': speed,
      'gradient_evaluations_per_step': 2,
      'batch_gradients_per_step': 1 + share,
      'sam_fraction': share,
      'steps': 4,
      'train_seconds': 1.0,
      'compile_seconds': 1.0,
      'device': 'abacus',
      **VERSIONS,
    }
    (folder / 'result.json').write_text(json.dumps(result))


@pytest.fixture
def folder(tmp_path):
  """Three runs of one variant, and of another: one, one begun, one failed."""
  for seed, (accuracy, speed) in enumerate(
    [(0.9, 100.0), (0.8, 300.0), (0.7, 240.0)]
  ):
    write_run(tmp_path / 'a' / str(seed), accuracy, speed, seed)
  write_run(tmp_path / 'b' / '0', 0.5, 120.0, 0, share=0.25)
  write_run(tmp_path / 'b' / '1', seed=1)
  write_run(tmp_path / 'b' / '2', seed=2)
  failure = {'error': 'NotFinite', 'message': 'The loss is nan.'}
  (tmp_path / 'b' / '2' / workdir.FAILURE).write_text(json.dumps(failure))
  return tmp_path


def cells(text):
  return [
    [cell.strip() for cell in line.split('|')[1:-1]]
    for line in text.splitlines()
    if line.startswith('| ')
  ]


def test_the_table_is_of_means_and_medians(folder):
  text = document.text(results.read(folder), results.Names())
  head, a, b = cells(text)
  assert head == [
    *('method', 'seeds', 'test accuracy', 'gradients/step'),
    *('SAM steps', 'images/s', 'speed relative to a'),
  ]
  assert a == ['a', '3', '80.00 % ± 10.00', '1.50', '50 %', '240', '1.00']
  assert b == [
    *('b', '1 of 3, 1 failed', '50.00 %', '1.25', '25 %', '120', '0.50')
  ]
  assert 'b seed 2 failed: The loss is nan.' in text
  assert 'device abacus, sam_optax 0.1.0, jax 1.2' in text


def test_the_config_file_gives_order_title_and_published_numbers(folder):
  text = document.text(results.read(folder), results.names_in(MODULE))
  assert text.startswith('Table 1 of nobody.\n\n|')
  head, b, a = cells(text)
  assert head[2:5] == ['test accuracy', 'published', 'difference']
  assert a[2:5] == ['80.00 % ± 10.00', '90.50 %', '-10.50']
  assert b[2:5] == ['50.00 %', '80.25 % ± 0.12', '-30.25']
  # Speeds are relative to the first row.
  assert (b[-1], a[-1]) == ('1.00', '2.00')


class Printed(NamedTuple):
  """A published number with the fields that a report reads."""

  score: float
  std: float | None = None
  model: str = 'net'
  dataset: str = 'images'
  relative_speed: float | None = None
  quoted_from: str | None = None


def test_published_speeds_and_quoted_rows(folder):
  module = {
    'VARIANTS': {'b': None, 'a': None},
    'PUBLISHED': {
      'b': Printed(80.0, relative_speed=50),
      'elsewhere': Printed(70.0, model='other', quoted_from='Doe'),
      'c': Printed(75.0, 0.1, relative_speed=100, quoted_from='Doe'),
      'a': Printed(90.0, relative_speed=100),
    },
  }
  found, names = results.read(folder), results.names_in(module)
  head, b, c, a = cells(document.text(found, names))
  # The order of the paper; speeds are relative to the authors' own 100 %.
  assert head[-2:] == ['speed relative to a', 'published speed']
  assert (a[0], a[-2:]) == ('a', ['1.00', '1.00'])
  assert (b[0], b[-2:]) == ('b', ['0.50', '0.50'])
  assert c == [
    *('c (quoted from Doe)', '-', '-', '75.00 % ± 0.10', '-'),
    *('-', '-', '-', '-', '1.00'),
  ]
  _, files = document.write(found, names, folder / 'report')
  assert all(file.exists() for file in files)


def test_a_row_without_a_published_number_says_so(folder):
  module = {**MODULE, 'PUBLISHED': {'a': (90.5, None)}}
  text = document.text(results.read(folder), results.names_in(module))
  assert [row[3] for row in cells(text)] == ['published', '-', '90.50 %']


def test_a_variant_without_a_finished_run_has_a_row(tmp_path):
  write_run(tmp_path / 'a' / '0')
  write_run(tmp_path / 'b' / '0', 0.5)
  _, a, b = cells(document.text(results.read(tmp_path), results.Names()))
  assert a == ['a', '0 of 1', '-', '-', '-', '-', '-']
  assert b[-1] == '1.00'


def test_the_json_has_the_same_at_full_precision(folder):
  found = results.read(folder)
  document.write(found, results.names_in(MODULE), folder)
  record = json.loads((folder / 'table.json').read_text())
  assert record['title'] == 'Table 1 of nobody.'
  assert record['made_with']['device'] == ['abacus']
  assert record['made_with']['optax'] == ['3.4']
  b, a = record['rows']
  assert a['score']['mean'] == pytest.approx(80, abs=1e-12)
  assert a['score']['std'] == pytest.approx(10, abs=1e-12)
  assert a['score']['values'] == [90.0, 80.0, 70.0]
  assert a['published'] == {'mean': 90.5, 'std': None, 'relative_speed': None}
  assert a['difference'] == pytest.approx(-10.5)
  assert a['images_per_second'] == 240
  assert b['seeds'] == [0] and b['planned_seeds'] == [0, 1, 2]
  assert b['failed'] == {'2': 'The loss is nan.'}
  assert b['score']['std'] is None


@pytest.fixture
def grid(tmp_path):
  for value in ('1e1', 2, 0.5):
    for seed in range(2):
      place = tmp_path / 'a' / f'x.y={value}' / str(seed)
      write_run(place, 0.1 + seed * 0.02 + float(value) / 100, seed=seed)
  write_run(tmp_path / 'b' / 'x.y=2' / '0', 0.5)
  write_run(tmp_path / 'b' / 'x.y=2' / '1', seed=1)
  return tmp_path


def test_a_grid_has_a_column_per_value(grid):
  text = document.text(results.read(grid), results.Names())
  rows = cells(text)
  assert rows[0] == ['test accuracy', 'x.y=0.5', 'x.y=2', 'x.y=1e1']
  spread = '± 1.41'
  assert rows[1] == [
    'a',
    f'11.50 % {spread}',
    f'13.00 % {spread}',
    f'21.00 % {spread}',
  ]
  assert rows[2] == ['b', '-', '50.00 % (1 of 2 seeds)', '-']
  # And all columns for each value.
  assert [row[0] for row in rows[3:]] == ['method', 'a'] + [
    'method',
    'a',
    'b',
  ] + ['method', 'a']


def test_a_grid_of_numbers_is_drawn(grid, monkeypatch):
  drawn = []
  monkeypatch.setattr(
    curves, 'picture', lambda *arguments: drawn.append(arguments) or True
  )
  _, files = document.write(results.read(grid), results.Names(), grid)
  names = [path.name for path in files]
  assert names == [
    *('table.md', 'table.json', 'sensitivity.png'),
    'curves-x.y=0.5.png',
    *('curves-x.y=2.png', 'curves-x.y=1e1.png'),
  ]
  assert (grid / 'sensitivity.png').read_bytes().startswith(b'\x89PNG')
  assert [(len(groups), len(groups['a'])) for groups, *_ in drawn] == [
    *((1, 2), (2, 2), (1, 2))
  ]


def test_the_report_says_what_was_changed_in_the_configs(tmp_path):
  config = tiny_config.get_config('arsam')
  config.update(epochs=9, log_every=3, seed=4)
  config.data.label_noise = 0.2
  saved = workdir.as_json(config)
  write_run(
    tmp_path / 'arsam' / 'data.label_noise=0.2' / '4', 0.5, config=saved
  )
  text = document.text(
    results.read(tmp_path), results.names_in(vars(tiny_config))
  )
  assert 'Changed in the configs: epochs=9.' in text


def test_a_row_of_different_configs_says_so(tmp_path):
  for seed, epochs in enumerate((5, 100, 5)):
    saved = workdir.as_json(tiny_config.get_config('arsam'))
    saved.update(seed=seed, epochs=epochs, log_every=1 + seed)
    write_run(tmp_path / 'arsam' / str(seed), 0.5, seed=seed, config=saved)
  saved = workdir.as_json(tiny_config.get_config('sgd')) | {'epochs': 5}
  write_run(tmp_path / 'sgd' / '0', 0.5, config=saved)
  # Not finished: its config is of no number.
  write_run(tmp_path / 'sgd' / '1', seed=1, config={**saved, 'epochs': 7})
  found, names = results.read(tmp_path), results.names_in(vars(tiny_config))
  expected = (
    f'arsam has runs of different configs: epochs is 5 in {tmp_path}/arsam/0 '
    f'and 100 in {tmp_path}/arsam/1.'
  )
  text = document.text(found, names)
  assert text.count('different configs') == 1 and expected in text
  # And which rows have which change.
  (line,) = (x for x in text.splitlines() if x.startswith('Changed in'))
  assert line == (
    'Changed in the configs: epochs=5, epochs=100 (arsam), epochs=7 (sgd).'
  )
  document.write(found, names, tmp_path)
  record = json.loads((tmp_path / 'table.json').read_text())
  assert record['doubts'] == [expected]


def test_the_command_reads_a_sweep_or_single_runs(folder, tmp_path, capsys):
  out = tmp_path / 'new' / 'out'
  given = [str(folder / 'a' / '0'), str(folder / 'b'), f'--workdir={out}']
  assert command.main(given) == 0
  said = capsys.readouterr().out
  assert (out / 'table.md').read_text() in said
  assert [row[:2] for row in cells(said)[1:]] == [
    ['a', '1'],
    ['b', '1 of 3, 1 failed'],
  ]
  assert (out / 'curves.png').read_bytes().startswith(b'\x89PNG')


@pytest.mark.parametrize(
  ('given', 'expected'),
  [
    ('none', 'There is no such folder'),
    ('empty', 'There is no run in it'),
    ('file', 'It is a file'),
    ('a/0/model', 'There is no run in it'),
  ],
)
@pytest.mark.parametrize('others', [[], ['a']])
def test_a_folder_without_runs_is_refused(
  given, expected, others, folder, capsys
):
  (folder / 'empty').mkdir()
  (folder / 'file').write_text('')
  (folder / 'a' / '0' / 'model').mkdir()
  before = snapshot(folder)
  # Also beside one that has runs: its rows would be missed.
  assert command.main([str(folder / x) for x in (*others, given)]) == 1
  in_three_beats(capsys.readouterr().err, expected, str(folder / given))
  assert snapshot(folder) == before


def test_a_report_does_not_go_into_a_file(folder, capsys):
  (folder / 'file').write_text('mine')
  assert command.main([str(folder), f'--workdir={folder / "file"}']) == 1
  in_three_beats(capsys.readouterr().err, 'It is a file')
  assert (folder / 'file').read_text() == 'mine'


def test_runs_of_several_tasks_are_refused(folder, capsys):
  other = Score('error', '', higher_is_better=False)
  workdir.write_task(folder / 'a' / '1', 'other', other._asdict())
  assert command.main([str(folder)]) == 1
  said = capsys.readouterr().err
  assert 'accuracy (' in said and 'error (' in said


def test_a_score_that_is_to_be_low_is_drawn_and_tabulated_as_it_is(folder):
  other = Score('error', 'px', higher_is_better=False)
  for place in [*folder.glob('a/*'), *folder.glob('b/*')]:
    workdir.write_task(place, 'other', other._asdict())
    for name in ('metrics.jsonl', 'result.json'):
      if (place / name).exists():
        text = (place / name).read_text()
        (place / name).write_text(text.replace('test_accuracy', 'test_error'))
  found = results.read(folder)
  head, a, _ = cells(document.text(found, results.Names()))
  assert (head[2], a[2]) == ('test error', '0.80 px ± 0.10')
  _, files = document.write(found, results.Names(), folder)
  assert folder / 'curves.png' in files


def test_the_same_run_twice_is_refused(tmp_path, capsys):
  for name in ('one', 'two'):
    write_run(tmp_path / name / 'a' / '0', 0.5)
  given = [str(tmp_path / name) for name in ('one', 'two')]
  assert command.main(given) == 1
  assert 'would be the same run' in capsys.readouterr().err


def test_records_are_read_as_far_as_they_are_whole(folder):
  path = folder / 'a' / '0' / 'metrics.jsonl'
  path.write_text(path.read_text()[:-9])
  read = curves.read(path.parent)
  assert list(read.steps['step']) == [1, 2, 3, 4]
  assert list(read.tests['step']) == [2]
  assert curves.read(folder / 'none').steps == {}


def test_a_curve_is_drawn_as_means_of_equal_parts():
  assert list(curves._binned(np.arange(5.0))) == [0, 1, 2, 3, 4]
  binned = curves._binned(np.arange(250.0))
  np.testing.assert_allclose(binned, [1 + 3 * i for i in range(83)] + [249])


@pytest.mark.parametrize('count', [1, 12])
def test_pictures_of_few_and_of_many_methods(count, folder):
  run = curves.read(folder / 'a' / '0')
  groups = {f'method {i}': [run] * 2 for i in range(count)}
  assert curves.picture(groups, MAIN, 'title', folder / 'picture.png')
  assert (folder / 'picture.png').read_bytes().startswith(b'\x89PNG')


def test_curves_of_runs_under_way_end_where_the_shortest_does():
  def run(length):
    step = np.arange(1.0, length + 1)
    return curves.Curves({'step': step, 'loss': 1000 - step}, {})

  lines = curves._binned_alike([run(950), run(150)], 'loss')
  for x, loss in lines:
    np.testing.assert_allclose(loss, 1000 - x)
  np.testing.assert_array_equal(lines[0][0], lines[1][0])


def test_a_damaged_result_is_one_that_is_not_there(folder, tmp_path):
  copy = tmp_path / 'copy'
  shutil.copytree(folder, copy)
  (copy / 'a' / '0' / 'result.json').write_text('')
  found = {(run.variant, run.seed): run.result for run in results.read(copy)}
  assert found['a', 0] is None


def test_the_cost_of_a_run_is_its_gradients_in_epochs(tmp_path):
  for seed, share in enumerate((0.5, 1.0)):
    folder = tmp_path / 'a' / str(seed)
    write_run(folder, 0.9, seed=seed, share=share, config={'epochs': 20})
  (row,) = results.rows(results.read(tmp_path), results.Names())
  assert row['sgd_epochs'] == 20 * 1.75
  write_run(tmp_path / 'b' / '0', 0.9, config={'epochs': 20, 'steps': 3})
  *_, row = results.rows(results.read(tmp_path), results.Names())
  assert row['sgd_epochs'] is None
