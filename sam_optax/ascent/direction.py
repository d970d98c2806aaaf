"""From a gradient to another direction, before it is given a radius."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from sam_optax import _base, _check, _random, _tree


class AverageState(NamedTuple):
  """State of `friendly` and `average`.

  Attributes:
    step: gradients seen, int32.
    ema: the moving average of the gradient, shaped as the params.
  """

  step: jax.Array
  ema: _base.PyTree


def _init_average(params: _base.PyTree) -> AverageState:
  return AverageState(jnp.zeros([], jnp.int32), _tree.zeros_like(params))


def _move(
  average: _base.PyTree, gradient: _base.PyTree, weight: jax.Array
) -> _base.PyTree:
  """Average + weight (gradient - average).

  In this form a constant gradient leaves the average exactly as it is.
  """
  change = _tree.scale(weight, _tree.subtract(gradient, average))
  return _tree.add(average, change)


def friendly(
  sigma: _base.ScalarOrSchedule | str = 1.0,
  decay: _base.ScalarOrSchedule = 0.95,
  variant: str = 'code',
) -> optax.GradientTransformationExtraArgs:
  r"""The gradient minus its own moving average (F-SAM): a direction.

  .. math::
    d_t = g_t - \sigma m_{t-1}, \qquad
    m_t = \lambda m_{t-1} + (1-\lambda) g_t, \qquad m_0 = g_0

  The average is of the gradient, not of `d`, and moves on every step, perturbed
  or not. Where :math:`\|d\| \le 10^{-7} \|g\|` the direction is rounding
  noise and becomes zero (our choice).

  Args:
    sigma: how much of the average is removed, at least 0 (the paper: 1), or
      `'cos'` for the cosine between gradient and average.
    decay: :math:`\lambda` in [0, 1].
    variant: `'code'` as the authors released it (above); `'paper'` for
      Algorithm 1: :math:`m_{-1} = 0` and :math:`d_t = g_t - \sigma m_t`.

  Returns:
    A transformation from gradient to direction.
  """
  if not isinstance(sigma, str):
    _check.number(
      'sigma', sigma, why="sigma is a share of the average, or 'cos'"
    )
  else:
    _check.one_of('sigma', sigma, ('cos',))
  _check.number('decay', decay, 0, 1, why='decay weighs a moving average')
  _check.one_of('variant', variant, ('code', 'paper'))

  def update(updates, state, params=None, *, mean=None, **extra_args) -> Any:
    del params, extra_args
    gradient = seen = _tree.promote(updates)
    if mean is not None and variant == 'paper':
      # The average that this step's direction needs already is of all devices.
      seen = mean(gradient)
    old = _tree.promote(state.ema)
    weight = 1 - jnp.asarray(_base.value_at(decay, state.step))
    if variant == 'code':
      weight = jnp.where(state.step == 0, jnp.ones_like(weight), weight)
    new = _move(old, seen, weight)
    average = old if variant == 'code' else new
    if isinstance(sigma, str):
      share = _tree.cosine(average, gradient)
    else:
      share = _base.value_at(sigma, state.step)
    direction = _tree.subtract(gradient, _tree.scale(share, average))
    direction = _tree.above_rounding(direction, gradient, 1e-7)
    ema = _tree.cast_like(new, state.ema)
    return direction, AverageState(_tree.increment(state.step), ema)

  return optax.GradientTransformationExtraArgs(_init_average, update)


def average(
  theta: _base.ScalarOrSchedule = 0.9,
) -> optax.GradientTransformationExtraArgs:
  r"""The moving average of the gradient (VaSSO): F-SAM's mirror image.

  .. math:: d_t = (1 - \theta) d_{t-1} + \theta g_t, \qquad d_0 = g_0

  It moves on every step, SAM step or plain.

  Args:
    theta: weight of the new gradient, in [0, 1].

  Returns:
    A transformation from gradient to direction.
  """
  _check.number('theta', theta, 0, 1, why='theta weighs a moving average')

  def update(updates, state, params=None, **extra_args) -> Any:
    del params, extra_args
    gradient = _tree.promote(updates)
    weight = jnp.asarray(_base.value_at(theta, state.step))
    weight = jnp.where(state.step == 0, jnp.ones_like(weight), weight)
    direction = _move(_tree.promote(state.ema), gradient, weight)
    ema = _tree.cast_like(direction, state.ema)
    return direction, AverageState(_tree.increment(state.step), ema)

  return optax.GradientTransformationExtraArgs(_init_average, update)


class RandomMaskState(NamedTuple):
  """State of `random_mask`.

  Attributes:
    step: steps taken, int32.
    key: typed PRNG key.
  """

  step: jax.Array
  key: jax.Array


def random_mask(
  beta: _base.ScalarOrSchedule = 0.6, key: _base.Key = 0
) -> optax.GradientTransformationExtraArgs:
  """The gradient with some parameter tensors left out (ESAM's SWP).

  Each tensor is kept with probability beta, by a draw of its own on each
  step; the first step keeps all, as the released code does.

  Args:
    beta: probability in (0, 1].
    key: PRNG key or int seed.

  Returns:
    A transformation from gradient to direction.
  """
  _check.number('beta', beta, 0, 1, above=True, why='beta is a probability')

  def init(params):
    del params
    return RandomMaskState(jnp.zeros([], jnp.int32), _random.make_key(key))

  def update(updates, state, params=None, **extra_args) -> Any:
    del params, extra_args
    leaves, structure = jax.tree.flatten(_tree.promote(updates))
    draws = _random.uniforms(state.key, state.step, len(leaves))
    chance = _base.value_at(beta, state.step, draws.dtype)
    kept = (draws < chance) | (state.step == 0)
    direction = [
      jnp.where(kept[i], leaf, jnp.zeros_like(leaf))
      for i, leaf in enumerate(leaves)
    ]
    state = state._replace(step=_tree.increment(state.step))
    return jax.tree.unflatten(structure, direction), state

  return optax.GradientTransformationExtraArgs(init, update)


def reference(
  part: str = 'whole', *, variant: str = 'code'
) -> optax.GradientTransformationExtraArgs:
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
    variant: `'code'` for the projection above; `'paper'` for the printed
      :math:`\cos(g, g_R)\, g_R`, which lacks the factor
      :math:`\|g\| / \|g_R\|`, so that `'across'` is not orthogonal to
      :math:`g_R`.

  Returns:
    A transformation from gradient to direction. The method that it is in
    needs `reference_grad_fn=` at either door, and evaluates one gradient more.
  """
  _check.one_of('part', part, ('whole', 'along', 'across'))
  _check.one_of('variant', variant, ('code', 'paper'))

  def init(params):
    del params
    return optax.EmptyState()

  def update(
    updates, state, params=None, *, perturbed=True, reference=None, **extra_args
  ) -> Any:
    del extra_args
    if not perturbed:
      return updates, state
    if reference is None:
      raise ValueError(
        'Given no reference_grad_fn. This method compares the gradient with '
        'that of other data. Pass reference_grad_fn=jax.grad(lambda p: '
        'loss(p, other_batch)).'
      )
    gradient, other = _tree.promote(updates), _tree.promote(reference(params))
    if part == 'whole':
      return other, state
    along = _tree.component(gradient, other)
    if variant == 'paper':
      ratio = _tree.norm(other) / (_tree.norm(gradient) + _tree.EPS)
      along = _tree.scale(ratio, along)
    if part == 'along':
      return along, state
    return _tree.subtract(gradient, along), state

  return optax.GradientTransformationExtraArgs(init, update)


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
