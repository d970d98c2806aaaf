"""Models: what each of them does alike, and BatchNorm."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from train import models
from train.models.streams import streams

SHAPE = (6, 8, 3)
# The class and the options of a small model of each name.
SMALL = {
  'mlp': (models.MLP, {'hidden': (7,)}),
  'mobilenet': (models.MobileNet, {'widths': (8, 12), 'blocks': (1, 1)}),
  'pyramidnet': (models.PyramidNet, {'depth': 8, 'alpha': 10}),
  'resnet': (models.ResNet, {'widths': (4, 64), 'blocks': (1, 1)}),
  'vgg': (models.VGG, {'widths': (4, 6), 'blocks': (1, 1)}),
  'vit': (
    models.ViT,
    {'patch': 2, 'width': 8, 'depth': 1, 'heads': 2, 'dropout': 0.3},
  ),
  'wrn': (models.WideResNet, {'depth': 10, 'width': 1, 'dropout': 0.3}),
}
# Those whose outputs are not one row of logits: see test_dense_heads.py.
DENSE = ('deeplabv3plus', 'pspnet', 'simcc_hrnet')
# One without statistics and one with them.
VIEWED = ['mlp', 'resnet']
# JAX's attention promotes bfloat16 by itself.
PROMOTING = {'vit'}
DROPPING = ['vit', 'wrn']
REMATERIALISING = ['vit']


def _create(name: str, **options: Any) -> Any:
  model: Any = models.create(
    name,
    num_classes=5,
    image_shape=SHAPE,
    seed=0,
    **{**SMALL[name][1], **options},
  )
  kernel = model.head.kernel
  if not kernel[...].any():  # It would hide everything before it.
    kernel[...] = jax.random.normal(jax.random.key(9), kernel.shape) / 2
  return model


def _abstract(name: str, **options: Any) -> Any:
  """A small model that has shapes and no arrays."""
  build, small = SMALL[name]
  return nnx.eval_shape(
    lambda: build(5, SHAPE, **{**small, **options}, rngs=nnx.Rngs(0))
  )


@functools.cache
def _functional(name: str) -> tuple[Any, Any, Any]:
  """A small model, its functional view, and its compiled ``apply``."""
  model = _create(name)
  view = models.functional(model)
  return model, view, jax.jit(view.apply, static_argnums=3)


def _images(seed=1, batch=8):
  return jax.random.normal(jax.random.key(seed), (batch, *SHAPE)) + 1.0


def _paths(tree):
  leaves = jax.tree.leaves_with_path(tree)
  return {jax.tree_util.keystr(path): leaf for path, leaf in leaves}


def _assert_trees_close(actual, expected, **tolerances):
  assert jax.tree.structure(actual) == jax.tree.structure(expected)
  for a, b in zip(
    jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True
  ):
    np.testing.assert_allclose(a, b, **tolerances)


def test_every_model_is_tested():
  assert models.names() == tuple(sorted([*SMALL, *DENSE]))


@pytest.mark.parametrize('name', VIEWED)
def test_the_functional_view_is_the_module(name):
  model, view, apply = _functional(name)
  # A copy: calling a module in training updates it.
  module = nnx.clone(model)
  call = nnx.jit(lambda module, images: module(images))
  for seed in (1, 2):
    module.train()
    before = nnx.to_pure_dict(nnx.state(module, nnx.BatchStat))
    expected = call(module, _images(seed))
    logits, after = apply(view.params, before, _images(seed), True)
    assert logits.shape == (8, 5) and logits.dtype == jnp.float32
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)
    _assert_trees_close(
      after,
      nnx.to_pure_dict(nnx.state(module, nnx.BatchStat)),
      rtol=1e-5,
      atol=1e-6,
    )
    module.eval()
    expected = call(module, _images(3))
    logits, unchanged = apply(view.params, after, _images(3), False)
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)
    _assert_trees_close(unchanged, after, rtol=0)
  # The view left its own model alone.
  _assert_trees_close(
    nnx.to_pure_dict(nnx.state(model, nnx.BatchStat)), view.statistics, rtol=0
  )


@pytest.mark.parametrize('name', sorted(SMALL))
def test_statistics_move_in_training_only(name):
  _, view, apply = _functional(name)
  _, moved = apply(view.params, view.statistics, _images(), True)
  before, after = _paths(view.statistics), _paths(moved)
  for path in before:
    # The key of a random stream stays; how often it was used counts.
    moves = np.any(before[path] != after[path])
    assert moves == ('key' not in path), path
  _, kept = apply(view.params, view.statistics, _images(), False)
  kept = _paths(kept)
  assert all(np.all(before[path] == kept[path]) for path in before)


@pytest.mark.parametrize('name', sorted(SMALL))
def test_normalisation_has_norm_in_its_path(name):
  _, view, _ = _functional(name)
  for path in [*_paths(view.params), *_paths(view.statistics)]:
    if path.endswith(("['scale']", "['mean']", "['var']")):
      assert 'norm' in path


@pytest.mark.parametrize('name', sorted(SMALL))
def test_evaluation_takes_each_image_by_itself(name):
  _, view, apply = _functional(name)
  together, _ = apply(view.params, view.statistics, _images(), False)
  reverse, _ = apply(view.params, view.statistics, _images()[::-1], False)
  np.testing.assert_allclose(together, reverse[::-1], rtol=1e-5, atol=1e-5)
  images = _images().at[1:].multiply(-3.0)
  other, _ = apply(view.params, view.statistics, images, False)
  np.testing.assert_allclose(together[0], other[0], rtol=1e-5, atol=1e-5)
  change = np.abs(together[1] - other[1]).max()
  assert change > 0.01 * np.abs(together).max()


@pytest.mark.parametrize('name', sorted(SMALL))
def test_every_parameter_gets_a_gradient_and_is_a_plain_array(name):
  view = _functional(name)[1]

  def loss(params):
    logits, _ = view.apply(params, view.statistics, _images(), True)
    return jnp.mean(jnp.square(logits - 1.0))

  grads = jax.jit(jax.grad(loss))(view.params)
  assert jax.tree.structure(grads) == jax.tree.structure(view.params)
  for path, grad in jax.tree.leaves_with_path(grads):
    assert isinstance(grad, jax.Array), path
    assert np.isfinite(grad).all() and np.any(np.asarray(grad) != 0), path


@pytest.mark.parametrize('name', sorted(SMALL))
def test_bfloat16_computes_and_float32_stays(name, request):
  if name in PROMOTING:
    request.getfixturevalue('standard_promotion')
  _, view, apply_exact = _functional(name)
  # Its arrays are those of the float32 model: only shapes are needed here.
  half = models.functional(_abstract(name, dtype='bfloat16'))
  abstract = jax.tree.map(jax.typeof, (view.params, view.statistics))
  assert jax.tree.map(jax.typeof, (half.params, half.statistics)) == abstract
  apply = jax.jit(half.apply, static_argnums=3)
  args = view.params, view.statistics, _images()
  logits, statistics = apply(*args, True)
  expected, _ = apply_exact(*args, True)
  assert jax.tree.map(jax.typeof, statistics) == abstract[1]
  assert logits.dtype == jnp.float32
  # The last layer computes in float32: near logits do not tie.
  rounded = logits.astype(jnp.bfloat16).astype(jnp.float32)
  assert np.mean(logits != rounded) > 0.5
  error = np.abs(logits - expected).max()
  assert 0 < error < 0.1 * np.abs(expected).max()


def test_running_statistics_keep_nine_tenths():
  model, view, apply = _functional('resnet')
  mean, variance = np.zeros(4), np.ones(4)
  statistics = view.statistics
  for seed in (1, 2):
    features = np.asarray(model.stem_conv(_images(seed)), np.float64)
    mean = 0.9 * mean + 0.1 * features.mean((0, 1, 2))
    variance = 0.9 * variance + 0.1 * features.var((0, 1, 2))
    _, statistics = apply(view.params, statistics, _images(seed), True)
  np.testing.assert_allclose(
    statistics['stem_norm']['mean'], mean, rtol=1e-4, atol=1e-6
  )
  np.testing.assert_allclose(
    statistics['stem_norm']['var'], variance, rtol=1e-4
  )


def test_kernels_are_he_normal_over_fan_out():
  _, view, _ = _functional('resnet')
  block = view.params['blocks'][1]
  for name, area in (('conv1', 9), ('conv2', 9), ('shortcut_conv', 1)):
    assert set(block[name]) == {'kernel'}
    scaled = np.asarray(block[name]['kernel']) / np.sqrt(2 / (area * 64))
    # The shortcut has 256 numbers: a standard error of 4.4 %.
    assert 0.8 < scaled.std() < 1.2
  # Not truncated: two standard deviations leave 4.6 % outside.
  scaled = np.asarray(block['conv2']['kernel']) / np.sqrt(2 / (9 * 64))
  assert 0.04 < (np.abs(scaled) > 2).mean() < 0.05
  assert 0.98 < scaled.std() < 1.02
  np.testing.assert_array_equal(view.params['head']['bias'], 0.0)


def test_kernels_are_uniform_where_pytorch_s_default_is_published():
  vgg, mobilenet = (
    _functional(name)[1].params for name in ('vgg', 'mobilenet')
  )
  for layer, fan_in in (
    (vgg['stages'][1][0]['conv'], 9 * 4),
    (mobilenet['blocks'][1]['conv1'], 9),
    (mobilenet['blocks'][1]['conv2'], 8),
  ):
    assert 0.9 < np.abs(layer['kernel']).max() * fan_in**0.5 <= 1


def test_a_strided_block_is_centred_on_even_pixels():
  model, _, _ = _functional('resnet')
  block = model.blocks[1]
  impulse = jnp.zeros((1, 6, 8, 4)).at[0, 2, 4].set(1.0)
  for conv in (block.conv1, block.shortcut_conv):
    response = np.asarray(conv(impulse))
    assert response.shape == (1, 3, 4, 64)
    reached = np.argwhere(np.any(response != 0, axis=-1))
    np.testing.assert_array_equal(reached, [[0, 1, 2]])


def test_random_streams_are_part_of_the_statistics():
  class Noisy(nnx.Module):
    def __init__(self):
      self.dropout = nnx.Dropout(0.5, rngs=nnx.Rngs(0))

    def __call__(self, images):
      return self.dropout(images.reshape(images.shape[0], -1))

  view = models.functional(Noisy())
  apply = jax.jit(view.apply, static_argnums=3)
  images = jnp.ones((4, 4, 4, 1))
  first, statistics = apply(view.params, view.statistics, images, True)
  again, _ = apply(view.params, view.statistics, images, True)
  later, _ = apply(view.params, statistics, images, True)
  np.testing.assert_array_equal(first, again)
  assert np.any(first != later)
  still, _ = apply(view.params, statistics, images, False)
  np.testing.assert_array_equal(still, 1.0)


@pytest.mark.parametrize('name', DROPPING)
def test_dropout_differs_by_step_and_not_between_two_passes(name):
  _, view, apply = _functional(name)
  first, statistics = apply(view.params, view.statistics, _images(), True)
  again, _ = apply(view.params, view.statistics, _images(), True)
  later, _ = apply(view.params, statistics, _images(), True)
  np.testing.assert_array_equal(first, again)
  assert np.all(first != later)
  # One that drops nothing has no random state.
  statistics = models.functional(_abstract(name, dropout=0.0)).statistics
  assert not [path for path in _paths(statistics) if 'dropout' in path]


@pytest.mark.parametrize('name', REMATERIALISING)
def test_what_is_not_kept_is_computed_again_alike(name):
  _, view, _ = _functional(name)
  saved, grads = [], []
  for remat in (False, True):
    apply = models.functional(_abstract(name, remat=remat)).apply

    def logits(params, apply=apply):
      return apply(params, view.statistics, _images(), True)

    _, backward, _ = jax.eval_shape(
      lambda params, f=logits: jax.vjp(f, params, has_aux=True), view.params
    )
    saved.append(sum(leaf.size for leaf in jax.tree.leaves(backward)))
    loss = lambda params, f=logits: jnp.mean(jnp.square(f(params)[0] - 1.0))
    grads.append(jax.jit(jax.grad(loss))(view.params))
  assert saved[1] < 0.5 * saved[0]
  # With dropout: both passes over a block drop the same.
  _assert_trees_close(*grads, rtol=1e-4, atol=1e-6)


def test_the_seed_decides():
  create = functools.partial(
    models.create, 'mlp', num_classes=5, image_shape=SHAPE, hidden=[7]
  )
  first, again, other = (
    models.functional(create(seed=seed)).params for seed in (0, 0, 1)
  )
  _assert_trees_close(first, again, rtol=0)
  assert np.any(first['head']['kernel'] != other['head']['kernel'])


@pytest.mark.parametrize(
  ('name', 'options', 'message'),
  [
    ('resnt', {}, "Did you mean 'resnet'"),
    ('nothing', {}, 'Use one of deeplabv3plus, mlp, mobilenet'),
    ('resnet', {'width': (4,)}, "Did you mean 'widths'"),
    ('mlp', {'rngs': 0}, 'Use one of dtype, hidden'),
    ('resnet', {'widths': (4,)}, 'two sequences of one length'),
    ('mlp', {'image_shape': (8, 8)}, 'Give .height, width, channels.'),
    ('vit', {'patch': 4}, 'Give a divisor of height and width'),
    ('vit', {'patch': 2, 'heads': 7}, 'Give a multiple of heads as width'),
    ('vit', {'patch': 2, 'pool': 'map'}, "pool='map'.*Use one of token"),
    ('resnet', {'block': 'wide'}, 'Use one of basic, bottleneck'),
    ('resnet', {'stem': '7x7'}, 'Use one of cifar, tiny, patch, imagenet'),
    ('resnet', {'hidden': -1}, 'hidden=-1.*Use 0 or more'),
    ('wrn', {'depth': 27}, 'Give depth=28'),
    ('pyramidnet', {'depth': 1}, 'Give depth=8'),
    ('vgg', {}, 'images of at least 32 pixels'),
    ('mobilenet', {'blocks': (1,)}, 'two sequences of one length'),
  ],
)
def test_what_cannot_be_created(name, options, message):
  arguments = {'num_classes': 5, 'image_shape': SHAPE, 'seed': 0, **options}
  with pytest.raises(ValueError, match=message):
    models.create(name, **arguments)


def test_a_hidden_layer_reads_where_the_features_are(monkeypatch):
  features = jax.random.normal(jax.random.key(1), (2, 3, 4, 64))  # at stride 2
  for hidden in (0, 6):
    model = _create('resnet', hidden=hidden)
    monkeypatch.setattr(model, 'features', lambda moved: (moved,))
    same = model(features), model(features[:, ::-1])
    assert np.allclose(*same, atol=1e-5) == (hidden == 0)


def test_streams_draw_the_keys_of_flax():
  key = jax.random.key(3)
  ours, flax = streams(key), nnx.Rngs(key)
  data = lambda key: jax.random.key_data(key).tolist()
  for _ in range(3):
    assert data(ours.params()) == data(flax.params())
  # A layer that draws later has a stream that a program can carry on.
  one, other = (rngs['dropout'].fork() for rngs in (ours, flax))
  assert type(one) is nnx.RngStream and one.tag == other.tag
  assert data(one()) == data(other())
  assert data(ours.noise()) == data(flax.noise())
