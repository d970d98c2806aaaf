"""From a direction to a perturbation of a given radius."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from sam_optax import _base, _check, _given, _tree, kernels
from sam_optax._ascent import Ascent, Context, Perturbation, stateless


def _check_rho(rho: _base.ScalarOrSchedule) -> None:
  _check.number('rho', rho, why='rho is the radius of the perturbation')


def _scaled(
  rho: _base.ScalarOrSchedule,
  step: jax.Array | None,
  direction: _base.PyTree,
  norm: jax.Array,
  eps: float = _tree.EPS,
) -> Perturbation:
  """Rho * direction / (norm + eps)."""
  radius = jnp.asarray(_base.value_at(rho, step), norm.dtype)
  return Perturbation(_tree.scale(radius / (norm + eps), direction), norm)


def _norm(direction: _base.PyTree, context: Context) -> jax.Array:
  """The norm of the direction that an ascent is given."""
  return _tree.norm(direction) if context.length is None else context.length


def gradient(rho: _base.ScalarOrSchedule, *, eps: float = _tree.EPS) -> Ascent:
  r"""A perturbation of norm rho along the direction given (SAM).

  .. math:: \epsilon = \rho\, d / (\|d\| + 10^{-12})

  The norm is over the whole tree and accumulates in float32, and the
  perturbation is float32 (or wider) whatever the dtype of `d`. A zero
  direction gives a zero perturbation.

  Args:
    rho: radius, at least 0, in units of the parameters.
    eps: added to the norm, at least 0; the code of ESAM has 1e-7.

  Returns:
    An ascent from direction to perturbation.
  """
  _check_rho(rho)
  _check.number('eps', eps, why='eps is added to a norm', schedule=False)

  def perturb(gradient, state, params, context):
    del state, params
    direction = _tree.promote(gradient)
    return _scaled(rho, context.step, direction, _norm(direction, context), eps)

  return Ascent(stateless, perturb, has_norm=True)


def adaptive(
  rho: _base.ScalarOrSchedule,
  eta: _base.ScalarOrSchedule = 0.01,
  adapt_all: bool = False,
  adapted: _base.Mask | None = None,
) -> Ascent:
  r"""A perturbation whose size follows the size of each weight (ASAM).

  .. math::
    T = |w| + \eta, \qquad
    \epsilon = \rho\, T^2 d / (\|T d\| + 10^{-12})

  Args:
    rho: radius, at least 0, measured by :math:`\|T^{-1}\epsilon\|`.
    eta: added to each :math:`|w|`, at least 0. At 0 a weight that is exactly
      0 is never perturbed.
    adapt_all: whether leaves that hold no kernels (biases, normalisation
      scales) are adapted too; otherwise :math:`T = 1` there.
    adapted: the leaves that are adapted, instead of adapt_all: a tree of bools
      with the params' structure, or a function from the params to it, such as
      `sam_optax.kernels.weights`.

  Returns:
    An ascent from direction to perturbation; it needs params.
  """
  _check_rho(rho)
  _check.number('eta', eta, why='eta is added to the size of each weight')

  def perturb(gradient, state, params, context):
    del state
    if params is None:
      raise ValueError(
        'Given no params. adaptive() scales the perturbation by the size of '
        'each weight. Pass them: update(direction, state, params).'
      )
    offset = _base.value_at(eta, context.step)

    def stretch(is_adapted, weight, value):
      if not is_adapted:
        return value
      return (jnp.abs(weight) + jnp.asarray(offset, weight.dtype)) * value

    if adapted is not None:
      mask = _given.mask('adapted', adapted, params)
    elif adapt_all:
      mask = jax.tree.map(lambda leaf: True, params)
    else:
      mask = kernels.mask(params)
    params = _tree.promote(params)
    stretched = jax.tree.map(stretch, mask, params, _tree.promote(gradient))
    norm = _tree.norm(stretched)
    direction = jax.tree.map(stretch, mask, params, stretched)
    return _scaled(rho, context.step, direction, norm)

  return Ascent(stateless, perturb, has_norm=True)


def fisher(
  rho: _base.ScalarOrSchedule,
  eta: _base.ScalarOrSchedule = 1.0,
  variant: str = 'paper',
) -> Ascent:
  r"""A perturbation bounded in the metric of a diagonal Fisher (FisherSAM).

  .. math::
    F = 1 + \eta g^2, \qquad
    \epsilon = \rho\, F^{-1} g / (\sqrt{g' F^{-1} g} + 10^{-12})

  the maximiser of :math:`g'\epsilon` under
  :math:`\epsilon' F \epsilon \le \rho^2`. Unlike in SAM, the direction changes
  with the scale of the gradient: use the mean loss, unscaled.

  Args:
    rho: radius in that metric, at least 0.
    eta: weight of the squared gradient, at least 0; at 0 it is `gradient`.
    variant: `'paper'` (above), or `'code'` to divide by
      :math:`\|F^{-1} g\|` instead, as one public code does.

  Returns:
    An ascent from gradient to perturbation.
  """
  _check_rho(rho)
  _check.number('eta', eta, why='eta weighs the squared gradient')
  _check.one_of('variant', variant, ('code', 'paper'))

  def perturb(gradient, state, params, context):
    del state, params
    gradient = _tree.promote(gradient)
    weight = _base.value_at(eta, context.step)
    natural = jax.tree.map(
      lambda g: g / (1 + jnp.asarray(weight, g.dtype) * g**2), gradient
    )
    if variant == 'paper':
      norm = _tree.sqrt(_tree.vdot(gradient, natural))
    else:
      norm = _tree.norm(natural)
    return _scaled(rho, context.step, natural, norm)

  return Ascent(stateless, perturb, has_norm=True)


def unified(
  rho: _base.ScalarOrSchedule, lam: _base.ScalarOrSchedule = 0.0
) -> Ascent:
  r"""A perturbation between un-normalised and normalised (unified SAM).

  .. math::
    \epsilon = \rho\, (1 - \lambda + \lambda / (\|g\| + 10^{-12}))\, g

  Args:
    rho: radius at lam = 1, factor of the gradient at lam = 0; at least 0.
    lam: :math:`\lambda` in [0, 1]; 0 is un-normalised SAM, 1 is `gradient`.

  Returns:
    An ascent from direction to perturbation.
  """
  _check_rho(rho)
  _check.number('lam', lam, 0, 1, why='lam weighs the normalised form')

  def perturb(gradient, state, params, context):
    del state, params
    direction = _tree.promote(gradient)
    norm = _norm(direction, context)
    radius = jnp.asarray(_base.value_at(rho, context.step), norm.dtype)
    share = jnp.asarray(_base.value_at(lam, context.step), norm.dtype)
    factor = radius * (1 - share + share / (norm + _tree.EPS))
    return Perturbation(_tree.scale(factor, direction), norm)

  return Ascent(stateless, perturb, has_norm=True)


def multi_step(
  rho: _base.ScalarOrSchedule,
  steps: int = 2,
  step_size: _base.ScalarOrSchedule | None = None,
) -> Ascent:
  r"""Several steps of projected gradient ascent.

  .. math::
    \epsilon_0 = 0, \quad
    \epsilon_{i+1} = \Pi_\rho (\epsilon_i
    + \alpha\, g_i / (\|g_i\| + 10^{-12})), \quad
    g_i = \nabla L(w + \epsilon_i)

  where :math:`\Pi_\rho` scales back to the ball of radius rho. Each step after
  the first evaluates a gradient.

  Args:
    rho: radius of the ball, at least 0.
    steps: number of steps, at least 1; at 1 it is `gradient`.
    step_size: :math:`\alpha`, at least 0; None for rho. The paper gives none;
      rho is the default of public code.

  Returns:
    An ascent from gradient to perturbation.
  """
  _check_rho(rho)
  _check.number(
    'steps',
    steps,
    1,
    static=True,
    why='steps is a number of ascent steps',
    whole=True,
  )
  if step_size is not None:
    _check.number('step_size', step_size, why='step_size is a length')

  def perturb(gradient, state, params, context):
    del state
    gradient = _tree.promote(gradient)
    if not context.perturbed:
      return Perturbation(gradient)
    gradient_at = context.gradient_at
    if gradient_at is None and steps > 1:
      raise ValueError(
        'Given no gradient_at. multi_step() evaluates gradients, which the '
        'spine does for it. Use it as the ascent of sharpness_aware().'
      )
    norm = _tree.norm(gradient)
    radius = jnp.asarray(_base.value_at(rho, context.step), norm.dtype)
    size = radius
    if step_size is not None:
      size = jnp.asarray(_base.value_at(step_size, context.step), norm.dtype)
    total = jax.tree.map(jnp.zeros_like, gradient)
    for number in range(steps):
      if number > 0 and gradient_at is not None:
        gradient = _tree.promote(gradient_at(_tree.add(params, total)))
      stride = size / (_tree.norm(gradient) + _tree.EPS)
      total = _tree.add(total, _tree.scale(stride, gradient))
      # Within the ball nothing is scaled, not even by a rounded 1.
      shrink = radius / jnp.maximum(_tree.norm(total), _tree.EPS)
      if number > 0 or step_size is not None:
        total = _tree.scale(jnp.minimum(shrink, 1), total)
    return Perturbation(total, norm)

  return Ascent(stateless, perturb, has_norm=True)
