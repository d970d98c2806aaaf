"""From a gradient to another direction, before it is given a radius."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from sam_optax import _base, _check, _given, _random, _tree, kernels
from sam_optax._ascent import Ascent, Measured, Perturbation, stateless


class AverageState(NamedTuple):
  """State of `friendly` and `average`.

  Attributes:
    ema: the moving average of the gradient, shaped as the params.
    begun: bool, whether a gradient has entered it. The first one that is finite
      may not be that of the first step.
  """

  ema: _base.PyTree
  begun: jax.Array


def _init_average(params: _base.PyTree) -> AverageState:
  return AverageState(_tree.zeros_like(params), jnp.zeros([], jnp.bool_))


def _move(
  average: _base.PyTree, gradient: _base.PyTree, weight: jax.Array
) -> _base.PyTree:
  """Average + weight (gradient - average).

  In this form a constant gradient leaves the average exactly as it is.
  """
  change = _tree.scale(weight, _tree.subtract(gradient, average))
  return _tree.add(average, change)


def _stored(
  average: _base.PyTree, state: AverageState, gradient: _base.PyTree
) -> AverageState:
  average = optax.tree.cast_like(average, state.ema)
  new = AverageState(average, jnp.ones([], jnp.bool_))
  return _tree.kept(new, state, gradient)


def friendly(
  sigma: _base.ScalarOrSchedule | str = 1.0,
  decay: _base.ScalarOrSchedule = 0.95,
  variant: str = 'code',
) -> Ascent:
  r"""The gradient minus its own moving average (F-SAM): a direction.

  .. math::
    d_t = g_t - \sigma m_{t-1}, \qquad
    m_t = \lambda m_{t-1} + (1-\lambda) g_t, \qquad m_0 = g_0

  The average is of the gradient, not of `d`, and moves on every step, whether
  a SAM step or a plain one. Where :math:`\|d\| \le 10^{-7} \|g\|` the
  direction is rounding noise and becomes zero (our choice).

  Args:
    sigma: how much of the average is removed, at least 0 (the paper: 1), or
      `'cos'` for the cosine between gradient and average.
    decay: :math:`\lambda` in [0, 1].
    variant: `'code'` for the released code (above); `'paper'` for Algorithm 1:
      :math:`m_{-1} = 0` and :math:`d_t = g_t - \sigma m_t`.

  Returns:
    An ascent from gradient to direction.
  """
  if not isinstance(sigma, str):
    _check.number(
      'sigma', sigma, why="sigma is a share of the average, or 'cos'"
    )
  else:
    _check.one_of('sigma', sigma, ('cos',))
  _check.number('decay', decay, 0, 1, why='decay weighs a moving average')
  _check.one_of('variant', variant, ('code', 'paper'))

  def moved(state, gradient, step):
    weight = 1 - jnp.asarray(_base.value_at(decay, step))
    if variant == 'code':
      weight = _all_at_first(weight, state)
    return _move(_tree.promote(state.ema), gradient, weight)

  def perturb(gradient, state, params, context):
    del params
    gradient = _tree.promote(gradient)
    average = _tree.promote(state.ema)
    if variant == 'paper':
      # This direction needs the average that the step ends with, and that is
      # an average over devices.
      average = moved(state, context.mean(gradient), context.step)
    if isinstance(sigma, str):
      share = _tree.cosine(average, gradient)
    else:
      share = _base.value_at(sigma, context.step)
    direction = _tree.subtract(gradient, _tree.scale(share, average))
    return Measured(*_tree.above_rounding(direction, gradient, 1e-7))

  def remember(gradient, state, params, step):
    del params
    gradient = _tree.promote(gradient)
    return _stored(moved(state, gradient, step), state, gradient)

  return Ascent(_init_average, perturb, remember, keeps_finite=True)


def _all_at_first(weight: jax.Array, state: AverageState) -> jax.Array:
  """A weight, and 1 at first: the average begins with a gradient."""
  return jnp.where(state.begun, weight, jnp.ones_like(weight))


def average(theta: _base.ScalarOrSchedule = 0.9) -> Ascent:
  r"""The moving average of the gradient (VaSSO): the opposite of `friendly`.

  .. math:: d_t = (1 - \theta) d_{t-1} + \theta g_t, \qquad d_0 = g_0

  It moves on every step, whether a SAM step or a plain one.

  Args:
    theta: weight of the new gradient, in [0, 1].

  Returns:
    An ascent from gradient to direction.
  """
  _check.number('theta', theta, 0, 1, why='theta weighs a moving average')

  def moved(gradient, state, step):
    weight = jnp.asarray(_base.value_at(theta, step))
    weight = _all_at_first(weight, state)
    return _move(_tree.promote(state.ema), _tree.promote(gradient), weight)

  def perturb(gradient, state, params, context):
    del params
    return Perturbation(moved(gradient, state, context.step))

  def remember(gradient, state, params, step):
    del params
    return _stored(moved(gradient, state, step), state, gradient)

  return Ascent(_init_average, perturb, remember, keeps_finite=True)


class RandomMaskState(NamedTuple):
  """State of `random_mask`: a typed PRNG key."""

  key: jax.Array


def random_mask(
  beta: _base.ScalarOrSchedule = 0.6, key: _base.Key = 0
) -> Ascent:
  """The gradient with some parameter tensors left out (ESAM's SWP).

  Each tensor is kept with probability beta, by a draw of its own on each
  step; the first step keeps all, as the released code does.

  Args:
    beta: probability in (0, 1].
    key: PRNG key or int seed.

  Returns:
    An ascent from gradient to direction.
  """
  _check.number('beta', beta, 0, 1, above=True, why='beta is a probability')
  _check.key('key', key)

  def init(params):
    del params
    return RandomMaskState(_random.make_key(key))

  def perturb(gradient, state, params, context):
    del params
    leaves, structure = jax.tree.flatten(_tree.promote(gradient))
    draws = _random.uniforms(state.key, context.step, len(leaves))
    chance = _base.value_at(beta, context.step, draws.dtype)
    kept = (draws < chance) | (context.step == 0)
    direction = [
      jnp.where(kept[i], leaf, jnp.zeros_like(leaf))
      for i, leaf in enumerate(leaves)
    ]
    return Perturbation(jax.tree.unflatten(structure, direction))

  return Ascent(init, perturb)


def reference(part: str = 'whole', *, variant: str = 'code') -> Ascent:
  r"""A direction from a second gradient (the F-SAM paper's investigations).

  With :math:`g_R` the gradient that `reference_grad_fn` gives at the params
  (on the full training set, or on another or a larger batch):

  .. math::
    d = \begin{cases}
      g_R & \text{whole: SAM-db, or a batch k times as large} \\
      \langle g, g_R \rangle g_R / \|g_R\|^2 & \text{along: SAM-full} \\
      g - \langle g, g_R \rangle g_R / \|g_R\|^2 & \text{across: SAM-noise}
    \end{cases}

  Args:
    part: `'whole'`, `'along'` or `'across'`.
    variant: `'code'` for the projection above (no code was released: our
      choice); `'paper'` for the printed :math:`\cos(g, g_R)\, g_R`, which
      lacks the factor :math:`\|g\| / \|g_R\|`, so that `'across'` is not
      orthogonal to :math:`g_R`.

  Returns:
    An ascent from gradient to direction. The method that it is in needs
    `reference_grad_fn=` at either entry point, and evaluates one gradient more.
  """
  _check.one_of('part', part, ('whole', 'along', 'across'))
  _check.one_of('variant', variant, ('code', 'paper'))

  def perturb(gradient, state, params, context):
    del state
    gradient = _tree.promote(gradient)
    if not context.perturbed:
      return Perturbation(gradient)
    if context.reference is None:
      raise ValueError(
        'Given no reference_grad_fn. This method compares the gradient with '
        'the gradient on other data. Pass reference_grad_fn=jax.grad(lambda p: '
        'loss(p, other_batch)).'
      )
    other = _tree.promote(context.reference(params))
    if part == 'whole':
      return Perturbation(other)
    along = _tree.component(gradient, other)
    if variant == 'paper':
      ratio = _tree.norm(other) / (_tree.norm(gradient) + _tree.EPS)
      ratio = jnp.where(jnp.isfinite(ratio), ratio, 0)  # as in `component`
      along = _tree.scale(ratio, along)
    if part == 'along':
      return Perturbation(along)
    return Perturbation(_tree.subtract(gradient, along))

  return Ascent(stateless, perturb, reads_gradient=part != 'whole')


def centralized(
  mask: _base.Mask | None = None, axis: kernels.Axes | None = None
) -> Ascent:
  r"""The gradient of each kernel minus its mean (GCSAM).

  .. math:: d_k = g_k - \operatorname{mean}(g_k)

  for each kernel k: the weights of one output channel. `optax.centralize`
  numbers the kernels of a leaf by its first axis, as PyTorch does; the default
  here numbers those of Flax by the last. Where :math:`\|d\| \le 10^{-7} \|g\|`
  the direction is rounding noise and becomes zero (our choice).

  Args:
    mask: the leaves that are centered: a tree of bools with the params'
      structure, or a function from the params to it. None for the rule of
      `sam_optax.kernels`.
    axis: the axis or axes that number the kernels of each leaf with two or more
      axes, or a function (path, leaf) -> axes. None for the rule of
      `sam_optax.kernels`. A leaf that is centered without such axes is one
      kernel.

  Returns:
    An ascent from gradient to direction.
  """
  # No function as the default: `optax.inject_hyperparams` takes every function
  # for a schedule.
  mask = kernels.mask if mask is None else mask

  def center(path, is_centered, leaf):
    if not is_centered:
      return leaf
    numbered = kernels.axes_of(axis, path, leaf)
    rest = tuple(i for i in range(leaf.ndim) if i not in numbered)
    return leaf - jnp.mean(leaf, rest, keepdims=True)

  def perturb(gradient, state, params, context):
    del state, params, context
    gradient = _tree.promote(gradient)
    centered = _given.mask('mask', mask, gradient)
    direction = jax.tree_util.tree_map_with_path(center, centered, gradient)
    return Measured(*_tree.above_rounding(direction, gradient, 1e-7))

  return Ascent(stateless, perturb)


def only(mask: _base.Mask) -> optax.GradientTransformation:
  """The gradient of some leaves, and zero for the others (SAM-ON).

  Args:
    mask: a tree of bools with the params' structure, or a function from the
      params to it: the leaves that are perturbed.

  Returns:
    A transformation from gradient to direction.
  """

  def others(tree):
    kept = mask(tree) if callable(mask) else mask
    if not any(jax.tree.leaves(kept)):
      raise ValueError(
        'Given a mask that holds for no parameter. Nothing would be '
        'perturbed, and the method would be the base optimizer. Pass a mask '
        'that fits the names or the shapes of these parameters.'
      )
    return jax.tree.map(lambda keep: not keep, kept)

  return optax.masked(optax.set_to_zero(), others)


def normalization(params: _base.PyTree) -> _base.PyTree:
  """A mask of the normalisation parameters, by the names on their path.

  Those whose path has `norm` or `bn` in it, in upper or lower case, as the
  released code of SAM-ON has it.

  Args:
    params: a tree of named parameters.

  Returns:
    A tree of bools.
  """

  def is_normalization(path, leaf):
    del leaf
    name = jax.tree_util.keystr(path).lower()
    return 'norm' in name or 'bn' in name

  return jax.tree_util.tree_map_with_path(is_normalization, params)
