"""What a call is given, compared with what the method needs.

Shapes, dtypes and types are known when a step is traced, so these checks cost
nothing in a compiled step. Each error says what was given, why it cannot work,
and what would.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from sam_optax import _base, _tree

# No table has such a row: JAX drops a write there, and reads the fill value.
NOWHERE = jnp.iinfo(jnp.int32).max

LOSS_FN = 'loss_fn(params, batch) -> (losses of shape [batch], aux)'


def params(tree: _base.PyTree) -> _base.PyTree:
  """The parameters as arrays, Python floats included; all must be real.

  Raises:
    ValueError: if a leaf has no gradient, or is complex.
  """
  if tree is None:
    raise ValueError(
      'Given no params. The gradients are taken at them. Pass the tree that '
      'init got, or what the last step made of it.'
    )
  tree = _tree.arrays(tree)
  for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
    if isinstance(leaf, jax.ShapeDtypeStruct):
      raise ValueError(
        f'Given params whose leaf {_name(path)} is a ShapeDtypeStruct. It has '
        'a shape and no numbers. Pass arrays, or trace the call: '
        'jax.eval_shape(tx.init, params).'
      )
    if not hasattr(leaf, 'dtype'):
      raise ValueError(
        f'Given params whose leaf {_name(path)} is a {type(leaf).__name__}. '
        'It is no array, so it has no gradient. Pass the arrays alone, such '
        'as eqx.partition(model, eqx.is_inexact_array)[0] or '
        'nnx.split(model, nnx.Param, ...)[1], and put the model together '
        'inside the loss.'
      )
    if jnp.issubdtype(leaf.dtype, jnp.complexfloating):
      raise ValueError(
        f'Given params whose leaf {_name(path)} is {leaf.dtype}. The gradient '
        'of jax.grad by a complex number is the conjugate of the direction in '
        'which the loss rises, and the perturbation would be wrong. Keep the '
        "real and the imaginary part as two leaves, and add p['re'] + 1j * "
        "p['im'] inside the loss."
      )
    if not jnp.issubdtype(leaf.dtype, jnp.floating):
      raise ValueError(
        f'Given params whose leaf {_name(path)} is {leaf.dtype}. It has no '
        'gradient and cannot be perturbed. Keep it out of params: close over '
        'it in the loss, or split the floats off, such as with '
        'eqx.partition(model, eqx.is_inexact_array).'
      )
  return tree


def gradient(name: str, tree: _base.PyTree, like: _base.PyTree) -> _base.PyTree:
  """A gradient as arrays, if it is shaped as the parameters.

  Args:
    name: what the caller calls it, such as 'updates'.
    tree: the gradient.
    like: the parameters.

  Raises:
    ValueError: if the structure, a shape or the kind of a dtype differs.
  """
  tree = _tree.arrays(tree)
  if jax.tree.structure(tree) != jax.tree.structure(like):
    raise ValueError(
      f'Given {name} with the structure {brief(tree)}{_lacks(tree, like)}. A '
      f'gradient must have the structure of the params: {brief(like)}. Use '
      'jax.grad(loss), or lambda p: jax.value_and_grad(loss)(p)[1]; with Flax '
      'NNX, nnx.as_pure of both or of neither.'
    )
  pairs = zip(
    jax.tree_util.tree_leaves_with_path(tree),
    jax.tree.leaves(like),
    strict=True,
  )
  for (path, leaf), param in pairs:
    kind = getattr(leaf, 'dtype', None)
    if kind is None or not jnp.issubdtype(kind, jnp.floating):
      raise ValueError(
        f'Given {name} whose leaf {_name(path)} is '
        f'{kind or f"a {type(leaf).__name__}"}. The gradient by a parameter of '
        f'{param.dtype} is a float. Return what jax.grad(loss) makes.'
      )
    if leaf.shape != param.shape:
      raise ValueError(
        f'Given {name} whose leaf {_name(path)} has the shape {leaf.shape}, '
        f'for a parameter of shape {param.shape}. Added to each other, they '
        'would be broadcast to another shape. Return the gradient by this '
        'parameter, such as jax.grad(loss) makes.'
      )
  return tree


def function(name: str, value: Any, signature: str) -> None:
  """Raises ValueError if the caller passed something else than a function."""
  if not callable(value):
    raise ValueError(
      f'Given a {name} of type {type(value).__name__}. The method calls it at '
      f'the perturbed parameters, so it must be a function. Pass {signature}.'
    )


def losses_and_aux(
  result: Any, number: int | None = None
) -> tuple[jax.Array, Any]:
  """What a loss function returned, if it is (losses of shape [batch], aux).

  Args:
    result: what it returned.
    number: the number of examples, where the method needs one loss for each.

  Raises:
    ValueError: if it returned anything else.
  """
  if not isinstance(result, tuple | list) or len(result) != 2:
    kind = f'a {type(result).__name__}'
    if isinstance(result, tuple | list):
      kind += f' of {len(result)}'
    elif hasattr(result, 'shape'):
      kind = f'one array of shape {result.shape}'
    raise ValueError(
      f'Given a loss_fn that returns {kind}. The method needs the losses of '
      'the examples and aux, which may be None. Return a pair: '
      f'{LOSS_FN}, such as `return losses, None`.'
    )
  losses, aux = result
  losses = _tree.arrays(losses)
  if not hasattr(losses, 'shape') or losses.ndim != 1:
    shape = getattr(losses, 'shape', type(losses).__name__)
    raise ValueError(
      f'Given a loss_fn whose losses are {shape}, where [batch] is needed: '
      'one number for each example. The method takes their mean itself. '
      'Return the losses before any mean, and squeeze or sum the other axes: '
      f'{LOSS_FN}.'
    )
  if not jnp.issubdtype(losses.dtype, jnp.floating):
    raise ValueError(
      f'Given a loss_fn whose losses are {losses.dtype}. They have no real '
      'gradient, and nothing would be trained. Return floats: '
      f'{LOSS_FN}.'
    )
  _check_aux(aux)
  if not losses.size:
    raise ValueError(
      'Given a batch of no examples. The mean of no losses is NaN. Leave the '
      'step out.'
    )
  if number is not None and losses.shape[0] != number:
    raise ValueError(
      f'Given a loss_fn that returns {losses.shape[0]} losses for {number} '
      'examples. The method keeps track of each example by its loss. Return '
      f'one for each: {LOSS_FN}.'
    )
  return losses, aux


def _check_aux(aux: Any) -> None:
  """Raises ValueError if a leaf of aux cannot come out of a traced function."""
  for path, leaf in jax.tree_util.tree_leaves_with_path(aux):
    is_number = isinstance(leaf, bool | int | float | complex)
    if not is_number and not hasattr(leaf, 'dtype'):
      raise ValueError(
        f'Given a loss_fn whose aux has the leaf {_name(path)}, a '
        f'{type(leaf).__name__}. The loss is traced, and only arrays come out. '
        'Leave it out of aux: what does not depend on the params is known '
        'without a call.'
      )


def mask(name: str, given: _base.Mask, tree: _base.PyTree) -> _base.PyTree:
  """A mask for the leaves of a tree, if it is shaped as the tree.

  Args:
    name: the argument's name.
    given: a tree of bools, or a function from the tree to it.
    tree: the params, or a gradient.

  Raises:
    ValueError: if the structure differs.
  """
  found = given(tree) if callable(given) else given
  if jax.tree.structure(found) != jax.tree.structure(tree):
    raise ValueError(
      f'Given {name} with the structure {brief(found)}{_lacks(found, tree)}. '
      f'A mask needs one bool for each leaf of the params: {brief(tree)}. '
      'Pass a function such as lambda params: jax.tree.map(lambda p: p.ndim > '
      '1, params).'
    )
  return found


def rows(batch: _base.PyTree, number: int | None, why: str) -> int:
  """The number of examples, if every leaf of the batch is an axis of them.

  Args:
    batch: the batch.
    number: the number of examples, if it is known otherwise.
    why: who needs rows, to begin a sentence.

  Raises:
    ValueError: if a leaf has no axis of examples, or one of another length.
  """
  leaves = jax.tree_util.tree_leaves_with_path(batch)
  sizes = [np.shape(leaf)[:1] for _, leaf in leaves]
  known = Counter(size[0] for size in sizes if size)
  if number is None:
    if not known:
      raise ValueError(
        f'Given a batch without an axis of examples. {why}. Pass arrays whose '
        'first axis is the examples.'
      )
    number = int(known.most_common(1)[0][0])
  for (path, leaf), size in zip(leaves, sizes, strict=True):
    if size != (number,):
      raise ValueError(
        f'Given a batch whose leaf {_name(path)} has the shape '
        f'{np.shape(leaf)}, and {number} examples. {why}, so the first axis of '
        'each must be the examples. Let loss_fn close over what is not an '
        'example, such as a PRNG key or the weights of the classes.'
      )
  return number


def example_ids(ids: Any, num_examples: int | None = None) -> jax.Array:
  """Example ids as int32; `NOWHERE` for one that no table can have.

  Args:
    ids: what the caller passed.
    num_examples: the rows of the table, if there is one.

  Raises:
    ValueError: if they are no [batch] of integers, or are known to be outside
      of the table.
  """
  given = ids if isinstance(ids, jax.Array) else np.asarray(ids)
  if given.ndim != 1 or not jnp.issubdtype(given.dtype, jnp.integer):
    raise ValueError(
      f'Given example_ids of shape {given.shape} and dtype {given.dtype}. '
      'They say which row of a table belongs to each example. Pass the '
      "position of each example in the data set, int32 [batch]; a mask's are "
      'jnp.flatnonzero(mask).'
    )
  is_known = not isinstance(ids, Tracer)
  if num_examples is not None and is_known:
    known = np.asarray(ids)
    outside = known[(known < 0) | (known >= num_examples)]
    if outside.size:
      raise ValueError(
        f'Given example_ids with {outside[0]}, where num_examples='
        f'{num_examples}. The table has one row for each of the examples 0 to '
        f'{num_examples - 1}. Pass positions in the data set, or build the '
        'method with the size of the whole set.'
      )
  given = jnp.asarray(given)
  # A negative index would count from the end: the row of another example.
  if jnp.can_cast(given.dtype, jnp.int32):
    nowhere, given = given < 0, given.astype(jnp.int32)
  else:
    nowhere = (given < 0) | (given >= NOWHERE)
  return jnp.where(nowhere, NOWHERE, given.astype(jnp.int32))


def state(value: Any, kind: type) -> Any:
  """The state with JAX's arrays in the place of NumPy's, if it is of the type.

  Raises:
    ValueError: if the method makes a state of another type.
  """
  if isinstance(value, kind):
    return _tree.arrays(value)
  raise ValueError(
    f'Given a state of type {type(value).__name__}. This method keeps a '
    f'{kind.__name__}. Pass what its own init or its last call returned; of '
    'the state of an optax.chain, that is the member of the method: '
    'opt_state[0]. A restored checkpoint must be put into the structure of '
    'init(params).'
  )


def make_check_state(
  init: Callable[[_base.PyTree], Any], kind: type
) -> Callable[[Any, _base.PyTree], Any]:
  """A function (state, params) -> the state as arrays, if the two fit.

  It raises ValueError if they do not.

  Args:
    init: params -> state, traced once for each new set of shapes.
    kind: the type of the state.
  """
  fitting = set()

  def check(value, params):
    value = state(value, kind)
    signature = _signature(value), _signature(params)
    if signature not in fitting:
      _compare(value, jax.eval_shape(init, params))
      fitting.add(signature)
    return value

  return check


def _signature(tree: Any) -> Any:
  leaves, structure = jax.tree.flatten(tree)
  return structure, tuple((np.shape(x), _kind(x)) for x in leaves)


def _kind(leaf: Any) -> str:
  dtype = getattr(leaf, 'dtype', np.result_type(type(leaf)))
  if jnp.issubdtype(dtype, jax.dtypes.prng_key):
    return 'a typed PRNG key'
  if jnp.issubdtype(dtype, jnp.floating):
    return 'a float'
  return str(dtype)


def _compare(given: Any, needed: Any) -> None:
  for name in needed._fields:
    part, like = getattr(given, name), getattr(needed, name)
    if jax.tree.structure(part) != jax.tree.structure(like):
      raise ValueError(
        f'Given a state whose `{name}` is {brief(part)}, where these params '
        f'give this method {brief(like)}. It is the state of another method, '
        'or of other parameters. Begin with init(params), or build the method '
        'with the arguments that the state was made with.'
      )
  pairs = zip(
    jax.tree_util.tree_leaves_with_path(given),
    jax.tree.leaves(needed),
    strict=True,
  )
  for (path, leaf), like in pairs:
    if np.shape(leaf) != like.shape or _kind(leaf) != _kind(like):
      raise ValueError(
        f'Given a state whose {_name(path)} is {_kind(leaf)} of shape '
        f'{np.shape(leaf)}, where {_kind(like)} of shape {like.shape} is '
        'needed. It was made for other parameters or sizes, or restored as '
        'something else. Begin with init(params); plain arrays in the place '
        'of keys become keys again by sam_optax.from_arrays(arrays, '
        'init(params)).'
      )


def brief(tree: Any) -> str:
  """The structure of a tree, cut where it is long."""
  text = str(jax.tree.structure(tree))
  text = text.removeprefix('PyTreeDef(').removesuffix(')')
  if len(text) <= 160:
    return text
  # Cut, with the brackets closed that are open there.
  closing = {'(': ')', '[': ']', '{': '}'}
  text, still_open = text[:160], []
  for letter in text:
    if letter in closing:
      still_open.append(closing[letter])
    elif still_open and letter == still_open[-1]:
      still_open.pop()
  return f'{text}...{"".join(reversed(still_open))}'


def _lacks(tree: Any, like: Any) -> str:
  """Names a leaf of `like` that the tree does not have, if there is one."""
  at = lambda tree: [
    _name(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)
  ]
  has = set(at(tree))
  missing = [name for name in at(like) if name not in has]
  return f', which lacks {missing[0]}' if missing else ''


def _name(path: Any) -> str:
  return jax.tree_util.keystr(path) or 'itself'
