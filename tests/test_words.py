"""What a table is said to show, from numbers made by hand."""

import pytest

from train.report import words
from train.tasks import Score

ACCURACY = Score('accuracy', '%', higher_is_better=True)
ERROR = Score('error', 'px', higher_is_better=False)


def row(method, values, speed=100.0):
  score = {'mean': sum(values) / len(values), 'std': None, 'values': values}
  return {'method': method, 'score': score, 'images_per_second': speed}


ROWS = [
  row('SGD', [60.0, 62.0]),
  row('above', [90.0, 92.0], speed=50.0),
  row('touching', [62.0, 80.0], speed=400.0),
  row('just above', [62.5, 70.0], speed=80.0),
  row('below', [3.0, 5.0]),
  row('around', [50.0, 70.0]),
]


def test_methods_are_told_apart_where_no_seeds_overlap():
  assert words.seen(ROWS, ACCURACY, 'wrong labels') == [
    'With wrong labels, SGD ends at a test accuracy of 61.0 %.',
    'Better than SGD with every seed: above by 30.0 points and just above by'
    ' 5.2 points.',
    'Worse than SGD with every seed: below by 57.0 points.',
    'Not told apart from SGD: touching and around (the ranges over 2 seeds'
    ' overlap).',
    'Of the better ones just above was the fastest here: 1.25 times the time of'
    ' SGD.',
  ]


def test_nothing_is_said_of_speeds_that_mean_nothing():
  all_of_it = words.seen(ROWS, ACCURACY)
  assert words.seen(ROWS, ACCURACY, timed=False) == all_of_it[:-1]
  assert 'times the time of' in all_of_it[-1]


def test_a_score_that_is_to_be_low_is_better_below():
  said = ' '.join(words.seen(ROWS, ERROR))
  assert said.startswith('SGD ends at a test error of 61.0 px.')
  assert 'Better than SGD with every seed: below by 57.0 px.' in said
  assert 'Worse than SGD with every seed: above by 30.0 px' in said


def test_one_seed_tells_nothing_apart():
  rows = [row('SGD', [10.0]), row('SAM', [90.0])]
  said = words.seen(rows, ACCURACY)
  assert said[1] == 'Not told apart from SGD: SAM (one seed has no spread).'
  assert not any('etter' in sentence for sentence in said)


@pytest.mark.parametrize(
  'rows',
  [
    [],
    ROWS[:1],
    [
      ROWS[0],
      row('b', [1]) | {'score': {'mean': None, 'std': None, 'values': []}},
    ],
  ],
)
def test_nothing_is_said_of_one_method(rows):
  assert words.seen(rows, ACCURACY) == []
