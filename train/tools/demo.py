"""Trains the same network with several methods, side by side.

Examples:
  python -m train.tools.demo
  python -m train.tools.demo --task=classification --seeds=1
  python -m train.tools.demo --methods=sgd,sam,gsam --seeds=5

It prints a table of the methods, says in words what it shows, and writes both
and a picture of the runs into the workdir.
"""

import argparse
import functools
import pathlib
import re
import shutil
import sys
from collections.abc import Mapping, Sequence

from train import checks, command, variants
from train.engine import preemption
from train.report import document, results, speeds, words
from train.sweep import execute, plan
from train.tools import demos


def main(argv: Sequence[str] | None = None) -> int:
  """Trains, prints the table, writes table and picture.

  Args:
    argv: the arguments; the process's by default.

  Returns:
    The exit status.
  """
  return command.status_of(functools.partial(_main, argv))


def _main(argv: Sequence[str] | None) -> int:
  args = _parser().parse_args(argv)
  try:
    return _demo(args)
  except preemption.Stopped as stopped:
    return stopped.status


def _demo(args: argparse.Namespace) -> int:
  demo = checks.pick('task', args.task, demos.DEMOS)
  workdir = args.workdir or pathlib.Path('runs/demo') / args.task
  seeds = args.seeds or demo.seeds
  module = variants.read(args.config or demo.config)
  if args.methods is None and 'DEMO' not in module:
    raise checks.ConfigError(
      f'Given --config={args.config}. The file has no DEMO, which says what to '
      'put side by side. Give --methods=NAMES, or --methods=all.'
    )
  labels = {variant: label for label, variant in module.get('DEMO', {}).items()}
  if args.methods is not None:
    labels = {name: name for name in variants.choose(module, args.methods)}
  # Trained anew each time, so there is nothing to resume. On one device, since
  # the methods are compared and not the machines.
  settings = ['--config.checkpoint.every=0', '--config.mesh=(1,)']
  settings += [*demo.settings, *demo.prepare(workdir)]
  if args.epochs is not None:  # the last one counts
    settings.append(f'--config.epochs={args.epochs}')
  todo = plan.plan(
    module, list(labels), seeds, workdir / 'runs', common=settings
  )
  for run in todo:
    shutil.rmtree(run.folder, ignore_errors=True)
  execute.prepare(todo)
  count = '1 seed' if seeds == 1 else f'{seeds} seeds'
  print(_what(todo[0], demo, f'{count} for each of {len(labels)} methods'))
  execute.run_all(todo)
  _show(demo, todo, labels, workdir, _what(todo[0], demo, count))
  return execute.missing(todo)


def _show(
  demo: demos.Demo,
  todo: Sequence[plan.PlannedRun],
  labels: Mapping[str, str],
  workdir: pathlib.Path,
  title: str,
) -> None:
  """Writes table and picture, and says what they show and what is next."""
  wanted = {run.folder for run in todo}
  found = [
    run for run in results.read(workdir / 'runs') if run.folder in wanted
  ]
  groups = {
    label: [run for run in found if run.variant == name]
    for name, label in labels.items()
  }
  main, names = results.main_of(found), results.Names(labels)
  demo.picture(groups, main, title, workdir / 'demo.png')
  # The text below the table says why, where the speeds mean nothing.
  timed = not speeds.doubt(found, names)
  seen = words.seen(results.rows(found, names), main, demo.about, timed)
  seen += demo.words(groups, main)
  table = document.text(found, names)
  markdown = '\n\n'.join(filter(None, (table, ' '.join(seen))))
  (workdir / 'table.md').write_text(markdown + '\n')
  print(f'\n{table}\n\nwrote {workdir}/table.md, {workdir}/demo.png')
  print('', *seen, *(_next(*one) for one in demo.further), sep='\n')


def _what(run: plan.PlannedRun, demo: demos.Demo, how_often: str) -> str:
  """A line that says what is trained."""
  config = run.config
  name = pathlib.Path(config.data.name).name
  what = f'{config.model.name} on {name}'
  return ', '.join(filter(None, (what, demo.about, how_often)))


def _next(command: str, good_for: str) -> str:
  """Two lines: a command to run next, and what it is good for."""
  # By hand, in a shell where another Python may come first on the path.
  python = pathlib.Path(sys.executable)
  here = pathlib.Path.cwd()
  if here in python.parents:
    name = python.relative_to(here).as_posix()
    command = re.sub(r'^python\b', name, command)
  return f'\nNext, {good_for}:\n  {command}'


def _parser() -> argparse.ArgumentParser:
  parser = command.parser('train.tools.demo', __doc__ or '')
  parser.add_argument(
    '--task',
    default=next(iter(demos.DEMOS)),
    metavar='NAME',
    help=f'one of {", ".join(demos.DEMOS)} (default: the first)',
  )
  parser.add_argument(
    '--config',
    metavar='FILE',
    help="a config file that has DEMO rows (default: the task's)",
  )
  parser.add_argument(
    '--methods',
    metavar='NAMES',
    help="variants of the config with commas, or 'all' (default: its DEMO)",
  )
  parser.add_argument(
    '--seeds',
    type=command.count,
    metavar='N',
    help="runs of each method (default: the task's, 3 of most)",
  )
  parser.add_argument(
    '--epochs',
    type=command.count,
    metavar='N',
    help="epochs of each run (default: the config's)",
  )
  parser.add_argument(
    '--workdir',
    type=command.folder,
    metavar='FOLDER',
    help='where the results go; what is there is replaced '
    '(default: runs/demo/NAME)',
  )
  return parser


if __name__ == '__main__':
  preemption.watch()
  sys.exit(main())
