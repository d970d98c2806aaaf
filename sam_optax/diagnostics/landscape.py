"""The loss along directions: what pictures of it are drawn from."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from sam_optax import _base, _given, _random, _tree, kernels
from sam_optax.ascent import noise


def filter_normalized(
  params: _base.PyTree,
  key: _base.Key = 0,
  *,
  axis: kernels.Axes | None = None,
) -> _base.PyTree:
  r"""A random direction, each kernel of which is as long as that of the params.

  .. math:: d_j = \frac{n_j}{\|n_j\|} \|w_j\|, \quad n \sim \mathcal N(0, 1)

  for each kernel j, and 0 for leaves that hold none (biases, normalisation;
  see `sam_optax.kernels`). So that networks that differ in the scale of their
  weights can be compared.

  Args:
    params: the parameters.
    key: PRNG key or int seed.
    axis: the axis or axes that number the kernels, as for
      `ascent.kernel_noise`: by default one output channel is a kernel.

  Returns:
    A direction, shaped as the params, in float32 or wider.

  Example:
    >>> import jax.numpy as jnp
    >>> from sam_optax import diagnostics
    >>> kernel = jnp.array([[3.0, 0.0], [4.0, 2.0]])  # columns of length 5, 2
    >>> direction = diagnostics.filter_normalized({'kernel': kernel})
    >>> print(jnp.linalg.norm(direction['kernel'], axis=0).round(4))
    [5. 2.]

  References:
    Li et al., `Visualizing the Loss Landscape of Neural Nets
    <https://arxiv.org/abs/1712.09913>`_, 2018, section 4.
  """
  params = _given.params(params)
  draws = _random.normal_like(
    _random.make_key(key), jnp.zeros([], jnp.int32), params
  )

  def normalized(path, draw, weight):
    if not kernels.is_kernel(path, weight):
      return jnp.zeros_like(draw)
    axes = kernels.axes_of(axis, path, weight)
    length = noise.kernel_norm(draw, axes) + jnp.asarray(_tree.EPS, draw.dtype)
    return draw * noise.kernel_norm(weight.astype(draw.dtype), axes) / length

  return jax.tree_util.tree_map_with_path(normalized, draws, params)


def along(
  loss_fn: Callable[[_base.PyTree], jax.Array],
  params: _base.PyTree,
  directions: Sequence[_base.PyTree],
  coordinates: jax.Array,
) -> jax.Array:
  r"""The loss at params plus a combination of directions.

  .. math:: L(w + \sum_k c_k d_k)

  The points are evaluated one after another, so that they take the memory of
  one.

  Args:
    loss_fn: params -> loss, a scalar.
    params: the parameters.
    directions: one tree or more, shaped as the params.
    coordinates: the points, [..., number of directions].

  Returns:
    The losses, [...].

  Example:
    >>> import jax.numpy as jnp
    >>> from sam_optax import diagnostics
    >>> bowl, w = (lambda w: jnp.sum(w**2)), jnp.array([1.0, 0.0])
    >>> line = jnp.linspace(-1.0, 1.0, 5)[:, None]
    >>> print(diagnostics.along(bowl, w, [jnp.array([1.0, 0.0])], line))
    [0.   0.25 1.   2.25 4.  ]
  """
  params = _given.params(params)
  coordinates = jnp.asarray(coordinates)
  if coordinates.shape[-1:] != (len(directions),):
    raise ValueError(
      f'Given coordinates of shape {coordinates.shape} and {len(directions)} '
      'directions. Each point needs one number for each direction. Pass '
      f'coordinates of shape [..., {len(directions)}].'
    )

  def loss_at(point):
    moved = params
    for number, direction in zip(point, directions, strict=True):
      moved = _tree.add(moved, _tree.scale(number, _tree.promote(direction)))
    return loss_fn(moved)

  points = coordinates.reshape(-1, len(directions))
  return jax.lax.map(loss_at, points).reshape(coordinates.shape[:-1])
