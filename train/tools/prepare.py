"""Prepares a data set for TFDS, without TensorFlow and without a network.

  python -m train.prepare digits
  python -m train.prepare cifar10 --from=FOLDER

FOLDER holds the published files of CIFAR-10, binary or Python, unpacked from
an archive at https://www.cs.toronto.edu/~kriz/cifar.html. A set that is
prepared already is left alone.
"""

import argparse
import sys
from collections.abc import Sequence

from train.checks import DataError
from train.data import cifar
from train.data import tfds as tfds_sets


def digits(data_dir: str | None = None) -> str:
  """Prepares the digits of scikit-learn.

  Args:
    data_dir: as `train.data.memory.load` takes it.

  Returns:
    What was done, for people.

  Raises:
    train.checks.DataError: when it cannot be done.
  """
  tfds_sets.import_tfds('digits')
  from train.data import builders

  return builders.prepare(builders.Digits(data_dir=data_dir))


def cifar10(folder: str, data_dir: str | None = None) -> str:
  """Prepares CIFAR-10 from its published files.

  Args:
    folder: where they are, see `train.data.cifar.read_cifar10`.
    data_dir: as `train.data.memory.load` takes it.

  Returns:
    What was done, for people.

  Raises:
    train.checks.DataError: when it cannot be done.
  """
  tfds = tfds_sets.import_tfds('cifar10')
  from train.data import builders

  present = tfds.builder('cifar10', data_dir=data_dir)
  if present.is_prepared():
    return builders.prepare(present)
  # Before the builder makes any folder.
  records = cifar.read_cifar10(folder)
  cifar.check_cifar10(records)
  return builders.prepare(builders.Cifar10(records=records, data_dir=data_dir))


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command.

  Args:
    argv: its arguments; those of the process by default.

  Returns:
    The exit status.
  """
  parser = argparse.ArgumentParser(
    prog='python -m train.prepare',
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument('name', help='digits or cifar10')
  parser.add_argument(
    '--from',
    dest='folder',
    metavar='FOLDER',
    help='the published files (cifar10 only, and needed there)',
  )
  parser.add_argument(
    '--data_dir',
    help='where to write (default: $TFDS_DATA_DIR or ~/tensorflow_datasets)',
  )
  args = parser.parse_args(argv)
  try:
    print(_run(args.name, args.folder, args.data_dir))
  except DataError as error:
    print(error, file=sys.stderr)
    return 1
  return 0


def _run(name: str, folder: str | None, data_dir: str | None) -> str:
  if name == 'digits' and folder is None:
    return digits(data_dir)
  if name == 'cifar10' and folder is not None:
    return cifar10(folder, data_dir)
  if name == 'digits':
    raise DataError(
      f'Cannot prepare digits from {folder!r}. Its images come with'
      ' scikit-learn. Leave out --from.'
    )
  if name == 'cifar10':
    raise DataError(
      'Cannot prepare cifar10 from nothing. It is never downloaded here. Give'
      ' the folder of its published files: python -m train.prepare cifar10'
      ' --from=FOLDER.'
    )
  raise DataError(
    f'Cannot prepare {name!r}. Only digits and cifar10 are prepared without'
    f' TensorFlow. {tfds_sets.how_to_prepare(name, data_dir)}'
  )


if __name__ == '__main__':
  sys.exit(main())
