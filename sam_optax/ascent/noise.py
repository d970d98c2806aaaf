"""Perturbations with noise in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from sam_optax import _base, _check, _random, _tree, kernels
from sam_optax._ascent import Ascent, Perturbation, as_ascent


def kernel_norm(leaf: jax.Array, axes: tuple[int, ...]) -> jax.Array:
  """The norm of each kernel, of the leaf's rank: see `kernel_noise`."""
  reduced = tuple(a for a in range(leaf.ndim) if a not in axes)
  return _tree.sqrt(jnp.sum(jnp.abs(leaf) ** 2, axis=reduced, keepdims=True))


def kernel_noise(
  normal: _base.PyTree,
  params: _base.PyTree,
  gamma: _base.Number,
  variant: str = 'code',
  axis: kernels.Axes | None = None,
) -> _base.PyTree:
  r"""Noise in proportion to the norm of each kernel (R-SAM).

  A kernel is the slice at one index of `axis`: with the default, one output
  channel of a convolution (h, w, in, out), one column of a dense layer. A bias,
  and any leaf of at most one dimension, is one kernel.

  Args:
    normal: standard normal draws, shaped as the params.
    params: the parameters.
    gamma: scale, at least 0.
    variant: `'code'` for a standard deviation of :math:`\gamma \|w_j\|`,
      `'paper'` for :math:`\gamma \sqrt{\|w_j\|}`.
    axis: the axis or axes that number the kernels of each leaf with two or
      more, or a function (path, leaf) -> axes; None for the rule of
      `sam_optax.kernels`.

  Returns:
    The noise, shaped as the params, in float32 or wider; 0 where a kernel is.
  """
  paths, structure = jax.tree_util.tree_flatten_with_path(params)
  draws = structure.flatten_up_to(normal)
  weights = [
    weight.astype(draw.dtype)
    for (_, weight), draw in zip(paths, draws, strict=True)
  ]
  axes = [kernels.axes_of(axis, path, weight) for path, weight in paths]
  sizes = _kernel_norms(weights, axes)
  if variant == 'paper':
    sizes = [_tree.sqrt(size) for size in sizes]
  noise = [
    draw * size * jnp.asarray(gamma, draw.dtype)
    for draw, size in zip(draws, sizes, strict=True)
  ]
  return jax.tree.unflatten(structure, noise)


def _kernel_norms(
  leaves: Sequence[jax.Array], axes: Sequence[tuple[int, ...]]
) -> list[jax.Array]:
  """`kernel_norm` of each leaf; those of like vectors in one reduction.

  Most leaves of a network are vectors of a few lengths, each of which is one
  kernel, and compiling a reduction takes as long however short it is.
  """
  groups = {}
  for number, leaf in enumerate(leaves):
    alike = jax.typeof(leaf) if leaf.ndim < 2 and not axes[number] else number
    groups.setdefault(alike, []).append(number)
  found: list[Any] = [None] * len(leaves)
  for numbers in groups.values():
    if len(numbers) == 1:
      (number,) = numbers
      found[number] = kernel_norm(leaves[number], axes[number])
      continue
    rows = kernel_norm(jnp.stack([leaves[number] for number in numbers]), (0,))
    for row, number in enumerate(numbers):
      found[number] = rows[row]
  return found


class RandomState(NamedTuple):
  """State of `random`.

  Attributes:
    key: typed PRNG key; a draw depends on the key and the step alone.
    inner: state of the ascent that is wrapped.
  """

  key: jax.Array
  inner: _base.State


def random(
  inner: optax.GradientTransformation,
  gamma: _base.ScalarOrSchedule = 5e-4,
  lam: _base.ScalarOrSchedule = 2.0,
  key: _base.Key = 0,
  *,
  variant: str = 'code',
  axis: kernels.Axes | None = None,
  normalize: bool = False,
  project: bool = True,
) -> Ascent:
  r"""Kernel-wise noise before the ascent (R-SAM).

  .. math::
    \delta \sim \text{kernel\_noise}(w), \qquad
    \hat g = \nabla L(w + \delta), \qquad
    d = \delta + \lambda \hat g

  and `inner` turns `d` into the perturbation, which starts at :math:`w`, not
  at :math:`w + \delta`: a radius in `inner` is the radius of the whole.

  Args:
    inner: the ascent that sizes the perturbation, such as `gradient(rho)`. It
      may neither move the point of the first gradient itself nor draw more
      than once.
    gamma: scale of the noise, at least 0.
    lam: weight of the gradient against the noise, at least 0.
    key: PRNG key or int seed.
    variant: see `kernel_noise`.
    axis: see `kernel_noise`.
    normalize: whether lam multiplies :math:`\hat g/\|\hat g\|` instead.
    project: False for the paper's equation (6): the perturbation is
      :math:`\delta` plus what `inner` makes of :math:`\hat g`, not projected
      back to the radius; lam is then unused.

  Returns:
    An `Ascent`.

  Raises:
    ValueError: if an argument is out of its range, or inner has an offset or
      draws.
  """
  _check.number('gamma', gamma, why='gamma scales the noise')
  _check.number('lam', lam, why='lam weighs the gradient against the noise')
  _check.one_of('variant', variant, ('code', 'paper'))
  _check.key('key', key)
  wrapped = as_ascent(inner)
  if wrapped.offset is not None or wrapped.draws > 1:
    raise ValueError(
      'Given an inner ascent that moves the point of the first gradient, or '
      'draws more than once. random() moves that point itself, and draws once. '
      'Pass one that only sizes a direction: ascent.random(ascent.gradient('
      'rho)).'
    )

  def init(params):
    return RandomState(_random.make_key(key), wrapped.init(params))

  def offset(state, params, step):
    normal = _random.normal_like(state.key, step, params)
    scale = _base.value_at(gamma, step)
    return kernel_noise(normal, params, scale, variant, axis)

  def perturb(gradient, state, params, context):
    gradient, noise = _tree.promote(gradient), context.offset
    if noise is None or not project:
      direction = gradient
    else:
      pull = _tree.unit(gradient) if normalize else gradient
      weight = _base.value_at(lam, context.step)
      direction = _tree.add(noise, _tree.scale(weight, pull))
    perturbation = wrapped.perturb(
      direction, state.inner, params, context._replace(length=None)
    )
    if noise is None or project:
      return perturbation
    value = _tree.add(noise, perturbation.value)
    return Perturbation(value, perturbation.norm)

  def remember(gradient, state, params, step):
    inner_state = wrapped.remember(gradient, state.inner, params, step)
    return state._replace(inner=inner_state)

  return Ascent(
    init,
    perturb,
    remember,
    offset,
    has_norm=wrapped.has_norm,
    keeps_finite=wrapped.keeps_finite,
  )


class GaussianState(NamedTuple):
  """State of `gaussian`: a typed PRNG key."""

  key: jax.Array


def gaussian(
  gamma: _base.ScalarOrSchedule = 5e-4,
  draws: int = 1,
  key: _base.Key = 0,
  *,
  axis: kernels.Axes | None = None,
) -> Ascent:
  """Kernel-wise noise alone, no ascent (LPF-SGD).

  Args:
    gamma: standard deviation over the norm of the kernel, at least 0.
    draws: perturbations per step, at least 1; their gradients are averaged.
    key: PRNG key or int seed.
    axis: see `kernel_noise`.

  Returns:
    An `Ascent` that does not read the gradient.
  """
  _check.number('gamma', gamma, why='gamma scales the noise')
  _check.number(
    'draws',
    draws,
    1,
    static=True,
    why='draws is how many are averaged',
    whole=True,
  )
  _check.key('key', key)

  def init(params):
    del params
    return GaussianState(_random.make_key(key))

  def perturb(gradient, state, params, context):
    if not context.perturbed:
      return Perturbation(gradient)
    number = context.step * draws + context.draw
    normal = _random.normal_like(state.key, number, params)
    scale = _base.value_at(gamma, context.step)
    return Perturbation(kernel_noise(normal, params, scale, axis=axis))

  return Ascent(init, perturb, draws=draws, reads_gradient=False)


class PosteriorState(NamedTuple):
  """State of `posterior`.

  Attributes:
    key: typed PRNG key.
    precision: diagonal precision, shaped as the params.
  """

  key: jax.Array
  precision: _base.PyTree


def posterior(
  num_examples: _base.ScalarOrSchedule,
  rho: _base.ScalarOrSchedule = 0.01,
  beta: _base.ScalarOrSchedule = 0.999,
  damping: _base.ScalarOrSchedule = 0.1,
  prior_precision: _base.ScalarOrSchedule = 10.0,
  key: _base.Key = 0,
) -> Ascent:
  r"""The ascent of bSAM, in the metric of a learned diagonal posterior.

  With the precision s (at first 1) and :math:`\delta` the prior precision
  over N:

  .. math::
    g = \nabla L(w + n / \sqrt{N s}), \quad n \sim \mathcal N(0, 1), \quad
    \epsilon = \rho\, g / s, \quad
    s \leftarrow \beta s + (1 - \beta) (\sqrt{s} |g| + \text{damping} +
    \delta)

  Args:
    num_examples: :math:`N`, at least 1; larger is less noise.
    rho: size of the perturbation, at least 0.
    beta: decay of the precision, in [0, 1].
    damping: added to the precision, at least 0.
    prior_precision: at least 0.
    key: PRNG key or int seed.

  Returns:
    An `Ascent`.
  """
  _check.number('num_examples', num_examples, 1, why='it divides the noise')
  _check.number('rho', rho, why='rho scales the perturbation')
  _check.number('beta', beta, 0, 1, why='beta weighs a moving average')
  _check.number('damping', damping, why='damping is part of a precision')
  _check.number('prior_precision', prior_precision, why='it is a precision')
  _check.key('key', key)

  def init(params):
    # In float32 or wider: 1 - beta is lost in anything narrower.
    zeros = _tree.zeros_like(_tree.promote(params))
    ones = jax.tree.map(lambda x: x + 1, zeros)
    return PosteriorState(_random.make_key(key), ones)

  def offset(state, params, step):
    normal = _random.normal_like(state.key, step, params)
    size = _base.value_at(num_examples, step)
    return jax.tree.map(
      lambda n, s: n / jnp.sqrt(jnp.asarray(size, s.dtype) * s),
      normal,
      _tree.promote(state.precision),
    )

  def perturb(gradient, state, params, context):
    del params
    natural = jax.tree.map(
      jnp.divide, _tree.promote(gradient), _tree.promote(state.precision)
    )
    radius = _base.value_at(rho, context.step)
    return Perturbation(_tree.scale(radius, natural))

  def remember(gradient, state, params, step):
    del params
    at = lambda number: _base.value_at(number, step)
    weight = 1 - jnp.asarray(at(beta))
    floor = at(damping) + at(prior_precision) / at(num_examples)

    def grown(s, g):
      target = _tree.sqrt(s) * jnp.abs(g) + jnp.asarray(floor, s.dtype)
      # inf - inf would be NaN from the next step on.
      target = jnp.minimum(target, jnp.finfo(s.dtype).max)
      return s + weight.astype(s.dtype) * (target - s)

    precision = _tree.promote(state.precision)
    precision = jax.tree.map(grown, precision, _tree.promote(gradient))
    precision = optax.tree.cast_like(precision, state.precision)
    return state._replace(precision=precision)

  return Ascent(init, perturb, remember, offset)
