"""The index of the published tables, and the page that is made from it."""

import json
import sys

import pytest

from configs import __main__ as command
from configs import published, reproduction
from tests.config_files import ROOT


def output_of(monkeypatch, capsys, *flags):
  monkeypatch.setattr(sys, 'argv', ['configs', *flags])
  assert command.main() == 0
  return capsys.readouterr().out


def test_the_index_is_a_table_or_json(monkeypatch, capsys):
  table = output_of(monkeypatch, capsys).splitlines()
  lines = output_of(monkeypatch, capsys, '--json').splitlines()
  assert len(table) == 1 + len(lines)
  for text, line in zip(table[1:], map(json.loads, lines), strict=True):
    paper, number, row, rest = text.split(maxsplit=3)
    assert (paper, number, row) == (
      line['paper'],
      line['table'],
      str(line['row']),
    )
    assert rest == (line['config'] or f'({line["why"]})')


def test_the_page_on_reproduction_is_up_to_date(monkeypatch, capsys):
  page = (ROOT / 'docs' / 'reproduction.md').read_text()
  assert page == output_of(monkeypatch, capsys, '--markdown')


def test_gpu_hours_are_those_of_the_published_speed():
  row = published.rows('ausam', '2')[1]
  assert (row.method, row.images_per_second) == ('sam', 1855)
  assert reproduction.hours(row, 200) == (200 * 50_000 / 1855 / 3600, False)
  # A row without a speed has that of SAM on the same network and set.
  row = published.rows('fsam', '1')[9]
  assert (row.model, row.method) == ('resnet18', 'fsam')
  assert reproduction.hours(row, 200) == (200 * 50_000 / 1855 / 3600, True)
  # Where the seconds of the whole training are printed, they come first.
  row = published.rows('ausam', '5')[2]
  assert (row.method, row.training_seconds) == ('ausam', 53_081)
  assert reproduction.hours(row, 200) == (53_081 / 3600, False)
  row = published.rows('fsam', '1')[0]
  assert (row.model, reproduction.hours(row, 200)) == ('vgg16_bn', (None, True))


@pytest.mark.parametrize(
  ('paper', 'table', 'claim'),
  [
    ('arsam', '2', '-0.16 to -0.12 points, 136 to 140 % speed'),
    ('fsam', '4', '+0.21 points'),
    ('fsam', '6', '+0.15 to +27.66 points'),
    ('ausam', '4', '-'),
    # From the seconds of training: the table prints no speed.
    ('ausam', '5', '+0.10 points, 144 % speed'),
  ],
)
def test_the_claim_of_a_table(paper, table, claim):
  assert reproduction.claim(published.rows(paper, table)) == claim
