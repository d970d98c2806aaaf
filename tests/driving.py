"""A small problem and a driver: a few steps of a method, recorded.

Every evaluation of the problem passes a probe, which records the points of the
gradients that run eagerly, and how many examples each gradient and each forward
pass that really executes is of, under `jit` too.
"""

import functools
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import sam_optax
from tests import methods
from tests.methods import BATCH_SIZE, NUM_CLASSES, NUM_EXAMPLES

BASE = optax.sgd(0.1, momentum=0.9)
# What follows a method that is an optimizer.
WHOLE = optax.sgd(1.0)


def base_of(
  method: sam_optax.SharpnessAware,
) -> optax.GradientTransformation:
  """What follows a method in the tests."""
  return WHOLE if method.is_optimizer else BASE


_RANDOM = np.random.default_rng(0)
X = _RANDOM.normal(size=(NUM_EXAMPLES, 3)).astype(np.float32)
Y = _RANDOM.normal(size=NUM_EXAMPLES).astype(np.float32)


class Probe:
  """What the evaluations of the problem leave behind.

  Attributes:
    points: where the gradients that run eagerly are taken.
    gradients: how many examples each gradient that executes is of.
    passes: the same of each forward pass, those of the gradients among them.
  """

  points: list[Any] = []
  gradients: list[int] = []
  passes: list[int] = []


def reset() -> None:
  """Forgets what was seen."""
  Probe.points, Probe.gradients, Probe.passes = [], [], []


def seen() -> tuple[list[Any], list[int], list[int]]:
  """(points, gradients, forward): the last fields of a `Step`."""
  # The gradient of a loss that is linear needs no forward pass.
  forward = Counter(Probe.passes) - Counter(Probe.gradients)
  return Probe.points, sorted(Probe.gradients), sorted(forward.elements())


def probe(params: Any, batch: Any = None, tag: Any = None) -> Any:
  """The identity; its forward and its backward pass are noted by the host.

  What is noted is the number of examples, with the tag before it if there is
  one.
  """
  sizes = [len(leaf) for leaf in jax.tree.leaves(batch)]
  size = sizes[0] if sizes else 0
  return _probe(size if tag is None else (tag, size), params)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _probe(examples, params):
  return _note('passes', examples, params)


def _forward(examples, params):
  if not _is_traced(params):
    Probe.points.append(params)
  return _note('passes', examples, params), None


def _backward(examples, _, gradient):
  return (_note('gradients', examples, gradient),)


_probe.defvjp(_forward, _backward)


def _is_traced(tree):
  return any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves(tree))


def _note(kind, examples, tree):
  """The tree; the host notes that it was computed.

  Under `jit` the host is called when the program runs. The call is on the
  path of the values and pure, so that the compiler drops it with an
  evaluation that nobody uses.
  """

  def on_host(leaves):
    getattr(Probe, kind).append(examples)
    return [np.asarray(leaf) for leaf in leaves]

  leaves, structure = jax.tree.flatten(tree)
  if not _is_traced(tree):
    getattr(Probe, kind).append(examples)
  elif leaves:
    shapes = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in leaves]
    leaves = jax.pure_callback(on_host, shapes, leaves)
  return jax.tree.unflatten(structure, leaves)


def mean(losses):
  """The mean, in float32 or wider."""
  wide = losses.dtype if losses.dtype == jnp.float64 else jnp.float32
  return jnp.mean(losses.astype(wide))


@jax.jit
def _fit(params, batch):
  x, y = (part.astype(params['w'].dtype) for part in batch)
  w, b = params['w'], params['b']
  return (jnp.tanh(x @ w + b[0]) + b[1] - y) ** 2


def fit(params, batch):
  """Nonlinear least squares, computed in the dtype of w.

  It is compiled wherever it is called from: op by op it would be most of the
  time of an eager run. The aux has no axis of examples: on the device, a
  method that chooses examples has branches of different batch sizes.
  """
  losses = _fit(probe(params, batch), batch)
  return losses, {'point': params, 'loss': mean(losses)}


@functools.cache
def linear(slope, once=None):
  """A loss whose gradient is `slope` in every entry of any tree.

  Where `once` is given, it is the slope on the second batch of the epoch.
  """

  @jax.jit
  def compiled(params, batch):
    factor = jnp.asarray(slope, jnp.float32)
    if once is not None:
      factor = jnp.where(batch[1][0] == Y[BATCH_SIZE], once, factor)
    sums = [
      jnp.sum(factor.astype(leaf.dtype) * leaf).astype(jnp.float32)
      for leaf in jax.tree.leaves(params)
    ]
    return jnp.ones(batch[0].shape[0]) * sum(sums)

  return lambda params, batch: (compiled(probe(params, batch), batch), None)


@functools.cache
def with_logits(losses):
  """The same losses, and logits that follow them if they have an aux.

  Without one the losses are a landscape, and the logits are nobody's: 0.
  """

  def wrapped(params, batch):
    values, aux = losses(params, batch)
    factors = jnp.arange(NUM_CLASSES, dtype=values.dtype)[None]
    if aux is None:
      factors = jnp.zeros_like(factors)
    logits = values[:, None] * factors
    return values, {**(aux or {}), 'logits': logits}

  return wrapped


def losses_for(
  method: sam_optax.SharpnessAware, losses: Callable[..., Any] = fit
) -> Callable[..., Any]:
  """The losses as a method wants them.

  A method that chooses examples wants no axis of examples in the aux, and one
  that reads the logits needs it.
  """
  return with_logits(losses) if method.reads_logits else losses


def start(dtype: Any = jnp.float32) -> dict[str, jax.Array]:
  """New parameters."""
  return {
    'b': jnp.asarray([0.1, -0.4], dtype),
    'w': jnp.asarray([0.3, -0.2, 0.5], dtype),
  }


def batch_at(step: int) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
  """(batch, example_ids): three batches to an epoch, always in one order."""
  first = step * BATCH_SIZE % NUM_EXAMPLES
  ids = np.arange(first, first + BATCH_SIZE)
  return (jnp.asarray(X[ids]), jnp.asarray(Y[ids])), jnp.asarray(ids, jnp.int32)


def grad_fn_of(losses: Callable[..., Any], batch: Any) -> Callable[..., Any]:
  """The gradient of the mean loss."""

  def mean_loss(params):
    return mean(losses(params, batch)[0])

  return jax.grad(mean_loss)


def keywords(
  losses: Callable[..., Any], batch: Any, ids: Any
) -> dict[str, Any]:
  """Every keyword that `update` of any method may need."""
  return {
    'grad_fn': grad_fn_of(losses, batch),
    'loss_fn': losses,
    'batch': batch,
    'example_ids': ids,
    'reference_grad_fn': grad_fn_of(losses, (jnp.asarray(X), jnp.asarray(Y))),
  }


class Step(NamedTuple):
  """One step: what came out of it, and what the probe saw.

  Attributes:
    points: where the gradients were taken, if it ran eagerly.
    gradients: how many examples each gradient that executed was of, sorted.
    forward: the same of each forward pass whose gradient was not taken.
  """

  grads: Any
  params: Any
  state: Any
  loss: Any
  aux: Any
  points: list[Any]
  gradients: list[int]
  forward: list[int]

  @property
  def executed(self) -> int:
    """How many gradients executed."""
    return len(self.gradients)


class Stepper:
  """One step of a method and the base optimizer, counting its traces.

  At door 1 every argument that any method may need is given to all of them.
  """

  def __init__(self, method, door='update', losses=fit, base=None):
    self.method, self.door = method, door
    self.losses = losses_for(method, losses)
    self.base = base_of(method) if base is None else base
    self.traces = 0
    self.jitted = jax.jit(
      self.traced, static_argnames=('perturb', 'full_batch')
    )

  def traced(self, *args, **decided):
    self.traces += 1
    return self(*args, **decided)

  def __call__(self, params, state, base_state, batch, ids, **decided):
    loss = aux = None
    given = keywords(self.losses, batch, ids)
    if self.door == 'update':
      grads, state = self.method.update(
        given['grad_fn'](params), state, params, **given, **decided
      )
    else:
      (loss, aux), grads, state = self.method.value_and_grad(
        self.losses,
        params,
        state,
        batch,
        ids,
        reference_grad_fn=given['reference_grad_fn'],
        **decided,
      )
    updates, base_state = self.base.update(grads, base_state, params)
    params = optax.apply_updates(params, updates)
    return grads, params, state, base_state, loss, aux


# One object for each, so that the tests share what is compiled.
stepper = functools.cache(Stepper)


def drive(
  method: sam_optax.SharpnessAware,
  steps: int = 6,
  *,
  door: str = 'update',
  how: str = 'eager',
  losses: Callable[..., Any] = fit,
  params: Any = None,
  base: optax.GradientTransformation | None = None,
  **decided: bool,
) -> list[Step]:
  """Runs a method from `params`.

  Args:
    method: what to run.
    steps: how many.
    door: 'update' or 'value_and_grad'.
    how: 'eager' (nothing is compiled and the host decides), 'device' (`jit`,
      and the device decides) or 'host' (`jit`, and the host decides).
    losses: (params, batch) -> (losses, aux).
    params: where to start.
    base: the optimizer that the gradients go to; `base_of` by default.
    **decided: `perturb` or `full_batch`, in the place of the host's decision.

  Returns:
    The steps.
  """
  base = base_of(method) if base is None else base
  step_fn = stepper(method, door, losses, base)
  params = start() if params is None else params
  state, base_state = method.init(params), base.init(params)
  deciding = how != 'device'
  # A cadence that goes by the gradient is asked between the two passes; door 1
  # has no way to hand the first one on, so there the host asks when it is free.
  between = method.first_pass and (how == 'eager' or door == 'value_and_grad')
  done = []
  for step in range(steps):
    batch, ids = batch_at(step)
    reset()
    choices = {}
    if deciding:
      first = method.first_pass(losses, params, batch) if between else None
      choices = method.decide(state, ids, first) | decided
      if door == 'value_and_grad' and first is not None:
        choices['first'] = first
    call = step_fn if how == 'eager' else step_fn.jitted
    grads, params, state, base_state, loss, aux = jax.block_until_ready(
      call(params, state, base_state, batch, ids, **choices)
    )
    done.append(Step(grads, params, state, loss, aux, *seen()))
  return done


@functools.cache
def run(name: str, door: str = 'update', how: str = 'eager') -> list[Step]:
  """12 steps of a row with its test options: what others are compared with."""
  return drive(methods.method(name), 12, door=door, how=how)


def inner(state: Any) -> Any:
  """The `SharpnessAwareState`: the state, or inside it."""
  while hasattr(state, 'method'):
    state = state.method
  return state


def values(tree: Any) -> list[np.ndarray]:
  """The leaves as NumPy arrays, keys as their data."""

  def value(leaf):
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
      leaf = jax.random.key_data(leaf)
    return np.asarray(leaf)

  return [value(leaf) for leaf in jax.tree.leaves(tree)]


def assert_close(
  x: Any, y: Any, rtol: float = 1e-4, atol: float = 1e-5
) -> None:
  """Equal to rounding; the defaults are for some steps in float32."""
  assert jax.tree.structure(x) == jax.tree.structure(y)
  for a, b in zip(values(x), values(y), strict=True):
    np.testing.assert_allclose(
      a.astype(np.float64), b.astype(np.float64), rtol=rtol, atol=atol
    )


def equal(x: Any, y: Any) -> bool:
  """Whether two trees are equal bit for bit."""
  return jax.tree.structure(x) == jax.tree.structure(y) and all(
    np.array_equal(a, b) and a.dtype == b.dtype
    for a, b in zip(values(x), values(y), strict=True)
  )


def is_finite(tree: Any) -> bool:
  """Whether every entry is finite."""
  return all(np.all(np.isfinite(x.astype(np.float64))) for x in values(tree))


def has_nan(tree: Any) -> bool:
  """Whether any entry is NaN."""
  return any(np.any(np.isnan(x.astype(np.float64))) for x in values(tree))


def results(steps: list[Step]) -> list[tuple[Any, Any, Any]]:
  """(grads, params, state) of each step."""
  return [step[:3] for step in steps]


def trajectory(steps: list[Step]) -> list[tuple[Any, Any]]:
  """(grads, params) of each step: what two methods can have in common."""
  return [step[:2] for step in steps]
