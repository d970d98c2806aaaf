"""What pictures show: shares as shares, and a spread of its own for each."""

import numpy as np
import pytest

from train.report import cost, curves, panels, sensitivity
from train.tasks import Score

ACCURACY = Score('accuracy', '%', higher_is_better=True)
X = np.array([1.0, 2.0])


@pytest.fixture
def figure():
  plt = panels.pyplot()
  made = plt.figure()
  yield made
  plt.close(made)


def line(low, mean, high):
  return panels.Line(X, *(np.array(values) for values in (mean, low, high)))


def lines(count):
  names = [f'm{number}' for number in range(count)]
  return {name: line([1, 2], [2, 3], [4, 6]) for name in names}


def band(axis):
  """The lowest and the highest point of each spread that an axis has."""
  paths = [item.get_paths()[0].vertices[:, 1] for item in axis.collections]
  return [(path.min(), path.max()) for path in paths]


@pytest.mark.parametrize(('count', 'axes'), [(1, 1), (3, 1), (4, 4), (7, 7)])
def test_more_spreads_than_three_have_axes_of_their_own(count, axes, figure):
  drawn = panels.told_apart(figure, lines(count))
  shown = [axis for axis in drawn.flat if axis.get_visible()]
  assert len(shown) == axes
  for axis in shown:
    assert len(band(axis)) == (count if axes == 1 else 1)
    assert set(band(axis)) == {(1, 6)}
    # All means are on every axis, to be compared.
    assert len(axis.lines) == count
  if axes > 1:
    assert [axis.get_title() for axis in shown] == list(lines(count))
    assert panels.explained(lines(count)) == ' (dashed: m0; grey: the others)'
    assert [axis.lines[-2].get_linestyle() for axis in shown[1:]] == (
      ['--'] * (count - 1)
    )
  colors = list(panels.colors(lines(10)).values())
  assert len(set(colors)) == 10 and 'C7' not in colors  # it is grey


@pytest.mark.parametrize(
  ('means', 'logarithmic'), [([50.0, 99.0], True), ([50.0, 60.0], False)]
)
def test_an_axis_of_errors_shows_shares_that_go_up(means, logarithmic, figure):
  shares = {'sam': panels.Line(X, *[np.array(means)] * 3)}
  errors = panels.as_errors(shares)
  axes = panels.told_apart(figure, errors)
  assert panels.scale_shares(axes, errors) == logarithmic
  (axis,) = axes.flat
  assert (axis.get_yscale() == 'log') == logarithmic
  bottom, top = axis.get_ylim()
  assert bottom > top  # a small error is above
  tick = axis.yaxis.get_major_formatter()
  assert [tick(error, 0) for error in (50.0, 5.0, 0.5)] == ['50', '95', '99.5']


def test_the_spread_of_a_share_stays_around_its_mean():
  errors = panels.as_errors({'sam': line([80, 90], [85, 92], [90, 99])})
  np.testing.assert_array_equal(errors['sam'].mean, [15, 8])
  np.testing.assert_array_equal(errors['sam'].low, [10, 1])
  np.testing.assert_array_equal(errors['sam'].high, [20, 10])


def test_a_grid_shows_means_and_standard_deviations(tmp_path, monkeypatch):
  drawn = {}
  told_apart = panels.told_apart
  monkeypatch.setattr(
    panels,
    'told_apart',
    lambda figure, found, style: (
      drawn.update(found) or told_apart(figure, found, style)
    ),
  )
  rows = [
    {
      'method': method,
      'overrides': f'data.label_noise={value}',
      'score': {'mean': 90 - 50 * value, 'std': std, 'values': [1.0]},
    }
    for method, std in (('sgd', 2.0), ('sam', None))
    for value in (0, 0.4)
  ]
  path = tmp_path / 'grid.png'
  assert sensitivity.picture(rows, ACCURACY, 'title', path)
  np.testing.assert_array_equal(drawn['sgd'].low, [88, 68])
  np.testing.assert_array_equal(drawn['sgd'].high, [92, 72])
  np.testing.assert_array_equal(drawn['sam'].low, drawn['sam'].mean)
  assert sensitivity._named('data.label_noise').startswith(
    'data.label_noise: share of the training labels'
  )
  assert sensitivity._named('method.rho') == 'method.rho'


def test_the_cost_of_a_method_is_drawn_where_methods_differ(
  tmp_path, monkeypatch
):
  points = []
  row = lambda method, epochs, mean: {
    'method': method,
    'overrides': '',
    'sgd_epochs': epochs,
    'score': {'mean': mean, 'std': 0.5, 'values': [mean]},
  }
  axes = panels.pyplot().Axes
  errorbar = axes.errorbar
  monkeypatch.setattr(
    axes,
    'errorbar',
    lambda self, x, y, yerr, **style: (
      points.append((style['label'], x, y, yerr))
      or errorbar(self, x, y, yerr, **style)
    ),
  )
  path = tmp_path / 'cost.png'
  rows = [row('sgd', 30.0, 70.0), row('sam', 60.0, 75.0), row('no', None, 1.0)]
  assert cost.picture(rows, ACCURACY, 'title', path)
  assert path.read_bytes().startswith(b'\x89PNG')
  assert points == [('sgd', 30.0, 70.0, 0.5), ('sam', 60.0, 75.0, 0.5)]
  equal = [row('sgd', 30.0, 70.0), row('other', 30.0, 75.0)]
  assert not cost.picture(equal, ACCURACY, 'title', path)


def test_curves_are_of_the_shares_and_their_range(monkeypatch, tmp_path):
  drawn = {}
  told_apart = panels.told_apart
  monkeypatch.setattr(
    panels,
    'told_apart',
    lambda figure, found: drawn.update(found) or told_apart(figure, found),
  )
  steps = {
    'step': X,
    'loss': X,
    'perturbed': np.array([1, 0]),
    'sam_fraction': np.array([1.0, 0.5]),
  }
  runs = [
    curves.Curves(steps, {'step': X, 'test_accuracy': np.array([0.5, best])})
    for best in (0.7, 0.9)
  ]
  groups = {name: runs for name in ('a', 'b', 'c', 'd')}
  assert curves.picture(groups, ACCURACY, 'title', tmp_path / 'x.png')
  np.testing.assert_allclose(drawn['d'].mean, [50, 20])  # the errors
  np.testing.assert_allclose(drawn['d'].low, [50, 10])
  np.testing.assert_allclose(drawn['d'].high, [50, 30])
