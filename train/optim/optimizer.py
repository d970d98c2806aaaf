"""The base optimizer of a run and its learning rate, from the config."""

import operator
from collections.abc import Callable
from typing import Any

import jax
import optax

import sam_optax
from train import checks


def build_schedule(config: Any, total_steps: int) -> optax.Schedule:
  """Builds the learning rate: a function of the step.

  Args:
    config: the config of the run.
    total_steps: length of the schedule.

  Returns:
    The schedule.

  Raises:
    ConfigError: if an option cannot be used.
  """
  options = config.optimizer
  checks.at_least('optimizer.learning_rate', options.learning_rate, 0)
  checks.at_least('optimizer.warmup_steps', options.warmup_steps, 0)
  checks.between(
    'optimizer.end',
    options.end,
    0,
    1,
    'It is the share of the learning rate that is left at the end',
  )
  schedule = checks.pick('optimizer.schedule', options.schedule, SCHEDULES)
  rate = schedule(options, max(total_steps - options.warmup_steps, 1))
  if not options.warmup_steps:
    return rate
  rise = optax.linear_schedule(0.0, options.learning_rate, options.warmup_steps)
  return optax.join_schedules([rise, rate], [options.warmup_steps])


def build_optimizer(
  config: Any,
  total_steps: int,
  undecayed: Callable[[Any], Any] | None = None,
) -> optax.GradientTransformation:
  """Builds the base optimizer: clipping, weight decay, momentum, rate.

  Args:
    config: the config of the run.
    total_steps: length of the learning-rate schedule.
    undecayed: params -> a tree of bools, the leaves without weight decay beside
      those that the config leaves out; None for no others.

  Returns:
    An Optax transformation, applied to the method's gradient.

  Raises:
    ConfigError: if an option cannot be used.
  """
  options = config.optimizer
  checks.at_least('optimizer.weight_decay', options.weight_decay, 0)
  if not 0 <= options.momentum < 1:
    raise checks.ConfigError(
      f'Given optimizer.momentum={options.momentum}. It is what the update '
      'keeps of the last one, and from 1 on the updates grow without end. Use '
      'a value from 0 to below 1.'
    )
  decayed = checks.pick('optimizer.decayed', options.decayed, _MASKS)
  if undecayed is not None:
    decayed = _without(decayed, undecayed)
  rate = build_schedule(config, total_steps)
  build = checks.pick('optimizer.name', options.name, OPTIMIZERS)
  factors = _factors(options.multipliers)
  if factors:
    scaled = lambda factor: lambda step: factor * rate(step)
    optimizer = optax.partition(
      {
        path: build(options, scaled(factor), decayed)
        for path, factor in factors.items()
      },
      lambda params: _labels(params, factors),
    )
  else:
    optimizer = build(options, rate, decayed)
  if options.clip is None:
    return optimizer
  if not options.clip > 0:
    raise checks.ConfigError(
      f'Given optimizer.clip={options.clip}. It is the largest norm that a '
      'gradient keeps. Use a number above 0, or leave it out.'
    )
  return optax.chain(optax.clip_by_global_norm(options.clip), optimizer)


# The label of the parameters that no path of `optimizer.multipliers` names.
_REST = ''


def _factors(multipliers: Any) -> dict[str, float]:
  """The factor on the learning rate by path, that of the others included."""
  if not multipliers:
    return {}
  # From the command line one pair is often given without the outer brackets.
  pairs = [multipliers] if isinstance(multipliers[0], str) else multipliers
  for pair in pairs:
    if len(pair) != 2 or not isinstance(pair[0], str) or not pair[0]:
      raise checks.ConfigError(
        f'Given optimizer.multipliers={multipliers}. It is a list of pairs, of '
        "a path and the factor on its learning rate. Use (('head', 10.0),)."
      )
    checks.at_least(f'optimizer.multipliers of {pair[0]!r}', pair[1], 0)
  return {_REST: 1.0, **{path: float(factor) for path, factor in pairs}}


def _labels(params: Any, factors: dict[str, float]) -> Any:
  """The longest path of `factors` that each parameter's path starts with."""
  found = set()

  def label(keys: Any, leaf: Any) -> str:
    del leaf
    names = [str(getattr(key, 'key', key)) for key in keys]
    for end in range(len(names), 0, -1):
      path = '/'.join(names[:end])
      if path in factors:
        found.add(path)
        return path
    return _REST

  labels = jax.tree.map_with_path(label, params)
  unused = sorted(set(factors) - found - {_REST})
  if unused:
    raise checks.ConfigError(
      f'Given optimizer.multipliers of {", ".join(map(repr, unused))}. No '
      'parameter has a path that starts so. Use names of the network from the '
      f'top, with / between: it has {", ".join(map(str, params))}.'
    )
  return labels


_MASKS = {'all': None, 'kernels': sam_optax.kernels.mask}


def _without(mask: Any, left_out: Callable[[Any], Any]) -> Callable[[Any], Any]:
  """A mask without the leaves of another one."""

  def both(params):
    kept = jax.tree.map(operator.not_, left_out(params))
    if mask is None:
      return kept
    return jax.tree.map(operator.and_, mask(params), kept)

  return both


def _sgd(options, rate, mask):
  return optax.chain(
    optax.add_decayed_weights(options.weight_decay, mask),
    optax.sgd(rate, momentum=options.momentum, nesterov=options.nesterov),
  )


def _rmsprop(options, rate, mask):
  # Momentum 0 would keep a state for nothing.
  momentum = options.momentum or None
  return optax.chain(
    optax.add_decayed_weights(options.weight_decay, mask),
    optax.rmsprop(rate, momentum=momentum, nesterov=options.nesterov),
  )


def _adam(options, rate, mask):
  return optax.chain(
    optax.add_decayed_weights(options.weight_decay, mask), optax.adam(rate)
  )


def _adamw(options, rate, mask):
  return optax.adamw(rate, weight_decay=options.weight_decay, mask=mask)


# Weight decay joins the gradient before its scaling, as in PyTorch, but in
# AdamW, where it is decoupled: that is the difference from Adam.
OPTIMIZERS = {
  'sgd': _sgd,
  'rmsprop': _rmsprop,
  'adam': _adam,
  'adamw': _adamw,
}


def _cosine(options, steps):
  return optax.cosine_decay_schedule(options.learning_rate, steps, options.end)


def _linear(options, steps):
  rate = options.learning_rate
  return optax.linear_schedule(rate, options.end * rate, steps)


def _poly(options, steps):
  checks.at_least('optimizer.power', options.power, 0)
  rate = options.learning_rate
  return optax.polynomial_schedule(
    rate, options.end * rate, options.power, steps
  )


def _drops(options, steps):
  for share in options.drop_at:
    checks.between(
      'optimizer.drop_at',
      share,
      0,
      1,
      'These are shares of the steps after the warm-up',
    )
  checks.at_least('optimizer.drop', options.drop, 0)
  # A dict: two drops that fall on one step are one.
  drops = {int(share * steps): options.drop for share in options.drop_at}
  return optax.piecewise_constant_schedule(options.learning_rate, drops)


SCHEDULES = {
  'cosine': _cosine,
  'linear': _linear,
  'poly': _poly,
  'drops': _drops,
  'constant': lambda options, steps: optax.constant_schedule(
    options.learning_rate
  ),
}
