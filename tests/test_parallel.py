"""Many devices: local perturbations, and communication.

`test_matrix.py` compares synced perturbations with one device.
"""

import functools
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding

import sam_optax
from tests import driving, problems
from tests.methods import METHODS, NUM_CLASSES, NUM_EXAMPLES, method
from tests.problems import GOLDEN
from tests.routes import (
  NUM_DEVICES,
  NUM_STEPS,
  OWN_SIZE,
  P,
  assert_agree,
  in_pmap,
  in_shard_map,
  losses,
  mesh,
  on_one,
  plain_losses,
  steps,
  together,
  unchecked,
  wrapped,
)


@functools.cache
def rows(route):
  """The results of every row, by name."""
  made = {name: method(name) for name in METHODS}
  groups = wrapped(made, None, examples_per_perturbation=OWN_SIZE)
  return {
    'one': lambda: on_one('value_and_grad', made),
    'local': lambda: in_shard_map('value_and_grad', wrapped(made)),
    'groups': lambda: on_one('value_and_grad', groups),
  }[route]()()


@pytest.mark.parametrize('name', METHODS)
def test_four_groups_on_one_device_are_four_devices(name):
  assert_agree(rows('groups')[name], rows('local')[name])


# Local perturbations by hand: a loop over devices, on vectors.

_, unravel = jax.flatten_util.ravel_pytree(driving.start())


def ravel(tree):
  return jax.flatten_util.ravel_pytree(tree)[0]


@jax.jit
def own_gradient(w, batch):
  mean = lambda w: jnp.mean(losses(unravel(w), batch)[0])
  return jax.grad(mean)(w)


def unit(x):
  return x / jnp.linalg.norm(x)


def mean(vectors):
  return sum(vectors) / len(vectors)


def across(x, axis):
  return x - jnp.vdot(x, unit(axis)) * unit(axis)


# A rule maps (gradient functions, point, memory, step) to (direction, new
# memory, whether it perturbed), with the arguments of its row in THE TABLE.


def by_sam(grads, w, kept, step):
  return mean([g(w + 0.1 * unit(g(w))) for g in grads]), kept, True


def by_gsam(grads, w, kept, step):
  def own(g):
    perturbed = g(w + 0.1 * unit(g(w)))
    return perturbed - 0.4 * across(g(w), perturbed)

  return mean([own(g) for g in grads]), kept, True


def by_fsam(grads, w, kept, step, sigma=1.0):
  kept = jnp.zeros_like(w) if kept is None else kept
  direction = mean([g(w + 0.1 * unit(g(w) - sigma * kept)) for g in grads])
  share = 1.0 if step == 0 else 0.4
  return direction, kept + share * (mean([g(w) for g in grads]) - kept), True


def by_fsam_as_printed(grads, w, kept, step):
  old = jnp.zeros_like(w) if kept is None else kept
  kept = 0.6 * old + 0.4 * mean([g(w) for g in grads])
  perturbed = [g(w + 0.1 * unit(g(w) - 0.8 * kept)) for g in grads]
  return mean(perturbed), kept, True


def by_rsam(grads, w, kept, step):
  directions = []
  for device, g in enumerate(grads):
    key = jax.random.fold_in(jax.random.key(0), device)
    keys = jax.random.split(jax.random.fold_in(key, step), 2)
    params = unravel(w)
    draws = {
      name: jax.random.normal(key, params[name].shape)
      for name, key in zip(sorted(params), keys, strict=True)
    }
    noise = ravel(sam_optax.ascent.kernel_noise(draws, params, 0.1))
    directions.append(g(w + 0.1 * unit(noise + 2.0 * g(w + noise))))
  return mean(directions), kept, True


def by_looksam(grads, w, kept, step):
  gradient = mean([g(w) for g in grads])
  if step % 2:
    return gradient + 0.7 * jnp.linalg.norm(gradient) * unit(kept), kept, False
  perturbed = by_sam(grads, w, None, step)[0]
  return perturbed, across(perturbed, gradient), True


def by_arsam(grads, w, kept, step):
  psf, age, ratio, change, samples = kept or (jnp.zeros_like(w), 9, 0, 0, 1)
  gradient = mean([g(w) for g in grads])
  draw = jax.random.uniform(jax.random.fold_in(jax.random.key(0), step))
  perturb = step < 1 or bool(draw < samples / 2)
  direction = gradient + psf if age < 1 else gradient
  age += 1
  if perturb:
    direction, age = by_sam(grads, w, None, step)[0], 0
    psf, last = direction - gradient, ratio
    ratio = jnp.linalg.norm(psf) / jnp.linalg.norm(gradient)
    if last:
      change = 0.9 * change + 0.1 * (ratio - last) / last
  if step % 2:
    samples = jnp.clip(samples * (1 + 0.2 * jnp.clip(change, -1, 1)), 1, 2)
  return direction, (psf, age, ratio, change, samples), perturb


def by_aesam(grads, w, kept, step):
  mu, variance = (0.0, 1e-10) if kept is None else kept
  gradient = mean([g(w) for g in grads])
  squared = jnp.sum(gradient**2)
  mu = 0.9 * mu + 0.1 * squared
  variance = 0.9 * variance + 0.1 * (squared - mu) ** 2
  perturb = squared >= mu + (1 - 2 * step / 12) * jnp.sqrt(variance)
  direction = by_sam(grads, w, None, step)[0] if perturb else gradient
  return direction, (mu, variance), bool(perturb)


class ByHand(NamedTuple):
  """A method by hand.

  Attributes:
    rule: its rule.
    synced_differs: whether synced perturbations change these few steps; None
      for a method that is not in THE TABLE.
  """

  rule: Callable[..., Any]
  synced_differs: bool | None = True


RULES = {
  'sam': ByHand(by_sam),
  'gsam': ByHand(by_gsam),
  'fsam': ByHand(by_fsam),
  'fsam as printed': ByHand(by_fsam_as_printed, synced_differs=None),
  'rsam': ByHand(by_rsam),
  'looksam': ByHand(by_looksam),
  'arsam': ByHand(by_arsam),
  'aesam': ByHand(by_aesam, synced_differs=False),
}


def by_hand(rule):
  params, kept, directions, flags = driving.start(), None, [], []
  base_state = driving.BASE.init(params)
  (x, y), _ = steps()
  for step in range(NUM_STEPS):
    grads = [
      lambda w, part=slice(k * OWN_SIZE, (k + 1) * OWN_SIZE), t=step: (
        own_gradient(w, (x[t, part], y[t, part]))
      )
      for k in range(NUM_DEVICES)
    ]
    direction, kept, perturbed = rule(grads, ravel(params), kept, step)
    directions.append(direction)
    flags.append(perturbed)
    updates, base_state = driving.BASE.update(
      unravel(direction), base_state, params
    )
    params = optax.apply_updates(params, updates)
  return jnp.stack(directions), flags


@functools.cache
def local(route):
  made = {name: method(name) for name in RULES if name in METHODS}
  made['fsam as printed'] = sam_optax.fsam(
    0.1, sigma=0.8, decay=0.6, variant='paper'
  )
  return {
    'shard_map': lambda made: in_shard_map('update', made),
    'shard_map, unchecked': lambda made: unchecked('value_and_grad', made),
    'pmap': lambda made: in_pmap('update', made),
  }[route](wrapped(made))()


@pytest.mark.parametrize('name', RULES)
@pytest.mark.parametrize('route', ['shard_map', 'shard_map, unchecked', 'pmap'])
def test_local_perturbations_equal_a_loop_over_devices(name, route):
  expected, expected_flags = by_hand(RULES[name].rule)
  (grads, _, perturbed, _), _ = local(route)[name]
  actual = jax.vmap(ravel)(grads)
  np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)
  np.testing.assert_array_equal(perturbed, expected_flags)
  if RULES[name].synced_differs:
    synced = rows('one')[name][0][0]
    assert not np.allclose(ravel(synced), ravel(grads), rtol=1e-3)


@pytest.mark.parametrize('perturbation', ['local', 'synced'])
@pytest.mark.parametrize('route', [True, False, 'pmap'])
def test_one_step_on_two_devices_to_many_digits(x64, perturbation, route):
  problem = problems.Quadratic()
  made = sam_optax.parallel(sam_optax.sam(0.1), perturbation=perturbation)

  def step(w, batch):
    grad_fn = jax.grad(lambda w: problem.loss(w, batch[0]))
    grads, _ = made.update(grad_fn(w), made.init(w), w, grad_fn=grad_fn)
    return w - 0.1 * grads

  batches = jnp.stack([problem.batch(t) for t in (0, 1)])
  if route == 'pmap':
    devices = jax.devices()[:2]
    run = jax.pmap(step, 'batch', in_axes=(None, 0), devices=devices)
    w = run(problem.start, batches[:, None])[0]
  else:
    run = jax.shard_map(
      step,
      mesh=mesh((2,)),
      in_specs=(P(), P('batch')),
      out_specs=P(),
      check_vma=route,
    )
    w = jax.jit(run)(problem.start, batches)
  golden = GOLDEN['sam_data_parallel_1step'][f'w_{perturbation}_perturb']
  np.testing.assert_allclose(w, golden, rtol=1e-9)


# Methods that keep a table, are random, or decide by the gradient.
SOME = ('fsam', 'rsam', 'arsam', 'ausam', 'sam_infobatch', 'saf')


@functools.cache
def in_another_shape(shape):
  made = {name: method(name) for name in SOME}
  if shape == 'two axes, synced':
    names = ('host', 'batch')
    made = wrapped(made, names, perturbation='synced')
    return in_shard_map('value_and_grad', made, shape=(2, 2), names=names)()
  made = wrapped(made, examples_per_perturbation=OWN_SIZE)
  return in_shard_map('update', made, shape=(2,))()


@pytest.mark.parametrize('name', SOME)
@pytest.mark.parametrize(
  'shape', ['two axes, synced', 'two devices of two groups']
)
def test_the_shape_of_the_machine_does_not_matter(name, shape):
  other = rows('one' if 'synced' in shape else 'local')[name]
  assert_agree(in_another_shape(shape)[name], other)


def test_each_group_has_its_own_aux_and_the_loss_is_the_mean():
  made = sam_optax.parallel(
    sam_optax.sam(0.1), None, examples_per_perturbation=2
  )
  params, (batch, ids) = driving.start(), driving.batch_at(0)
  doubled = lambda batch: (2 * batch[0], batch[1])
  run = jax.jit(functools.partial(made.value_and_grad, losses, prepare=doubled))
  (loss, aux), _, _ = run(params, made.init(params), batch, ids)
  each, expected = losses(params, doubled(batch))
  np.testing.assert_allclose(loss, jnp.mean(each), rtol=1e-6)
  assert aux['logits'].shape == (4, 2, NUM_CLASSES)
  np.testing.assert_allclose(
    aux['logits'].reshape(-1, NUM_CLASSES), expected['logits'], rtol=1e-6
  )


@pytest.mark.parametrize('check_vma', [True, False])
@pytest.mark.parametrize(
  'perturbation, averages', [('local', 1), ('synced', 2)]
)
def test_nothing_is_computed_or_sent_twice(perturbation, averages, check_vma):
  # With check_vma=True, the incoming gradient is a sum over devices that no one
  # reads.
  made = sam_optax.parallel(sam_optax.sam(0.1), perturbation=perturbation)

  def step(w, batch):
    grad_fn = jax.grad(lambda w: jnp.mean(jnp.tanh(batch @ w)))
    return made.update(grad_fn(w), made.init(w), w, grad_fn=grad_fn)[0]

  run = jax.shard_map(
    step,
    mesh=mesh(),
    in_specs=(P(), P('batch')),
    out_specs=P(),
    check_vma=check_vma,
  )
  program = jax.jit(run).lower(jnp.ones(3), jnp.ones((8, 3))).compile()
  text = program.as_text()
  assert len(re.findall(r' tanh\(', text)) == 2
  assert len(re.findall(r' all-reduce(-start)?\(', text)) == averages


DIVERGING = """
import tests.conftest
from tests.methods import method
from tests.routes import in_pmap, wrapped
made = {name: method(name) for name in ('aesam', 'arsam')}
for (_, _, perturbed, _), _ in in_pmap('update', wrapped(made))().values():
  print(perturbed.any() and not perturbed.all())
"""


def test_devices_decide_alike():
  # Otherwise one would wait forever to average with the others.
  done = subprocess.run(
    [sys.executable, '-c', DIVERGING],
    capture_output=True,
    text=True,
    timeout=120,
    check=False,
  )
  assert done.returncode == 0, done.stderr
  assert done.stdout.split() == ['True'] * 2


# Sharded parameters, and sharded tables of examples.


KEPT = {
  'ema': sam_optax.fsam(0.1, decay=0.6),
  'psf': sam_optax.arsam(0.1, warmup_steps=1),
  'look_direction': sam_optax.looksam(0.1, k=2),
  'precision': sam_optax.bsam(0.1, num_examples=24),
}


def test_state_is_sharded_like_the_parameters():
  layout = jax.make_mesh((8,), ('data',), axis_types=(AxisType.Auto,))
  params = {'m': jnp.arange(64.0).reshape(16, 4) / 64, 'v': jnp.ones(8)}
  shardings = {
    'm': NamedSharding(layout, P('data')),
    'v': NamedSharding(layout, P()),
  }
  grad_fn = jax.grad(
    lambda p: jnp.sum(jnp.sin(p['m'] @ jnp.ones(4))) + jnp.sum(p['v'] ** 3)
  )

  def init(params):
    return {kept: KEPT[kept].init(params) for kept in KEPT}

  def step(params, states):
    return {
      kept: KEPT[kept].update(
        grad_fn(params), states[kept], params, grad_fn=grad_fn
      )
      for kept in KEPT
    }

  sharded = jax.device_put(params, shardings)
  states = jax.jit(init)(sharded)
  results = jax.jit(step)(sharded, states)
  for kept in KEPT:
    for tree in (states[kept], results[kept][1]):
      for name, leaf in optax.tree.get(tree, kept).items():
        assert leaf.sharding.is_equivalent_to(shardings[name], leaf.ndim)
  # Norms are over the whole tree, on all devices.
  driving.assert_close(results, jax.jit(step)(params, init(params)))


def test_a_table_of_examples_may_be_sharded():
  run, (params, states, *examples) = together(
    'value_and_grad', {name: method(name) for name in ('ausam',)}
  )
  layout = jax.make_mesh((8,), ('data',), axis_types=(AxisType.Auto,))

  def place(leaf):
    is_table = leaf.shape[:1] == (NUM_EXAMPLES,)
    return NamedSharding(layout, P('data') if is_table else P())

  placed = jax.device_put(states, jax.tree.map(place, states))
  results = jax.jit(run)(params, placed, *examples, 0)
  assert_agree(results['ausam'], rows('one')['ausam'])


# Mistakes.


def step_of(made, **changes):
  params, (batch, ids) = driving.start(), driving.batch_at(0)
  given = driving.keywords(plain_losses, batch, ids) | changes
  return made.update(params, made.init(params), params, **given)


@pytest.mark.parametrize(
  'build, words',
  [
    (lambda: sam_optax.parallel(optax.sgd(0.1)), 'chain'),
    (
      lambda: sam_optax.parallel(sam_optax.parallel(sam_optax.sam())),
      'parallel already',
    ),
    (
      lambda: sam_optax.parallel(sam_optax.sam(), perturbation='global'),
      "'local', 'synced'",
    ),
    (
      lambda: sam_optax.parallel(
        sam_optax.sam(), perturbation='synced', examples_per_perturbation=2
      ),
      'Leave one of them out',
    ),
    (lambda: sam_optax.parallel(sam_optax.sam(), None), 'Name the axis'),
    (lambda: step_of(sam_optax.parallel(sam_optax.sam())), 'jax.pmap'),
    (
      lambda: step_of(
        sam_optax.parallel(sam_optax.sam(), None, examples_per_perturbation=3)
      ),
      'divisor',
    ),
    (
      lambda: step_of(
        sam_optax.parallel(sam_optax.sam(), None, examples_per_perturbation=2),
        loss_fn=None,
      ),
      'loss_fn=loss_fn',
    ),
    (
      lambda: in_pmap(
        'value_and_grad',
        wrapped(
          {'sam_random': sam_optax.sam_random(keep=0.75)}, perturbation='synced'
        ),
      )(),
      'equal number',
    ),
  ],
)
def test_errors_say_what_would_work(build, words):
  with pytest.raises(ValueError, match=words):
    build()
