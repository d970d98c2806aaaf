"""Users' pipelines: each trains, and takes the step that is SAM's by hand."""

import functools

import flax.linen as nn
import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import orbax.checkpoint as ocp
import pytest
from flax import nnx
from flax.training import dynamic_scale

import sam_optax
from train.linen import TrainState

RHO = 0.05
RATE = 0.1


def data(step=0, batch=8):
  """A regression batch: x of shape [batch, 4], y of shape [batch, 1]."""
  # Of NumPy, so that a step that is traced has it as a constant.
  draw = np.random.default_rng(step).normal
  x, noise = (np.float32(draw(size=(batch, n))) for n in (4, 1))
  return jnp.asarray(x), jnp.asarray(noise + x[:, :1])


def stacked_data(num_steps):
  return jax.tree.map(lambda *xs: jnp.stack(xs), *map(data, range(num_steps)))


def sam_gradient(grad_fn, params, rho=RHO):
  """SAM's gradient, by hand."""
  return grad_fn(perturbed(params, grad_fn(params), rho))


def perturbed(params, grads, rho=RHO):
  norm = np.sqrt(sum(np.sum(np.square(g)) for g in jax.tree.leaves(grads)))
  return jax.tree.map(
    lambda w, g: w + np.float32(rho / norm) * g, params, grads
  )


def sgd(params, grads, rate=RATE):
  return jax.tree.map(lambda w, g: w - np.float32(rate) * g, params, grads)


def assert_close(actual, expected, rtol=1e-5, atol=1e-6):
  actual, expected = (_comparable(t) for t in (actual, expected))
  assert jax.tree.structure(actual) == jax.tree.structure(expected)
  for a, b in zip(
    jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True
  ):
    np.testing.assert_allclose(a, b, rtol=rtol, atol=atol)


def assert_same(actual, expected):
  assert_close(actual, expected, rtol=0, atol=0)


def is_key(leaf):
  return jnp.issubdtype(jnp.asarray(leaf).dtype, jax.dtypes.prng_key)


def _comparable(tree):
  """`tree` with the numbers of its typed keys in their place."""
  return jax.tree.map(
    lambda x: jax.random.key_data(x) if is_key(x) else x, tree
  )


# A small model of plain functions, for the pipelines that are Optax's alone.


def plain_params():
  keys = jax.random.split(jax.random.key(7))
  return {
    'hidden': {'kernel': jax.random.normal(keys[0], (4, 5)) / 2},
    'head': {'kernel': jax.random.normal(keys[1], (5, 1)) / 2},
  }


def plain_losses(params, batch):
  x, y = batch
  out = jnp.tanh(x @ params['hidden']['kernel']) @ params['head']['kernel']
  return jnp.square(out - y)[:, 0], {'mean': jnp.mean(out)}


def plain_loss(params, batch):
  return jnp.mean(plain_losses(params, batch)[0])


plain_grad = jax.jit(jax.grad(plain_loss))


def plain_grad_fn(batch):
  return lambda params: plain_grad(params, batch)


@functools.partial(jax.jit, static_argnums=0)
def plain_step(tx, params, state, batch):
  grad_fn = plain_grad_fn(batch)
  updates, state = tx.update(grad_fn(params), state, params, grad_fn=grad_fn)
  return optax.apply_updates(params, updates), state


def run(tx, num_steps=4):
  params = plain_params()
  state = tx.init(params)
  for t in range(num_steps):
    params, state = plain_step(tx, params, state, data(t))
  return params


def run_by_hand(base, num_steps=4, rho=RHO):
  """The base optimizer alone, fed with SAM's gradient."""
  params = plain_params()
  state = base.init(params)
  update = jax.jit(base.update)
  for t in range(num_steps):
    grads = sam_gradient(plain_grad_fn(data(t)), params, rho)
    updates, state = update(grads, state, params)
    params = optax.apply_updates(params, updates)
  return params


def kernel_mask(params):
  return jax.tree.map(lambda w: w.shape[0] == 4, params)


BASES = {
  'clip, decay, momentum': lambda: optax.chain(
    optax.clip_by_global_norm(0.5),
    optax.add_decayed_weights(1e-2),
    optax.sgd(RATE, momentum=0.9, nesterov=True),
  ),
  'masked': lambda: optax.chain(
    optax.masked(optax.add_decayed_weights(0.1), kernel_mask), optax.sgd(RATE)
  ),
  'partition': lambda: optax.partition(
    {'hidden': optax.sgd(RATE, momentum=0.9), 'head': optax.set_to_zero()},
    {'hidden': 'hidden', 'head': 'head'},
  ),
}


@pytest.mark.parametrize('name', BASES)
def test_a_base_optimizer_takes_sams_gradient(name):
  tx = optax.chain(sam_optax.sam(RHO), BASES[name]())
  assert_close(run(tx), run_by_hand(BASES[name]()))


def test_weights_decay_from_the_unperturbed_parameters():
  tx = optax.chain(
    sam_optax.sam(RHO), optax.add_decayed_weights(0.1), optax.sgd(RATE)
  )
  params = plain_params()
  grads = sam_gradient(plain_grad_fn(data()), params)
  expected = jax.tree.map(
    lambda w, g: w - np.float32(RATE) * (g + np.float32(0.1) * w),
    params,
    grads,
  )
  assert_close(run(tx, 1), expected)


def test_schedule_free_as_the_base_and_around_all(standard_promotion):
  # The gradients, both of them, are taken at its y, which are the params.
  base = functools.partial(
    optax.contrib.schedule_free, learning_rate=RATE, b1=0.9
  )
  expected = run_by_hand(base(optax.sgd(RATE)))
  inside = optax.chain(sam_optax.sam(RHO), base(optax.sgd(RATE)))
  around = base(optax.chain(sam_optax.sam(RHO), optax.sgd(RATE)))
  assert_close(run(inside), expected)
  assert_close(run(around), expected)


def test_lookahead_takes_the_gradient_of_the_evaluation_door(
  standard_promotion,
):
  # Its params are a pair, and it passes no keyword on: the gradient is taken
  # at the fast ones by the evaluation door.
  method = sam_optax.sam(RHO)
  base = optax.lookahead(optax.sgd(RATE), sync_period=2, slow_step_size=0.5)

  def train(gradient):
    params = optax.LookaheadParams.init_synced(plain_params())
    state, method_state = base.init(params), method.init(params.fast)
    for t in range(4):
      grads, method_state = gradient(params.fast, method_state, data(t))
      updates, state = base.update(grads, state, params)
      params = optax.apply_updates(params, updates)
    return params

  def by_the_method(params, state, batch):
    _, grads, state = method.value_and_grad(plain_losses, params, state, batch)
    return grads, state

  def by_hand(params, state, batch):
    return sam_gradient(plain_grad_fn(batch), params), state

  assert_close(train(by_the_method), train(by_hand))


def test_apply_if_finite_leaves_the_state_alone_at_a_nan(standard_promotion):
  tx = optax.apply_if_finite(
    optax.chain(sam_optax.fsam(RHO), optax.sgd(RATE, momentum=0.9)), 3
  )
  params = plain_params()
  state = tx.init(params)
  params, state = plain_step(tx, params, state, data())
  x, y = data(1)
  same, after = plain_step(tx, params, state, (x * jnp.nan, y))
  assert_same(same, params)
  assert_same(after.inner_state, state.inner_state)
  assert int(after.notfinite_count) == 1
  # A clean gradient again: the step that would have been taken at once.
  assert_same(
    plain_step(tx, params, after, data(2))[0],
    plain_step(tx, params, state, data(2))[0],
  )


@pytest.mark.parametrize(
  'make',
  [
    lambda: sam_optax.sam(RHO),
    lambda: sam_optax.fsam(RHO, sigma='cos'),
    lambda: sam_optax.arsam(RHO, segment=2, warmup_steps=1),
  ],
  ids=['sam', 'fsam', 'arsam'],
)
def test_the_gradient_through_updates_is_finite(make):
  # The loss after two steps, as a function of where they start.
  tx = optax.chain(make(), optax.sgd(RATE))

  def loss_after(params):
    def step(carry, batch):
      return plain_step(tx, *carry, batch), None

    carry = params, tx.init(params)
    (params, _), _ = jax.lax.scan(step, carry, stacked_data(2))
    return plain_loss(params, data(2))

  params = plain_params()
  hypergradient = jax.jit(jax.grad(loss_after))(params)
  # Against the slope of the loss along the gradient itself.
  length = optax.tree.norm(hypergradient)
  assert np.isfinite(length) and length > 0

  @jax.jit
  def loss_along(distance):
    return loss_after(
      jax.tree.map(
        lambda w, g: w + distance / length * g, params, hypergradient
      )
    )

  slope = (loss_along(1e-2) - loss_along(-1e-2)) / 2e-2
  np.testing.assert_allclose(slope, length, rtol=1e-2)


@pytest.mark.parametrize(
  'make',
  [
    lambda: sam_optax.sam(RHO),
    lambda: sam_optax.arsam(RHO, segment=2, warmup_steps=1, horizon=1),
  ],
  ids=['sam', 'arsam'],
)
def test_ten_donated_steps_in_one_scan_are_ten_steps(make):
  tx = optax.chain(make(), optax.sgd(RATE, momentum=0.9))

  @functools.partial(jax.jit, donate_argnums=(0, 1))
  def train(params, state, batches):
    def step(carry, batch):
      return plain_step(tx, *carry, batch), None

    return jax.lax.scan(step, (params, state), batches)[0]

  params = plain_params()
  state = tx.init(params)
  donated = jax.tree.leaves((params, state))
  params, state = train(params, state, stacked_data(10))
  assert all(leaf.is_deleted() for leaf in donated)
  assert_close(params, run(tx, 10))
  assert int(state[0].step) == 10


# Flax NNX.


class NnxNet(nnx.Module):
  def __init__(self, rngs):
    self.hidden = nnx.Linear(4, 6, rngs=rngs)
    self.norm = nnx.BatchNorm(6, rngs=rngs)
    self.dropout = nnx.Dropout(0.5, rngs=rngs)
    self.head = nnx.Linear(6, 1, rngs=rngs)

  def __call__(self, x):
    x = jnp.tanh(self.norm(self.hidden(x)))
    return self.head(self.dropout(x))


def nnx_loss(model, x, y):
  return jnp.mean(jnp.square(model(x) - y))


@nnx.jit
def nnx_step(model, optimizer, x, y):
  # What is not a parameter, as it is before this step: the second pass starts
  # from the same dropout key, and what it makes of the statistics is dropped.
  graphdef, _, rest = nnx.split(model, nnx.Param, ...)
  rest = nnx.as_pure(rest)  # else it is the model's own, and moves with it

  def grad_fn(params):
    copy = nnx.merge(graphdef, params, rest)
    return nnx.as_pure(nnx.grad(nnx_loss)(copy, x, y))

  grads = nnx.grad(nnx_loss)(model, x, y)
  optimizer.update(model, grads, grad_fn=grad_fn)


def test_nnx_optimizer_with_batch_norm_and_dropout():
  model = NnxNet(nnx.Rngs(0))
  graphdef, params, rest = nnx.split(model, nnx.Param, ...)
  params, rest = nnx.as_pure(params), nnx.as_pure(rest)
  tx = optax.chain(sam_optax.sam(RHO), optax.sgd(RATE))
  optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
  # One compiled pass, run twice by hand: (params, rest) -> (gradient, rest).
  single_pass = jax.jit(
    lambda params, rest, x, y: _nnx_pass(graphdef, params, rest, x, y)
  )
  for t in range(3):
    x, y = data(t)
    nnx_step(model, optimizer, x, y)
    grads, next_rest = single_pass(params, rest, x, y)
    second, _ = single_pass(perturbed(params, grads), rest, x, y)
    params, rest = sgd(params, second), next_rest
    _, actual, actual_rest = nnx.split(model, nnx.Param, ...)
    assert_close(nnx.to_pure_dict(actual), nnx.to_pure_dict(params))
    # Statistics and dropout counter moved once, by the clean pass.
    assert_close(
      nnx.to_pure_dict(actual_rest), nnx.to_pure_dict(rest), atol=1e-5
    )


def _nnx_pass(graphdef, params, rest, x, y):
  model = nnx.merge(graphdef, params, rest)
  grads = nnx.grad(nnx_loss)(model, x, y)
  return nnx.as_pure(grads), nnx.as_pure(nnx.split(model, nnx.Param, ...)[2])


# Flax Linen.


class LinenNet(nn.Module):
  @nn.compact
  def __call__(self, x):
    x = nn.BatchNorm(use_running_average=False, momentum=0.9)(nn.Dense(6)(x))
    return nn.Dense(1)(jnp.tanh(x))


class BatchNormState(TrainState):
  batch_stats: dict


def linen_state(tx):
  model = LinenNet()
  variables = model.init(jax.random.key(0), data()[0])
  return BatchNormState.create(
    apply_fn=model.apply,
    params=variables['params'],
    tx=tx,
    batch_stats=variables['batch_stats'],
  )


def linen_losses(state, params, batch):
  x, y = batch
  out, changed = state.apply_fn(
    {'params': params, 'batch_stats': state.batch_stats},
    x,
    mutable=['batch_stats'],
  )
  return jnp.square(out - y)[:, 0], changed['batch_stats']


def linen_pass(state, params, batch):
  """(gradient, new statistics) of one pass."""

  def loss(params):
    losses, batch_stats = linen_losses(state, params, batch)
    return jnp.mean(losses), batch_stats

  return jax.grad(loss, has_aux=True)(params)


def assert_linen_sam(step, state):
  """Three of `step` are SAM by hand, with the clean pass's statistics."""
  by_hand = jax.jit(linen_pass)
  for t in range(3):
    batch = data(t)
    grads, batch_stats = by_hand(state, state.params, batch)
    second, _ = by_hand(state, perturbed(state.params, grads), batch)
    expected = sgd(state.params, second)
    state = step(state, batch)
    assert_close(state.params, expected)
    # The one pass that SGD makes gives the same.
    assert_close(state.batch_stats, batch_stats)
    assert int(state.step) == t + 1


def test_linen_train_state_passes_grad_fn_on():
  @jax.jit
  def step(state, batch):
    def grad_fn(params):
      return linen_pass(state, params, batch)[0]

    grads, batch_stats = linen_pass(state, state.params, batch)
    return state.apply_gradients(
      grads=grads, grad_fn=grad_fn, batch_stats=batch_stats
    )

  tx = optax.chain(sam_optax.sam(RHO), optax.sgd(RATE))
  assert_linen_sam(step, linen_state(tx))


def test_linen_through_the_evaluation_door():
  method = sam_optax.sam(RHO)

  @jax.jit
  def step(state, batch):
    state, method_state = state
    (_, batch_stats), grads, method_state = method.value_and_grad(
      lambda params, batch: linen_losses(state, params, batch),
      state.params,
      method_state,
      batch,
    )
    state = state.apply_gradients(grads=grads, batch_stats=batch_stats)
    return state, method_state

  state = linen_state(optax.sgd(RATE))
  method_states = [method.init(state.params)]

  def one_state(state, batch):
    state, method_states[0] = step((state, method_states[0]), batch)
    return state

  assert_linen_sam(one_state, state)


def test_linen_train_state_passes_extra_args_on(standard_promotion):
  tx = optax.chain(sam_optax.sam(RHO), optax.polyak_sgd(1.0))
  state = linen_state(tx)

  @jax.jit
  def step(state):
    def grad_fn(params):
      return linen_pass(state, params, data())[0]

    grads = grad_fn(state.params)
    updates, opt_state = tx.update(
      grads, state.opt_state, state.params, grad_fn=grad_fn, value=2.0
    )
    stepped = state.apply_gradients(
      grads=grads, grad_fn=grad_fn, extra_args={'value': 2.0}
    )
    return stepped, optax.apply_updates(state.params, updates), opt_state

  stepped, params, opt_state = step(state)
  assert_close(stepped.params, params)
  assert_close(stepped.opt_state, opt_state)
  assert stepped.tx is tx
  assert_same(stepped.batch_stats, state.batch_stats)


def test_linen_train_state_serves_plain_transformations():
  # One without extra arguments, and without grad_fn: Flax's own step.
  state = linen_state(optax.GradientTransformation(*optax.sgd(RATE)))
  grads, _ = jax.jit(linen_pass)(state, state.params, data())
  stepped = state.apply_gradients(grads=grads)
  assert_close(stepped.params, sgd(state.params, grads))


# Loss scaling.


def half_losses(params, batch):
  """The losses computed in float16, of float32 parameters."""
  losses, aux = plain_losses(*optax.tree.cast((params, batch), jnp.float16))
  return losses.astype(jnp.float32), aux


def scaled_step(method, base, losses, params, states, scale, batch):
  """One step under DynamicScale; a step that overflows changes nothing."""
  state, base_state = states
  loss_fn = sam_optax.scale_loss(losses, scale.scale)
  (loss, _), grads, state = method.value_and_grad(loss_fn, params, state, batch)
  updates, base_state = base.update(grads, base_state, params)
  one = lambda x: x * jnp.where(state.finite, 1.0, jnp.nan)
  scale = scale.value_and_grad(one)(1.0).dynamic_scale
  return optax.apply_updates(params, updates), (state, base_state), scale, loss


def train_scaled(start, losses=half_losses):
  method = sam_optax.if_finite(sam_optax.fsam(RHO, decay=0.6))
  base = optax.apply_if_finite(optax.sgd(RATE, momentum=0.9), 8)
  step = jax.jit(functools.partial(scaled_step, method, base, losses))
  params = plain_params()
  states = method.init(params), base.init(params)
  scale = dynamic_scale.DynamicScale(scale=start)
  history = []
  for _ in range(8):
    params, states, scale, loss = step(params, states, scale, data())
    history.append(float(loss))
  return params, states, scale, history


def test_dynamic_scale_in_float16(standard_promotion):
  params, _, _, history = train_scaled(2.0**8)
  assert history[-1] < history[0]
  # A power of two scales exactly: the ascent and the step are the same.
  assert_close(train_scaled(2.0**4)[0], params, rtol=1e-2, atol=1e-3)
  # And they are those of float32, to the precision of float16.
  tx = optax.chain(
    sam_optax.fsam(RHO, decay=0.6), optax.sgd(RATE, momentum=0.9)
  )
  expected = plain_params()
  state = tx.init(expected)
  for _ in range(8):
    expected, state = plain_step(tx, expected, state, data())
  assert_close(params, expected, rtol=5e-2, atol=5e-3)


def test_a_scale_that_overflows_falls_and_its_steps_are_left_out(
  standard_promotion,
):
  _, (state, base_state), scale, _ = train_scaled(2.0**20)
  skipped = 20 - int(np.log2(scale.scale))
  assert 0 < skipped < 8
  assert int(state.skipped) == int(base_state.total_notfinite) == skipped
  assert int(state.method.step) == 8 - skipped
  assert all(np.isfinite(_comparable(x)).all() for x in jax.tree.leaves(state))


def test_a_scale_falls_by_the_second_gradient_too(standard_promotion):
  start = plain_params()

  def steeper_elsewhere(params, batch):
    # In float16 a factor of 1000 overflows at a scale that is fine without it.
    losses, aux = plain_losses(params, batch)
    moved = jnp.any(params['head']['kernel'] != start['head']['kernel'])
    steep = (1e-3 * losses).astype(jnp.float16) * jnp.float16(1e3)
    return jnp.where(moved, steep.astype(jnp.float32), losses), aux

  _, (state, _), scale, _ = train_scaled(2.0**12, steeper_elsewhere)
  assert int(state.skipped) > 0
  assert scale.scale == 2.0 ** (12 - int(state.skipped))


def test_the_ascent_does_not_see_the_scale_of_the_loss():
  method = sam_optax.sam(RHO)
  params, batch = plain_params(), data()
  grad_fn = plain_grad_fn(batch)

  def scaled(params):
    return jax.tree.map(lambda g: g * 1024.0, grad_fn(params))

  state = method.init(params)
  plain, _ = method.update(grad_fn(params), state, params, grad_fn=grad_fn)
  large, _ = method.update(scaled(params), state, params, grad_fn=scaled)
  assert_close(jax.tree.map(lambda g: g / 1024.0, large), plain, rtol=1e-6)


# Saving and restoring.

RESUMED = {
  'sam': lambda: sam_optax.sam(RHO),
  'fsam': lambda: sam_optax.fsam(RHO, decay=0.6),
  'rsam': lambda: sam_optax.rsam(RHO, gamma=0.1, key=5),
  'arsam': lambda: sam_optax.arsam(RHO, segment=2, warmup_steps=1, key=5),
  'ausam': lambda: sam_optax.ausam(RHO, num_examples=16, key=5),
}


@functools.partial(jax.jit, static_argnums=(0, 1))
def resumable_step(method, base, params, states, batch, example_ids):
  method_state, base_state = states
  _, grads, method_state = method.value_and_grad(
    plain_losses, params, method_state, batch, example_ids
  )
  updates, base_state = base.update(grads, base_state, params)
  return optax.apply_updates(params, updates), (method_state, base_state)


def run_resumable(method, base, carry, steps):
  for t in steps:
    # Two batches make an epoch, so that the second one has a history.
    ids = jnp.arange(8) + 8 * (t % 2)
    carry = resumable_step(method, base, *carry, data(t % 2), ids)
  return carry


def start_resumable(method, base):
  params = plain_params()
  return params, (method.init(params), base.init(params))


def save_with_orbax(carry, make_target, directory):
  target = jax.eval_shape(make_target)
  with ocp.StandardCheckpointer() as checkpointer:
    checkpointer.save(directory / 'state', carry)
    checkpointer.wait_until_finished()
    return checkpointer.restore(directory / 'state', target)


def save_with_msgpack(carry, make_target, directory):
  # msgpack knows no typed keys: their data goes in, and is wrapped again.
  target = make_target()
  path = directory / 'state.msgpack'
  path.write_bytes(flax.serialization.to_bytes(_comparable(carry)))
  restored = flax.serialization.from_bytes(
    _comparable(target), path.read_bytes()
  )
  return jax.tree.map(
    lambda x, like: (
      jax.random.wrap_key_data(jnp.asarray(x))
      if is_key(like)
      else jnp.asarray(x)
    ),
    restored,
    target,
  )


def save_with_state_dict(carry, make_target, directory):
  del directory  # in memory
  state_dict = flax.serialization.to_state_dict(carry)
  return flax.serialization.from_state_dict(make_target(), state_dict)


@functools.cache
def resumable_run(name):
  """(one more step, a fresh start, halfway through, at the end)."""
  method, base = RESUMED[name](), optax.sgd(RATE, momentum=0.9)
  go_on = functools.partial(run_resumable, method, base)
  start = functools.partial(start_resumable, method, base)
  halfway = go_on(start(), range(4))
  return go_on, start, halfway, go_on(halfway, range(4, 8))


@pytest.mark.parametrize(
  'save', [save_with_orbax, save_with_msgpack, save_with_state_dict]
)
@pytest.mark.parametrize('name', RESUMED)
def test_a_resumed_run_is_the_run_without_a_break(name, save, tmp_path):
  go_on, start, halfway, expected = resumable_run(name)
  restored = save(halfway, start, tmp_path)
  assert jax.tree.structure(restored) == jax.tree.structure(halfway)
  for leaf, like in zip(
    jax.tree.leaves(restored), jax.tree.leaves(halfway), strict=True
  ):
    assert leaf.dtype == like.dtype
  assert_same(restored, halfway)
  assert_same(go_on(restored, range(4, 8)), expected)
