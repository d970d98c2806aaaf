r"""Shows trained networks side by side, in one HTML file that opens offline.

Examples:
  python -m train.look runs/sgd runs/sam --out=runs/look
  python -m train.look runs/sgd --noise=0.05,0.1 --out=runs/look

It reads finished runs, a folder of them too: the loss landscape, the spectrum
of the Hessian, how far the loss rises nearby, norms that were logged, the
examples that a method chose most and least often, and the curves. It writes
index.html and the pictures in it as PNG files, and trains nothing.
"""

import argparse
import functools
import sys
from collections.abc import Sequence

from train import command
from train.look import report, trained
from train.report import results
from train.report.results import SavedRun

_RADII = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


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
  found = results.read_all(args.folder)
  networks = [
    trained.load(run, name, args.examples, args.seed)
    for run, name in zip(found, _names(found), strict=True)
  ]
  options = report.Options(
    args.points, args.iterations, args.radii, args.noise, args.seed
  )
  args.out.mkdir(parents=True, exist_ok=True)
  path = report.write(found, networks, options, args.out)
  print(f'wrote {path} and the pictures beside it')


def _names(found: Sequence[SavedRun]) -> list[str]:
  """What tells the runs apart: variants, with more where they are the same."""
  for parts in (
    lambda run: [run.variant],
    lambda run: [run.variant, run.overrides],
    lambda run: [run.variant, run.overrides, f'seed {run.seed}'],
    lambda run: [str(run.folder)],
  ):
    names = [' '.join(filter(None, parts(run))) for run in found]
    if len(set(names)) == len(names):
      break
  return names


def _numbers(text: str) -> tuple[float, ...]:
  try:
    numbers = tuple(float(part) for part in text.split(','))
  except ValueError:
    numbers = ()
  if not numbers or min(numbers) <= 0:
    raise argparse.ArgumentTypeError(
      f'given {text!r}; use numbers above 0 with commas, such as 0.05,0.1'
    )
  return tuple(sorted(numbers))


def _parser() -> argparse.ArgumentParser:
  parser = command.parser('train.look', __doc__ or '')
  parser.add_argument(
    'folder',
    nargs='+',
    type=command.folder,
    metavar='RUN',
    help='the folder of a finished run or of a sweep',
  )
  parser.add_argument(
    '--out',
    required=True,
    type=command.folder,
    metavar='FOLDER',
    help='where index.html and the pictures go',
  )
  for flag, default, meaning in (
    ('examples', 256, 'training examples that the loss is of'),
    ('points', 15, 'points of the landscape in each direction'),
    ('iterations', 20, "products with the Hessian, of Lanczos' iteration"),
  ):
    parser.add_argument(
      f'--{flag}',
      type=command.count,
      default=default,
      metavar='N',
      help=f'{meaning} (default: {default})',
    )
  parser.add_argument(
    '--radii',
    type=_numbers,
    default=_RADII,
    metavar='NUMBERS',
    help=f'distances (default: {",".join(f"{x:g}" for x in _RADII)})',
  )
  parser.add_argument(
    '--noise',
    type=_numbers,
    default=(),
    metavar='NUMBERS',
    help='standard deviations of noise on the kernels: cosine and loss along '
    'the gradient of noisy weights (default: none)',
  )
  parser.add_argument(
    '--seed',
    type=int,
    default=0,
    metavar='N',
    help='of the examples, the directions and the noise (default: 0)',
  )
  return parser


if __name__ == '__main__':
  sys.exit(main())
