"""The runs of a sweep: their configs and their folders."""

import itertools
import json
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from train import workdir
from train.checks import Config, ConfigError
from train.command import OVERRIDE
from train.variants import build, overridden


class PlannedRun(NamedTuple):
  """One run of a sweep."""

  variant: str
  overrides: str  # of the grid: 'data.label_noise=0.2', '' without one
  seed: int
  folder: pathlib.Path
  config: Config

  @property
  def kind(self) -> tuple[str, str]:
    """Equal for the runs that differ in the seed only."""
    return self.overrides, self.variant

  @property
  def name(self) -> str:
    """The variant, its overrides, and the seed."""
    return ' '.join(
      filter(None, (self.variant, self.overrides, f'seed {self.seed}'))
    )


def combinations(texts: Sequence[str]) -> list[tuple[str, ...]]:
  """The overrides that a grid comes to.

  Args:
    texts: ``KEY=VALUE,VALUE,...`` for each key of the config that is swept.

  Returns:
    For each combination its ``KEY=VALUE`` of every key; one that is empty
    where nothing is swept.

  Raises:
    ConfigError: if a text is of another form, or a key cannot be swept.
  """
  axes, keys = [], []
  for text in texts:
    key, _, values = text.partition('=')
    if not all((key, *values.split(','))):
      raise ConfigError(
        f'Given --grid={text}. It names no key, or a value is empty. Use '
        '--grid=KEY=VALUE,VALUE, such as --grid=data.label_noise=0,0.2.'
      )
    keys.append(key)
    axes.append(
      [f'{key}={value}' for value in dict.fromkeys(values.split(','))]
    )
  for index, key in enumerate(keys):
    _check_key('--grid', key, keys[:index])
  return list(itertools.product(*axes))


def plan(
  module: Mapping[str, Any],
  variants: Sequence[str],
  seeds: int,
  folder: pathlib.Path,
  grid: Sequence[tuple[str, ...]] = ((),),
  common: Sequence[str] = (),
) -> list[PlannedRun]:
  """All runs of a sweep: a seed of every variant, then the next seed.

  So a machine whose speed drifts slows the variants alike.

  Args:
    module: what the config file defines.
    variants: of it.
    seeds: how many runs of each; they have the seeds from 0.
    folder: of the sweep; each run is in VARIANT/OVERRIDES/SEED inside it.
    grid: what `combinations` returned.
    common: ``--config.KEY=VALUE``, of every run.

  Returns:
    The runs, one combination of the grid after another. Values that are equal
    once they are read, such as 0.1 and 0.10, are one.

  Raises:
    ConfigError: if a key cannot be set, or has two values.
  """
  swept = [value.split('=')[0] for value in grid[0]]
  for given in common:
    key = given.partition('config.')[2].split('=')[0]
    _check_key('--config', key, swept)
  lacks = _lacking(module, variants, swept)
  for variant, keys in lacks.items():
    if keys:
      print(
        f'{variant} has no {", ".join(sorted(keys))}: it is trained once for '
        'all values of it.',
        file=sys.stderr,
      )
  runs, places, merged = [], {}, {}
  for overrides in grid:
    for seed in range(seeds):
      for variant in variants:
        own = tuple(
          x for x in overrides if x.split('=')[0] not in lacks[variant]
        )
        settings = [
          *common,
          *(OVERRIDE + value for value in own),
          f'{OVERRIDE}seed={seed}',
        ]
        config = overridden(build(module, variant, variant), settings)
        # A value may be a path; a folder's name may not.
        parts = [value.replace('/', '_') for value in own]
        place = folder.joinpath(variant, *parts, str(seed))
        run = PlannedRun(variant, '/'.join(parts), seed, place, config)
        # Of the same config: '0.1' and '0.10', or keys that it lacks.
        same = variant, json.dumps(workdir.as_json(config), sort_keys=True)
        first = places.setdefault(same, run)
        if first is run:
          runs.append(run)
        elif first.overrides != run.overrides:
          merged[run.overrides] = first.overrides
  for overrides, first in merged.items():
    print(f'{overrides} is {first}: it is trained once.', file=sys.stderr)
  return runs


def _lacking(
  module: Mapping[str, Any], variants: Sequence[str], swept: Sequence[str]
) -> dict[str, set[str]]:
  """The arguments of methods in a grid that a variant's method has not."""
  keys = {
    variant: set(workdir.as_json(build(module, variant, variant))['method'])
    for variant in variants
  }
  known = set().union(*keys.values())
  return {
    variant: {
      key
      for key in swept
      if key.startswith('method.')
      and key.split('.')[1] in known - keys[variant]
    }
    for variant in variants
  }


def _check_key(flag: str, key: str, others: Sequence[str]) -> None:
  if key == 'seed':
    raise ConfigError(
      f'Given {flag} with seed. Every run of a sweep has a seed of its own. '
      'Say how many with --seeds.'
    )
  if key in others:
    raise ConfigError(
      f'Given {key} twice. A run can have only one value of it. Give all '
      'values in one --grid.'
    )
