"""Compiles one step of a method for several devices and counts its traffic."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

import sam_optax
from benchmarks import program
from benchmarks.hlo import collectives
from benchmarks.rows import Spec
from train import config as train_config

# How the devices share a step: 'local' and 'synced' are the perturbations of
# `sam_optax.parallel` in shard_map; 'jit' is plain jit on a sharded batch, and
# 'sharded' shards the parameters too.
ROUTES = ('local', 'synced', 'jit', 'sharded')

# An array is recognised as parameters by its number of elements, so no array of
# examples or activations may have as many as an array of parameters.
_FEATURES, _WIDTH, _CLASSES = 48, 512, 10
_BATCH = 4  # per device
_EXAMPLES = 256

_P = PartitionSpec


class Problem(NamedTuple):
  """The inputs of a step; leaves of `examples` are [batch, ...]."""

  params: Any
  examples: tuple[Any, ...]  # images, labels, ids
  reference: tuple[Any, ...]  # images, labels


def make_problem(batch: int) -> Problem:
  """A perceptron of one hidden layer, and random examples."""
  keys = iter(jax.random.split(jax.random.key(0), 4))
  draw = lambda *shape: jax.random.normal(next(keys), shape) / shape[0] ** 0.5
  params = {
    'hidden': {'kernel': draw(_FEATURES, _WIDTH), 'bias': jnp.zeros(_WIDTH)},
    'norm': {'scale': jnp.ones(_WIDTH)},
    'head': {'kernel': draw(_WIDTH, _CLASSES)},
  }
  labels = jnp.arange(batch) % _CLASSES
  examples = (draw(batch, _FEATURES), labels, jnp.arange(batch))
  return Problem(params, examples, (draw(batch, _FEATURES), labels))


def loss_fn(
  params: Any, batch: Any, sharding: NamedSharding | None = None
) -> tuple[jax.Array, dict[str, Any]]:
  """The losses of a batch, placed on devices by `sharding` if it is given.

  Returns:
    (losses of shape [batch], {'logits': ...}).
  """
  place = lambda tree: tree
  if sharding is not None:
    place = lambda tree: jax.lax.with_sharding_constraint(tree, sharding)
  images, labels = place(batch)
  hidden, norm = params['hidden'], params['norm']
  x = place(jnp.tanh(images @ hidden['kernel'] + hidden['bias'][None]))
  logits = place((x * norm['scale'][None]) @ params['head']['kernel'])
  losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
  return losses, {'logits': logits}


def make_method(spec: Spec, batch: int) -> sam_optax.SharpnessAware:
  """Builds the method of a row, as the training program does."""
  config = program.make_config(spec, {'name': 'mlp'}, batch)
  return train_config.build_method(
    config,
    key=0,
    num_examples=_EXAMPLES,
    num_classes=_CLASSES,
    total_steps=1000,
    steps_per_epoch=1,
    learning_rate=0.1,
    base=optax.sgd(0.1, momentum=0.9),
  )


def take(
  method, params, state, examples, reference, *, perturb=None, sharding=None
):
  """Takes a step as in the middle of training: no batch goes in whole.

  Returns:
    (loss, parameters, state).
  """
  images, labels, ids = examples
  losses_of = functools.partial(loss_fn, sharding=sharding)

  def mean_loss(params):
    return jnp.mean(losses_of(params, reference)[0])

  (loss, _), grads, state = method.value_and_grad(
    losses_of,
    params,
    state,
    (images, labels),
    ids,
    reference_grad_fn=jax.grad(mean_loss),
    perturb=perturb,
    full_batch=False,
  )
  move = lambda w, g: w - jnp.asarray(0.1, w.dtype) * g
  return loss, jax.tree.map(move, params, grads), state


def kinds(
  method: sam_optax.SharpnessAware, problem: Problem
) -> dict[str, bool | None]:
  """The kinds of steps that a method takes.

  Returns:
    The argument `perturb` for each kind, 'perturbed' or 'plain' or both; None
    if the method has no choice.
  """
  state = method.init(problem.params)
  arguments = (problem.params, state, problem.examples, problem.reference)

  def branches(perturb):
    step = functools.partial(take, method, perturb=perturb)
    return str(jax.make_jaxpr(step)(*arguments)).count('cond[')

  # A decision on the device is a branch, which is gone if the host decides.
  if branches(None) > branches(True):
    return {'perturbed': True, 'plain': False}
  decided = method.decide(state, problem.examples[-1])['perturb']
  return {'perturbed' if decided else 'plain': None}


def compile_step(
  method: sam_optax.SharpnessAware,
  problem: Problem,
  route: str,
  perturb: bool | None,
  devices: Sequence[Any],
) -> tuple[Any, tuple[Any, ...]]:
  """Compiles a step by one of `ROUTES`.

  Returns:
    (the compiled step, its arguments).
  """
  mesh = jax.make_mesh(
    (len(devices),), ('batch',), devices=devices, axis_types=(AxisType.Auto,)
  )
  arguments = _place(method, problem, mesh, over_all=route == 'sharded')
  by_batch = NamedSharding(mesh, _P('batch'))
  if route in ('jit', 'sharded'):
    # Without it, every device would compute all of the chosen examples.
    step = functools.partial(take, method, perturb=perturb, sharding=by_batch)
  else:
    method = sam_optax.parallel(method, 'batch', perturbation=route)
    step = jax.shard_map(
      functools.partial(take, method, perturb=perturb),
      mesh=mesh,
      in_specs=(_P(), _P(), _P('batch'), _P('batch')),
      out_specs=_P(),
    )
  kept = jax.tree.map(lambda leaf: leaf.sharding, arguments[:2])
  run = jax.jit(
    step,
    out_shardings=(NamedSharding(mesh, _P()), *kept),
    # Compile quickly, since nothing is timed. This stage follows the HLO.
    compiler_options={'xla_backend_optimization_level': 0},
  )
  return run.lower(*arguments).compile(), arguments


def _place(
  method: sam_optax.SharpnessAware,
  problem: Problem,
  mesh: Mesh,
  *,
  over_all: bool,
) -> tuple[Any, ...]:
  """Places the arguments of a step on a mesh.

  Args:
    method: the method.
    problem: the inputs.
    mesh: a mesh with one axis.
    over_all: whether the parameters are sharded; replicated otherwise.

  Returns:
    (parameters, state, examples, reference).
  """
  whole = NamedSharding(mesh, _P())
  layout = jax.tree.map(
    lambda leaf: _by_longest(leaf, mesh) if over_all else whole, problem.params
  )
  params = jax.device_put(problem.params, layout)

  def spread(leaf):
    # A leaf not made from the parameters is on one device so far.
    follows = isinstance(leaf.sharding, NamedSharding)
    return leaf if follows else jax.device_put(leaf, whole)

  state = jax.tree.map(spread, method.init(params))
  by_batch = NamedSharding(mesh, _P('batch'))
  examples = jax.device_put((problem.examples, problem.reference), by_batch)
  return params, state, *examples


def _by_longest(leaf: jax.Array, mesh: Mesh) -> NamedSharding:
  """Shards the longest axis over all devices."""
  longest = max(range(leaf.ndim), key=lambda axis: leaf.shape[axis])
  spec = [None] * leaf.ndim
  spec[longest] = mesh.axis_names[0]
  return NamedSharding(mesh, _P(*spec))


def count(spec: Spec, devices: Sequence[Any]) -> dict[str, Any]:
  """Counts what the steps of a row send, by kind of step and route."""
  batch = _BATCH * len(devices)
  method, problem = make_method(spec, batch), make_problem(batch)
  sizes = [leaf.size for leaf in jax.tree.leaves(problem.params)]
  steps = {}
  for kind, perturb in kinds(method, problem).items():
    routes, gradients = {}, None
    for route in ROUTES:
      step, arguments = compile_step(method, problem, route, perturb, devices)
      sent = collectives.traffic(collectives.read(step.as_text()), sizes)
      routes[route] = sent._asdict() | {'total': sent.total}
      if gradients is None:
        state = step(*arguments)[-1]
        gradients = int(optax.tree.get(state, 'gradient_evaluations'))
    steps[kind] = {'gradients': gradients, 'routes': routes}
  return {'steps': steps}
