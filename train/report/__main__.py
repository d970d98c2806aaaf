"""From the folders of runs to a table, its numbers and its pictures.

  python -m train.report runs/sweep --config=configs/digits.py

It reads what the runs have written, finished or not, and nothing else. The
config file gives the order of the rows, the title and the published numbers.
"""

import argparse
import pathlib
import sys
from collections.abc import Sequence

from train import checks, variants
from train.report import document
from train.report.results import SavedRun, names_in, read


def _check(found: Sequence[SavedRun], folders: Sequence[pathlib.Path]) -> None:
  given = f'Given {", ".join(map(str, folders))}'
  if not found:
    raise checks.ConfigError(
      f'{given}. There is no run in it, that is, no folder with a config.json. '
      'Give the --workdir of a sweep or of a run.'
    )
  places = {}
  for run in found:
    other = places.setdefault((run.kind, run.seed), run.folder)
    if other != run.folder:
      raise checks.ConfigError(
        f'{given}. {run.folder} and {other} would be the same run. Give '
        'folders whose runs differ in their variant, their grid or their seed.'
      )


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command.

  Args:
    argv: its arguments; those of the process by default.

  Returns:
    The exit status.
  """
  parser = argparse.ArgumentParser(
    prog='python -m train.report',
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument(
    'folder', nargs='+', type=pathlib.Path, help='of a sweep, or of a run'
  )
  parser.add_argument('--config', help='the config file of the runs')
  parser.add_argument(
    '--workdir',
    type=pathlib.Path,
    help='where table and pictures go (default: the first folder)',
  )
  args = parser.parse_args(argv)
  try:
    found = [run for folder in args.folder for run in read(folder)]
    _check(found, args.folder)
    module = variants.read(args.config) if args.config else {}
    markdown, files = document.write(
      found, names_in(module), args.workdir or args.folder[0]
    )
  except (checks.ConfigError, OSError) as error:
    print(f'error: {error}', file=sys.stderr)
    return 1
  print(markdown, *(f'wrote {path}' for path in files), sep='\n')
  return 0


if __name__ == '__main__':
  sys.exit(main())
