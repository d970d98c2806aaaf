"""Trains several methods with several seeds, whatever of it is missing.

  python -m train.sweep --config=configs/digits.py --methods=sgd,sam,fsam
  python -m train.sweep --config=configs/digits.py --methods=sgd,sam \
      --grid=data.label_noise=0,0.2,0.4 --config.epochs=5

Each run has a folder WORKDIR/VARIANT/SEED, with a grid
WORKDIR/VARIANT/KEY=VALUE/SEED, as `python -m train` makes it. The same command
goes on where an earlier one was stopped: finished runs are passed over, begun
ones go on from their checkpoints. A run that fails is written down, and the
others go on. Table and pictures of all runs in WORKDIR are made at the end.
"""

import argparse
import contextlib
import functools
import json
import pathlib
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence

import ml_collections
from absl import logging

from train import __main__ as command
from train import (
  checkpoint,
  checks,
  data,
  jobs,
  loop,
  records,
  report,
  results,
  runs,
  sets,
  stream,
  workdir,
)
from train import config as train_config

# What would only happen again, since the same run is the same to the last bit.
_FINAL = records.NotFinite.__name__


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command.

  Args:
    argv: its arguments; those of the process by default.

  Returns:
    The exit status: 0 if every run is finished.
  """
  logging.set_verbosity(logging.ERROR)
  argv = sys.argv[1:] if argv is None else list(argv)
  args, overrides = _parser().parse_known_args(argv)
  root = pathlib.Path(args.workdir)
  try:
    module = runs.read(args.config)
    todo = runs.plan(
      module,
      runs.choose(module, args.methods),
      args.seeds,
      root,
      runs.grid(args.grid),
      overrides,
    )
    if args.worker is not None:
      with stoppable():
        go_through(jobs.share(todo, *map(int, args.worker.split('/'))))
      return 0
    prepare(todo)
    with stoppable():
      if args.jobs == '1':
        go_through(todo, bar=sys.stderr.isatty())
      else:
        jobs.run(argv, jobs.environments(args.jobs))
  except (train_config.ConfigError, data.DataError, OSError) as error:
    print(f'error: {error}', file=sys.stderr)
    return 1
  except (checkpoint.Stopped, KeyboardInterrupt) as stopped:
    print(stopped, file=sys.stderr)
    return command.STOPPED
  markdown, files = report.write(
    results.read(root), results.names_in(module), root
  )
  print(f'\n{markdown}\n', *(f'wrote {path}' for path in files), sep='\n')
  return missing(todo)


def prepare(todo: Sequence[runs.Run]) -> None:
  """Makes the folders of the runs, after all of them have been looked at.

  Args:
    todo: the runs.

  Raises:
    ConfigError, DataError: if a folder holds a run of another config, or a
      config cannot be run.
  """
  for run in todo:
    # What failed before its first step is no run of another config.
    if _is_over(run) and workdir.is_begun(run.folder):
      workdir.check_same(run.folder, run.config)
    elif not workdir.is_busy(run.folder):
      workdir.check(run.folder, run.config)
      train_config.check(run.config, dataset(run).num_examples)
  for run in todo:
    _forgive(run)
    # The config says which runs there are to be, before they begin.
    if not (run.folder / 'config.json').exists():
      run.folder.mkdir(parents=True, exist_ok=True)
      workdir.write_config(run.folder, run.config)


def _forgive(run: runs.Run) -> None:
  """Has a run that failed tried again, unless the same would happen."""
  failure = run.folder / workdir.FAILURE
  if not failure.exists() or (run.folder / 'result.json').exists():
    return
  begun = workdir.is_begun(run.folder)
  if not begun or json.loads(failure.read_text())['error'] != _FINAL:
    failure.unlink()
  if not begun:  # the config may have been at fault
    (run.folder / 'config.json').unlink(missing_ok=True)


def go_through(todo: Sequence[runs.Run], bar: bool = False) -> None:
  """Trains in this process what is missing, one run after another.

  Args:
    todo: the runs; those that differ in the seed only share what is compiled.
    bar: whether to show each run's progress.

  Raises:
    Stopped: if SIGTERM came; the run under way is saved.
  """
  last = {run.kind: run for run in todo}
  programs = {}
  for run in todo:
    if not _is_over(run) and not workdir.is_busy(run.folder):
      _train(run, programs, bar)
    if run is last[run.kind]:
      programs.pop(run.kind, None)  # it holds memory of the device


def _train(
  run: runs.Run, programs: dict[tuple[str, str], loop.Program], bar: bool
) -> None:
  try:
    if run.kind not in programs:
      programs[run.kind] = loop.Program(run.config, dataset(run))
    command.train(run.config, run.folder, programs[run.kind], bar)
  except checkpoint.Stopped:
    raise
  except workdir.Busy:
    pass  # since a moment ago
  # Whatever it is, it is this run's: the others may do better.
  except Exception as error:
    if not _is_over(run):  # by another process, since a moment ago
      _write_failure(run, error)
  else:
    _say(run)


def dataset(run: runs.Run) -> data.Dataset | stream.Streamed:
  """The data set of a run, which others may share."""
  return _open(run.config.data.to_json())


@functools.cache
def _open(options: str) -> data.Dataset | stream.Streamed:
  return sets.open_set(ml_collections.ConfigDict(json.loads(options)))


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
  """Has SIGTERM and Ctrl-C stop what runs in it, a training after saving."""

  def stop(*_):
    raise KeyboardInterrupt(
      'Stopped between two steps. Run the same command again to go on.'
    )

  # A training puts its own handler in the place of the first.
  handlers = {
    signal.SIGTERM: stop,
    signal.SIGINT: lambda *_: signal.raise_signal(signal.SIGTERM),
  }
  before = {
    number: signal.signal(number, handlers[number]) for number in handlers
  }
  try:
    yield
  finally:
    for number, handler in before.items():
      signal.signal(number, handler)


def missing(todo: Sequence[runs.Run]) -> int:
  """Says which runs are not finished; the exit status is 1 if there are any."""
  status = 0
  for run in todo:
    if not (run.folder / 'result.json').exists():
      print(f'not finished: {run.name}, {run.folder}', file=sys.stderr)
      status = 1
  return status


def _is_over(run: runs.Run) -> bool:
  """Whether a run is finished or has failed."""
  return any(
    (run.folder / name).exists() for name in ('result.json', workdir.FAILURE)
  )


def _write_failure(run: runs.Run, error: Exception) -> None:
  record = {
    'error': type(error).__name__,
    'message': str(error),
    'traceback': ''.join(traceback.format_exception(error)),
  }
  run.folder.mkdir(parents=True, exist_ok=True)
  workdir.write(run.folder / workdir.FAILURE, json.dumps(record, indent=2))
  print(f'  {run.name}   failed: {error}', file=sys.stderr, flush=True)


def _say(run: runs.Run) -> None:
  result = json.loads((run.folder / 'result.json').read_text())
  print(
    f'  {run.name:14}   {result["test_accuracy"]:.2%} in '
    f'{result["train_seconds"]:.1f} s + {result["compile_seconds"]:.1f} s to '
    'compile',
    flush=True,
  )


def _jobs(text: str) -> str:
  return text if text == 'all' else str(checks.count(text))


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    prog='python -m train.sweep',
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
    epilog='Any --config.KEY=VALUE overrides that key in every run.',
    allow_abbrev=False,
  )
  parser.add_argument('--config', required=True, help='a file with VARIANTS')
  parser.add_argument(
    '--methods', help='variants, or patterns, with commas (default: all)'
  )
  parser.add_argument(
    '--seeds',
    type=checks.count,
    default=3,
    help='runs of each variant (default: 3)',
  )
  parser.add_argument(
    '--grid',
    action='append',
    default=[],
    metavar='KEY=VALUE,VALUE',
    help='runs at every value of a key; more keys, every combination',
  )
  parser.add_argument('--workdir', required=True, help='where the runs go')
  parser.add_argument(
    '--jobs',
    type=_jobs,
    default='1',
    metavar='N',
    help="processes at once, each with a device of its own; 'all' for as many "
    'as there are devices (default: 1, this process)',
  )
  # How `jobs.py` calls the command again: which of how many.
  parser.add_argument('--worker', help=argparse.SUPPRESS)
  return parser


if __name__ == '__main__':
  sys.exit(main())
