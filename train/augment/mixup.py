"""Mixup: a batch, blended with itself in another order."""

import jax
import jax.numpy as jnp


def mixup(
  key: jax.Array, images: jax.Array, targets: jax.Array, alpha: float
) -> tuple[jax.Array, jax.Array]:
  """Blends each image and its target with another image and its target.

  The weight is one for the batch, as in the authors' code and in big_vision;
  the partners are a permutation of the batch, so that every example counts as
  often as without. The weight of the image itself is at least 1/2: the blend of
  a pair is the same either way, and the heavier one says what the image is.

  Args:
    key: PRNG key of this batch; the same key gives the same result.
    images: float ``[batch, h, w, c]``.
    targets: float ``[batch, classes]``, each a distribution.
    alpha: of the Beta(alpha, alpha) that the weight is drawn from, 0 or more;
      0 is off, 1 is uniform.

  Returns:
    The images and the targets, of their shapes and dtypes.

  References:
    Zhang et al., `mixup: Beyond Empirical Risk Minimization
    <https://arxiv.org/abs/1710.09412>`_, 2018
  """
  if not alpha >= 0:
    raise ValueError(
      f'Cannot mix with alpha={alpha}: a Beta distribution has positive '
      'parameters. Give 0.2, or another number from 0; 0 turns it off.'
    )
  if not alpha:
    return images, targets
  weight_key, order_key = jax.random.split(key)
  weight = jax.random.beta(weight_key, alpha, alpha)
  weight = jnp.maximum(weight, 1 - weight)
  order = jax.random.permutation(order_key, len(images))

  def mix(x: jax.Array) -> jax.Array:
    own = weight.astype(x.dtype)
    return own * x + (1 - own) * x[order]

  return mix(images), mix(targets)
