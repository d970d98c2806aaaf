"""The benchmarks count, summarise and write correctly; no time is asserted."""

import json
import pathlib
import subprocess
import sys
from types import SimpleNamespace

import jax
import numpy as np
import pytest

import sam_optax
from benchmarks import (
  compare,
  compilation,
  measure,
  picture,
  program,
  rows,
  sizes,
)
from train import config as train_config
from train.engine.compilation import Kind

ROOT = pathlib.Path(__file__).parent.parent
MODEL = {'name': 'mlp', 'hidden': (4,)}


# Optax's SAM and its cosine schedule mix integers and floats.
pytestmark = pytest.mark.usefixtures('standard_promotion')


@pytest.fixture(scope='module')
def bench(tmp_path_factory):
  """The output of one run, and the folder that it writes."""
  folder = tmp_path_factory.mktemp('bench')
  flags = ('networks=mlp', 'rows=sam,ausam', 'side=4', 'batch=4', 'rounds=2')
  flags = (*flags, 'most_rounds=3', 'within=0', 'program_steps=3')
  done = subprocess.run(
    [
      sys.executable,
      '-m',
      'benchmarks',
      *(f'--{flag}' for flag in (*flags, 'steps=1', f'workdir={folder}')),
    ],
    cwd=ROOT,
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  return done.stdout, folder


def make_row(name, batch=4, branch='auto'):
  spec = rows.specs()[name]
  config = program.make_config(spec, MODEL, batch)
  config.branch = branch
  return program.ProgramRow(spec, config, program.random_dataset(4 * batch, 4))


def test_the_table_has_every_row(bench):
  printed, folder = bench
  table = (folder / 'table.md').read_text()
  assert table.strip() in printed
  lines = [line.split('|') for line in table.splitlines() if '|' in line]
  assert [line[1].strip() for line in lines[:5]] == [
    'row',
    '---',
    'sgd',
    'sam',
    'ausam',
  ]
  assert {len(line) for line in lines[:5]} == {17}
  of_sam = [line[8].strip() for line in lines[2:5]]
  assert of_sam[1] == '100' and all(number.isdigit() for number in of_sam)


def test_published_speeds_are_in_the_table(bench):
  for network in rows.NETWORKS.values():
    assert set(network.published) <= set(rows.specs())
  measured = json.loads((bench[1] / 'bench.json').read_text())['networks'][
    'mlp'
  ]
  measured['published'] = {'ausam': 132}
  lines = compare.report('mlp', measured).splitlines()
  published = {
    cells[1].strip(): cells[9].strip()
    for cells in (line.split('|') for line in lines if '|' in line)
  }
  assert published['ausam'] == '132'
  assert published['sam'] == '-'


def test_a_cpu_does_not_measure_networks_that_take_hours():
  assert set(rows.NETWORKS) - set(rows.default_networks()) == {'wrn'}


def test_the_ideal_is_counted_from_the_state(bench):
  written = json.loads((bench[1] / 'bench.json').read_text())
  measured = {row['name']: row for row in written['networks']['mlp']['rows']}
  ideal = {name: row['ideal'] for name, row in measured.items()}
  assert ideal == {'sgd': 1.0, 'sam': 2.0, 'ausam': 1.0}
  for row in measured.values():
    assert len(row['turn_seconds']) == 3 and min(row['turn_seconds']) > 0
    assert row['efficiency'] == pytest.approx(row['ideal'] / row['ratio'])
    assert row['peak_bytes'] > written['networks']['mlp']['parameter_bytes']
  assert measured['sgd']['ratio'] == measured['sgd']['peak_over_sgd'] == 1
  speed, low, high = measured['sam']['program_speed']
  assert 0 < low <= speed <= high


def test_the_steps_alone_are_those_of_the_whole_run():
  spec = rows.specs()['arsam']
  model = {'name': 'mlp', 'hidden': (4,)}
  config = program.make_config(spec, model, batch=4, steps=9)
  dataset = program.random_dataset(18, 4)  # nine steps are no whole epochs
  whole = program.make_program(spec, config, dataset)
  for seed in range(3):
    result = whole.run(seed)
    alone = program.steps_alone(whole, seed)
    assert alone.seconds > 0
    assert alone.gradients == result.batch_gradients_per_step * 9
    assert 9 < alone.gradients < 18  # steps of both kinds


def test_results_record_flags_machine_and_versions(bench):
  folder = bench[1]
  written = json.loads((folder / 'bench.json').read_text())
  assert written['flags']['batch'] == written['networks']['mlp']['batch'] == 4
  assert written['versions']['jax'] == jax.__version__
  assert written['device'] and written['date'] and written['backend'] == 'cpu'
  assert (folder / 'bench.png').read_bytes().startswith(b'\x89PNG')


def test_every_method_of_the_library_has_a_row_that_can_be_built():
  specs = rows.specs()
  methods = set(sam_optax.METHODS)
  assert methods - {'identity'} <= set(specs) and next(iter(specs)) == 'sgd'
  for name in methods - {'identity'}:
    assert specs[name].method == name
  for spec in specs.values():
    config = program.make_config(spec, MODEL, batch=4)
    train_config.build_method(
      config, 0, num_examples=16, num_classes=10, total_steps=9, learning_rate=1
    )


def test_rows_are_chosen_by_name_with_sgd_first():
  assert list(rows.chosen('sam')) == ['sgd', 'sam']
  assert rows.chosen('all') == rows.specs()
  assert set(rows.chosen('main')) == {'sgd', *rows.MAIN, *rows.EXTRA}
  with pytest.raises(ValueError, match="'samm'.*no such row.*Use all, main"):
    rows.chosen('sam,samm')


def test_a_row_is_measured_in_its_steady_state():
  row = make_row('arsam_ausam')
  row.warm_up()
  before = row.gradients, int(row.state.method.gradient_evaluations)
  row.turn(2)
  decisions = row.program.method.decide(row.state.method, np.arange(4))
  assert decisions['full_batch'] is False
  assert row.state.method.cadence.probability == pytest.approx(0.3)
  assert row.state.method.step == 6
  evaluations = int(row.state.method.gradient_evaluations) - before[1]
  assert row.gradients - before[0] == 0.5 * evaluations


def test_the_row_of_optax_takes_the_same_step_as_our_sam():
  ours, theirs = make_row('sam'), make_row('optax-sam')
  for row in (ours, theirs):
    row.turn(3)
  assert ours.gradients == theirs.gradients == 6
  for one, other in zip(
    jax.tree.leaves(ours.state.params),
    jax.tree.leaves(theirs.state.params),
    strict=True,
  ):
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_the_wait_ends_with_the_first_step_and_then_with_every_program():
  row = make_row('ausam', branch='host')
  first, every = compilation.wait_for(row)
  assert int(row.state.step) == 1
  assert 0 < row.compile_seconds < first <= every
  # The other kind, too, if there was time to trace it.
  assert Kind('step', perturb=True, full_batch=True) in row.program.compiled


def test_the_waits_are_compared_with_sgd_in_the_same_turn():
  waiting = {
    'sgd': compilation.Waiting([1.0, 2.0, 4.0], [1.0, 2.0, 4.0]),
    'sam': compilation.Waiting([2.0, 3.0, 8.0], [3.0, 6.0, 4.0]),
  }
  assert compilation.table(waiting).splitlines()[2:] == [
    '| sgd | 2.0 | 1.00 | 2.0 | 1.00 |',
    '| sam | 3.0 | 2.00 | 4.0 | 3.00 |',
  ]


class FakeRow:
  """Takes turns of given seconds and gradients."""

  forwards = 1.0

  def __init__(self, name, log, seconds, gradients):
    self.name, self.log, self.gradients = name, log, 0.0
    self.turns = iter(zip(seconds, gradients, strict=True))

  def turn(self, steps):
    seconds, gradients = next(self.turns)
    self.log.append((self.name, steps))
    self.gradients += gradients
    return seconds


def test_rows_take_turns():
  log = []
  fakes = {
    'a': FakeRow('a', log, [1.0, 2.0], [3, 3]),
    'b': FakeRow('b', log, [4.0, 5.0], [6, 9]),
  }
  rounds = measure.Rounds(least=1, most=2)
  turns = measure.interleave(fakes, rounds, steps=3, pause=0)
  assert log == [('a', 3), ('b', 3), ('a', 3), ('b', 3)]
  assert turns['a'] == measure.Turns([1.0, 2.0], [3, 3])
  assert turns['b'] == measure.Turns([4.0, 5.0], [6, 9])


@pytest.mark.parametrize(('enough', 'rounds'), [(1, 2), (3, 3), (9, 4)])
def test_turns_are_taken_until_they_suffice(enough, rounds):
  fake = FakeRow('a', [], range(1, 9), [1] * 8)
  settled = lambda turns: len(turns['a'].seconds) >= enough
  limits = measure.Rounds(least=2, most=4)
  turns = measure.interleave({'a': fake}, limits, 1, settled, pause=0)
  assert len(turns['a'].seconds) == rounds


def test_the_interval_of_a_cost_narrows_with_the_rounds_and_not_with_the_work():
  generator = np.random.default_rng(1)

  def width(count, noise):
    # A third of the turns has twice the work. It is not noise.
    gradients = 1 + (generator.random(count) < 1 / 3)
    seconds = gradients * (1 + noise * generator.standard_normal(count))
    row = measure.Turns(seconds.tolist(), gradients.tolist())
    sgd = measure.Turns([1.0] * count, [1] * count)
    fake = {'a': SimpleNamespace(forwards=0.0)}
    low, high = measure.interval(
      lambda *turns: measure.efficiency(*turns, sgd, 0.0, 1), row, sgd
    )
    assert low <= high and abs(low - 1) < 0.2
    known = compare.unsettled(fake, {'a': row, 'sgd': sgd}, 1, 0.03)
    assert known == (['a'] if high - low > 0.03 * (low + high) / 2 else [])
    return high - low

  assert width(40, 0.0) < 1e-9
  few, many = width(16, 0.1), width(256, 0.1)
  assert many < few / 2 and few > 0.03


def test_a_row_that_is_not_settled_is_named(bench):
  written = json.loads((bench[1] / 'bench.json').read_text())
  measured = written['networks']['mlp']
  assert measured['rounds'] == 3 and 'sam' in measured['unsettled']
  assert 'wider than 0.0% of its value for sam, ausam' in bench[0]
  settled = compare.report('mlp', measured | {'unsettled': []})
  assert 'is within 0.0% of its value in every row' in settled


def test_a_ratio_is_taken_within_a_round():
  # The machine is ten times slower in the third round; the last is an outlier.
  sgd = measure.Turns([1.0, 1.0, 10.0, 1.0, 1.0], [1] * 5)
  row = measure.Turns([2.0, 1.9, 21.0, 2.2, 50.0], [2] * 5)
  assert measure.over(row, sgd) == pytest.approx((2.1, 2.0, 2.2))
  assert measure.seconds_per_step(row, 2) == pytest.approx(1.1)


def test_turns_that_differ_in_their_work_are_averaged():
  sgd = measure.Turns([1.0, 1.0, 1.0, 1.0], [1] * 4)
  row = measure.Turns([1.0, 1.0, 1.0, 2.0], [1, 1, 1, 2])
  assert measure.over(row, sgd).value == pytest.approx(1.25)
  assert measure.seconds_per_step(row, 1) == pytest.approx(1.25)


def test_the_ideal_cost_includes_forward_passes():
  turns = {
    'sgd': measure.Turns([1.0, 1.0], [2, 2]),
    'forward': measure.Turns([0.25, 0.25], [0, 0]),
    'esam': measure.Turns([2.0, 2.0], [3, 3]),
  }
  esam = compare.summary(
    'esam', SimpleNamespace(forwards=1.0), turns, batch=8, steps=2
  )
  assert esam['gradients'] == 1.5
  assert esam['ideal'] == pytest.approx(1.75)
  assert esam['efficiency'] == pytest.approx(0.875)
  assert esam['images_per_second'] == pytest.approx(8)


def test_peak_memory_is_of_the_largest_step_with_donated_buffers_once():
  def compiled(*numbers):
    names = ('temp', 'argument', 'output', 'alias')
    analysis = {
      f'{name}_size_in_bytes': number
      for name, number in zip(names, numbers, strict=True)
    }
    return SimpleNamespace(memory_analysis=lambda: SimpleNamespace(**analysis))

  small, large = compiled(1, 10, 10, 9), compiled(5, 10, 10, 9)
  assert measure.peak_bytes([small, large, small]) == 16
  unknown = SimpleNamespace(memory_analysis=lambda: None)
  assert measure.peak_bytes([small, unknown]) is None


@pytest.mark.parametrize(
  ('per_step', 'steps'), [(1.0, 1), (0.1, 2), (0.01, 25), (1e-6, 100)]
)
def test_a_turn_has_the_requested_length(per_step, steps):
  assert measure.steps_in(0.25, per_step) == steps


def test_the_function_does_not_depend_on_the_number_of_arrays():
  config = program.make_config(rows.specs()['sgd'], MODEL, batch=4)
  config.augment.pad = 0
  dataset = program.random_dataset(16, 4)
  images = np.ones((2, 4, 4, 3), np.float32)
  outputs = []
  for pieces in (1, 100):
    made = sizes.InPieces(pieces, config, dataset)
    params = made.model(0).params
    assert len(jax.tree.leaves(params)) == pieces
    outputs.append(made.model(0).apply(params, {}, images, True)[0])
  np.testing.assert_allclose(*outputs, rtol=1e-5, atol=1e-5)
  for size in sizes.PANELS['parameter arrays'].values():
    assert sizes.InPieces.WIDTH % size.pieces == 0


def test_growth_is_plotted(tmp_path):
  ratios = {'sam': [[2.0, 1.9, 2.1], [2.0, 1.9, 2.1]]}
  panel = {'sizes': [1, 10], 'ratios': ratios}
  picture.growth({'a': panel, 'b': panel}, tmp_path / 'growth.png')
  assert (tmp_path / 'growth.png').read_bytes().startswith(b'\x89PNG')
