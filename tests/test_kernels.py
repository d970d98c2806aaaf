"""Which leaves are kernels, in trees as Flax and Equinox name them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

import sam_optax
from sam_optax import ascent, diagnostics, kernels
from tests import driving

FEATURES, LAYERS = 4, 3


class Block(nn.Module):
  @nn.compact
  def __call__(self, x, _=None):
    x = nn.MultiHeadDotProductAttention(num_heads=2)(x)
    return nn.Dense(FEATURES)(nn.LayerNorm()(x)), None


class Stack(nn.Module):
  @nn.compact
  def __call__(self, x):
    layers = nn.scan(
      Block,
      variable_axes={'params': 0},
      split_rngs={'params': True},
      length=LAYERS,
    )
    return layers()(x, None)[0]


def made(module):
  """The parameters of a Linen module, all of them random."""
  x = jnp.ones((1, 5, FEATURES))
  params = jax.eval_shape(module.init, jax.random.key(0), x)['params']
  key = jax.random.key(1)
  return jax.tree.map(lambda p: jax.random.normal(key, p.shape) + 1, params)


def named(tree):
  """{path: leaf} with the names joined."""
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  return {'/'.join(kernels.names(path)): leaf for path, leaf in leaves}


def unrolled(tree):
  """The trees of the single layers of a stacked one."""
  return [
    jax.tree.map(lambda p, i=i: p[i], tree['ScanBlock_0'])
    for i in range(LAYERS)
  ]


@pytest.mark.usefixtures('standard_promotion')
@pytest.mark.parametrize('module', [Block(), Stack()])
def test_the_kernels_of_linen_are_called_kernel(module):
  with jax.numpy_rank_promotion('allow'):
    for path, is_kernel in named(kernels.mask(made(module))).items():
      assert is_kernel == path.endswith('kernel'), path


def test_the_kernels_of_nnx_are_called_kernel():
  model = {
    'attention': nnx.MultiHeadAttention(2, 4, decode=False, rngs=nnx.Rngs(0)),
    'layer_norm': nnx.LayerNorm(4, rngs=nnx.Rngs(0)),
    'linear': nnx.Linear(4, 4, rngs=nnx.Rngs(0)),
  }
  params = nnx.state(nnx.Dict(model), nnx.Param)
  mask = named(kernels.mask(params))
  assert len(mask) > 8
  for path, is_kernel in mask.items():
    assert is_kernel == path.endswith('kernel'), path


@pytest.mark.usefixtures('standard_promotion')
@pytest.mark.parametrize('variant', ['code', 'paper'])
def test_stacked_layers_are_sized_as_single_ones(variant):
  with jax.numpy_rank_promotion('allow'):
    params, normal = made(Stack()), made(Stack())
  noise = ascent.kernel_noise(normal, params, 0.1, variant)
  for layer, draws, weights in zip(
    unrolled(noise), unrolled(normal), unrolled(params), strict=True
  ):
    single = ascent.kernel_noise(draws, weights, 0.1, variant)
    driving.assert_close(layer, single)


@pytest.mark.usefixtures('standard_promotion')
def test_asam_adapts_stacked_layers_as_single_ones():
  with jax.numpy_rank_promotion('allow'):
    params, grads = made(Stack()), made(Stack())
  part = ascent.adaptive(0.5)
  whole, _ = part.update(grads, part.init(params), params)
  single = dict(enumerate(unrolled(params)))
  alone, _ = part.update(
    dict(enumerate(unrolled(grads))), part.init(single), single
  )
  driving.assert_close(dict(enumerate(unrolled(whole))), alone)


def test_each_head_of_an_attention_has_kernels_of_its_own():
  path = tuple(map(jax.tree_util.DictKey, ('attention', 'query', 'kernel')))
  assert kernels.axes(path, jnp.ones((8, 2, 4))) == (1, 2)
  path = tuple(map(jax.tree_util.DictKey, ('attention', 'out', 'kernel')))
  assert kernels.axes(path, jnp.ones((2, 4, 8))) == (2,)


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Linear:
  """A layer as Equinox lays it out: [out, in], and a convolution's bias."""

  weight: jax.Array
  bias: jax.Array


def test_a_weight_as_in_equinox_has_its_outputs_first():
  layer = Linear(jnp.asarray([[3.0, 4.0], [0.0, 2.0]]), jnp.ones((2, 1, 1)))
  assert kernels.mask(layer) == Linear(True, False)
  ones = jax.tree.map(jnp.ones_like, layer)
  noise = ascent.kernel_noise(ones, layer, 1.0)
  np.testing.assert_allclose(noise.weight, [[5, 5], [2, 2]], rtol=1e-6)
  np.testing.assert_allclose(noise.bias.ravel(), np.sqrt([2, 2]), rtol=1e-6)


OTHERS = {
  'position_embedding': (1, 16, 8),
  'pos_embedding': (1, 16, 8),
  'class_token': (1, 1, 8),
  'cls': (1, 1, 8),
  'BatchNorm_0': (3, 8),
  'scale': (3, 8),
}


def test_positions_tokens_and_norms_are_no_kernels():
  params = {name: jnp.ones(shape) for name, shape in OTHERS.items()}
  params['BatchNorm_0'] = {'anything': params['BatchNorm_0']}
  assert not any(jax.tree.leaves(kernels.mask(params)))
  direction = diagnostics.filter_normalized(params)
  assert not any(np.any(leaf) for leaf in jax.tree.leaves(direction))


def test_a_table_of_embeddings_is_a_kernel():
  params = {'Embed_0': {'embedding': jnp.ones((10, 4))}}
  assert kernels.mask(params) == {'Embed_0': {'embedding': True}}
  assert kernels.weights(params) == {'Embed_0': {'embedding': True}}


def test_without_names_the_axes_tell():
  params = [jnp.ones(3), jnp.ones((3, 2)), jnp.ones(())]
  assert kernels.mask(params) == [False, True, False]
  assert kernels.mask(jnp.ones((3, 2)))
  assert kernels.weights(jnp.ones(3))


def test_the_rule_of_the_authors_leaves_out_biases_alone():
  params = {
    'conv': {'bias': jnp.ones(2), 'kernel': jnp.full((3, 2), 2.0)},
    'norm': {'bias': jnp.ones(2), 'scale': jnp.full(2, 3.0)},
  }
  method = sam_optax.asam(1.0, eta=0.0, adapted=kernels.weights)
  points = []
  loss = lambda p: sum(jnp.sum(leaf) for leaf in jax.tree.leaves(p))
  grad_fn = lambda p: points.append(p) or jax.grad(loss)(p)
  method.update(
    jax.grad(loss)(params), method.init(params), params, grad_fn=grad_fn
  )
  moved = jax.tree.map(lambda p, q: p - q, points[0], params)
  length = np.sqrt(6 * 4 + 2 * 9 + 4)
  expected = {'kernel': 4 / length, 'bias': 1 / length, 'scale': 9 / length}
  for layer in moved.values():
    for name, leaf in layer.items():
      np.testing.assert_allclose(leaf, expected[name], rtol=1e-5)


def test_an_axis_may_be_a_function_of_path_and_leaf():
  rows = lambda path, leaf: (0,) if kernels.names(path)[-1] == 'w' else ()
  params = {'w': jnp.asarray([[3.0, 4.0], [0.0, 2.0]]), 'v': jnp.ones((2, 2))}
  ones = jax.tree.map(jnp.ones_like, params)
  noise = ascent.kernel_noise(ones, params, 1.0, axis=rows)
  np.testing.assert_allclose(noise['w'], [[5, 5], [2, 2]], rtol=1e-6)
  np.testing.assert_allclose(noise['v'], np.full((2, 2), 2.0), rtol=1e-6)
  for axis in (-1, (-1,), None):
    noise = ascent.kernel_noise(ones, params, 1.0, axis=axis)
    np.testing.assert_allclose(
      noise['w'], np.sqrt([[9, 20], [9, 20]]), rtol=1e-6
    )
