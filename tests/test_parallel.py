"""Many devices: groups of examples, communication, sharding.

`test_matrix.py` compares synced perturbations with one device, and
`test_local_perturbations.py` local ones with a loop.
"""

import functools
import re
import subprocess
import sys

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
  OWN_SIZE,
  P,
  assert_agree,
  in_pmap,
  in_shard_map,
  losses,
  mesh,
  on_one,
  plain_losses,
  together,
  wrapped,
)

# Methods that keep a table, are random, or decide by the gradient.
SOME = ('fsam', 'rsam', 'arsam', 'ausam', 'sam_infobatch', 'saf')


@functools.cache
def rows(route):
  """The results by name: of every row, or on one device of some."""
  made = {name: method(name) for name in (SOME if route == 'one' else METHODS)}
  groups = wrapped(made, None, examples_per_perturbation=OWN_SIZE)
  return {
    'one': lambda: on_one('value_and_grad', made),
    'local': lambda: in_shard_map('value_and_grad', wrapped(made)),
    'groups': lambda: on_one('value_and_grad', groups),
  }[route]()()


@pytest.mark.slow
@pytest.mark.parametrize('name', METHODS)
def test_four_groups_on_one_device_are_four_devices(name):
  assert_agree(rows('groups')[name], rows('local')[name])


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


def decayed(params, batch):
  """Losses whose gradient by one leaf does not depend on the examples."""
  decay = jnp.sum(params['b'] ** 2)
  return jnp.tanh(batch[0] @ params['w']) ** 2 + decay, None


def group_step(params, **decided):
  made = sam_optax.parallel(
    sam_optax.sam(0.1), None, examples_per_perturbation=4
  )
  state = made.init(params)
  batch = optax.tree.cast(driving.batch_at(0)[0], params['w'].dtype)
  return made.value_and_grad(decayed, params, state, batch, **decided)


def test_groups_of_examples_inside_an_ensemble():
  # Their mean must not be taken over the runs.
  runs = jax.tree.map(lambda x: jnp.stack([x, -2 * x]), driving.start())
  step = lambda params: group_step(params, perturb=False)
  alone = [step(jax.tree.map(lambda x, i=i: x[i], runs)) for i in (0, 1)]
  expected = jax.tree.map(lambda *x: jnp.stack(x), *alone)
  driving.assert_close(jax.vmap(step)(runs), expected)


def test_groups_of_examples_have_derivatives(x64):
  params = optax.tree.cast(driving.start(), jnp.float64)

  def height(size):
    moved = jax.tree.map(lambda x: x + size, params)
    (loss, _), grads, _ = group_step(moved, perturb=False)
    return loss + sum(jnp.sum(g) for g in jax.tree.leaves(grads))

  @jax.jit  # one program for all three
  def slopes(size):
    return height(size), jax.grad(height)(size), jax.jacfwd(height)(size)

  (right, *_), (left, *_), (_, *found) = map(slopes, (1e-5, -1e-5, 0.0))
  np.testing.assert_allclose(found, (right - left) / 2e-5, rtol=1e-6)


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


def in_groups(updates=None, **changes):
  made = sam_optax.parallel(sam_optax.sam(), None, examples_per_perturbation=2)
  params = driving.start()
  updates = params if updates is None else updates
  given = {'loss_fn': plain_losses, 'batch': driving.batch_at(0)[0]} | changes
  return made.update(updates, made.init(params), params, **given)


def test_the_ids_of_groups_may_be_a_list():
  given = {
    'example_ids': list(range(8)),
    'batch': (driving.X[:8], driving.Y[:8]),
  }
  grads, _ = jax.eval_shape(lambda: in_groups(**given))
  assert jax.tree.map(jnp.shape, grads) == {'b': (2,), 'w': (3,)}


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
    (lambda: in_groups(batch=()), 'without an axis of examples'),
    (
      lambda: in_groups(batch=(jnp.ones([8, 3]), 1.0)),
      r'\[1\].*the shape \(\)',
    ),
    (lambda: in_groups(batch=(jnp.ones([0, 3]),)), 'a batch of 0 examples'),
    (lambda: in_groups(example_ids=[0.5] * 8), 'example_ids'),
    (lambda: in_groups(updates=jnp.ones(3)), '`updates` with the structure'),
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
