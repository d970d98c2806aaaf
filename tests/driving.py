"""A small problem, and a driver that records a few steps of a method.

Every evaluation of the problem goes through `tests.probe`.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import sam_optax
from tests import methods
from tests.methods import BATCH_SIZE, NUM_CLASSES, NUM_EXAMPLES
from tests.probe import probe, reset, seen

BASE = optax.sgd(0.1, momentum=0.9)
# Follows a method that is an optimizer itself.
WHOLE = optax.sgd(1.0)


def base_of(
  method: sam_optax.SharpnessAware,
) -> optax.GradientTransformation:
  """The base optimizer that follows a method in the tests."""
  return WHOLE if method.is_optimizer else BASE


_RANDOM = np.random.default_rng(0)
X = _RANDOM.normal(size=(NUM_EXAMPLES, 3)).astype(np.float32)
Y = _RANDOM.normal(size=NUM_EXAMPLES).astype(np.float32)


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

  It is compiled even in an eager run, where it would take most of the time
  otherwise. The aux has no axis of examples, because a method that chooses
  examples on the device has branches of different batch sizes.
  """
  losses = _fit(probe(params, batch), batch)
  return losses, {'point': params, 'loss': mean(losses)}


@functools.cache
def linear(slope, once=None):
  """A loss whose gradient is `slope` in every entry of any tree.

  Args:
    slope: the slope.
    once: the slope on the second batch of the epoch, if it differs.
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
  """Adds logits to the aux of some losses.

  The logits follow the losses. If the losses have no aux, the logits are 0.
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
  """Adds logits to the losses if the method reads them.

  Other methods get none: an aux with an axis of examples does not suit a method
  that chooses examples.
  """
  return with_logits(losses) if method.reads_logits else losses


def start(dtype: Any = jnp.float32) -> dict[str, jax.Array]:
  """Initial parameters."""
  return {
    'b': jnp.asarray([0.1, -0.4], dtype),
    'w': jnp.asarray([0.3, -0.2, 0.5], dtype),
  }


def batch_at(step: int) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
  """(batch, example_ids) of a step; an epoch is three batches in order."""
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


def first_call(name: str, params: Any) -> tuple[Any, dict[str, Any]]:
  """The arguments of a first call of `update`: (the gradient, the keywords)."""
  losses = losses_for(methods.method(name))
  given = keywords(losses, *batch_at(0))
  return given['grad_fn'](params), given


class Step(NamedTuple):
  """The results of one step, and the record of the probe.

  Attributes:
    points: the points at which gradients were taken, if the step ran eagerly.
    gradients: the number of examples of each gradient that executed, sorted.
    forward: the number of examples of each forward pass without a gradient,
      sorted.
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
    """The number of gradients that executed."""
    return len(self.gradients)


class Stepper:
  """One step of a method and the base optimizer, with a count of its traces.

  With `entry='update'`, every method gets every argument that any may need.
  """

  def __init__(self, method, entry='update', losses=fit, base=None):
    self.method, self.entry = method, entry
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
    if self.entry == 'update':
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


# One object for each method, so that tests share compiled steps.
stepper = functools.cache(Stepper)


def drive(
  method: sam_optax.SharpnessAware,
  steps: int = 6,
  *,
  entry: str = 'update',
  how: str = 'eager',
  losses: Callable[..., Any] = fit,
  params: Any = None,
  base: optax.GradientTransformation | None = None,
  **decided: bool,
) -> list[Step]:
  """Runs a method from `params`.

  Args:
    method: what to run.
    steps: the number of steps.
    entry: 'update' or 'value_and_grad'.
    how: 'eager' (nothing is compiled and the host decides), 'device' (`jit`,
      and the device decides) or 'host' (`jit`, and the host decides).
    losses: (params, batch) -> (losses, aux).
    params: the initial parameters; `start()` by default.
    base: the base optimizer; `base_of(method)` by default.
    **decided: `perturb` or `full_batch`; overrides the decision of the host.

  Returns:
    The steps.
  """
  base = base_of(method) if base is None else base
  step_fn = stepper(method, entry, losses, base)
  params = start() if params is None else params
  state, base_state = method.init(params), base.init(params)
  deciding = how != 'device'
  # A cadence that decides by the gradient needs the first pass. A compiled
  # `update` cannot return it in between, so there the host takes its own.
  between = method.first_pass and (how == 'eager' or entry == 'value_and_grad')
  done = []
  for step in range(steps):
    batch, ids = batch_at(step)
    reset()
    choices = {}
    if deciding:
      first = method.first_pass(losses, params, batch) if between else None
      choices = method.decide(state, ids, first) | decided
      if entry == 'value_and_grad' and first is not None:
        choices['first'] = first
    call = step_fn if how == 'eager' else step_fn.jitted
    grads, params, state, base_state, loss, aux = jax.block_until_ready(
      call(params, state, base_state, batch, ids, **choices)
    )
    done.append(Step(grads, params, state, loss, aux, *seen()))
  return done


@functools.cache
def run(name: str, entry: str = 'update', how: str = 'eager') -> list[Step]:
  """12 steps of a row with its test options, as a reference for other runs."""
  return drive(methods.method(name), 12, entry=entry, how=how)


def inner(state: Any) -> Any:
  """The `SharpnessAwareState` in a state that may be wrapped."""
  while hasattr(state, 'method'):
    state = state.method
  return state


def has_field(method: sam_optax.SharpnessAware, name: str) -> bool:
  """Whether the state of a method has a field of this name."""
  state = jax.eval_shape(method.init, start())
  return bool(optax.tree.get_all_with_path(state, name))


def values(tree: Any) -> list[np.ndarray]:
  """The leaves as NumPy arrays; PRNG keys as their data."""

  def value(leaf):
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
      leaf = jax.random.key_data(leaf)
    return np.asarray(leaf)

  return [value(leaf) for leaf in jax.tree.leaves(tree)]


def assert_close(
  x: Any, y: Any, rtol: float = 1e-4, atol: float = 1e-5
) -> None:
  """Asserts equality to rounding; the defaults suit a few float32 steps."""
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
  """(grads, params) of each step, which two methods can have in common."""
  return [step[:2] for step in steps]


def on_host(tree):
  """The leaves as NumPy's arrays, but for PRNG keys, which it cannot hold."""
  is_key = lambda x: jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
  return jax.tree.map(lambda x: x if is_key(x) else np.asarray(x), tree)
