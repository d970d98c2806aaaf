"""Loss functions for models of Flax NNX, Flax Linen and Equinox.

A method evaluates the loss twice in a step. Both passes must begin with the
same BatchNorm statistics and the same dropout key, and only the statistics of
the first pass may be kept. Each function here makes a loss function with these
properties, `(params, batch) -> (losses of shape [batch], aux)`, and returns it
together with the parameters. `aux['rest']` is everything else that the pass
changed.

`method.value_and_grad` takes this loss function as it is. For `tx.update`,
`for_update` makes the first gradient and `grad_fn` from it.

Importing this module imports no framework.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from sam_optax import _base, _given, _tree

_Model = TypeVar('_Model')


def nnx(
  model: _Model,
  losses: Callable[[_Model, _base.PyTree], tuple[jax.Array, Any]],
  wrt: Any = None,
) -> tuple[_base.PyTree, _base.LossFn]:
  """The parameters and the loss function of a Flax NNX model.

  Every pass runs on a copy of the model with the statistics and random streams
  that the model has now, and leaves the model as it is. After the step, put
  what the first pass changed into the model: ``nnx.update(model,
  aux['rest'])``.

  Args:
    model: an `nnx.Module`.
    losses: (model, batch) -> (losses of shape [batch], aux), where aux is a
      dict or None.
    wrt: the filter of what is trained, `nnx.Param` by default; the same as in
      `nnx.Optimizer`.

  Returns:
    (params, loss_fn): an `nnx.State`, and (params, batch) -> (losses, aux),
    where aux also has 'rest', a pure `nnx.State` of all other variables.

  Raises:
    ImportError: if Flax is not installed.

  Example:
    >>> import jax.numpy as jnp, optax, sam_optax
    >>> from flax import nnx
    >>> model = nnx.BatchNorm(2, rngs=nnx.Rngs(0))
    >>> tx = optax.chain(sam_optax.sam(rho=0.05), optax.sgd(0.1))
    >>> optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    >>> losses = lambda model, x: (jnp.sum((model(x) - 1) ** 2, axis=1), None)
    >>> @nnx.jit
    ... def step(model, optimizer, x):
    ...   params, loss_fn = sam_optax.frameworks.nnx(model, losses)
    ...   (loss, aux), grads, grad_fn = sam_optax.frameworks.for_update(
    ...     loss_fn, params, x
    ...   )
    ...   optimizer.update(model, grads, grad_fn=grad_fn)
    ...   nnx.update(model, aux['rest'])
    ...   return loss
    >>> loss = step(model, optimizer, jnp.array([[0.0, 1.0], [2.0, 3.0]]))
    >>> [f'{mean:.2f}' for mean in model.mean[...]]  # moved once
    ['0.01', '0.02']
  """
  try:
    from flax import nnx as flax_nnx
  except ImportError as error:
    raise ImportError(
      'Given a model of Flax NNX, and no Flax that could be imported. The '
      'model is split by nnx.split. Install it: pip install flax.'
    ) from error
  wrt = flax_nnx.Param if wrt is None else wrt
  graphdef, params, rest = flax_nnx.split(model, wrt, ...)
  # Plain arrays, which no later pass of the model changes. The params keep
  # their variables: `nnx.Optimizer` finds the gradients by their type.
  rest = flax_nnx.as_pure(rest)

  def loss_fn(params, batch):
    copy = flax_nnx.merge(graphdef, params, rest)
    values, aux = _given.losses_and_aux(losses(copy, batch))
    changed = flax_nnx.split(copy, wrt, ...)[2]
    return values, _with_rest(aux, flax_nnx.as_pure(changed))

  return params, loss_fn


def linen(
  apply_fn: Callable[..., Any],
  variables: Mapping[str, Any],
  losses: Callable[[Callable[..., Any], _base.PyTree], tuple[jax.Array, Any]],
  rngs: jax.Array | Mapping[str, jax.Array] | None = None,
) -> tuple[_base.PyTree, _base.LossFn]:
  """The parameters and the loss function of a Flax Linen model.

  Every pass applies the model with the same variables and keys. Of the
  collections other than 'params', all are mutable in a pass. After the step,
  keep those of the first pass: ``variables = {'params': params,
  **aux['rest']}``.

  Args:
    apply_fn: `model.apply`, or `state.apply_fn` of a `TrainState`.
    variables: the collections by name, 'params' among them.
    losses: (apply, batch) -> (losses of shape [batch], aux), where aux is a
      dict or None. ``apply(x, train=True)`` calls the model and returns its
      outputs.
    rngs: the keys of this step by name, such as ``{'dropout':
      jax.random.fold_in(key, step)}``.

  Returns:
    (params, loss_fn): variables['params'], and (params, batch) -> (losses,
    aux), where aux also has 'rest', a dict of the other collections.

  Raises:
    ValueError: if the variables have no 'params'.

  Example:
    >>> import flax.linen as nn
    >>> import jax, jax.numpy as jnp, optax, sam_optax
    >>> model, x = nn.BatchNorm(False), jnp.array([[0.0, 1.0], [2.0, 3.0]])
    >>> variables = model.init(jax.random.key(0), x)
    >>> losses = lambda apply, x: (jnp.sum((apply(x) - 1) ** 2, axis=1), None)
    >>> method, base = sam_optax.sam(rho=0.05), optax.sgd(0.1)
    >>> params, loss_fn = sam_optax.frameworks.linen(
    ...   model.apply, variables, losses
    ... )
    >>> state, base_state = method.init(params), base.init(params)
    >>> (loss, aux), grads, state = method.value_and_grad(
    ...   loss_fn, params, state, x
    ... )
    >>> updates, base_state = base.update(grads, base_state)
    >>> params = optax.apply_updates(params, updates)
    >>> variables = {'params': params, **aux['rest']}
    >>> [f'{mean:.2f}' for mean in variables['batch_stats']['mean']]
    ['0.01', '0.02']
  """
  if not isinstance(variables, Mapping) or 'params' not in variables:
    raise ValueError(
      "Given variables without 'params'. They are what is trained, and the "
      'other collections stay as they are in a pass. Pass what '
      "model.init(key, x) returned, or {'params': state.params, "
      "'batch_stats': state.batch_stats}."
    )
  rest = {name: variables[name] for name in variables if name != 'params'}

  def loss_fn(params, batch):
    changed = dict(rest)

    def apply(*arguments, **options):
      outputs, new = apply_fn(
        {'params': params, **changed},
        *arguments,
        rngs=rngs,
        mutable=list(rest),
        **options,
      )
      changed.update(new)
      return outputs

    values, aux = _given.losses_and_aux(losses(apply, batch))
    return values, _with_rest(aux, changed)

  return variables['params'], loss_fn


def equinox(
  model: _Model,
  losses: Callable[[_Model, _base.PyTree, _base.PyTree], tuple[jax.Array, Any]],
  rest: _base.PyTree = None,
) -> tuple[_base.PyTree, _base.LossFn]:
  """The parameters and the loss function of an Equinox model.

  It works for every model that is a tree: the parameters are its arrays of
  floats, and the other leaves (functions, integers, keys) stay as they are.
  Every pass gets its own copy of `rest`. An `eqx.nn.State` can be used only
  once, so a second pass with the first one would raise.

  Args:
    model: an `eqx.Module`, or another tree.
    losses: (model, rest, batch) -> (losses of shape [batch], aux), where aux is
      a dict or None. It returns what it changed: ``return losses, {'rest':
      state}``.
    rest: what a pass needs besides the model, such as ``(state, key)``.

  Returns:
    (params, loss_fn): the model with None for all leaves that are no
    parameters, as `eqx.partition` makes it, and (params, batch) -> (losses,
    aux). After the step, `eqx.apply_updates(model, updates)` moves the model.

  Example:
    >>> import jax, jax.numpy as jnp, sam_optax
    >>> model = {'w': jnp.array([1.0, -2.0]), 'activation': jnp.tanh}
    >>> def losses(model, rest, x):
    ...   return model['activation'](x @ model['w']) ** 2, {'rest': rest}
    >>> params, loss_fn = sam_optax.frameworks.equinox(model, losses)
    >>> params
    {'activation': None, 'w': Array([ 1., -2.], dtype=float32)}
    >>> method = sam_optax.sam(rho=0.05)
    >>> (loss, aux), grads, state = method.value_and_grad(
    ...   loss_fn, params, method.init(params), jnp.eye(2)
    ... )
    >>> jax.tree.map(jnp.shape, grads)
    {'activation': None, 'w': (2,)}
  """
  params = jax.tree.map(lambda x: x if _is_parameter(x) else None, model)
  static = jax.tree.map(lambda x: None if _is_parameter(x) else x, model)
  rest_leaves, rest_structure = jax.tree.flatten(rest)

  def loss_fn(params, batch):
    whole = jax.tree.map(
      lambda param, other: other if param is None else param,
      params,
      static,
      is_leaf=lambda x: x is None,
    )
    fresh = jax.tree.unflatten(rest_structure, rest_leaves)
    return _given.losses_and_aux(losses(whole, fresh, batch))

  return params, loss_fn


def for_update(
  loss_fn: _base.LossFn, params: _base.PyTree, batch: _base.PyTree
) -> tuple[tuple[jax.Array, Any], _base.PyTree, _base.GradFn]:
  """What `tx.update` needs, from a loss function and a batch.

  Args:
    loss_fn: (params, batch) -> (losses of shape [batch], aux), which gives the
      same result whenever it is called with the same arguments.
    params: the parameters.
    batch: the batch.

  Returns:
    ((loss, aux), grads, grad_fn): the mean loss, aux and the gradient at the
    params, and the gradient function of the same batch, so that ``tx.update(
    grads, opt_state, params, grad_fn=grad_fn)`` is a step.

  Example:
    >>> import jax.numpy as jnp, optax, sam_optax
    >>> tx = optax.chain(sam_optax.sam(rho=0.05), optax.sgd(0.1))
    >>> params = jnp.array([1.0, -2.0])
    >>> (loss, _), grads, grad_fn = sam_optax.frameworks.for_update(
    ...   lambda w, x: ((x @ w) ** 2, None), params, jnp.eye(2)
    ... )
    >>> updates, opt_state = tx.update(
    ...   grads, tx.init(params), params, grad_fn=grad_fn
    ... )
    >>> float(loss)
    2.5
  """
  _given.function('loss_fn', loss_fn, _given.LOSS_FN)

  def mean_loss(params):
    losses, aux = _given.losses_and_aux(loss_fn(params, batch))
    return jnp.mean(_tree.promote(losses)), aux

  value, grads = jax.value_and_grad(mean_loss, has_aux=True)(params)
  return (
    value,
    grads,
    lambda params: jax.grad(mean_loss, has_aux=True)(params)[0],
  )


def _is_parameter(leaf: Any) -> bool:
  """As `eqx.is_inexact_array`; a method refuses complex ones, with words."""
  return isinstance(leaf, jax.Array | np.ndarray) and jnp.issubdtype(
    leaf.dtype, jnp.inexact
  )


def _with_rest(aux: Any, rest: _base.PyTree) -> dict[str, Any]:
  """The caller's aux, with what the pass changed."""
  if aux is not None and (not isinstance(aux, Mapping) or 'rest' in aux):
    kind = "a dict with 'rest'" if isinstance(aux, Mapping) else None
    raise ValueError(
      f'Given losses whose aux is {kind or f"a {type(aux).__name__}"}. The '
      "variables that the pass changed are put beside it, as aux['rest']. "
      "Return a dict with other names, such as {'logits': logits}, or None."
    )
  return {**(aux or {}), 'rest': rest}
