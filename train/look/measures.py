"""The numbers that the pictures show, by `sam_optax.diagnostics`."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sam_optax import ascent, diagnostics, kernels

LossFn = Callable[[Any], jax.Array]


class Landscape(NamedTuple):
  """The loss around the parameters.

  Attributes:
    offsets: along each of two filter-normalised directions, ``[points]``.
    losses: ``[points, points]``; the parameters are in the middle.
  """

  offsets: np.ndarray
  losses: np.ndarray


class Spectrum(NamedTuple):
  """The Hessian.

  Attributes:
    top: its largest eigenvalues, the largest first.
    trace: of it, by stochastic quadrature.
    values: eigenvalues whose `weights` make a density, ``[draws, iterations]``.
    weights: likewise; those of a draw sum to 1.
  """

  top: np.ndarray
  trace: float
  values: np.ndarray
  weights: np.ndarray


class Radii(NamedTuple):
  """The loss and the gradient at distances from the parameters.

  Attributes:
    radii: the distances.
    ascent: loss along the gradient, less that at the parameters.
    worst: the same after several steps of ascent within the distance.
    random: the same in a random direction, the mean over the draws.
    cosine: between the gradient and the one at the distance along it.
    noisy_ascent: loss at the distance along the gradient of weights with noise,
      less that at the parameters: ``[gammas, radii]``.
    noisy_cosine: as `cosine`, all of it with noise on the weights.
  """

  radii: np.ndarray
  ascent: np.ndarray
  worst: np.ndarray
  random: np.ndarray
  cosine: np.ndarray
  noisy_ascent: np.ndarray
  noisy_cosine: np.ndarray


def landscape(
  loss_fn: LossFn, params: Any, points: int, reach: float = 1.0, seed: int = 0
) -> Landscape:
  """The loss on a grid spanned by two filter-normalised directions."""
  offsets = np.linspace(-reach, reach, points, dtype=np.float32)
  grid = np.stack(np.meshgrid(offsets, offsets, indexing='ij'), axis=-1)

  @jax.jit
  def losses(params, grid):
    directions = [
      diagnostics.filter_normalized(params, key) for key in (seed, seed + 1)
    ]
    return diagnostics.along(loss_fn, params, directions, grid)

  return Landscape(offsets, np.asarray(losses(params, grid)))


def spectrum(
  loss_fn: LossFn, params: Any, iterations: int, draws: int = 2, seed: int = 0
) -> Spectrum:
  """The density of the eigenvalues, and the largest of them."""
  found = jax.jit(
    lambda params: diagnostics.spectrum(
      jax.grad(loss_fn), params, draws=draws, iterations=iterations, key=seed
    )
  )(params)
  values, weights = map(np.asarray, found)
  size = sum(leaf.size for leaf in jax.tree.leaves(params))
  trace = size * float(np.mean(np.sum(weights * values, axis=1)))
  # Each draw finds the ends of the spectrum by itself.
  top = np.sort(values, axis=1)[:, ::-1].max(axis=0)[:5]
  return Spectrum(top, trace, values, weights)


def radii(
  loss_fn: LossFn,
  params: Any,
  distances: Sequence[float],
  gammas: Sequence[float] = (),
  draws: int = 3,
  seed: int = 0,
) -> Radii:
  """The loss and the gradient at some distances.

  Args:
    loss_fn: params -> loss.
    params: the parameters.
    distances: norms of the perturbations.
    gammas: standard deviations of Gaussian noise on the kernels.
    draws: of the noise and of the random directions.
    seed: of the draws.

  Returns:
    The numbers at each distance.
  """
  split = jax.random.split(jax.random.key(seed), draws)
  keys = [split[draw] for draw in range(draws)]
  grad_fn = jax.value_and_grad(loss_fn)

  @jax.jit
  def at(params, rho):
    loss, gradient = grad_fn(params)
    point = _moved(params, gradient, rho)
    perturbed_loss, perturbed = grad_fn(point)
    rises = [
      loss_fn(_moved(params, _normal(params, key), rho)) - loss for key in keys
    ]
    worst = diagnostics.sharpness(
      loss_fn, params, ascent.multi_step(rho, steps=5)
    )
    return {
      'ascent': perturbed_loss - loss,
      'worst': worst,
      'random': jnp.mean(jnp.stack(rises)),
      'cosine': diagnostics.agreement(gradient, perturbed).cosine,
    }

  @jax.jit
  def with_noise(params, rho, gamma, key):
    noise = _normal(params, key)
    noisy = jax.tree.map(lambda w, n: w + gamma * n, params, noise)
    gradient = grad_fn(noisy)[1]
    perturbed = grad_fn(_moved(noisy, gradient, rho))[1]
    rise = loss_fn(_moved(params, gradient, rho)) - loss_fn(params)
    return rise, diagnostics.agreement(gradient, perturbed).cosine

  number = lambda x: np.float32(x)
  plain = [jax.device_get(at(params, number(rho))) for rho in distances]
  noisy = np.array(
    [
      [
        np.mean(
          [with_noise(params, number(rho), number(g), key) for key in keys], 0
        )
        for rho in distances
      ]
      for g in gammas
    ]
  ).reshape(len(gammas), len(distances), 2)
  columns = {name: np.array([row[name] for row in plain]) for name in plain[0]}
  return Radii(
    np.asarray(distances),
    **columns,
    noisy_ascent=noisy[..., 0],
    noisy_cosine=noisy[..., 1],
  )


def _moved(params: Any, direction: Any, distance: Any) -> Any:
  """The parameters, moved so far along a direction; not at all along zero."""
  moved = ascent.gradient(distance)
  perturbation, _ = moved.update(direction, moved.init(params), params)
  return jax.tree.map(jnp.add, params, perturbation)


def _normal(params: Any, key: jax.Array) -> Any:
  """Standard normal numbers in the place of the kernels, else zeros."""
  leaves, tree = jax.tree_util.tree_flatten_with_path(params)
  keys = jax.random.split(key, len(leaves))
  return jax.tree.unflatten(
    tree,
    [
      jax.random.normal(key, leaf.shape, leaf.dtype)
      if kernels.is_kernel(path, leaf)
      else jnp.zeros_like(leaf)
      for key, (path, leaf) in zip(keys, leaves, strict=True)
    ],
  )
