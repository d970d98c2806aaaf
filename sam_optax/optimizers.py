"""Methods that replace the step of the base optimizer: bSAM, decoupled WSAM.

They have the interface of the other methods, and return minus their whole step,
from `update` and `value_and_grad` alike. Chain them with `optax.sgd(1.0)`,
which restores the sign, and with no other optimizer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from sam_optax import _base, _check, _given, _tree, ascent, descent
from sam_optax._alias.descent import sharpness_weight
from sam_optax._method import SharpnessAware, sharpness_aware


class OptimizerState(NamedTuple):
  """State of a method that is an optimizer.

  Attributes:
    method: state of the sharpness-aware method inside.
    base: state of the optimizer that follows it inside.
  """

  method: _base.State  # a SharpnessAwareState
  base: _base.State


def _optimizer(
  method: SharpnessAware,
  init_base: Callable[[_base.PyTree], _base.State],
  finish: Callable[
    [_base.PyTree, OptimizerState, _base.State, _base.PyTree],
    tuple[_base.PyTree, _base.State],
  ],
) -> SharpnessAware:
  """A method followed by an optimizer, with the interface of a method.

  Args:
    method: the sharpness-aware method.
    init_base: params -> state of the optimizer.
    finish: (direction, old state, new state of the method, params) -> (minus
      the step, new state of the optimizer).
  """

  def init(params):
    params = _given.params(params)
    return OptimizerState(method.init(params), init_base(params))

  def finished(direction, state, method_state, params):
    params = _tree.arrays(params)
    step, base = finish(direction, state, method_state, params)
    return optax.tree.cast_like(step, direction), OptimizerState(
      method_state, _tree.kept(base, state.base)
    )

  def update(updates, state, params=None, **extra_args) -> Any:
    state = _given.state(state, OptimizerState)
    direction, method_state = method.update(
      updates, state.method, params, **extra_args
    )
    return finished(direction, state, method_state, params)

  def value_and_grad(loss_fn, params, state, *arguments, **options):
    state = _given.state(state, OptimizerState)
    value, direction, method_state = method.value_and_grad(
      loss_fn, params, state.method, *arguments, **options
    )
    return value, *finished(direction, state, method_state, params)

  def decide(state, *arguments, **options):
    state = _given.state(state, OptimizerState)
    return method.decide(state.method, *arguments, **options)

  def perturbed_params(grad_fn, params, state, *arguments, **options):
    state = _given.state(state, OptimizerState)
    return method.perturbed_params(
      grad_fn, params, state.method, *arguments, **options
    )

  return method._replace(  # pyright: ignore[reportPrivateUsage]
    init=init,
    update=update,
    value_and_grad=value_and_grad,
    decide=decide,
    perturbed_params=perturbed_params,
    for_collectives=lambda collectives: _optimizer(
      method.for_collectives(collectives), init_base, finish
    ),
    is_optimizer=True,
  )


def wsam_decoupled(
  learning_rate: _base.ScalarOrSchedule,
  rho: _base.ScalarOrSchedule = 0.05,
  gamma: _base.ScalarOrSchedule = 0.9,
  base: optax.GradientTransformation | None = None,
) -> SharpnessAware:
  r"""Weighted SAM, decoupled: the sharpness term bypasses the base optimizer.

  .. math::
    w \leftarrow \text{base}(w, g), \quad
    w \leftarrow w - \eta\, \frac{\gamma}{1 - \gamma} (g_p - g)

  where :math:`g` is the gradient at the parameters and :math:`g_p` the one at
  the perturbed parameters. It is the default form of the authors; `wsam` is the
  coupled one, which is the same with plain SGD. With gamma = 0 it is the base
  optimizer. With gamma = 0.5 and plain SGD it is SAM.

  Costs two gradients per step. The state holds one copy of the parameters
  beside the state of the base optimizer.

  Parts: `ascent.gradient`, `descent.decoupled`, and the base optimizer.

  Args:
    learning_rate: :math:`\eta`, at least 0; also the learning rate of the
      default base optimizer.
    rho: norm of the perturbation, at least 0.
    gamma: weight of the sharpness, in [0, 1) (public code: 0.9, useful from 0.8
      to 0.95).
    base: base optimizer, with its learning rate. The default is
      `optax.sgd(learning_rate, momentum=0.9)`.

  Returns:
    A `SharpnessAware` transformation that returns minus the whole step. Chain
    it with `optax.sgd(1.0)`, which restores the sign.

  Raises:
    ValueError: if a number is out of its range.

  Example:
    >>> import jax, jax.numpy as jnp, optax, sam_optax
    >>> f = lambda w: jnp.sum(w**4)
    >>> grad_fn = jax.grad(f)
    >>> tx = optax.chain(
    ...   sam_optax.wsam_decoupled(0.01, gamma=0.8), optax.sgd(1.0)
    ... )
    >>> params = jnp.array([1.0, -2.0])
    >>> state = tx.init(params)
    >>> for _ in range(4):
    ...   print(f'Objective: {f(params):.2f}')
    ...   updates, state = tx.update(
    ...     grad_fn(params), state, params, grad_fn=grad_fn
    ...   )
    ...   params = optax.apply_updates(params, updates)
    Objective: 17.00
    Objective: 7.11
    Objective: 1.94
    Objective: 0.50

  References:
    Yue et al., `Sharpness-Aware Minimization Revisited: Weighted Sharpness as a
    Regularization Term <https://arxiv.org/abs/2305.15817>`_, 2023.
  """
  _check.number('gamma', gamma, 0, 1 - 1e-9, why='its weight is g / (1 - g)')
  _check.number('learning_rate', learning_rate, why='it scales the step')
  if base is None:
    base = optax.sgd(learning_rate, momentum=0.9)
  method = sharpness_aware(
    ascent.gradient(rho), descent=descent.decoupled(sharpness_weight(gamma))
  )

  def finish(direction, state, method_state, params):
    updates, base_state = base.update(direction, state.base, params)
    rate = _base.value_at(learning_rate, state.method.step)
    stored = method_state.descent
    # The state is zero where the correction was not finite; the step shows it.
    rate = jnp.where(stored.finite, rate, jnp.nan)
    correction = _tree.scale(rate, _tree.promote(stored.correction))
    return _tree.subtract(correction, updates), base_state

  return _optimizer(method, base.init, finish)


class MomentumState(NamedTuple):
  """State of the momentum in `bsam`.

  Attributes:
    momentum: moving average of the gradient, shaped as the params.
  """

  momentum: _base.PyTree


def bsam(
  learning_rate: _base.ScalarOrSchedule,
  num_examples: _base.ScalarOrSchedule | None = None,
  rho: _base.ScalarOrSchedule = 0.01,
  beta1: _base.ScalarOrSchedule = 0.9,
  beta2: _base.ScalarOrSchedule = 0.999,
  damping: _base.ScalarOrSchedule = 0.1,
  prior_precision: _base.ScalarOrSchedule = 10.0,
  key: _base.Key = 0,
) -> SharpnessAware:
  r"""Bayesian SAM: a Gaussian posterior whose mean is the parameters.

  .. math::
    g = \nabla L(w + n / \sqrt{N s}), \quad n \sim \mathcal N(0, 1), \quad
    \epsilon = \rho\, g / s, \quad
    s' = \beta_2 s + (1 - \beta_2) (\sqrt{s} |g| + \text{damping} + \delta)

  .. math::
    m \leftarrow \beta_1 m + (1 - \beta_1)
    (\nabla L(w + \epsilon) + \delta w), \quad
    w \leftarrow w - \eta\, m / s, \quad s \leftarrow s'

  where N is num_examples and :math:`\delta` is prior_precision / N. The prior
  acts as weight decay, so add none. The released code averages over noise draws
  on eight parts of the batch; here one draw serves the whole batch. With
  the local perturbations of `parallel` each part has its own draw, and
  :math:`|g|` in the precision is the absolute value of the mean gradient, where
  the released code takes the mean of the absolute values.

  Costs two gradients per step. Neither is taken at the parameters: `update`
  ignores the gradient that it is given, and XLA removes its computation under
  `jit`. The state holds two copies of the parameters, :math:`m` and :math:`s`.

  Parts: `ascent.posterior`, and a momentum of its own.

  Args:
    learning_rate: :math:`\eta`, at least 0 (the released code: 0.5).
    num_examples: size of the training set, at least 1. The released code
      multiplies it by 4 on account of its data augmentation.
    rho: scale of the perturbation, at least 0 (the released code: 0.01).
    beta1: decay of the momentum, in [0, 1] (the released code: 0.9).
    beta2: decay of the precision, in [0, 1] (the released code: 0.999).
    damping: added to the precision, at least 0 (the released code: 0.1).
    prior_precision: precision of the prior, at least 0 (the released code: 10).
    key: PRNG key or int seed.

  Returns:
    A `SharpnessAware` transformation that returns minus the whole step. Chain
    it with `optax.sgd(1.0)`, which restores the sign.

  Raises:
    ValueError: if num_examples is missing or a number is out of its range.

  Example:
    >>> import jax, jax.numpy as jnp, optax, sam_optax
    >>> f = lambda w: jnp.sum(w**4)
    >>> grad_fn = jax.grad(f)
    >>> tx = optax.chain(sam_optax.bsam(0.1, num_examples=1e6), optax.sgd(1.0))
    >>> params = jnp.array([1.0, -2.0])
    >>> state = tx.init(params)
    >>> for _ in range(4):
    ...   print(f'Objective: {f(params):.2f}')
    ...   updates, state = tx.update(
    ...     grad_fn(params), state, params, grad_fn=grad_fn
    ...   )
    ...   params = optax.apply_updates(params, updates)
    Objective: 17.00
    Objective: 5.91
    Objective: 1.23
    Objective: 0.37

  References:
    Moellenhoff and Khan, `SAM as an Optimal Relaxation of Bayes
    <https://arxiv.org/abs/2210.01620>`_, 2022, and the released code.
  """
  if num_examples is None:
    raise ValueError(
      'Given no num_examples. The noise and the prior of bSAM depend on the '
      'size of the training set. Pass it: bsam(num_examples=50_000).'
    )
  _check.number('learning_rate', learning_rate, why='it scales the step')
  _check.number('beta1', beta1, 0, 1, why='beta1 weighs a moving average')
  _check.number('beta2', beta2, 0, 1, why='beta2 weighs a moving average')
  method = sharpness_aware(
    ascent.posterior(num_examples, rho, beta2, damping, prior_precision, key)
  )

  def init_momentum(params):
    return MomentumState(_tree.zeros_like(params))

  def finish(direction, state, method_state, params):
    del method_state
    at = lambda number: _base.value_at(number, state.method.step)
    decay = at(prior_precision) / at(num_examples)
    pulled = _tree.add(direction, _tree.scale(decay, _tree.promote(params)))
    old = _tree.promote(state.base.momentum)
    weight = 1 - jnp.asarray(at(beta1))
    momentum = _tree.add(old, _tree.scale(weight, _tree.subtract(pulled, old)))
    step = jax.tree.map(
      jnp.divide, momentum, _tree.promote(state.method.ascent.precision)
    )
    momentum = optax.tree.cast_like(momentum, state.base.momentum)
    return _tree.scale(at(learning_rate), step), MomentumState(momentum)

  return _optimizer(method, init_momentum, finish)
