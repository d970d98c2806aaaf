"""How a network is quantised: the section `model.quantize` of a config."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from train import checks
from train.models.quantize.lsq import codes


class Settings(NamedTuple):
  """How a network is quantised.

  Attributes:
    weights: bits of the kernels, 2 to 16.
    activations: bits of the layers' inputs, 2 to 16.
    ends: bits of either in the first layer that is used, and in the last one,
      or in each that gives an output (see `Composed`): 8, as in LSQ's paper.
    count_batch: whether the number of features that scales the gradient of an
      input's step counts the whole batch, as in most ports. By default it
      counts those of one example, as the paper's text reads: with the batch,
      the factor would change where a method takes a gradient of half a batch,
      and with the number of devices.
    perturb_steps: whether a perturbation moves the steps. By default it does:
      the released SAM classes perturb all that the optimizer holds.
    decay_steps: whether the steps decay with the weights. By default they do:
      every port has one group of parameters.
  """

  weights: int
  activations: int
  ends: int = 8
  count_batch: bool = False
  perturb_steps: bool = True
  decay_steps: bool = True


_BITS = ('weights', 'activations', 'ends')


def section(weights: int, activations: int, **changes: Any) -> dict[str, Any]:
  """The section of a config, with all of its keys.

  Args:
    weights: bits of the kernels.
    activations: bits of the layers' inputs.
    **changes: other fields of :class:`Settings`.

  Returns:
    The section.
  """
  return read(
    {'weights': weights, 'activations': activations, **changes}
  )._asdict()


def read(given: Any) -> Settings:
  """Reads the section of a config.

  Args:
    given: what the config has as `model.quantize`.

  Returns:
    The settings.

  Raises:
    ValueError: if a key is unknown or missing, or a value cannot be used.
  """
  if not isinstance(given, Mapping):
    raise ValueError(
      f'Cannot quantise with quantize={given!r}: weights and activations have '
      "bits of their own. Give {'weights': 4, 'activations': 4}."
    )
  for name in given:
    if name not in Settings._fields:
      raise ValueError(
        f'Cannot quantise with quantize.{name}: there is no such key. '
        f'{checks.nearest(str(name), Settings._fields)}'
      )
  for name in _BITS[:2]:
    if name not in given:
      raise ValueError(
        f'Cannot quantise without quantize.{name}: the number of its bits has '
        "no default. Give {'weights': 4, 'activations': 4}."
      )
  settings = Settings(**given)
  for name in Settings._fields:
    value = getattr(settings, name)
    if name in _BITS:
      # An input may be negative, which takes signed codes.
      try:
        codes(value, signed=True)
      except ValueError as error:
        raise ValueError(f'In quantize.{name}: {error}') from error
    elif not isinstance(value, bool):
      raise ValueError(
        f'Cannot quantise with quantize.{name}={value!r}: it is a switch. Give '
        'True or False.'
      )
  return settings
