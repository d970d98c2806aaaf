"""Trains the missing runs of a sweep in this process."""

import functools
import json
import sys
import traceback
from collections.abc import Sequence

import ml_collections

from train import checks, tasks, workdir
from train import config as train_config
from train import run as one_run
from train.data.open import AnySet, folder_of, open_set
from train.data.tests import TestSet, open_tests
from train.engine import loop, records
from train.engine.preemption import Preemption, Stopped
from train.engine.seen import see
from train.sweep.plan import PlannedRun

# What would only happen again, since the same run is the same to the last bit.
_FINAL = records.NotFinite.__name__


def prepare(todo: Sequence[PlannedRun]) -> None:
  """Makes the folders of the runs, once all of them have been checked.

  Args:
    todo: the runs.

  Raises:
    ConfigError, DataError: if a folder holds a run of another config, or a
      config cannot be run.
  """
  seen_by_kind, late = {}, {}
  for run in todo:
    # What failed before its first step is no run of another config.
    if _is_over(run) and workdir.is_begun(run.folder):
      workdir.check_same(run.folder, run.config)
    elif workdir.is_busy(run.folder):
      # Its process writes the config first of all, a moment after the lock.
      if (run.folder / 'config.json').exists():
        workdir.check_same(run.folder, run.config)
    else:
      workdir.check_apart(run.folder, folder_of(run.config.data))
      workdir.check(run.folder, run.config)
      number = dataset(run).num_examples
      steps = train_config.check(run.config, number)
      epoch = number // run.config.batch_size
      # The seeds of a variant have the same to say.
      late |= dict.fromkeys(train_config.late_starts(run.config, steps, epoch))
      task = tasks.create(run.config, dataset(run))
      kind = run.config.task, run.config.data.to_json()
      further = _tests(run.config.data.to_json())
      seen = seen_by_kind.get(kind) or see(task, dataset(run), further)
      seen_by_kind[kind] = seen
  for seen in seen_by_kind.values():
    seen.say()
  for text in late:
    checks.warn(text)
  for run in todo:
    # Beside runs on data of the same name, finished ones too.
    seen = seen_by_kind.get((run.config.task, run.config.data.to_json()))
    if seen is not None:
      workdir.check_data(run.folder, seen.record())
  for run in todo:
    _forgive(run)
    # The config says which runs there are to be, before they begin.
    if not (run.folder / 'config.json').exists():
      run.folder.mkdir(parents=True, exist_ok=True)
      workdir.write_config(run.folder, run.config)


def _forgive(run: PlannedRun) -> None:
  """Lets a failed run be tried again, unless the same would happen."""
  failure = run.folder / workdir.FAILURE
  if not failure.exists() or (run.folder / 'result.json').exists():
    return
  begun = workdir.is_begun(run.folder)
  if not begun or (workdir.record(failure) or {}).get('error') != _FINAL:
    failure.unlink()
  if not begun:  # the config may have been at fault
    (run.folder / 'config.json').unlink(missing_ok=True)


def run_all(todo: Sequence[PlannedRun], bar: bool = False) -> None:
  """Trains the missing runs in this process, one after another.

  Args:
    todo: the runs; those that differ in the seed only share what is compiled.
    bar: whether to show each run's progress.

  Raises:
    Stopped: if SIGTERM or Ctrl-C came; the run under way is saved.
  """
  last = {run.kind: run for run in todo}
  programs = {}
  with Preemption() as preemption:
    for run in todo:
      if not _is_over(run) and not workdir.is_busy(run.folder):
        _train(run, programs, bar, preemption)
      elif other := _of_another(run):
        checks.warn(other)
      preemption.stop_if_noted()
      if run is last[run.kind]:
        programs.pop(run.kind, None)  # it holds memory of the device


def _train(
  run: PlannedRun,
  programs: dict[tuple[str, str], loop.Program],
  bar: bool,
  preemption: Preemption,
) -> None:
  try:
    if run.kind not in programs:
      programs[run.kind] = loop.Program(run.config, dataset(run))
    preemption.stop_if_noted()
    result = one_run.run(run.config, run.folder, programs[run.kind], bar)
  except Stopped:
    raise
  except workdir.Busy:
    pass  # since a moment ago
  # Whatever it is, it is this run's: the others may do better.
  except Exception as error:
    if not _is_over(run):  # by another process, since a moment ago
      _write_failure(run, error)
  else:
    _say(run, result)


def dataset(run: PlannedRun) -> AnySet:
  """The data set of a run, which others may share."""
  return _open(run.config.data.to_json())


@functools.cache
def _open(options: str) -> AnySet:
  return open_set(ml_collections.ConfigDict(json.loads(options)))


@functools.cache
def _tests(options: str) -> Sequence[TestSet]:
  config = ml_collections.ConfigDict(json.loads(options))
  return open_tests(config, _open(options))


def missing(todo: Sequence[PlannedRun]) -> int:
  """Says which runs are not finished; the exit status is 1 if there are any.

  A run of another config is none of them: another sweep has trained it in the
  same folder since `prepare`.
  """
  status = 0
  for run in todo:
    other = _of_another(run)
    if other or workdir.record(run.folder / 'result.json') is None:
      print(f'not finished: {run.name}, {run.folder}', file=sys.stderr)
      status = 1
    if other:
      print(other, file=sys.stderr)
  return status


def _of_another(run: PlannedRun) -> str | None:
  """Says how the config in a run's folder differs, None if it does not."""
  try:
    workdir.check_same(run.folder, run.config)
  except checks.ConfigError as error:
    return str(error)
  return None


def _is_over(run: PlannedRun) -> bool:
  """Whether a run is finished or has failed."""
  return any(
    (run.folder / name).exists() for name in ('result.json', workdir.FAILURE)
  )


def _write_failure(run: PlannedRun, error: Exception) -> None:
  said = checks.shortage(error) or str(error) or type(error).__name__
  record = {
    'error': type(error).__name__,
    'message': said,
    'traceback': ''.join(traceback.format_exception(error)),
  }
  run.folder.mkdir(parents=True, exist_ok=True)
  workdir.write(run.folder / workdir.FAILURE, json.dumps(record, indent=2))
  print(f'  {run.name}   failed: {said}', file=sys.stderr, flush=True)


def _say(run: PlannedRun, result: loop.Result) -> None:
  score = result.main.text(result.scores[result.main.name])
  print(
    f'  {run.name:14}   {score} in {result.train_seconds:.1f} s + '
    f'{result.compile_seconds:.1f} s to compile',
    flush=True,
  )
