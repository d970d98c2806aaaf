"""Measures all rows on one network, and makes the table."""

import dataclasses
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks import measure, peers, program
from benchmarks.rows import Network, Spec
from train.data import memory
from train.engine.log import Log
from train.report import table

# The rows for which the whole program is run too, with data and logging.
_WHOLE = ('sgd', 'sam', 'arsam')
TURN_SECONDS = 0.25


@dataclasses.dataclass(frozen=True)
class Settings:
  """The settings of a measurement.

  Attributes:
    rows: the rows by name, `sgd` among them.
    batch: images in a batch.
    rounds: number of turns of each row.
    steps: steps in a turn; None for as many as SGD takes in a quarter second.
    program_steps: steps in a run of the whole program; None for two turns.
    side: height and width of random images, in pixels.
    dataset: 'random', or a name for `train.data.memory.load`.
    dtype: dtype of the computation, such as 'bfloat16'; None for float32.
    peers: whether to measure PyTorch too, if it is installed.
    compilations: number of times that each row is compiled.
  """

  rows: Mapping[str, Spec]
  batch: int
  rounds: measure.Rounds
  steps: int | None = None
  program_steps: int | None = None
  side: int = 32
  dataset: str = 'random'
  dtype: str | None = None
  peers: bool = True
  compilations: int = 1


def compare(
  network: Network,
  settings: Settings,
  say: Callable[[str], None],
  progress: Callable[..., Any] = iter,
) -> dict[str, Any]:
  """Measures the rows on a network.

  Args:
    network: the network.
    settings: the settings.
    say: called with each line of progress.
    progress: wraps the rounds, for a progress bar.

  Returns:
    The measurements, in a form that JSON can hold.
  """
  model = dict(network.model)
  if settings.dtype is not None:
    model['dtype'] = settings.dtype
  if settings.dataset == 'random':
    dataset = program.random_dataset(4 * settings.batch, settings.side)
  else:
    dataset = memory.load(settings.dataset)

  def make(name: str) -> program.ProgramRow:
    spec = settings.rows[name]
    config = program.make_config(spec, model, settings.batch)
    row = program.ProgramRow(spec, config, dataset)
    row.warm_up()
    say(f'compiled {name} in {row.compile_seconds:.1f} s')
    return row

  sgd = make('sgd')
  steps = settings.steps or measure.steps_in(TURN_SECONDS, sgd.turn(2) / 2)
  ours, left_out = {'sgd': sgd}, {}
  for name in settings.rows:
    if name != 'sgd':
      try:
        ours[name] = make(name)
      except ValueError as error:
        # A method may need something that this network lacks; it says so.
        left_out[name] = str(error)
        say(f'without {name}: {error}')
  compiling = _compiling(make, ours, settings.compilations)
  forward = program.ForwardRow(
    program.make_config(settings.rows['sgd'], model, settings.batch), dataset
  )
  theirs = {}
  if settings.peers and peers.missing(model) is None:
    theirs = peers.rows(model, dataset, settings.batch)
  for row in (forward, *theirs.values()):
    row.warm_up()
  taking = {**ours, 'forward': forward, **theirs}
  turns = measure.interleave(
    taking,
    settings.rounds,
    steps,
    lambda turns: not unsettled(ours, turns, steps, settings.rounds.within),
    progress,
  )
  speeds = {}
  for name in _WHOLE:
    if name in ours:
      say(f'running the whole program: {name}')
      config = program.make_config(
        settings.rows[name],
        model,
        settings.batch,
        settings.program_steps or max(4, 2 * steps),
      )
      speeds[name] = _program_speed(
        settings.rows[name],
        config,
        dataset,
        max(3, settings.rounds.least // 2),
      )
  return {
    'model': model,
    'parameter_bytes': sgd.parameter_bytes,
    'batch': settings.batch,
    'image_shape': list(dataset.train['image'].shape[1:]),
    'rounds': len(turns['sgd'].seconds),
    'within': settings.rounds.within,
    'unsettled': unsettled(ours, turns, steps, settings.rounds.within),
    'steps': steps,
    'forward': measure.over(turns['forward'], turns['sgd']).value,
    'rows': [
      summary(name, row, turns, settings.batch, steps)
      | {'program_speed': speeds.get(name)}
      | _compile_time(compiling[name], compiling['sgd'])
      | _memory(row, sgd)
      for name, row in ours.items()
    ],
    'published': dict(network.published),
    'left_out': left_out,
    'peers': [
      summary(name, row, turns, settings.batch, steps, next(iter(theirs)))
      for name, row in theirs.items()
    ],
  }


def summary(name, row, turns, batch, steps, reference='sgd') -> dict[str, Any]:
  """The cost of a row relative to the reference, and its ideal cost."""
  mine = turns[name]
  ratio = measure.over(mine, turns[reference])
  gradients = sum(mine.gradients) / (len(mine.gradients) * steps)
  forward = measure.over(turns['forward'], turns['sgd']).value
  ideal = gradients + row.forwards * forward
  per_step = measure.seconds_per_step(mine, steps)
  return {
    'name': name,
    'over': reference,
    'ratio': ratio.value,
    'quartiles': [ratio.low, ratio.high],
    'gradients': gradients,
    'forwards': row.forwards,
    'ideal': ideal,
    'efficiency': ideal / ratio.value,
    'interval': _interval(row, turns, name, steps, reference),
    'over_sgd': measure.over(mine, turns['sgd']).value,
    'milliseconds': 1000 * per_step,
    'images_per_second': batch / per_step,
    'turn_seconds': mine.seconds,
    'turn_gradients': mine.gradients,
  }


def _interval(row, turns, name, steps, reference='sgd') -> tuple[float, float]:
  """The interval of ideal over measured cost."""

  def estimate(mine, reference, forward):
    return measure.efficiency(mine, reference, forward, row.forwards, steps)

  sgd = turns[reference]
  return measure.interval(estimate, turns[name], sgd, turns.get('forward', sgd))


def unsettled(
  rows: Mapping[str, Any],
  turns: Mapping[str, measure.Turns],
  steps: int,
  within: float,
) -> list[str]:
  """The rows whose cost is not known as closely as was asked.

  Args:
    rows: the rows by name.
    turns: their turns, those of SGD, and those of a forward pass if a row has
      forward passes beside its gradients.
    steps: steps in a turn.
    within: the greatest width of an interval, relative to its middle.
  """
  found = []
  for name, row in rows.items():
    low, high = _interval(row, turns, name, steps)
    if high - low > within * (low + high) / 2:
      found.append(name)
  return found


def _compiling(make, rows, times: int) -> dict[str, list[float]]:
  """Seconds that each compilation of each row took, the rows in turns."""
  seconds = {name: [row.compile_seconds] for name, row in rows.items()}
  for _ in range(times - 1):
    for name, taken in seconds.items():
      taken.append(make(name).compile_seconds)
  return seconds


def _compile_time(seconds, reference) -> dict[str, float]:
  return {
    'compile_seconds': statistics.median(seconds),
    'compile_over_sgd': measure.ratio(seconds, reference).value,
  }


def _memory(row, sgd) -> dict[str, Any]:
  peak, least = row.peak_bytes, sgd.peak_bytes
  return {
    'peak_bytes': peak,
    'peak_over_sgd': None if peak is None else peak / least,
    'copies': None if peak is None else (peak - least) / sgd.parameter_bytes,
  }


def _program_speed(spec, config, dataset, runs: int) -> measure.Ratio:
  """The speed of the whole program relative to the same steps alone."""
  whole = program.make_program(spec, config, dataset)
  alone, full = [], []
  for seed in range(runs + 1):
    with tempfile.TemporaryDirectory() as folder, Log(folder) as log:
      result = whole.run(seed, log)
    # The first run compiles.
    if seed:
      full.append(result.train_seconds)
      alone.append(program.steps_alone(whole, seed).seconds)
  return measure.ratio(alone, full)


def report(name: str, measured: Mapping[str, Any]) -> str:
  """The table of a network, and one of PyTorch if it was measured."""
  sgd = measured['rows'][0]
  shape = 'x'.join(map(str, measured['image_shape']))
  paragraphs = [
    f'### {name}',
    f'Batch {measured["batch"]} of {shape}, '
    f'{measured["parameter_bytes"] / 2**20:.2f} MiB of parameters. SGD: '
    f'{sgd["milliseconds"]:.1f} ms per step; a forward pass is '
    f'{measured["forward"]:.3f} of it. {measured["rounds"]} rounds of '
    f'{measured["steps"]} steps.',
    _our_table(measured),
    _settled(measured),
  ]
  for name, reason in measured['left_out'].items():
    paragraphs.append(f'Without {name}: {reason}')
  if measured['peers']:
    paragraphs.append(_peers_table(measured['peers']))
  return '\n\n'.join(paragraphs)


def _settled(measured: Mapping[str, Any]) -> str:
  """What the numbers of the table can tell apart."""
  within, unsettled = measured['within'], measured['unsettled']
  if not unsettled:
    return (
      f'The 95 % interval of ideal / measured is within {within:.1%} of its '
      'value in every row.'
    )
  return (
    f'After {measured["rounds"]} rounds the 95 % interval of ideal / measured '
    f'is wider than {within:.1%} of its value for {", ".join(unsettled)}. Do '
    'not read smaller differences from these rows; measure again with more '
    'rounds (--most_rounds) or on a quieter machine.'
  )


def _our_table(measured: Mapping[str, Any]) -> str:
  head = (
    'row',
    'gradients',
    'ideal',
    'measured',
    'quartiles',
    'ideal / measured',
    'images/s',
    '% of SAM',
    'published %',
    'program / step',
    'compile, s',
    'over SGD',
    'peak, MiB',
    'over SGD',
    'copies',
  )
  body = []
  sam = {row['name']: row['ratio'] for row in measured['rows']}.get('sam')
  for row in measured['rows']:
    low, high = row['quartiles']
    mebibytes = row['peak_bytes'] and row['peak_bytes'] / 2**20
    cells = [
      row['name'],
      f'{row["gradients"]:.3f}',
      f'{row["ideal"]:.3f}',
      f'{row["ratio"]:.3f}',
      f'{low:.3f} to {high:.3f}',
      _with_ends((row['efficiency'], *row['interval'])),
      f'{row["images_per_second"]:,.0f}',
      _number(sam and 100 * sam / row['ratio'], '.0f'),
      _number(measured['published'].get(row['name']), '.0f'),
      _with_ends(row['program_speed']),
      f'{row["compile_seconds"]:.1f}',
      f'{row["compile_over_sgd"]:.2f}',
      _number(mebibytes, '.1f'),
      _number(row['peak_over_sgd'], '.3f'),
      _number(row['copies'], '+.2f'),
    ]
    body.append(cells)
  return table.markdown(head, body)


def _peers_table(peers: Sequence[Mapping[str, Any]]) -> str:
  head = (
    'row',
    'gradients',
    'over its SGD',
    'quartiles',
    'ideal / measured',
    'over our SGD',
  )
  body = []
  for row in peers:
    low, high = row['quartiles']
    cells = [
      row['name'],
      f'{row["gradients"]:.3f}',
      f'{row["ratio"]:.3f}',
      f'{low:.3f} to {high:.3f}',
      f'{row["efficiency"]:.3f}',
      f'{row["over_sgd"]:.3f}',
    ]
    body.append(cells)
  return table.markdown(head, body)


def _number(number: float | None, form: str) -> str:
  return '-' if number is None else format(number, form)


def _with_ends(numbers: Sequence[float] | None) -> str:
  if numbers is None:
    return '-'
  value, low, high = numbers
  return f'{value:.3f} ({low:.3f} to {high:.3f})'
