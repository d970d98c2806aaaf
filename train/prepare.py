"""Prepares a data set for TFDS: `python -m train.prepare --help`."""

import sys

from train.tools.prepare import main

if __name__ == '__main__':
  sys.exit(main())
