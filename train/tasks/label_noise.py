"""Symmetric label noise: wrong labels, the same ones in every epoch."""

import jax
import jax.numpy as jnp


def noisy(
  labels: jax.Array,
  ids: jax.Array,
  *,
  num_classes: int,
  share: float,
  seed: int = 0,
  over: str = 'all',
) -> jax.Array:
  """Replaces a share of the labels.

  Each example draws by itself, from the seed and its own number, so an example
  has the same label whenever it is met and whatever else is in its batch.

  Args:
    labels: the true labels, int32 ``[batch]``.
    ids: the examples' numbers in the training set, int32 ``[batch]``.
    num_classes: number of classes.
    share: probability that a label is replaced, in [0, 1]; 0 is off.
    seed: of the noise; the run's seed does not matter.
    over: what the new label is drawn from: ``'all'`` classes, the true one
      included, so that ``share / num_classes`` of the labels stay true by
      chance; or the ``'wrong'`` ones. Papers use either; ``'all'`` as the
      default is our choice.

  Returns:
    The labels, int32 ``[batch]``.
  """
  if not share:
    return labels

  def draw(label, number):
    # One generator, whatever the run's keys are: the noise is part of the data.
    key = jax.random.fold_in(jax.random.key(seed, impl='threefry2x32'), number)
    replaced_key, label_key = jax.random.split(key)
    replaced = jax.random.bernoulli(replaced_key, share)
    if over == 'wrong':
      other = jax.random.randint(label_key, (), 1, num_classes)
      other = (label + other) % num_classes
    else:
      other = jax.random.randint(label_key, (), 0, num_classes)
    return jnp.where(replaced, other, label)

  return jax.vmap(draw)(labels, ids)
