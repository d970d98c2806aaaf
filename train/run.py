"""One run in its folder: begun, resumed, finished."""

import contextlib
import functools
import json
import pathlib

import flax
import jax
import optax

import sam_optax
from train import checks, variants, workdir
from train.checks import Config
from train.config import late_starts
from train.data.open import folder_of, open_set
from train.engine import export, log, loop
from train.engine.checkpoint import Checkpoints
from train.parallel import processes

# What a result depends on besides its config.
_VERSIONS = (sam_optax, jax, optax, flax)
_RESULT = 'result.json'
_FILES = ('config.json', log.LINES, log.BOARD, workdir.MODEL, _RESULT)


def run(
  config: Config,
  folder: pathlib.Path,
  program: loop.Program | None = None,
  bar: bool = True,
) -> loop.Result:
  """Trains in a folder, from the last checkpoint if there is one.

  Args:
    config: the config of the run.
    folder: where the run goes: a new folder, made once the config has been
      checked, or the folder of a run of the same config that was stopped.
    program: of the same config but for its seed, to compile only once.
    bar: whether to show the progress.

  Returns:
    What came out, which is in `result.json` too.

  Raises:
    ConfigError, DataError, NotFinite, CheckpointError, Stopped, Failed: see
      `train/config.py`, `train/data/memory.py`, `train/engine/records.py`,
      `train/engine/checkpoint.py` and `train/parallel/processes.py`.
  """
  variants.check_keys(config, 'a config')
  images = folder_of(config.data)
  processes.on_primary(lambda: workdir.check_apart(folder, images))
  processes.on_primary(lambda: workdir.check(folder, config))
  if program is None:
    dataset = open_set(config.data)
    program = loop.Program(config, dataset)
    program.step.check_reference()
    if processes.is_primary():
      program.seen.say()
      epoch = program.num_examples // config.batch_size
      for text in late_starts(config, program.total_steps, epoch):
        checks.warn(text)
  with contextlib.ExitStack() as stack:
    lock = workdir.locked(folder, config)
    processes.on_primary(lambda: stack.enter_context(lock))
    data = program.seen.record()
    processes.on_primary(lambda: workdir.begin_data(folder, data))
    checkpoints = stack.enter_context(_checkpoints(folder, program))
    start = checkpoints.restore(
      program.init(config.seed), log.steps_logged(folder)
    )
    keep = start[1].step if start else 0
    lines = log.Log.nowhere()
    if processes.is_primary():
      total_steps = program.total_steps if bar else None
      main = program.step.task.main
      workdir.write_task(folder, config.task, main._asdict())
      lines = log.Log(folder, total_steps, keep, main)
    with lines:
      # Before the result, which says that the run is finished.
      result = program.run(
        config.seed,
        lines,
        checkpoints,
        start,
        finished=functools.partial(_keep, folder, config, program.step),
      )
  record = {
    **result.record(),
    'device': jax.devices()[0].device_kind,
    'devices': program.devices.count,
    **{module.__name__: module.__version__ for module in _VERSIONS},
  }
  if processes.is_primary():
    workdir.write(folder / _RESULT, json.dumps(record, indent=2))
  return result


def summary(result: loop.Result, folder: pathlib.Path) -> str:
  """A result and where its files are, for people."""
  main = result.main
  lines = [
    f'{f"test {main.name}":29}  {main.text(result.scores[main.name])}',
    f'images/s                       {result.images_per_second:,.0f}',
    f'gradients of a batch per step  {result.batch_gradients_per_step:.3f}',
    f'SAM steps                      {result.sam_fraction:.1%}',
    *(
      f'{f"test {main.name}, {name}":29}  {main.text(scores[main.name])}'
      for name, scores in result.further.items()
    ),
    f'compilation                    {result.compile_seconds:.1f} s',
    *(f'wrote {folder / name}' for name in _written(folder)),
  ]
  return '\n'.join(lines)


def _written(folder: pathlib.Path) -> list[str]:
  """The files that a run leaves; pictures are not of every task."""
  drawn = (folder / log.PICTURE).exists()
  return [*_FILES, *([log.PICTURE] if drawn else [])]


def _keep(folder, config, step, state) -> None:
  # Not the config of the step, whose seed is that of another run.
  export.write(folder / workdir.MODEL, config, step, state)
  export.write_examples(folder, step, state)


def _checkpoints(folder, program):
  config = program.config
  if not config.checkpoint.every:
    return Checkpoints.nowhere(program.total_steps)
  return Checkpoints(
    folder / 'checkpoints',
    every=config.checkpoint.every,
    keep=config.checkpoint.keep,
    # With the records, so that the device has work meanwhile.
    lag=config.log_every,
    total_steps=program.total_steps,
    num_devices=program.devices.count,
  )
