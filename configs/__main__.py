"""The index of the papers' tables: a config for each row, or why there is none.

python -m configs             as a table
python -m configs --json      as JSON lines: paper, table, row, config, why
python -m configs --markdown  the page docs/reproduction.md
"""

import argparse
import sys

from configs import index, reproduction


def main() -> int:
  """Runs the command, and gives the exit status."""
  parser = argparse.ArgumentParser(
    prog='python -m configs',
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  form = parser.add_mutually_exclusive_group()
  form.add_argument('--json', action='store_true', help='a line for each row')
  form.add_argument(
    '--markdown', action='store_true', help='the page on reproduction'
  )
  arguments = parser.parse_args()
  if arguments.markdown:
    print(reproduction.page(), end='')
  elif arguments.json:
    print(index.as_json(index.entries()))
  else:
    print(index.as_text(index.entries()))
  return 0


if __name__ == '__main__':
  sys.exit(main())
