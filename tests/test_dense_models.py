"""Features of backbones, and the heads of segmentation and pose."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests import abstract
from train import models
from train.models import layers, quantize, resize
from train.models.backbones.hrnet import Fusion, HRNet
from train.models.composed import Composed
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
# With features as small as they can be and every stage of its own.
SMALL = functools.partial(
  models.ResNet,
  num_classes=0,
  image_shape=(33, 41, 3),
  widths=(4, 6, 8, 12),
  blocks=(1, 2, 1, 1),
  block='bottleneck',
  stem='imagenet',
)
SMALL_HRNET = functools.partial(
  HRNet, (64, 32, 3), 4, (1, 1, 1), 1, stem_width=4, stem_blocks=1
)


def _with_head(backbone, head, **options):
  def build(rngs):
    base = backbone(rngs=rngs)
    return Composed(base, head(base.feature_widths, rngs=rngs, **options))

  return build


def _simcc(backbone, joints, image_shape, split):
  def build(rngs):
    base = backbone(image_shape, rngs=rngs)
    strides = base.feature_strides
    head = SimCC(
      base.feature_widths, strides, joints, image_shape, split, rngs=rngs
    )
    return Composed(base, head)

  return build


def _seeded(build):
  """A module whose parameters are all away from zero."""
  graphdef, state = nnx.split(abstract.module(build))
  rng = np.random.default_rng(0)

  def drawn(leaf):
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
      return jax.random.key(0)
    if leaf.ndim == 1:  # Scales and variances are positive.
      return jnp.asarray(rng.uniform(0.5, 1.5, leaf.shape), leaf.dtype)
    fan_in = max(1, math.prod(leaf.shape[:-1]))
    return jnp.asarray(rng.normal(size=leaf.shape) / fan_in**0.5, leaf.dtype)

  return nnx.merge(graphdef, jax.tree.map(drawn, nnx.to_pure_dict(state)))


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
  strided = _seeded(build)
  dilated = _seeded(
    functools.partial(build, output_stride=1, first_dilation='previous')
  )
  images = jax.random.normal(jax.random.key(0), (1, 16, 16, 3))
  for model in (strided, dilated):
    model.eval()
  small, large = (model.features(images)[-1] for model in (strided, dilated))
  assert small.shape[1:3] == (8, 8) and large.shape[1:3] == (16, 16)
  np.testing.assert_allclose(large[:, ::2, ::2], small, rtol=1e-4, atol=1e-5)
  # With its own dilation from the first block on it is another network.
  other = _seeded(functools.partial(build, output_stride=1))
  other.eval()
  assert np.abs(other.features(images)[-1][:, ::2, ::2] - small).max() > 0.01


@pytest.mark.parametrize('output_stride', [2, 6, 64])
def test_an_output_stride_that_cannot_be(output_stride):
  with pytest.raises(ValueError, match='any power of two between 4 and 32'):
    abstract.module(functools.partial(SMALL, output_stride=output_stride))


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


@pytest.mark.parametrize(
  ('head', 'options', 'output_stride'),
  [
    (PSPNet, {'width': 8, 'auxiliary_width': 4}, 8),
    (PSPNet, {'width': 8, 'auxiliary_width': 0}, 8),
    (DeepLabV3Plus, {'width': 8, 'rates': (1, 2, 3), 'low_width': 4}, 16),
    (
      DeepLabV3Plus,
      {
        'width': 8,
        'rates': (1, 2),
        'convolutions': 2,
        'decoder_dropout': (0.5, 0.1),
        'align_corners': True,
      },
      8,
    ),
  ],
)
def test_segmentation_gives_logits_for_each_pixel(head, options, output_stride):
  backbone = functools.partial(SMALL, output_stride=output_stride)
  build = _with_head(backbone, head, num_classes=3, **options)
  view = models.functional(build(rngs=nnx.Rngs(0)))
  apply = jax.jit(view.apply, static_argnums=3)
  images = jax.random.normal(jax.random.key(1), (2, 33, 41, 3))
  maps, statistics = apply(view.params, view.statistics, images, True)
  assert maps.logits.shape == (2, 33, 41, 3)
  assert maps.logits.dtype == jnp.float32 and np.isfinite(maps.logits).all()
  has_auxiliary = options.get('auxiliary_width', 0) > 0
  assert (maps.auxiliary is not None) == has_auxiliary
  if has_auxiliary:
    assert maps.auxiliary.shape == maps.logits.shape
  # Training drops, and not alike in the next step.
  later, _ = apply(view.params, statistics, images, True)
  assert np.any(later.logits != maps.logits)
  first, _ = apply(view.params, view.statistics, images, False)
  again, _ = apply(view.params, view.statistics, images[::-1], False)
  np.testing.assert_allclose(
    first.logits, again.logits[::-1], rtol=1e-4, atol=1e-5
  )

  def loss(params):
    maps, _ = view.apply(params, view.statistics, images, True)
    return sum(jnp.mean(jnp.square(x - 1.0)) for x in jax.tree.leaves(maps))

  for path, grad in jax.tree.leaves_with_path(
    jax.jit(jax.grad(loss))(view.params)
  ):
    assert np.isfinite(grad).all() and np.any(np.asarray(grad) != 0), path


def test_a_decoder_has_one_dropout_for_each_convolution():
  build = _with_head(
    SMALL, DeepLabV3Plus, num_classes=3, decoder_dropout=(0.5, 0.1)
  )
  with pytest.raises(ValueError, match='each convolution has one dropout'):
    abstract.module(build)


def test_simcc_gives_logits_for_each_bin():
  shape = 64, 32, 3
  backbone = lambda image_shape, rngs: SMALL_HRNET(rngs=rngs)
  model = _seeded(_simcc(backbone, 5, shape, 3))
  view = models.functional(model)
  apply = jax.jit(view.apply, static_argnums=3)
  images = jax.random.normal(jax.random.key(1), (2, *shape))
  logits, _ = apply(view.params, view.statistics, images, True)
  assert logits.x.shape == (2, 5, 32 * 3) and logits.y.shape == (2, 5, 64 * 3)
  assert logits.x.dtype == logits.y.dtype == jnp.float32

  # The same dense layers for every joint, over its own map.
  head = view.params['head']
  model.eval()
  maps = model.head.maps(model.backbone.features(images)[-1])
  flat = maps[..., 2].reshape(2, -1)
  logits, _ = apply(view.params, view.statistics, images, False)
  np.testing.assert_allclose(
    logits.y[:, 2],
    flat @ head['y']['kernel'] + head['y']['bias'][None],
    rtol=1e-3,
    atol=1e-4,
  )

  def loss(params):
    logits, _ = view.apply(params, view.statistics, images, True)
    return sum(jnp.mean(jnp.square(x - 1.0)) for x in logits)

  for path, grad in jax.tree.leaves_with_path(
    jax.jit(jax.grad(loss))(view.params)
  ):
    assert np.isfinite(grad).all() and np.any(np.asarray(grad) != 0), path


def test_a_fusion_sums_what_the_branches_give():
  fusion = _seeded(functools.partial(Fusion, (2, 4, 8), 2))
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


@pytest.mark.parametrize(
  ('build', 'message'),
  [
    (functools.partial(HRNet, (64, 48, 3)), 'multiples of 32'),
    (
      functools.partial(SimCC, (4,), (4,), 16, (62, 64, 3)),
      'Give multiples of 4',
    ),
    (
      functools.partial(SMALL, first_dilation='none'),
      'Use one of stage, previous',
    ),
  ],
)
def test_what_cannot_be_built(build, message):
  with pytest.raises(ValueError, match=message):
    abstract.module(build)


def test_bfloat16_computes_and_logits_are_float32():
  def build(dtype, rngs):
    base = SMALL(output_stride=8, dtype=dtype, rngs=rngs)
    return Composed(
      base,
      PSPNet(
        base.feature_widths, 3, width=8, dropout=0.0, dtype=dtype, rngs=rngs
      ),
    )

  images = jax.random.normal(jax.random.key(1), (2, 33, 41, 3))
  maps = []
  for dtype in (None, 'bfloat16'):
    model = _seeded(functools.partial(build, dtype))
    model.eval()
    maps.append(jax.jit(lambda x, model=model: model(x).logits)(images))
  assert maps[1].dtype == jnp.float32
  error = np.abs(maps[0] - maps[1]).max()
  assert 0 < error < 0.1 * np.abs(maps[0]).max()


def test_heads_are_quantised_like_any_layer():
  build = _with_head(
    functools.partial(SMALL, output_stride=8), PSPNet, num_classes=3, width=8
  )
  model = build(rngs=nnx.Rngs(0))
  images = jax.random.normal(jax.random.key(1), (2, 33, 41, 3))
  quantize.quantize(model, images, weights=4, activations=4)
  found = quantize.quantisers(model)
  assert len(found) == sum(
    isinstance(layer, nnx.Conv) for _, layer in nnx.iter_modules(model)
  )
  assert found['head', 'pools', 0, 'conv'].weight_codes == (-8, 7)


def test_convnorm_keeps_the_size_whatever_its_dilation():
  layer = _seeded(functools.partial(layers.ConvNorm, 3, 4, dilation=3))
  assert layer(jnp.ones((1, 9, 7, 3))).shape == (1, 9, 7, 4)
  assert layer(jnp.ones((1, 9, 7, 3))).min() >= 0


@pytest.mark.parametrize(
  ('name', 'outputs', 'options'),
  [
    ('pspnet', {'num_classes': 3}, {'head_width': 8, 'auxiliary_width': 4}),
    ('deeplabv3plus', {'num_classes': 3}, {'head_width': 8, 'rates': [1, 2]}),
    ('simcc_hrnet', {'joints': 5, 'split': 2}, {}),
  ],
)
def test_dense_models_by_name(name, outputs, options):
  small = (
    {'width': 4, 'modules': [1], 'blocks': 1, 'stem_width': 4}
    if 'joints' in outputs
    else {'widths': [4, 6], 'blocks': [1, 1], 'output_stride': 4}
  )
  model = models.create(
    name, **outputs, image_shape=(16, 24, 3), seed=0, **small, **options
  )
  view = models.functional(model)
  images = jnp.zeros((2, 16, 24, 3))
  logits, _ = jax.eval_shape(
    lambda images: view.apply(view.params, view.statistics, images, True),
    images,
  )
  shapes = [x.shape for x in jax.tree.leaves(logits)]
  assert (
    shapes
    == {
      'pspnet': [(2, 16, 24, 3)] * 2,
      'deeplabv3plus': [(2, 16, 24, 3)],
      'simcc_hrnet': [(2, 5, 48), (2, 5, 32)],
    }[name]
  )
  with pytest.raises(ValueError, match='Use one of .*dtype'):
    models.create(name, **outputs, image_shape=(16, 24, 3), seed=0, depth=1)


@pytest.mark.parametrize(
  ('name', 'outputs'),
  [
    ('pspnet', {'joints': 5}),
    ('simcc_hrnet', {'num_classes': 3}),
    ('resnet', {'joints': 5}),
    ('resnet', {}),
  ],
)
def test_a_model_of_another_task_is_refused(name, outputs):
  with pytest.raises(ValueError, match='the task asks for'):
    models.create(name, **outputs, image_shape=(16, 24, 3), seed=0)
