"""The published networks: their sizes, their layers and how they start."""

import functools
import math

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests import abstract
from train import models
from train.models import layers
from train.models.backbones import pyramidnet, wrn

CIFAR, TINY, IMAGENET = (32, 32, 3), (64, 64, 3), (224, 224, 3)
RESNET = functools.partial(models.ResNet, widths=(64, 128, 256, 512))
RESNET18 = functools.partial(RESNET, blocks=(2, 2, 2, 2))
RESNET50 = functools.partial(RESNET, blocks=(3, 4, 6, 3), block='bottleneck')


def _multiplications(jaxpr):
  """Multiply-adds of the convolutions and of the products of matrices."""
  total = 0
  for equation in jaxpr.eqns:
    inner = jax.extend.core.jaxprs_in_params(equation.params)
    total += sum(map(_multiplications, inner))
    size = math.prod(equation.outvars[0].aval.shape)
    match equation.primitive.name:
      case 'conv_general_dilated':
        total += size * math.prod(equation.invars[1].aval.shape[:-1])
      case 'dot_general':
        (contracted, _), _ = equation.params['dimension_numbers']
        shape = equation.invars[0].aval.shape
        total += size * math.prod(shape[i] for i in contracted)
  return total


@pytest.mark.parametrize(
  ('build', 'classes', 'shape', 'size', 'multiplications'),
  [
    (models.MLP, 10, (8, 8, 1), 26_122, 25_856),
    (functools.partial(models.MLP, hidden=()), 10, (8, 8, 1), 650, 640),
    (models.ResNet, 10, CIFAR, 78_042, None),
    # The ResNet-18 of the CIFAR literature.
    (RESNET18, 10, CIFAR, 11_173_962, 555_422_720),
    # As much work as on CIFAR: the stem's stride makes up for the image.
    (
      functools.partial(RESNET18, stem='tiny'),
      200,
      TINY,
      11_271_432,
      555_520_000,
    ),
    # torchvision's resnet18 and resnet50, in both numbers.
    (
      functools.partial(RESNET18, stem='imagenet'),
      1000,
      IMAGENET,
      11_689_512,
      1_814_073_344,
    ),
    (
      functools.partial(RESNET50, stem='imagenet'),
      1000,
      IMAGENET,
      25_557_032,
      4_089_184_256,
    ),
    (models.WideResNet, 10, CIFAR, 36_479_194, 5_243_328_768),
    # dyhan0920/PyramidNet-PyTorch, by its construction.
    (models.PyramidNet, 10, CIFAR, 28_485_477, None),
    # kuangliu/pytorch-cifar.
    (models.VGG, 10, CIFAR, 14_728_266, 313_201_664),
    (models.MobileNet, 10, CIFAR, 3_217_226, 46_354_432),
    # 4.2 and 569 million in its paper.
    (
      functools.partial(models.MobileNet, stem_stride=2),
      1000,
      IMAGENET,
      4_231_976,
      568_740_352,
    ),
    # vSAM's: the last block sees 4x4 places where those above see 7x7.
    (
      functools.partial(
        models.MobileNet, stem_stride=2, activation='relu6', last_stride=2
      ),
      200,
      IMAGENET,
      3_411_976,
      533_014_016,
    ),
    # timm's vit_tiny, vit_small (and deit_small) and vit_base_patch16_224.
    (models.ViT, 1000, IMAGENET, 5_717_416, None),
    (
      functools.partial(models.ViT, width=384, heads=6),
      1000,
      IMAGENET,
      22_050_664,
      None,
    ),
    (
      functools.partial(models.ViT, width=768, heads=12),
      1000,
      IMAGENET,
      86_567_656,
      None,
    ),
  ],
)
def test_size(build, classes, shape, size, multiplications, monkeypatch):
  # Only shapes are asked for, and tracing the draws takes most of the time.
  for name in ('conv3x3', 'conv1x1'):
    conv = getattr(layers, name)
    plain = functools.partial(conv, kernel_init=nnx.initializers.zeros)
    monkeypatch.setattr(layers, name, plain)
  view = models.functional(
    abstract.module(functools.partial(build, classes, shape))
  )
  assert sum(leaf.size for leaf in jax.tree.leaves(view.params)) == size
  if multiplications is not None:
    images = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    closed = jax.make_jaxpr(view.apply, static_argnums=3)(
      view.params, view.statistics, images, False
    )
    assert _multiplications(closed.jaxpr) == multiplications


_START = {'scale': 1.0, 'var': 1.0}


def _evaluate(build, x, **kernels):
  """What a module of zero kernels, but for those given, makes of x."""
  view = models.functional(abstract.module(build))
  params, statistics = jax.tree.map_with_path(
    lambda path, leaf: jnp.full(leaf.shape, _START.get(path[-1].key, 0.0)),
    (view.params, view.statistics),
  )
  for name, kernel in kernels.items():
    params[name]['kernel'] = jnp.asarray(kernel, jnp.float32)
  return jax.jit(view.apply, static_argnums=3)(params, statistics, x, False)[0]


def test_a_wide_block_adds_to_its_input_or_to_a_product_of_the_activated():
  x = jax.random.normal(jax.random.key(0), (1, 4, 4, 3))
  block = functools.partial(wrn.WideBlock, 3)
  np.testing.assert_array_equal(_evaluate(functools.partial(block, 3), x), x)
  y = _evaluate(
    functools.partial(block, 6, 2), x, shortcut_conv=np.ones((1, 1, 3, 6))
  )
  expected = np.maximum(x, 0)[:, ::2, ::2].sum(-1, keepdims=True)
  np.testing.assert_allclose(
    y, np.broadcast_to(expected, (1, 2, 2, 6)), rtol=1e-4
  )


def test_a_pyramid_block_averages_pads_with_zeros_and_is_not_rectified():
  x = jax.random.normal(jax.random.key(0), (1, 3, 4, 3))
  block = functools.partial(pyramidnet.PyramidBlock, 3)
  y = _evaluate(functools.partial(block, 5), x)
  np.testing.assert_array_equal(y, np.pad(x, [(0, 0)] * 3 + [(0, 2)]))
  # The third of three rows is by itself.
  expected = np.stack([x[:, :2].mean(1), x[:, 2]], axis=1)
  expected = expected.reshape(1, 2, 2, 2, 3).mean(3)
  y = _evaluate(functools.partial(block, 3, 2), x)
  np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)
  # Negative input reaches the first convolution: -1 + 1 is nothing.
  centre = np.zeros((3, 3, 3, 3))
  centre[1, 1] = np.eye(3)
  y = _evaluate(
    functools.partial(block, 3), -jnp.ones(x.shape), conv1=-centre, conv2=centre
  )
  np.testing.assert_allclose(y, 0.0, atol=1e-4)


def test_pyramid_widths_grow_in_equal_steps():
  model = abstract.module(
    functools.partial(models.PyramidNet, 10, CIFAR, depth=14, alpha=16)
  )
  widths = [block.norm3.num_features for block in model.blocks]
  # Steps of 8/3 channels: 18.67, 21.33, 24, ...
  assert widths == [19, 21, 24, 27, 29, 32]
  assert [block.strided for block in model.blocks] == [0, 0, 1, 0, 1, 0]


@pytest.mark.parametrize('activation', ['relu', 'relu6'])
def test_a_mobilenet_cuts_off_at_6_after_each_norm_if_asked(activation):
  build = functools.partial(
    models.MobileNet, 4, (2, 2, 3), (4,), (1,), activation=activation
  )
  view = models.functional(abstract.module(build))
  params, statistics = jax.tree.map_with_path(
    lambda path, leaf: np.full(leaf.shape, _START.get(path[-1].key, 0.0)),
    (view.params, view.statistics),
  )
  block = params['blocks'][0]
  # The channels of the head tell of the three norms; the layers between them
  # make what is at most 6, or 10, a tenth of it.
  params['stem_norm']['bias'][0] = 10
  block['conv1']['kernel'][1, 1, 0, 0] = 0.1
  block['norm1']['bias'][1] = 10
  block['conv2']['kernel'][0, 0, 0, 0] = 1
  block['conv2']['kernel'][0, 0, 1, 1] = 0.1
  block['norm2']['bias'][2:] = 10, 5
  params['head']['kernel'] = np.eye(4)
  params, statistics = jax.tree.map(jnp.float32, (params, statistics))
  images = jnp.zeros((1, 2, 2, 3))
  logits, _ = view.apply(params, statistics, images, False)
  top = 6 if activation == 'relu6' else 10
  expected = [[top / 10, top / 10, top, 5]]
  np.testing.assert_allclose(logits, expected, rtol=1e-4)


def test_a_vit_starts_as_its_paper_says():
  model = models.create(
    'vit',
    num_classes=5,
    image_shape=(6, 8, 3),
    seed=0,
    patch=2,
    width=96,
    depth=1,
    heads=2,
    head_bias=-10.0,
    representation=6,
  )
  params = models.functional(model).params
  np.testing.assert_array_equal(params['head']['bias'], -10.0)
  for zero in (params['token'], params['head']['kernel']):
    np.testing.assert_array_equal(zero, 0.0)
  assert params['head']['kernel'].shape == (6, 5)
  assert params['positions'].shape == (1, 3 * 4 + 1, 96)
  assert 0.018 < params['positions'].std() < 0.022
  # Query, key and value are drawn as three matrices, not as one.
  attention = params['blocks'][0]['attention']
  for name in ('query', 'key', 'value', 'out'):
    bound = np.abs(attention[name]['kernel']).max() / np.sqrt(6 / (96 + 96))
    assert 0.98 < bound <= 1
  bound = np.abs(params['blocks'][0]['fc1']['kernel']).max()
  assert 0.98 < bound / np.sqrt(6 / (96 + 4 * 96)) <= 1


def test_mean_pooling_reads_every_patch_and_has_no_token():
  build = functools.partial(
    models.ViT, 5, (2, 4, 3), 2, 8, depth=0, heads=2, pool='mean'
  )
  draw = np.random.default_rng(0).normal
  images = jnp.zeros((3, 2, 4, 3)).at[1].set(1.0).at[2, :, :2].set(1.0)
  logits = _evaluate(
    build, images, patches=draw(size=(2, 2, 3, 8)), head=draw(size=(8, 5))
  )
  # The logits are a mean over the patches.
  assert not np.allclose(logits[0], logits[1], atol=1e-2)
  np.testing.assert_allclose(
    logits[2], (logits[0] + logits[1]) / 2, rtol=1e-5, atol=1e-6
  )
  assert not hasattr(abstract.module(build), 'token')
