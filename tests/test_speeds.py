"""Speeds that contradict each other are not compared."""

import pytest

from tests.test_report import write_run
from train.report import document, results, speeds
from train.tools import demo, demos

NAMES = results.Names({'sgd': 'SGD', 'other': 'Other'})


def runs(folder, **speeds_of):
  """Runs of the variants by their speeds; and gradients in a step, if any."""
  for variant, (gradients, *values) in speeds_of.items():
    for seed, speed in enumerate(values):
      config = {'model': {'name': variant if gradients < 0 else 'one'}}
      write_run(
        folder / variant / str(seed),
        *(0.5, speed, seed),
        share=abs(gradients) - 1,
        config=config,
      )
  return results.read(folder)


SEEDS = (
  'Seeds of SGD, for the same work, differ 1.6 times in images/s, so other'
)
FASTER = (
  'Other trained 1.50 times as many images/s as SGD, with 1.00 gradients in a '
  'step to its 1.00, so other'
)


@pytest.mark.parametrize(
  ('sgd', 'other', 'expected'),
  [
    ((1.0, 100, 140, 120), (2.0, 50, 60, 70), ''),
    ((1.0, 100, 160, 120), (2.0, 50, 60, 70), SEEDS),
    ((1.0, 100), (1.0, 150), FASTER),
    ((1.0, 100), (1.0, 120), ''),
    ((2.0, 100), (1.5, 150), ''),  # with fewer gradients it may be
    ((1.0, 100), (-1.0, 150), ''),  # so it may with another network
  ],
)
def test_they_mean_nothing_where_they_contradict_each_other(
  sgd, other, expected, tmp_path
):
  found = runs(tmp_path, sgd=sgd, other=other)
  said = speeds.doubt(found, NAMES)
  assert bool(said) == bool(expected)
  if expected:
    assert said.startswith(f'The speeds mean nothing here. {expected} programs')
  text = document.text(found, NAMES)
  assert text.count('The speeds mean nothing') == bool(expected)


def test_seeds_that_evaluate_more_may_take_longer(tmp_path):
  for seed, (speed, share) in enumerate([(160, 0.0), (90, 0.8)]):
    write_run(tmp_path / 'sgd' / str(seed), 0.5, speed, seed, share)
  assert not speeds.doubt(results.read(tmp_path), NAMES)


@pytest.mark.parametrize('speed', [100, 160])
def test_the_demonstration_leaves_out_what_the_runs_contradict(
  speed, tmp_path, capsys
):
  for variant, accuracy in (('sgd', 0.5), ('other', 0.8)):
    for seed in range(2):
      own = speed if seed and variant == 'sgd' else 100
      place = tmp_path / 'runs' / variant / str(seed)
      write_run(place, accuracy + seed / 100, own, seed)
  found = results.read(tmp_path / 'runs')
  labels = {'sgd': 'SGD', 'other': 'Other'}
  row = demos.Demo('none', picture=lambda *given: None)
  demo._show(row, found, labels, tmp_path, 'title')
  for said in (capsys.readouterr().out, (tmp_path / 'table.md').read_text()):
    assert 'Better than SGD with every seed: Other by 30.0 points.' in said
    assert ('times the time of SGD' in said) == (speed == 100)
    assert said.count('The speeds mean nothing here.') == (speed == 160)
