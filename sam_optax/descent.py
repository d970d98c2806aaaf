"""Along what to descend, on a SAM step and on a plain one."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from sam_optax import _base, _check, _tree
from sam_optax._ascent import stateless


def _stateless(
  on_perturbed: Callable[[_base.PyTree, _base.PyTree, jax.Array], _base.PyTree],
  reads_gradient: bool = True,
) -> _base.Descent:
  """A descent without memory, along the gradient on plain steps."""

  def on_plain(gradient, state, step):
    del state, step
    return gradient

  def update(gradient, perturbed_gradient, state, step):
    del gradient, perturbed_gradient, step
    return state

  return _base.Descent(
    stateless,
    lambda gradient, perturbed, state, step: on_perturbed(
      gradient, perturbed, step
    ),
    on_plain,
    update,
    reads_gradient,
    keeps_finite=True,
  )


def perturbed() -> _base.Descent:
  """The gradient at the perturbed parameters (SAM)."""
  return _stateless(
    lambda gradient, perturbed_gradient, step: perturbed_gradient,
    reads_gradient=False,
  )


class ReusePsfState(NamedTuple):
  """State of `reuse_psf`.

  Attributes:
    psf: the last computed perturbed gradient minus gradient, shaped as the
      params and in their dtype.
    age: int32, plain steps since then; the greatest int32 before the first SAM
      step.
  """

  psf: _base.PyTree
  age: jax.Array


def reuse_psf(
  horizon: _base.ScalarOrSchedule | None = 2,
  of: _base.Descent | None = None,
  *,
  decay: _base.ScalarOrSchedule = 1.0,
) -> _base.Descent:
  r"""The gradient plus the last computed PSF (ARSAM, vSAM).

  .. math::
    h = g_p - g, \qquad
    G = \begin{cases}
      g_p & \text{SAM step} \\
      g + d^n h_{\text{last}} & n\text{-th plain step since},\
        n \le \text{horizon} \\
      g & \text{later}
    \end{cases}

  Args:
    horizon: steps, at least 0; None for no limit. The default is the remark
      after Theorem 3 of the ARSAM paper; None is its Algorithm 1 read
      literally; 6 is the released code of vSAM.
    of: the descent whose direction on a SAM step, less the gradient, is the
      PSF; `perturbed()` by default. It must have no state.
    decay: :math:`d`, in [0, 1]. The default, 1, is ARSAM; 0.7 is the released
      code of vSAM.

  Returns:
    A `Descent`.
  """
  if horizon is not None:
    _check.number(
      'horizon', horizon, why='horizon is a number of steps', whole=True
    )
  _check.number('decay', decay, 0, 1, why='decay weighs a PSF that is reused')
  inner = perturbed() if of is None else of
  decays = not isinstance(decay, int | float) or decay != 1

  def init(params):
    never = jnp.asarray(jnp.iinfo(jnp.int32).max, jnp.int32)
    return ReusePsfState(_tree.zeros_like(params), never)

  def on_perturbed(gradient, perturbed_gradient, state, step):
    del state
    return inner.on_perturbed(
      gradient, perturbed_gradient, optax.EmptyState(), step
    )

  def on_plain(gradient, state, step):
    psf = state.psf
    if decays:
      rate = jnp.asarray(_base.value_at(decay, step), float)
      weight = rate ** (state.age.astype(rate.dtype) + 1)
      psf = _tree.scale(weight, _tree.promote(psf))
    reused = _tree.add(gradient, psf)
    if horizon is None:
      return reused
    limit = _base.value_at(horizon, step, state.age.dtype)
    return optax.tree.where(state.age < limit, reused, gradient)

  def update(gradient, perturbed_gradient, state, step):
    if perturbed_gradient is None:
      return state._replace(age=optax.safe_increment(state.age))
    direction = on_perturbed(gradient, perturbed_gradient, state, step)
    psf = _tree.subtract(direction, gradient)
    psf = optax.tree.cast_like(psf, state.psf)
    new = ReusePsfState(psf, jnp.zeros([], jnp.int32))
    # In the form that `_psf.norms` measures: one norm then serves both.
    return _tree.kept(new, state, _tree.subtract(gradient, direction))

  return _base.Descent(init, on_perturbed, on_plain, update, keeps_finite=True)


def surrogate_gap(
  alpha: _base.ScalarOrSchedule = 0.4, minimize: str = 'perturbed'
) -> _base.Descent:
  r"""The perturbed gradient that also closes the surrogate gap (GSAM).

  .. math:: G = g_p - \alpha (g - \langle g, u \rangle u), \quad
    u = g_p / \|g_p\|

  Args:
    alpha: weight of the part of g orthogonal to g_p, at least 0.
    minimize: `'clean'` for the authors' other form, which descends on the
      clean loss: :math:`G = g + \alpha (g_p - \langle g_p, u \rangle u)` with
      :math:`u = g / \|g\|`.

  Returns:
    A `Descent`.
  """
  _check.number('alpha', alpha, why='alpha weighs an orthogonal part')
  _check.one_of('minimize', minimize, ('perturbed', 'clean'))

  def on_perturbed(gradient, perturbed_gradient, step):
    weight = jnp.asarray(_base.value_at(alpha, step))
    if minimize == 'perturbed':
      orthogonal = _tree.remove_component(gradient, perturbed_gradient)
      return _tree.subtract(perturbed_gradient, _tree.scale(weight, orthogonal))
    orthogonal = _tree.remove_component(perturbed_gradient, gradient)
    return _tree.add(gradient, _tree.scale(weight, orthogonal))

  return _stateless(on_perturbed)


class LookDirectionState(NamedTuple):
  """State of `look_direction`.

  Attributes:
    look_direction: the part of the last perturbed gradient orthogonal to its
      gradient, shaped as the params and in their dtype.
  """

  look_direction: _base.PyTree


def look_direction(
  alpha: _base.ScalarOrSchedule = 0.7, *, per_tensor: bool = False
) -> _base.Descent:
  r"""The gradient plus the remembered direction of the last SAM step (LookSAM).

  .. math::
    g_v = g_p - \langle g_p, g \rangle g / \|g\|^2, \qquad
    G = \begin{cases}
      g_p & \text{SAM step} \\
      g + \alpha \|g\| g_v / (\|g_v\| + 10^{-8}) & \text{plain step}
    \end{cases}

  The correction has the norm :math:`\alpha \|g\|` however small g_v was; where
  :math:`\|g_v\| \le 10^{-6} \|g_p\|` it is rounding noise and becomes zero
  (our choice).

  Args:
    alpha: size of the correction over the gradient's, at least 0.
    per_tensor: take norms and products tensor by tensor, as public ports do,
      and not over the whole tree.

  Returns:
    A `Descent`.
  """
  _check.number('alpha', alpha, why='alpha scales a correction')

  def init(params):
    return LookDirectionState(_tree.zeros_like(params))

  def over(function, *trees):
    return jax.tree.map(function, *trees) if per_tensor else function(*trees)

  def orthogonal(perturbed_gradient, gradient):
    direction = _tree.remove_component(perturbed_gradient, gradient)
    return _tree.above_rounding(direction, perturbed_gradient, 1e-6)[0]

  def on_perturbed(gradient, perturbed_gradient, state, step):
    del gradient, state, step
    return perturbed_gradient

  def on_plain(gradient, state, step):
    weight = jnp.asarray(_base.value_at(alpha, step))

    def corrected(gradient, direction):
      length = _tree.norm(gradient) / (_tree.norm(direction) + 1e-8)
      length = jnp.where(jnp.isfinite(length), length, 0)
      size = weight.astype(length.dtype) * length
      return _tree.add(gradient, _tree.scale(size, direction))

    return over(corrected, gradient, _tree.promote(state.look_direction))

  def update(gradient, perturbed_gradient, state, step):
    del step
    if perturbed_gradient is None:
      return state
    direction = over(orthogonal, perturbed_gradient, gradient)
    direction = optax.tree.cast_like(direction, state.look_direction)
    new = LookDirectionState(direction)
    return _tree.kept(new, state, gradient, perturbed_gradient)

  return _base.Descent(init, on_perturbed, on_plain, update, keeps_finite=True)


def blend(
  alpha: _base.ScalarOrSchedule, *, normalize: bool = False
) -> _base.Descent:
  r"""A mixture of the gradient and the perturbed gradient (GNP, WSAM).

  .. math:: G = (1 - \alpha) g + \alpha g_p

  Args:
    alpha: weight of the perturbed gradient, at least 0; above 1 it
      extrapolates.
    normalize: use :math:`g / \|g\|` instead of g (the default flag of the
      released code of GNP).

  Returns:
    A `Descent`.
  """
  _check.number('alpha', alpha, why='alpha weighs the perturbed gradient')

  def on_perturbed(gradient, perturbed_gradient, step):
    weight = jnp.asarray(_base.value_at(alpha, step))
    base = _tree.unit(gradient) if normalize else gradient
    return _tree.add(
      _tree.scale(1 - weight, base), _tree.scale(weight, perturbed_gradient)
    )

  return _stateless(on_perturbed)


def rescaled() -> _base.Descent:
  r"""The perturbed gradient at the length of the gradient (SSAM).

  .. math:: G = \frac{\|g\|}{\|g_p\| + 10^{-12}} g_p

  Returns:
    A `Descent`.
  """

  def on_perturbed(gradient, perturbed_gradient, step):
    del step
    ratio = _tree.norm(gradient) / (_tree.norm(perturbed_gradient) + _tree.EPS)
    ratio = jnp.where(jnp.isfinite(ratio), ratio, 1)
    return _tree.scale(ratio, perturbed_gradient)

  return _stateless(on_perturbed)


class DecoupledState(NamedTuple):
  """State of `decoupled`.

  Attributes:
    correction: the part of the direction that was left out, shaped as the
      params; zero where it was not finite.
    finite: bool, whether the last correction was finite.
  """

  correction: _base.PyTree
  finite: jax.Array


def decoupled(weight: _base.ScalarOrSchedule) -> _base.Descent:
  r"""The gradient; the correction by the perturbed gradient is only stored.

  .. math:: G = g, \qquad \text{correction} = a (g_p - g)

  For a method that applies the correction after the base optimizer
  (decoupled WSAM).

  Args:
    weight: :math:`a`.

  Returns:
    A `Descent`.
  """

  def init(params):
    return DecoupledState(_tree.zeros_like(params), jnp.ones([], jnp.bool_))

  def on_perturbed(gradient, perturbed_gradient, state, step):
    del perturbed_gradient, state, step
    return gradient

  def on_plain(gradient, state, step):
    del state, step
    return gradient

  def update(gradient, perturbed_gradient, state, step):
    zero = optax.tree.zeros_like(state.correction)
    if perturbed_gradient is None:
      return DecoupledState(zero, jnp.ones([], jnp.bool_))
    psf = _tree.subtract(perturbed_gradient, gradient)
    correction = _tree.scale(_base.value_at(weight, step), psf)
    correction = optax.tree.cast_like(correction, state.correction)
    finite = _tree.is_finite(correction)
    return DecoupledState(optax.tree.where(finite, correction, zero), finite)

  return _base.Descent(init, on_perturbed, on_plain, update, keeps_finite=True)
