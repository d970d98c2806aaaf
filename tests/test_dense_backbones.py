"""Features of backbones, their sizes, and how maps are resized."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests import abstract
from tests.dense_networks import SMALL, seeded
from train import models
from train.models import layers, resize
from train.models.backbones.hrnet import Fusion, HRNet
from train.models.heads.segmentation import DeepLabV3Plus, PSPNet
from train.models.heads.simcc import SimCC

RESNET50 = functools.partial(
  models.ResNet,
  num_classes=0,
  image_shape=(65, 65, 3),
  widths=(64, 128, 256, 512),
  blocks=(3, 4, 6, 3),
  block='bottleneck',
  stem='imagenet',
)


@functools.cache
def _backbone(name):
  """A published backbone without arrays, and its number of parameters."""
  build = {
    'resnet50': RESNET50,
    'resnet101': functools.partial(RESNET50, blocks=(3, 4, 23, 3)),
    'deep resnet50': functools.partial(RESNET50, stem='deep'),
    'deep resnet101': functools.partial(
      RESNET50, blocks=(3, 4, 23, 3), stem='deep'
    ),
    'hrnet32': functools.partial(HRNet, (256, 256, 3)),
    'hrnet48': functools.partial(HRNet, (256, 256, 3), 48),
  }[name]
  model = abstract.module(build)
  return model, abstract.size(model)


@pytest.mark.parametrize(
  ('backbone', 'with_classes'),
  [('resnet50', 25_557_032), ('resnet101', 44_549_160)],
)
def test_the_backbones_are_the_published_ones(backbone, with_classes):
  model, size = _backbone(backbone)
  assert size + (model.feature_widths[-1] + 1) * 1000 == with_classes


@pytest.mark.parametrize(
  ('head', 'options', 'stem', 'sizes'),
  [
    (PSPNet, {'auxiliary_width': 0}, 'deep ', (46_716_373, 65_708_501)),
    (PSPNet, {}, 'deep ', (49_081_578, 68_073_706)),
    (PSPNet, {'auxiliary_width': 0}, '', (46_592_597, 65_584_725)),
    (PSPNet, {}, '', (48_957_802, 67_949_930)),
    (DeepLabV3Plus, {}, '', (39_761_845, 58_753_973)),
    (DeepLabV3Plus, {'convolutions': 2}, '', (40_352_181, 59_344_309)),
  ],
)
def test_the_published_networks_of_segmentation(head, options, stem, sizes):
  for backbone, size in zip(('resnet50', 'resnet101'), sizes, strict=True):
    base, base_size = _backbone(stem + backbone)
    build = functools.partial(head, base.feature_widths, 21, **options)
    assert base_size + abstract.size(abstract.module(build)) == size


@pytest.mark.parametrize(
  ('backbone', 'joints', 'size'),
  [
    ('hrnet32', 16, 28_536_080),
    ('hrnet32', 17, 28_536_113),
    ('hrnet48', 16, 63_595_696),
    ('hrnet48', 17, 63_595_745),
  ],
)
def test_hrnet_with_a_map_for_each_joint(backbone, joints, size):
  base, base_size = _backbone(backbone)
  assert base_size == {'hrnet32': 28_535_552, 'hrnet48': 63_594_912}[backbone]
  # A 1x1 convolution with bias makes the maps.
  assert base_size + (base.feature_widths[-1] + 1) * joints == size


@pytest.mark.parametrize(
  ('joints', 'shape', 'split', 'size'),
  [
    (16, (256, 256, 3), 2, 32_731_408),
    (16, (128, 128, 3), 2, 29_060_880),
    (16, (64, 64, 3), 3, 28_634_768),
    (16, (64, 64, 3), 2, 28_601_872),
    (17, (256, 192, 3), 2, 31_289_521),
  ],
)
def test_the_published_networks_of_pose(joints, shape, split, size):
  base, base_size = _backbone('hrnet32')
  widths, strides = base.feature_widths, base.feature_strides
  build = functools.partial(SimCC, widths, strides, joints, shape, split)
  assert base_size + abstract.size(abstract.module(build)) == size


@pytest.mark.parametrize('first_dilation', ['stage', 'previous'])
@pytest.mark.parametrize(
  ('output_stride', 'strides', 'shapes'),
  [
    (None, (4, 8, 16, 32), [(9, 11), (5, 6), (3, 3), (2, 2)]),
    (16, (4, 8, 16, 16), [(9, 11), (5, 6), (3, 3), (3, 3)]),
    (8, (4, 8, 8, 8), [(9, 11), (5, 6), (5, 6), (5, 6)]),
  ],
)
def test_an_output_stride_is_kept_by_dilation(
  output_stride, strides, shapes, first_dilation
):
  build = functools.partial(
    SMALL, output_stride=output_stride, first_dilation=first_dilation
  )
  model = abstract.module(build)
  assert model.feature_strides == strides
  assert model.feature_widths == (16, 24, 32, 48)
  features = jax.eval_shape(
    lambda state, x: nnx.merge(nnx.graphdef(model), state).features(x),
    nnx.to_pure_dict(nnx.state(model)),
    jnp.ones((2, 33, 41, 3)),
  )
  assert [x.shape[1:3] for x in features] == shapes
  assert [x.shape[-1] for x in features] == list(model.feature_widths)
  # The stages are of 1, 2, 1 and 1 blocks.
  dilations = [block.conv2.kernel_dilation for block in model.blocks]
  expected = {
    (None, 'stage'): [1, 1, 1, 1, 1],
    (None, 'previous'): [1, 1, 1, 1, 1],
    (16, 'stage'): [1, 1, 1, 1, 2],
    (16, 'previous'): [1, 1, 1, 1, 1],
    (8, 'stage'): [1, 1, 1, 2, 4],
    (8, 'previous'): [1, 1, 1, 1, 2],
  }[output_stride, first_dilation]
  assert dilations == expected
  assert abstract.size(model) == abstract.size(abstract.module(SMALL))


def test_later_blocks_of_a_dilated_stage_have_its_dilation():
  build = functools.partial(
    SMALL, blocks=(1, 1, 2, 2), output_stride=8, first_dilation='previous'
  )
  model = abstract.module(build)
  dilations = [block.conv2.kernel_dilation for block in model.blocks]
  assert dilations == [1, 1, 1, 2, 2, 4]


def test_a_dilated_stage_sees_what_a_strided_one_sees():
  """At every other place, where its kernels meet the same pixels."""
  options = {'widths': (4, 6), 'blocks': (1, 2), 'stem': 'cifar'}
  build = functools.partial(SMALL, image_shape=(16, 16, 3), **options)
  strided = seeded(build)
  dilated = seeded(
    functools.partial(build, output_stride=1, first_dilation='previous')
  )
  images = jax.random.normal(jax.random.key(0), (1, 16, 16, 3))
  for model in (strided, dilated):
    model.eval()
  small, large = (model.features(images)[-1] for model in (strided, dilated))
  assert small.shape[1:3] == (8, 8) and large.shape[1:3] == (16, 16)
  np.testing.assert_allclose(large[:, ::2, ::2], small, rtol=1e-4, atol=1e-5)
  # With its own dilation from the first block on it is another network.
  other = seeded(functools.partial(build, output_stride=1))
  other.eval()
  assert np.abs(other.features(images)[-1][:, ::2, ::2] - small).max() > 0.01


@pytest.mark.parametrize('output_stride', [2, 6, 64])
def test_an_output_stride_that_cannot_be(output_stride):
  with pytest.raises(ValueError, match='any power of two between 4 and 32'):
    abstract.module(functools.partial(SMALL, output_stride=output_stride))


def test_a_fusion_sums_what_the_branches_give():
  fusion = seeded(functools.partial(Fusion, (2, 4, 8), 2))
  fusion.eval()
  xs = [
    jax.random.normal(jax.random.key(i), (1, 8 // 2**i, 8 // 2**i, 2 * 2**i))
    for i in range(3)
  ]
  first, second = fusion(xs)
  up = lambda x, times: x.repeat(times, 1).repeat(times, 2)
  paths = fusion.paths
  total = xs[0] + up(paths[0][1][0](xs[1]), 2) + up(paths[0][2][0](xs[2]), 4)
  np.testing.assert_allclose(first, nnx.relu(total), rtol=1e-5, atol=1e-6)
  total = paths[1][0][0](xs[0]) + xs[1] + up(paths[1][2][0](xs[2]), 2)
  np.testing.assert_allclose(second, nnx.relu(total), rtol=1e-5, atol=1e-6)
  # Downwards by two: ReLU on the first convolution alone.
  fusion = abstract.module(functools.partial(Fusion, (2, 4, 8), 3))
  assert [layer.relu for layer in fusion.paths[2][0]] == [True, False]
  assert [layer.conv.out_features for layer in fusion.paths[2][0]] == [2, 8]


def test_convnorm_keeps_the_size_whatever_its_dilation():
  layer = seeded(functools.partial(layers.ConvNorm, 3, 4, dilation=3))
  assert layer(jnp.ones((1, 9, 7, 3))).shape == (1, 9, 7, 4)
  assert layer(jnp.ones((1, 9, 7, 3))).min() >= 0


def test_bilinear_has_both_conventions():
  x = jnp.arange(4.0).reshape(1, 4, 1, 1)
  np.testing.assert_allclose(
    resize.bilinear(x, (8, 1))[0, :, 0, 0],
    [0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3],
    atol=1e-6,
  )
  np.testing.assert_allclose(
    resize.bilinear(x[:, :3], (5, 1), align_corners=True)[0, :, 0, 0],
    [0, 0.5, 1, 1.5, 2],
    atol=1e-6,
  )
  # No antialiasing where it shrinks: the halves are means of two.
  np.testing.assert_allclose(
    resize.bilinear(jnp.tile(x, (1, 2, 1, 1)), (4, 1))[0, :, 0, 0],
    [0.5, 2.5, 0.5, 2.5],
    atol=1e-6,
  )
  one = resize.bilinear(jnp.ones((1, 1, 1, 2)), (3, 5), align_corners=True)
  np.testing.assert_allclose(one, np.ones((1, 3, 5, 2)), atol=1e-6)


def test_pools_overlap_where_bins_do_not_divide():
  x = jnp.arange(5.0).reshape(1, 5, 1, 1) + jnp.arange(4.0).reshape(1, 1, 4, 1)
  pooled = resize.average_pool(x, 3)[0, ..., 0]
  # Rows 0-1, 1-3, 3-4; columns 0-1, 1-2, 2-3.
  rows, columns = np.array([0.5, 2, 3.5]), np.array([0.5, 1.5, 2.5])
  np.testing.assert_allclose(pooled, rows[:, None] + columns, rtol=1e-6)
  np.testing.assert_allclose(
    resize.average_pool(x, 1)[0, 0, 0, 0], 2 + 1.5, rtol=1e-6
  )
  # More bins than places: each shows its own.
  np.testing.assert_allclose(
    resize.average_pool(jnp.arange(2.0).reshape(1, 2, 1, 1), 4)[0, :, 0, 0],
    [0, 0, 1, 1],
  )
