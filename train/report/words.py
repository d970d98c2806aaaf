"""What a table says, in words that are worked out from its numbers."""

from collections.abc import Mapping, Sequence
from typing import Any

from train.tasks import Score

Row = Mapping[str, Any]  # as `results.rows` makes it


def seen(
  rows: Sequence[Row], main: Score, about: str = '', timed: bool = True
) -> list[str]:
  """Compares methods with the first one, the base optimizer.

  Two methods are told apart where every seed of one is better than every seed
  of the other.

  Args:
    rows: the rows, the base optimizer first.
    main: the score of the runs.
    about: what is special about the runs, in a few words.
    timed: whether the speeds mean something, see `train/report/speeds.py`.

  Returns:
    Sentences; none without two rows that have a score.
  """
  found = [row for row in rows if row['score']['values']]
  if len(found) < 2:
    return []
  base, *others = found
  name, where = base['method'], f'With {about}, ' if about else ''
  text = [f'{where}{name} ends at a test {main.name} of {_mean(base, main)}.']
  better, worse, near = [], [], []
  for row in others:
    sign = _apart(row, base) * (1 if main.higher_is_better else -1)
    (better if sign > 0 else worse if sign < 0 else near).append(row)
  for group, word in ((better, 'Better'), (worse, 'Worse')):
    if group:
      listed = _listed([_compared(row, base, main) for row in group])
      text.append(f'{word} than {name} with every seed: {listed}.')
  if near:
    names = _listed([row['method'] for row in near])
    seeds = min(len(row['score']['values']) for row in (base, *near))
    why = f'the ranges over {seeds} seeds overlap'
    if seeds < 2:
      why = 'one seed has no spread'
    text.append(f'Not told apart from {name}: {names} ({why}).')
  return text + (_cost(better, base) if timed else [])


def _apart(row: Row, base: Row) -> int:
  """1 or -1 where all values are above or below those of the base, else 0."""
  own, other = row['score']['values'], base['score']['values']
  if min(len(own), len(other)) < 2:
    return 0
  return (min(own) > max(other)) - (max(own) < min(other))


def _compared(row: Row, base: Row, main: Score) -> str:
  difference = abs(row['score']['mean'] - base['score']['mean'])
  unit = 'points' if main.unit == '%' else main.unit
  return f'{row["method"]} by {difference:.1f} {unit}'.rstrip()


def _cost(rows: Sequence[Row], base: Row) -> list[str]:
  """The time of the fastest of some rows, beside that of the base."""
  timed = [row for row in rows if row['images_per_second']]
  if not timed or not base['images_per_second']:
    return []
  row = max(timed, key=lambda row: row['images_per_second'])
  ratio = base['images_per_second'] / row['images_per_second']
  which = 'Of the better ones ' if len(rows) > 1 else ''
  fastest = 'was the fastest here: ' if len(rows) > 1 else 'took '
  return [
    f'{which}{row["method"]} {fastest}{ratio:.2f} times the time of '
    f'{base["method"]}.'
  ]


def _mean(row: Row, main: Score) -> str:
  return f'{row["score"]["mean"]:.1f} {main.unit}'.rstrip()


def _listed(words: Sequence[str]) -> str:
  *most, last = words
  return f'{", ".join(most)} and {last}' if most else last
