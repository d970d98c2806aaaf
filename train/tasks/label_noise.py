"""Symmetric label noise: wrong labels, the same ones in every epoch."""

import jax
import jax.numpy as jnp
import numpy as np

# The classes that a new label is drawn from, and how many labels are replaced.
OVER = ('all', 'wrong')
COUNTS = ('random', 'exact')


def noisy(
  labels: jax.Array,
  ids: jax.Array,
  *,
  num_classes: int,
  share: float,
  seed: int = 0,
  over: str = 'all',
  replaced: np.ndarray | None = None,
) -> jax.Array:
  """Replaces a share of the labels.

  Each new label is drawn from the seed and the number of the example alone, so
  an example has the same label whenever it is met and whatever else is in its
  batch.

  Args:
    labels: the true labels, int32 ``[batch]``.
    ids: the numbers of the examples in the training set, int32 ``[batch]``.
    num_classes: number of classes.
    share: probability that a label is replaced, in [0, 1]; 0 is off.
    seed: of the noise; the seed of the run does not matter.
    over: what the new label is drawn from: ``'all'`` classes, the true one
      included, so that ``share / num_classes`` of the labels stay true by
      chance; or the ``'wrong'`` ones.
    replaced: bool ``[num_examples]``, which labels are replaced, see `exactly`;
      None to draw for each example by itself.

  Returns:
    The labels, int32 ``[batch]``.
  """
  if not share:
    return labels

  def draw(label, number):
    # One generator, whatever the run's keys are: the noise is part of the data.
    key = jax.random.fold_in(jax.random.key(seed, impl='threefry2x32'), number)
    replaced_key, label_key = jax.random.split(key)
    if over == 'wrong':
      other = jax.random.randint(label_key, (), 1, num_classes)
      other = (label + other) % num_classes
    else:
      other = jax.random.randint(label_key, (), 0, num_classes)
    return jax.random.bernoulli(replaced_key, share), other

  drawn, others = jax.vmap(draw)(labels, ids)
  if replaced is not None:
    drawn = jnp.asarray(replaced)[ids]
  return jnp.where(drawn, others, labels)


def exactly(num_examples: int, share: float, seed: int = 0) -> np.ndarray:
  """Chooses as many examples as a share of the training set is, rounded.

  Args:
    num_examples: size of the training set.
    share: of it, in [0, 1].
    seed: of the noise.

  Returns:
    Whether an example is chosen, bool ``[num_examples]``.
  """
  order = np.random.default_rng(seed).permutation(num_examples)
  return order < round(share * num_examples)
