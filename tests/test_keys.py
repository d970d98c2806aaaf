"""Parts with one key draw independently of each other."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sam_optax
from sam_optax import ascent, cadence, diagnostics, selection
from sam_optax._ascent import Context
from sam_optax._collectives import Collectives

PARAMS = {'a': jnp.ones(2), 'b': jnp.ones(3)}
STEPS, SIZE = 500, 8
SELECTIONS = {
  'uniformly': selection.uniformly,
  'by_loss_rise': lambda *key: selection.by_loss_rise(
    SIZE, 0.5, 0.5, 0.5, 0, 'mean', *key
  ),
  'by_loss': lambda *key: selection.by_loss(SIZE, 0.5, None, 'clean', *key),
}


def build(name, keys=((), (), (), ())):
  """A method of four random parts, which get these keys or the default."""
  first, second, third, fourth = keys
  if name == 'uniformly':
    fourth = (0.5, *fourth)
  return sam_optax.sharpness_aware(
    ascent.chain(
      ascent.random_mask(0.5, *first), ascent.random_mask(0.5, *second)
    ),
    cadence.bernoulli(0.5, *third),
    selection=SELECTIONS[name](*fourth),
  )


def keys_of(state):
  """The keys of a state, as tuples of words."""
  leaves = jax.tree.leaves(state)
  keys = [x for x in leaves if jnp.issubdtype(x.dtype, jax.dtypes.prng_key)]
  return [tuple(jax.random.key_data(key).tolist()) for key in keys]


@pytest.mark.parametrize('name', SELECTIONS)
def test_parts_with_the_default_key_draw_independently(name):
  # Each part tosses a coin on each step: whether a mask keeps the first tensor,
  # whether the step perturbs, and whether the first example is used.
  part = SELECTIONS[name]()
  state = build(name).init(PARAMS)
  if name == 'by_loss':  # all examples but the last are learned
    losses = jnp.zeros(SIZE).at[-1].set(9.0)
    chosen = state.selection._replace(last_loss=losses)
    state = state._replace(selection=chosen)
  mask, toss = ascent.random_mask(0.5), cadence.bernoulli(0.5)

  def keeps_the_first(state, step):
    found = mask.perturb(PARAMS, state, PARAMS, Context(step)).value
    return found['a'][0] > 0

  def uses_the_first(step):
    if name == 'by_loss':
      return part.pruning.start_epoch(state.selection, step).weight[0] > 0
    ids = jnp.arange(SIZE)
    return jnp.any(part.choice.positions(state.selection, ids, step, SIZE) == 0)

  @jax.jit
  @jax.vmap
  def tosses(step):
    masks = [keeps_the_first(of, step) for of in state.ascent]
    return *masks, toss.decide(state.cadence, step), uses_the_first(step)

  found = np.float32(tosses(jnp.arange(1, STEPS + 1)))
  assert np.all(np.abs(found.mean(1) - 0.5) < 0.1)
  correlations = np.corrcoef(found)[np.triu_indices(len(found), 1)]
  # Their standard deviation is 0.045.
  assert np.all(np.abs(correlations) < 0.2), correlations


def test_a_key_without_a_copy_stays():
  # Each part knows an int seed and a key; in any order the first keeps its key.
  for order in itertools.islice(itertools.permutations(range(4)), 0, 24, 7):
    seeds = [(number,) for number in order]
    state = build('uniformly', seeds).init(PARAMS)
    assert keys_of(state) == keys_of([jax.random.key(n) for n in order])
  twice = [(3,), (jax.random.key(3),), (4,), (3,)]
  found = keys_of(build('uniformly', twice).init(PARAMS))
  assert found[0::2] == keys_of([jax.random.key(3), jax.random.key(4)])
  assert len(set(found)) == 4


def test_keys_of_another_kind_are_no_copies():
  kinds = [jax.random.key(0, impl=kind) for kind in ('threefry2x32', 'rbg')]
  first, second = kinds
  state = build('uniformly', [(first,), (second,), (second,), (first,)]).init(
    PARAMS
  )
  found = keys_of(state)
  assert found[:2] == keys_of(kinds)
  assert len(set(found)) == 4
  assert state.cadence.key.dtype == second.dtype


def test_keys_may_be_traced():
  method = lambda key: build('uniformly', [(key,)] * 4)
  init = lambda key: method(key).init(PARAMS)
  seeds = jax.random.split(jax.random.key(1), 2)
  eager = [keys_of(init(key)) for key in seeds]
  assert [keys_of(jax.jit(init)(key)) for key in seeds] == eager
  together = jax.vmap(init)(seeds)
  for number, expected in enumerate(eager):
    one = jax.tree.map(lambda x, n=number: x[n], together)
    assert keys_of(one) == expected
  shapes = jax.eval_shape(init, seeds[0])
  assert jax.tree.map(jnp.shape, shapes) == jax.tree.map(jnp.shape, init(0))


def test_no_key_is_that_of_a_step_or_of_a_device():
  # A step and a device fold their numbers into a key.
  state = build('uniformly').init(PARAMS)
  keys = keys_of(state)
  for group in range(4):
    own = Collectives(local=True, groups=4, group=group)
    keys += keys_of(own.with_own_keys((state.ascent, state.selection)))
  first = state.ascent[0].key
  keys += keys_of([jax.random.fold_in(first, n) for n in range(4, 40)])
  assert len(set(keys)) == len(keys)


def test_an_ascent_is_measured_as_in_a_method():
  # Noise in noise: with one key, both would be the same draw.
  params = jnp.ones(3)
  part = ascent.random(ascent.gaussian(0.5), gamma=0.5, project=False)
  state = sam_optax.sharpness_aware(part).init(params)
  noise = part.offset(state.ascent, params, jnp.int32(0))
  context = Context(jnp.int32(0), offset=noise)
  perturbed = part.perturb(params, state.ascent, params, context).value
  loss = lambda w: jnp.vdot(jnp.asarray([1.0, -2.0, 3.0]), w)
  rise = diagnostics.sharpness(loss, params, part)
  assert float(rise) == pytest.approx(float(loss(perturbed)), 1e-5)
