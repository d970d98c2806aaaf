"""Prepares CIFAR-10 or CIFAR-100 for TFDS, without TensorFlow or a network.

Examples:
  python -m train.prepare cifar10 --from=FOLDER
  python -m train.prepare cifar100 --from=FOLDER

FOLDER holds the published files, binary or Python, unpacked from an archive at
https://www.cs.toronto.edu/~kriz/cifar.html. A set that is prepared already is
left alone. Other sets are prepared by TFDS itself; the digits need nothing.
"""

import argparse
import functools
from collections.abc import Sequence

from train import command
from train.checks import DataError
from train.data import cifar
from train.data import tfds as tfds_sets


def prepare(name: str, folder: str, data_dir: str | None = None) -> str:
  """Prepares a set from its published files.

  Args:
    name: a name in `train.data.cifar.PUBLISHED`.
    folder: where the files are, see `train.data.cifar.read`.
    data_dir: as `train.data.memory.load` takes it.

  Returns:
    What was done, for people.

  Raises:
    DataError: when it cannot be done.
  """
  tfds = tfds_sets.import_tfds(name)
  from train.data import builders

  present = tfds.builder(name, data_dir=data_dir)
  if present.is_prepared():
    return builders.prepare(present)
  # Before the builder makes any folder.
  published = cifar.PUBLISHED[name]
  records = cifar.read(published, folder)
  note = published.check(records)
  builder = builders.BUILDERS[name](records=records, data_dir=data_dir)
  return builders.prepare(builder) + note


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
  _check(args.name, args.folder, args.data_dir)
  print(prepare(args.name, args.folder, args.data_dir))


def _check(name: str, folder: str | None, data_dir: str | None) -> None:
  if name == 'digits':
    raise DataError(
      "Cannot prepare 'digits'. Its images come with scikit-learn and are read"
      ' from there. Train on it as it is: --config.data.name=digits.'
    )
  if name not in cifar.PUBLISHED:
    raise DataError(
      f'Cannot prepare {name!r}. Only {" and ".join(cifar.PUBLISHED)} are'
      ' prepared without TensorFlow.'
      f' {tfds_sets.how_to_prepare(name, data_dir)}'
    )
  if folder is None:
    raise DataError(
      f'Cannot prepare {name} from nothing. It is never downloaded here. Give'
      f' the folder of its published files: python -m train.prepare {name}'
      ' --from=FOLDER.'
    )


def _parser() -> argparse.ArgumentParser:
  parser = command.parser('train.prepare', __doc__ or '')
  parser.add_argument('name', metavar='NAME', help='cifar10 or cifar100')
  parser.add_argument(
    '--from',
    dest='folder',
    metavar='FOLDER',
    help='the folder of the published files',
  )
  parser.add_argument(
    '--data_dir',
    metavar='FOLDER',
    help='where to write (default: $TFDS_DATA_DIR, or ~/tensorflow_datasets)',
  )
  return parser
