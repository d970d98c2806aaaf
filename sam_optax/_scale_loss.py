"""A loss whose gradient is computed at a scale: loss scaling in float16."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from sam_optax import _base, _tree


def scale_loss(loss_fn: _base.LossFn, scale: _base.Number) -> _base.LossFn:
  """A loss function whose backward pass runs at a scale, unseen from outside.

  What a float16 network's backward pass would round to 0 is multiplied by
  `scale` where it begins, and the gradient divided by it in float32 where it
  ends. The losses, the aux and the gradient are those of `loss_fn`, so a
  method, its radius and its averages know nothing of the scale, and it may
  change from step to step.

  What is divided takes the dtype of the parameters: let them be float32, and
  cast them to float16 inside `loss_fn`. See `if_finite` for the steps at which
  the scale was too large.

  Args:
    loss_fn: (params, batch) -> (losses of shape [batch], aux).
    scale: above 0, a number or a scalar array, such as the `scale` of Flax's
      `DynamicScale`. A power of two changes no digit.

  Returns:
    (params, batch) -> (losses, aux).

  Example:
    >>> import jax, jax.numpy as jnp, sam_optax
    >>> def losses(w, x):  # in float16, where 1e-8 is 0
    ...   w, x = w.astype(jnp.float16), x.astype(jnp.float16)
    ...   return (1e-4 * (x * w)).astype(jnp.float32), None
    >>> grad = lambda f: jax.grad(lambda w: f(w, jnp.asarray(1e-4))[0])
    >>> w = jnp.asarray(1.0)
    >>> float(grad(losses)(w))
    0.0
    >>> f'{grad(sam_optax.scale_loss(losses, 1024.0))(w):.1e}'
    '1.0e-08'
  """

  def scaled(params, batch):
    factor = jnp.asarray(scale, jnp.float32)
    outputs = loss_fn(_each(params, 1 / factor), batch)
    return _each(outputs, factor)

  return scaled


def _each(tree: _base.PyTree, factor: jax.Array) -> _base.PyTree:
  """The tree, whose gradient is multiplied on its way back."""

  def scaled(x):
    # A Python number has no gradient, and none comes back to it.
    dtype = getattr(x, 'dtype', None)
    has_gradient = dtype is not None and jnp.issubdtype(dtype, jnp.inexact)
    return _scale_gradient(x, factor) if has_gradient else x

  return jax.tree.map(scaled, tree)


@jax.custom_vjp
def _scale_gradient(x, factor):
  del factor
  return x


def _forward(x, factor):
  return x, factor


def _backward(factor, gradient):
  wide = _tree.promote(gradient)
  wide = wide * factor.astype(wide.real.dtype)
  return wide.astype(gradient.dtype), jnp.zeros_like(factor)


_scale_gradient.defvjp(_forward, _backward)
