"""Which devices a run takes, and which requests are refused."""

import math
from collections.abc import Sequence
from typing import Any

import jax
from jax.sharding import AxisType

from train import checks
from train.checks import Config, ConfigError
from train.parallel.devices import AXES, ROUTES, Devices


def choose(config: Config) -> Devices:
  """The devices that a config asks for.

  Args:
    config: the config of the run.

  Returns:
    The devices. Unless the config says otherwise, they are all that there are,
    by pmap; on the CPU of one process, one.

  Raises:
    ConfigError: if it cannot be run on the devices that there are.
  """
  there = jax.devices()
  for name, known in (
    ('parallel', ROUTES),
    ('perturbation', ('local', 'synced')),
  ):
    if config[name] is not None:
      checks.pick(name, config[name], dict.fromkeys(known))
  shape = _shape(config, there)
  several = len(shape) > 1
  route = config.parallel or ('jit' if several else 'pmap')
  if several and route != 'jit':
    raise ConfigError(
      f'Given mesh={shape} with parallel={route!r}. Over a second axis '
      "parameters are split, which XLA does for 'jit' alone. Use "
      "parallel='jit', or one axis."
    )
  count = math.prod(shape)
  single = count == 1 and config.parallel is None
  by_jit = route == 'jit' or single
  if by_jit and count > 1 and config.perturbation == 'local':
    raise ConfigError(
      "Given perturbation='local' with parallel='jit'. By jit a step treats "
      'the whole batch as if on one device, so that no device has a gradient '
      'of its own. '
      "Use 'pmap' or 'shard_map', or "
      f'examples_per_perturbation={config.batch_size // count}, which perturbs '
      'alike whatever the number of devices.'
    )
  group = config.examples_per_perturbation
  if group is not None:
    checks.at_least('examples_per_perturbation', group, 1)
  if group is not None and config.perturbation == 'synced':
    raise ConfigError(
      f"Given examples_per_perturbation={group} with perturbation='synced'. "
      'That is one perturbation for the whole batch. Leave one of them out.'
    )
  _check_sizes(config, count, 1 if by_jit else count)
  if single:
    return Devices(group=group)
  mesh = jax.make_mesh(
    shape,
    AXES[: len(shape)],
    axis_types=(AxisType.Auto,) * len(shape),
    devices=there[:count],
  )
  return Devices(mesh, route, config.perturbation or 'local', group)


def _shape(config: Config, there: Sequence[Any]) -> tuple[int, ...]:
  """How many devices along each axis."""
  processes = jax.process_count()
  if config.mesh is None:
    asked = config.parallel is not None or processes > 1
    return (len(there) if asked or there[0].platform != 'cpu' else 1,)
  shape = tuple(config.mesh)
  given = f'Given mesh={shape}'
  sizes = all(isinstance(size, int) and size > 0 for size in shape)
  if not sizes or len(shape) not in (1, 2):
    raise ConfigError(
      f'{given}. It is how many devices the rows are split over, and, with '
      "parallel='jit', how many the parameters. Use one or two numbers from 1, "
      f'such as {len(there)}.'
    )
  count = math.prod(shape)
  if count > len(there):
    more = ''
    if there[0].platform == 'cpu':
      more = f', or set JAX_NUM_CPU_DEVICES={count}'
    raise ConfigError(
      f'{given}, which is {count} devices. Here are only {len(there)}. Use at '
      f'most so many{more}.'
    )
  if processes > 1 and count != len(there):
    raise ConfigError(
      f'{given}, which is {count} devices. The {processes} processes have '
      f'{len(there)}, and none may be without work. Use mesh=({len(there)},), '
      'or mesh=None for all of them.'
    )
  return shape


def _check_sizes(config: Config, count: int, parts: int) -> None:
  """Refuses rows that cannot be split evenly.

  Args:
    config: the config of the run.
    count: how many devices there are.
    parts: in how many parts a method sees the batch.
  """
  for name, size in (
    ('batch_size', config.batch_size),
    ('reference.batch_size', config.reference.batch_size),
  ):
    if size is not None and size % count:
      raise ConfigError(
        f'Given {name}={size} on {count} devices. Each takes as many rows. Use '
        f'a multiple of {count}, such as {-(-size // count) * count}, or '
        'another mesh.'
      )
  group, own = config.examples_per_perturbation, config.batch_size // parts
  if group is not None and own % group:
    raise ConfigError(
      f'Given examples_per_perturbation={group}. A device has {own} examples '
      f'of the batch, which are no whole number of such groups. Use a divisor '
      f'of {own}.'
    )
