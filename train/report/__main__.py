"""Makes a table and pictures from the folders of runs.

Examples:
  python -m train.report runs/sweep --config=configs/digits.py
  python -m train.report runs/digits runs/fsam --workdir=runs/both

It reads what runs have written, finished or not, and trains nothing. It writes
table.md, table.json and curves.png, cost.png where the methods evaluate
different numbers of gradients, and for a grid sensitivity.png.
"""

import argparse
import functools
import sys
from collections.abc import Sequence

from train import command, variants
from train.report import alike, document
from train.report.results import names_in, read_all


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command.

  Args:
    argv: its arguments; the process's by default.

  Returns:
    The exit status.
  """
  return command.status_of(functools.partial(_main, argv))


def _main(argv: Sequence[str] | None) -> None:
  args = _parser().parse_args(argv)
  found = read_all(args.folder)
  alike.check_different((run.kind, run) for run in found)
  module = variants.read(variants.split(args.config)[0]) if args.config else {}
  into = args.workdir or args.folder[0]
  command.check_folder(into)
  markdown, files = document.write(found, names_in(module), into)
  print(markdown, *(f'wrote {path}' for path in files), sep='\n')


def _parser() -> argparse.ArgumentParser:
  parser = command.parser('train.report', __doc__ or '')
  parser.add_argument(
    'folder',
    nargs='+',
    type=command.folder,
    metavar='FOLDER',
    help='the folder of a sweep or of a run',
  )
  parser.add_argument(
    '--config',
    metavar='FILE',
    help='the config file of the runs, for the order of the rows, the title '
    'and the published numbers',
  )
  parser.add_argument(
    '--workdir',
    type=command.folder,
    metavar='FOLDER',
    help='where the files go (default: the first folder)',
  )
  return parser


if __name__ == '__main__':
  sys.exit(main())
