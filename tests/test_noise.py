"""Normal draws: their distribution, and that sharding does not change them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import sam_optax
from sam_optax import _ascent, _random, ascent

KEY = jax.random.key(5)
SHAPES = {'a': (64, 3, 40), 'b': (64, 3, 40), 'c': (128,), 'd': (), 'e': (128,)}
TREE = {name: jnp.zeros(shape) for name, shape in SHAPES.items()}
MANY = {'w': jnp.zeros((1 << 10, 1 << 11))}


def draw(key=KEY, step=0, tree=TREE):
  return jax.jit(_random.normal_like)(key, jnp.int32(step), tree)


@pytest.fixture(scope='module')
def many():
  """Two million draws, float64."""
  return np.asarray(draw(tree=MANY)['w'], np.float64)


def test_the_bits_are_those_of_the_published_generator():
  # The known answers of Random123 for threefry2x32 with 13 rounds.
  known = {
    (0, 0, 0, 0): (0x9D1C5EC6, 0x8BD50731),
    (0xFFFFFFFF,) * 4: (0xFD36D048, 0x2D17272C),
    (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344): (0xBA3E4725, 0xF27D669E),
  }
  for given, answer in known.items():
    # The published vectors have the counter first, then the key.
    words = [jnp.uint32(word) for word in given]
    found = _random.threefry((words[2], words[3]), (words[0], words[1]))
    assert tuple(map(int, found)) == answer


def test_the_draws_are_normal(many):
  count = many.size
  # Five standard errors of each moment.
  assert abs(np.mean(many)) < 5 / count**0.5
  assert abs(np.var(many) - 1) < 5 * (2 / count) ** 0.5
  assert abs(np.mean(many**3)) < 5 * (15 / count) ** 0.5
  assert abs(np.mean(many**4) - 3) < 5 * (96 / count) ** 0.5
  # The greatest distance of the distribution functions (Kolmogorov, 1e-5).
  found = np.sort(many.ravel())
  cdf = np.asarray(jax.scipy.stats.norm.cdf(jnp.asarray(found, jnp.float32)))
  distance = np.max(np.abs(cdf - (np.arange(count) + 0.5) / count))
  assert distance < 2.5 / count**0.5
  # Tails: 126 of two million are expected beyond 4, and none beyond 5.3.
  assert 80 < np.sum(np.abs(many) > 4) < 190 and np.max(np.abs(many)) < 5.4


def test_the_draws_of_one_leaf_are_independent(many):
  for one, other in (
    (many[:, 1:], many[:, :-1]),
    (many[1:], many[:-1]),
    (many[:, : 1 << 10], many[:, 1 << 10 :]),
  ):
    bound = 5 / one.size**0.5
    assert abs(np.mean(one * other)) < bound
    # Of their sizes, too: a weak generator may repeat |z| with another sign.
    assert abs(np.mean((one**2 - 1) * (other**2 - 1))) < 2 * bound
  assert np.unique(many).size > 0.85 * many.size


def test_leaves_steps_and_keys_have_draws_of_their_own():
  flat = lambda tree, name='a': np.asarray(tree[name], np.float64).ravel()
  first = draw()
  # Vectors of one length are drawn together.
  np.testing.assert_array_less(0, np.abs(flat(first, 'c') - flat(first, 'e')))
  others = {
    'leaf': flat(first, 'b'),
    'step': flat(draw(step=1)),
    'key': flat(draw(key=jax.random.key(6))),
    'part': flat(draw(key=jax.random.fold_in(KEY, 1))),
  }
  for other in others.values():
    assert abs(np.mean(flat(first) * other)) < 5 / other.size**0.5
    assert np.sum(flat(first) == other) < 10
  again = draw()
  np.testing.assert_array_equal(flat(first), flat(again))


def test_no_draw_of_a_step_is_used_again():
  part, params = ascent.gaussian(0.1, draws=3), {'w': jnp.ones(5)}
  state = part.init(params)
  values = [
    part.perturb(
      params, state, params, _ascent.Context(jnp.int32(step), draw=draw)
    ).value['w']
    for step in range(4)
    for draw in range(3)
  ]
  assert len(np.unique(np.stack(values))) == 4 * 3 * 5


@pytest.mark.parametrize('implementation', ['rbg', 'unsafe_rbg'])
def test_keys_of_other_implementations_seed_it(implementation):
  key = jax.random.key(5, impl=implementation)
  one, other = draw(key=key)['a'], draw(key=key, step=1)['a']
  assert abs(float(jnp.mean(one))) < 0.06 and 0.9 < float(jnp.var(one)) < 1.1
  assert abs(float(jnp.mean(one * other))) < 0.06


@pytest.mark.parametrize(
  'spec', [('x', None, None), (None, None, 'x'), (None, None, None)]
)
def test_sharded_draws_are_the_same_and_need_no_other_device(spec):
  devices = jax.devices()[:4]
  mesh = jax.make_mesh(
    (4,), ('x',), devices=devices, axis_types=(AxisType.Auto,)
  )
  place = lambda *names: NamedSharding(mesh, PartitionSpec(*names))
  shardings = {'a': place(*spec), 'b': place(), 'c': place('x'), 'd': place()}
  shardings['e'] = shardings['c']
  whole = jax.device_put((KEY, jnp.int32(0)), place())
  function = jax.jit(_random.normal_like, out_shardings=shardings)
  compiled = function.lower(*whole, jax.device_put(TREE, shardings)).compile()
  text = compiled.as_text()
  assert not any(
    name in text
    for name in ('all-gather', 'all-reduce', 'all-to-all', 'collective-permute')
  )
  sharded = compiled(*whole, jax.device_put(TREE, shardings))
  assert sharded['a'].sharding == shardings['a']
  for name, alone in draw().items():
    np.testing.assert_allclose(sharded[name], alone, rtol=1e-6, atol=1e-7)


def test_the_bits_of_a_kernel_are_computed_once_and_those_of_vectors_together():
  kernels = {f'k{i}': jnp.ones((3, 4 + i)) for i in range(3)}
  vectors = {f'v{i}': jnp.ones(5) for i in range(20)}
  loss_fn = lambda params, batch: (
    jnp.stack([jnp.sum(x**2) for x in params.values()]) * batch,
    None,
  )
  # R-GSAM reads its noise in four places.
  method = sam_optax.rgsam()

  def step(params, state):
    count = jnp.ones(len(params))
    return method.value_and_grad(loss_fn, params, state, count)[1:]

  def rotations(params):
    lowered = jax.jit(step).lower(params, method.init(params))
    options = {'xla_backend_optimization_level': 0}
    text = lowered.compile(compiler_options=options).as_text()
    # The words of all leaves are drawn in a loop, whose size is the same.
    return text.count(' shift-left(')

  two = dict(list(kernels.items())[:2])
  of_kernel = rotations(kernels) - rotations(two)
  assert 0 < of_kernel <= 13
  one = dict(list(vectors.items())[:1])
  assert rotations(kernels | vectors) <= rotations(kernels | one)


def test_wider_leaves_have_wider_draws():
  with jax.enable_x64(True):
    found = _random.normal_like(
      KEY, jnp.int32(0), {'a': jnp.zeros(3), 'b': jnp.zeros(3, jnp.bfloat16)}
    )
    assert found['a'].dtype == jnp.float64 and found['b'].dtype == jnp.float32
