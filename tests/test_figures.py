"""Figures from runs: which numbers are drawn, and which are refused."""

import json
import pathlib
import re
import shlex

import numpy as np
import pytest

from train import command, variants
from train.look import __main__ as look
from train.report import figures, results
from train.sweep import __main__ as sweeping
from train.sweep import plan

ROOT = pathlib.Path(__file__).parent.parent

MAIN = {'name': 'accuracy', 'unit': '%', 'higher_is_better': True}


def write(root, place, accuracy=0.5, seed=0, records=(), **config):
  folder = root / place / str(seed)
  folder.mkdir(parents=True)
  result = {
    **{'test_accuracy': accuracy, 'test_loss': 2.0, 'train_seconds': 1.0},
    **{'images_per_second': 1.0, 'gradient_evaluations_per_step': 1.0},
    **{'batch_gradients_per_step': 1.0},
    **{'sam_fraction': 0.0, 'steps': 4},
  }
  texts = {
    'config.json': {'seed': seed, **config},
    'task.json': {'task': 'classification', 'main': MAIN},
    'result.json': result,
  }
  for name, content in texts.items():
    (folder / name).write_text(json.dumps(content))
  lines = [json.dumps(record) + '\n' for record in records]
  (folder / 'metrics.jsonl').write_text(''.join(lines))


@pytest.fixture
def sweep(tmp_path):
  """Two methods over a radius, two seeds each, and one without a radius."""
  for seed in (0, 1):
    for rho in (0.1, 0.2):
      for method, accuracy in (('one', rho), ('two', 2 * rho)):
        write(
          tmp_path,
          f'{method}/method.rho={rho}',
          accuracy + seed / 10,
          seed,
          method={'rho': rho},
        )
    write(tmp_path, 'none', 0.3, seed, method={})
  return tmp_path


def test_scores_over_a_key(sweep):
  lines = figures.over_key(results.read(sweep), 'method.rho', None)
  assert set(lines) == {'one', 'two', 'none'}
  np.testing.assert_allclose(sorted(lines['one'][0.1]), [10, 20])
  np.testing.assert_allclose(sorted(lines['two'][0.2]), [40, 50])
  assert lines['none'] == {None: [30, 30]}
  # Another score as it is, without a unit.
  losses = figures.over_key(results.read(sweep), 'method.rho', 'loss')
  assert losses['one'][0.1] == [2.0, 2.0]


def test_scores_over_the_variants_keep_the_other_keys_apart(sweep):
  lines = figures.over_key(results.read(sweep), 'variant', None)
  assert set(lines) == {'', 'method.rho=0.1', 'method.rho=0.2'}
  assert set(lines['method.rho=0.2']) == {'one', 'two'}


def test_lines_over_the_steps_are_means_of_parts(tmp_path):
  records = [{'step': n, 'loss': 1.0} for n in range(1, 9)]
  for record in records[::2]:
    record['norm'] = float(record['step'])
  write(tmp_path, 'one', records=[*records, {'step': 8, 'test_loss': 2.0}])
  write(tmp_path, 'other')
  runs = results.read(tmp_path)
  lines = figures.over_steps(runs, ['norm'], points=2)
  ((steps, values),) = lines['norm']['one']
  # Logged at 1, 3, 5 and 7.
  assert steps.tolist() == values.tolist() == [2.0, 6.0]
  assert set(lines['norm']) == {'one'}


def test_the_command_draws_and_prints(sweep, capsys):
  path = sweep / 'figures' / 'radius.png'
  arguments = [str(sweep), '--over=method.rho', f'--out={path}', '--title=A']
  assert figures.main(arguments) == 0
  assert path.stat().st_size > 5000
  out = capsys.readouterr().out
  assert '15.00 ± 7.07' in out and '30.00 ± 0.00' in out
  path = sweep / 'figures' / 'variants.png'
  assert figures.main([str(sweep), '--over=variant', f'--out={path}']) == 0
  assert path.exists()


def test_seeds_of_different_numbers_and_a_value_of_zero_are_drawn(tmp_path):
  for rho, accuracies in ((0, (0.2,)), (0.05, (0.4, 0.6)), (1, (0.1, 0.9))):
    for seed, accuracy in enumerate(accuracies):
      write(
        tmp_path, f'a/method.rho={rho}', accuracy, seed, method={'rho': rho}
      )
  scores = figures.over_key(results.read(tmp_path), 'method.rho', None)
  figure = figures.draw_over_key({'score': scores}, 'method.rho', '')
  (axis,) = figure.axes
  (line,) = axis.lines
  # All seeds of each, on an axis that has a place for 0.
  np.testing.assert_allclose(line.get_xydata(), [(0, 20), (0.05, 50), (1, 50)])
  assert axis.get_xscale() == 'linear' and 0 in axis.get_xticks()
  del scores['a'][0]
  figure = figures.draw_over_key({'score': scores}, 'method.rho', '')
  assert figure.axes[0].get_xscale() == 'log'


@pytest.mark.parametrize('over', ['variant', 'method.rho', 'step'])
def test_one_seed_is_not_drawn_as_two(over, sweep, tmp_path, capsys):
  other = tmp_path / 'other'
  write(other, 'one/method.rho=0.1', 0.9, 1, method={'rho': 0.1})
  out = tmp_path / 'no.png'
  given = [str(sweep / 'one'), str(other), f'--out={out}', f'--over={over}']
  assert figures.main(given) == 1
  assert 'They would be the same run' in capsys.readouterr().err
  assert not out.exists()


def test_folders_may_have_the_values_of_a_key(tmp_path, capsys):
  for epochs in (5, 20):
    write(tmp_path / f'to {epochs}', 'one', epochs / 100, epochs=epochs)
  write(tmp_path / 'to 20', 'one', 0.4, 1, epochs=20, batch_size=7)
  folders = [str(tmp_path / f'to {epochs}') for epochs in (5, 20)]
  given = [*folders, '--over=epochs', f'--out={tmp_path / "epochs.png"}']
  assert figures.main(given) == 0
  out = capsys.readouterr().out
  assert '5.00 |' in out and '30.00 ± 14.14' in out
  assert 'one has runs of different configs: batch_size is None in' in out
  assert 'epochs is' not in out


def test_the_commands_of_the_page_can_be_run():
  text = (ROOT / 'results' / 'figures.md').read_text()
  lines = [
    shlex.split(line)
    for block in re.findall(r'```bash\n(.*?)```', text, re.DOTALL)
    for line in re.sub(r'\s*\\\n\s*', ' ', block).splitlines()
  ]
  drawn = set()
  for python, flag, module, *words in lines:
    assert (python, flag) == ('python', '-m')
    if module == 'train.sweep':
      args, settings = command.parse(sweeping._parser(), words)
      file = variants.read(args.config)
      names = variants.choose(file, args.methods)
      grid = plan.combinations(args.grid)
      assert plan.plan(file, names, args.seeds, args.workdir, grid, settings)
    elif module == 'train':
      (config,) = (word for word in words if word.startswith('--config='))
      settings = [word for word in words if word.startswith('--config.')]
      assert variants.load(config.partition('=')[2], settings).measure_every
    elif module == 'train.look':
      assert look._parser().parse_args(words).noise
    else:
      assert module == 'train.report.figures'
      drawn.add(figures._parser().parse_args(words).out.name)
  shown = set(re.findall(r'\(figures/(\w+\.png)\)', text))
  assert shown == {path.name for path in (ROOT / 'results/figures').iterdir()}
  # By train.look.
  assert shown - drawn == {'rsam_figure1_and_2.png', 'ausam_most_chosen.png'}
  assert drawn < shown


@pytest.mark.parametrize(
  ('arguments', 'match'),
  [
    (['--over=method.rhoo'], 'No finished run has this key'),
    (['--over=method.rho', '--show=acuracy'], "Did you mean 'accuracy'"),
    (['--show=norm'], 'no scalars'),
  ],
)
def test_what_cannot_be_drawn_is_refused(arguments, match, sweep, capsys):
  out = sweep / 'no.png'
  assert figures.main([str(sweep), f'--out={out}', *arguments]) == 1
  assert match in capsys.readouterr().err
  assert not out.exists()


@pytest.mark.parametrize(
  ('other', 'match'), [('empty', 'no run in it'), ('gone', 'no such folder')]
)
def test_a_folder_without_a_run_is_not_passed_over(
  other, match, sweep, tmp_path, capsys
):
  (tmp_path / 'empty').mkdir()
  out = tmp_path / 'no.png'
  assert figures.main([str(sweep), str(tmp_path / other), f'--out={out}']) == 1
  assert match in capsys.readouterr().err
  assert not out.exists()
