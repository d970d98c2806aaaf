"""How far the loss rises near the parameters."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from sam_optax import _base, _given, _random, _tree
from sam_optax._ascent import Context, as_ascent


def sharpness(
  loss_fn: Callable[[_base.PyTree], jax.Array],
  params: _base.PyTree,
  ascent: optax.GradientTransformation,
) -> jax.Array:
  r"""How far the loss rises where an ascent perturbs.

  .. math:: L(w + \epsilon) - L(w)

  averaged over the draws of an ascent that has several. `ascent.gradient(rho)`
  gives SAM's sharpness, `ascent.adaptive(rho)` ASAM's,
  `ascent.multi_step(rho, steps)` comes nearer to the worst case in the ball,
  and `ascent.gaussian(gamma, draws)` gives the average case.

  The m-sharpness of SAM's paper is the mean of this over batches of m
  examples, each with the loss of its own.

  Args:
    loss_fn: params -> loss, a scalar.
    params: the parameters.
    ascent: where to perturb to, as at its first step.

  Returns:
    A scalar in the units of the loss; it may be negative, where the ascent
    steps over a ridge.

  Example:
    >>> import jax.numpy as jnp
    >>> from sam_optax import ascent, diagnostics
    >>> bowl = lambda w: jnp.sum(w**2) / 2
    >>> rise = diagnostics.sharpness(
    ...   bowl, jnp.array([0.6, 0.8]), ascent.gradient(rho=0.1)
    ... )
    >>> print(round(float(rise), 4))  # 0.1 * 1 + 0.1**2 / 2
    0.105

  References:
    Foret et al., `Sharpness-Aware Minimization for Efficiently Improving
    Generalization <https://arxiv.org/abs/2010.01412>`_, 2020, sections 2 and
    4.3.
  """
  params = _given.params(params)
  shape = jax.eval_shape(lambda: jnp.asarray(loss_fn(params))).shape
  if shape:
    raise ValueError(
      f'Given a loss_fn whose loss has the shape {shape}. Its rise is one '
      'number. Return a scalar, such as the mean of the losses.'
    )
  part = as_ascent(ascent)
  grad_fn = jax.grad(loss_fn)
  state = _random.distinct_keys(part.init(params))  # as in a method
  point, offset = params, None
  step = jnp.zeros([], jnp.int32)
  if part.offset is not None:
    offset = part.offset(state, params, step)
    point = _tree.add(params, offset)
  gradient = _tree.promote(grad_fn(point))
  rises = []
  context = Context(step, offset=offset, gradient_at=grad_fn)
  for draw in range(part.draws):
    context = context._replace(draw=draw)
    perturbation = part.perturb(gradient, state, params, context).value
    rises.append(loss_fn(_tree.add(params, perturbation)))
  return _tree.mean(rises) - loss_fn(params)


class Agreement(NamedTuple):
  """How the two gradients of a step agree; scalars in float32 or wider.

  Attributes:
    cosine: of the angle between them, 0 where one of them is 0.
    norm: of the gradient.
    perturbed_norm: of the perturbed gradient.
  """

  cosine: jax.Array
  norm: jax.Array
  perturbed_norm: jax.Array


def agreement(
  gradient: _base.PyTree, perturbed_gradient: _base.PyTree
) -> Agreement:
  r"""How the gradient and the perturbed gradient agree.

  Args:
    gradient: :math:`g`, a tree.
    perturbed_gradient: :math:`g_p`, a tree of the same structure.

  Returns:
    :math:`\langle g, g_p \rangle / (\|g\| \|g_p\|)` and both norms.

  Example:
    >>> import jax.numpy as jnp
    >>> from sam_optax import diagnostics
    >>> seen = diagnostics.agreement(
    ...   jnp.array([1.0, 0.0]), jnp.array([3.0, 4.0])
    ... )
    >>> [round(float(number), 3) for number in seen]
    [0.6, 1.0, 5.0]
  """
  return Agreement(
    _tree.cosine(gradient, perturbed_gradient),
    _tree.norm(gradient),
    _tree.norm(perturbed_gradient),
  )
