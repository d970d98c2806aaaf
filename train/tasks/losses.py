"""From labels to targets, and from logits to losses."""

import jax
import jax.numpy as jnp
import optax


def smooth(targets: jax.Array, share: float, over: str = 'all') -> jax.Array:
  """Smooths targets.

  Args:
    targets: ``[..., classes]``, each a distribution.
    share: how much is smoothed, in [0, 1); 0 leaves the targets as they are.
    over: where the share goes to: ``'all'`` classes alike, the true one
      included (``1 - share + share / classes`` is left to it, as in timm and
      PyTorch); the ``'wrong'`` ones (``1 - share`` is left, as in davda54/sam
      and AUSAM's code); or to ``'each'`` class in full (the wrong ones have
      ``share`` each, as in the ViT recipe of R-SAM's code), which is no
      distribution and for the sigmoid loss only.

  Returns:
    The targets, of their shape.
  """
  classes = targets.shape[-1]
  if over == 'wrong':
    return (1 - share) * targets + share / (classes - 1) * (1 - targets)
  if over == 'each':
    return (1 - share) * targets + share
  return optax.smooth_labels(targets, share)


def sigmoid_cross_entropy(logits: jax.Array, targets: jax.Array) -> jax.Array:
  """One yes-or-no question for each class; their losses summed, as big_vision.

  Args:
    logits: ``[..., classes]``.
    targets: ``[..., classes]``, in [0, 1].

  Returns:
    The losses, ``[...]``.
  """
  return jnp.sum(optax.sigmoid_binary_cross_entropy(logits, targets), axis=-1)


LOSSES = {
  'softmax': optax.softmax_cross_entropy,
  'sigmoid': sigmoid_cross_entropy,
}
# From a network's outputs; those of sigmoid do not sum to 1.
PROBABILITIES = {
  'softmax': jax.nn.softmax,
  'sigmoid': jax.nn.sigmoid,
}
SMOOTHED_OVER = ('all', 'wrong', 'each')
