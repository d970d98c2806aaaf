"""Weights in PyTorch's layout, against the networks written out in NumPy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors import numpy as safetensors

from train import models
from train.models import quantize
from train.models.backbones.hrnet import HRNet
from train.models.weights.torch import load_torch

# Oblong, so that rows and columns cannot be taken for each other.
SHAPE = (16, 32, 3)
RESNET = functools.partial(
  models.ResNet,
  num_classes=5,
  image_shape=SHAPE,
  widths=(4, 6),
  blocks=(1, 2),
  block='bottleneck',
  stem='imagenet',
)
HRNET = functools.partial(
  HRNet, (32, 64, 3), 4, (1, 2, 1), 1, stem_width=4, stem_blocks=2
)


class Tensors(dict):
  """Tensors of a PyTorch network, drawn when they are declared."""

  def __init__(self):
    self.rng = np.random.default_rng(0)

  def conv(self, name, out_width, in_width, kernel, bias=False):
    scale = (in_width * kernel**2) ** -0.5
    self[f'{name}.weight'] = scale * self.rng.normal(
      size=(out_width, in_width, kernel, kernel)
    )
    if bias:
      self[f'{name}.bias'] = self.rng.normal(size=out_width)

  def norm(self, name, width):
    for kind, low, high in (
      ('weight', 0.5, 1.5),
      ('bias', -1, 1),
      ('running_mean', -1, 1),
      ('running_var', 0.5, 1.5),
    ):
      self[f'{name}.{kind}'] = self.rng.uniform(low, high, width)
    self[f'{name}.num_batches_tracked'] = np.array(7.0)

  def pair(self, name, out_width, in_width, kernel):
    """nn.Sequential(convolution, BatchNorm)."""
    self.conv(f'{name}.0', out_width, in_width, kernel)
    self.norm(f'{name}.1', out_width)

  def bottleneck(self, name, in_width, width, downsample):
    for i, sizes in enumerate(
      ((width, in_width, 1), (width, width, 3), (4 * width, width, 1))
    ):
      self.conv(f'{name}.conv{i + 1}', *sizes)
      self.norm(f'{name}.bn{i + 1}', sizes[0])
    if downsample:
      self.pair(f'{name}.downsample', 4 * width, in_width, 1)

  def basic(self, name, width):
    for i in (1, 2):
      self.conv(f'{name}.conv{i}', width, width, 3)
      self.norm(f'{name}.bn{i}', width)


@functools.cache
def _resnet_tensors():
  t = Tensors()
  t.conv('conv1', 4, 3, 7)
  t.norm('bn1', 4)
  t.bottleneck('layer1.0', 4, 4, True)
  t.bottleneck('layer2.0', 16, 6, True)
  t.bottleneck('layer2.1', 24, 6, False)
  t['fc.weight'] = t.rng.normal(size=(5, 24))
  t['fc.bias'] = t.rng.normal(size=5)
  return t


@functools.cache
def _hrnet_tensors():
  t = Tensors()
  for i, in_width in ((1, 3), (2, 4)):
    t.conv(f'conv{i}', 4, in_width, 3)
    t.norm(f'bn{i}', 4)
  t.bottleneck('layer1.0', 4, 4, True)
  t.bottleneck('layer1.1', 16, 4, False)
  t.pair('transition1.0', 4, 16, 3)
  t.pair('transition1.1.0', 8, 16, 3)
  t.pair('transition2.2.0', 16, 8, 3)
  t.pair('transition3.3.0', 32, 16, 3)
  for stage, modules in ((2, 1), (3, 2), (4, 1)):
    widths = [4 * 2**i for i in range(stage)]
    for module in range(modules):
      name = f'stage{stage}.{module}'
      for branch, width in enumerate(widths):
        t.basic(f'{name}.branches.{branch}.0', width)
      # A file of ImageNet has all the outputs of the last fusion too.
      for i in range(stage):
        for j in range(stage):
          fuse = f'{name}.fuse_layers.{i}.{j}'
          if j > i:
            t.pair(fuse, widths[i], widths[j], 1)
          for k in range(i - j):
            out_width = widths[i] if k == i - j - 1 else widths[j]
            t.pair(f'{fuse}.{k}', out_width, widths[j], 3)
  t.conv('final_layer', 16, 4, 1, bias=True)
  return t


@pytest.fixture
def save(tmp_path):
  def write(tensors, leave_out=(), **changes):
    kept = {k: v for k, v in tensors.items() if k not in leave_out}
    kept = {k: np.asarray(v, np.float32) for k, v in (kept | changes).items()}
    # It writes the memory as it lies.
    kept = {k: np.ascontiguousarray(v) for k, v in kept.items()}
    path = tmp_path / 'model.safetensors'
    safetensors.save_file(kept, path)
    return str(path)

  return write


class Torch:
  """The layers of a PyTorch network in evaluation; images are NCHW."""

  def __init__(self, tensors):
    self.t = tensors

  def conv(self, x, name, stride=1):
    weight = self.t[f'{name}.weight']
    side = weight.shape[-1]
    x = np.pad(x, ((0, 0), (0, 0), *[(side // 2, side // 2)] * 2))
    windows = np.lib.stride_tricks.sliding_window_view(x, (side, side), (2, 3))
    windows = windows[:, :, ::stride, ::stride]
    return np.einsum('bchwij,ocij->bohw', windows, weight)

  def norm(self, x, name):
    scale, bias, mean, variance = (
      self.t[f'{name}.{kind}'][:, None, None]
      for kind in ('weight', 'bias', 'running_mean', 'running_var')
    )
    return scale * (x - mean) / np.sqrt(variance + 1e-5) + bias

  def pair(self, x, name, stride=1):
    return self.norm(self.conv(x, f'{name}.0', stride), f'{name}.1')

  def block(self, x, name, strides):
    """A residual block whose convolutions have these strides."""
    y = x
    for i, stride in enumerate(strides, start=1):
      y = self.norm(self.conv(y, f'{name}.conv{i}', stride), f'{name}.bn{i}')
      y = y if i == len(strides) else np.maximum(y, 0)
    if f'{name}.downsample.0.weight' in self.t:
      x = self.pair(x, f'{name}.downsample', max(strides))
    return np.maximum(x + y, 0)


def _resnet_forward(images):
  net = Torch(_resnet_tensors())
  x = np.maximum(net.norm(net.conv(images, 'conv1', 2), 'bn1'), 0)
  x = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
  x = np.lib.stride_tricks.sliding_window_view(x, (3, 3), (2, 3))
  x = x[:, :, ::2, ::2].max((-2, -1))
  first = x = net.block(x, 'layer1.0', (1, 1, 1))
  x = net.block(x, 'layer2.0', (1, 2, 1))
  x = net.block(x, 'layer2.1', (1, 1, 1))
  logits = x.mean((2, 3)) @ net.t['fc.weight'].T + net.t['fc.bias']
  return first, x, logits


def _hrnet_forward(images):
  net = Torch(_hrnet_tensors())
  relu = lambda x: np.maximum(x, 0)
  x = images
  for i in (1, 2):
    x = relu(net.norm(net.conv(x, f'conv{i}', 2), f'bn{i}'))
  for i in range(2):
    x = net.block(x, f'layer1.{i}', (1, 1, 1))
  xs = [
    relu(net.pair(x, 'transition1.0')),
    relu(net.pair(x, 'transition1.1.0', 2)),
  ]
  for stage, modules in ((2, 1), (3, 2), (4, 1)):
    if stage > 2:
      name = f'transition{stage - 1}.{stage - 1}.0'
      xs.append(relu(net.pair(xs[-1], name, 2)))
    for module in range(modules):
      name = f'stage{stage}.{module}'
      xs = [
        net.block(x, f'{name}.branches.{branch}.0', (1, 1))
        for branch, x in enumerate(xs)
      ]
      sums = []
      for i in range(stage):
        total = 0
        for j, y in enumerate(xs):
          fuse = f'{name}.fuse_layers.{i}.{j}'
          if j > i:
            times = 2 ** (j - i)
            y = net.pair(y, fuse).repeat(times, 2).repeat(times, 3)
          for k in range(i - j):
            y = net.pair(y, f'{fuse}.{k}', 2)
            y = y if k == i - j - 1 else relu(y)
          total = total + y
        sums.append(relu(total))
      xs = sums
  return xs[0]


def _images(shape):
  images = np.random.default_rng(1).normal(size=(2, *shape))
  return images.astype(np.float32), images.transpose(0, 3, 1, 2)


def test_a_resnet_computes_what_pytorch_does(save):
  model = load_torch(RESNET(rngs=nnx.Rngs(0)), save(_resnet_tensors()))
  model.eval()
  images, nchw = _images(SHAPE)
  first, last, logits = _resnet_forward(nchw)
  features = model.features(jnp.asarray(images))
  for found, expected in zip(features, (first, last), strict=True):
    expected = expected.transpose(0, 2, 3, 1)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
  np.testing.assert_allclose(
    model(jnp.asarray(images)), logits, rtol=1e-3, atol=1e-4
  )


def test_an_hrnet_computes_what_pytorch_does(save):
  model = load_torch(HRNET(rngs=nnx.Rngs(0)), save(_hrnet_tensors()))
  model.eval()
  images, nchw = _images((32, 64, 3))
  expected = _hrnet_forward(nchw).transpose(0, 2, 3, 1)
  (found,) = model.features(jnp.asarray(images))
  assert found.shape == (2, 8, 16, 4)
  np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


def test_a_head_of_other_classes_stays(save):
  path = save(_resnet_tensors())
  model = RESNET(num_classes=7, rngs=nnx.Rngs(0))
  before = np.asarray(model.head.kernel[...])
  load_torch(model, path)
  np.testing.assert_array_equal(model.head.kernel[...], before)
  np.testing.assert_allclose(
    model.blocks[2].norm3.var[...],
    _resnet_tensors()['layer2.1.bn3.running_var'],
    rtol=1e-6,
  )
  # A backbone without a head is filled too.
  bare = RESNET(num_classes=0, rngs=nnx.Rngs(0))
  load_torch(bare, path)
  np.testing.assert_array_equal(
    bare.stem_conv.kernel[...], model.stem_conv.kernel[...]
  )


def test_the_deep_stem(save):
  tensors = dict(_resnet_tensors())
  t = Tensors()
  for i, (out_width, in_width) in enumerate(((4, 3), (4, 4), (8, 4)), start=1):
    t.conv(f'conv{i}', out_width, in_width, 3)
    t.norm(f'bn{i}', out_width)
  t.bottleneck('layer1.0', 8, 4, True)
  model = RESNET(stem='deep', rngs=nnx.Rngs(0))
  load_torch(model, save(tensors | t))
  np.testing.assert_allclose(
    model.stem_rest[1].conv.kernel[...],
    t['conv3.weight'].transpose(2, 3, 1, 0),
    rtol=1e-6,
  )


@pytest.mark.parametrize(
  ('leave_out', 'changes', 'message'),
  [
    (('layer2.1.conv2.weight',), {}, 'it lacks layer2.1.conv2.weight'),
    ((), {'layer3.0.conv1.weight': np.ones(3)}, 'no place for layer3.0.conv1'),
    ((), {'bn1.weight': np.ones(3)}, 'bn1.weight for .4,. where the file has'),
  ],
)
def test_a_file_that_does_not_fit(save, leave_out, changes, message):
  path = save(_resnet_tensors(), leave_out, **changes)
  model = RESNET(rngs=nnx.Rngs(0))
  before = np.asarray(model.stem_conv.kernel[...])
  with pytest.raises(ValueError, match=message):
    load_torch(model, path)
  np.testing.assert_array_equal(model.stem_conv.kernel[...], before)


def test_a_model_of_other_names_is_refused(save):
  model = models.MLP(5, SHAPE, rngs=nnx.Rngs(0))
  with pytest.raises(ValueError, match='Give a ResNet or an HRNet'):
    load_torch(model, save(_resnet_tensors()))


SMALL_RESNET = {
  'widths': (4, 6),
  'blocks': (1, 2),
  'stem': 'imagenet',
  'output_stride': 8,
  'head_width': 4,
}
SMALL_HRNET = {
  'width': 4,
  'modules': (1, 2, 1),
  'blocks': 1,
  'stem_width': 4,
  'stem_blocks': 2,
}


@pytest.mark.parametrize(
  ('name', 'outputs', 'options', 'shape', 'tensors', 'forward'),
  [
    (
      'pspnet',
      {'num_classes': 3},
      {**SMALL_RESNET, 'auxiliary_width': 4},
      SHAPE,
      _resnet_tensors,
      _resnet_forward,
    ),
    (
      'deeplabv3plus',
      {'num_classes': 3},
      {**SMALL_RESNET, 'rates': (1, 2)},
      SHAPE,
      _resnet_tensors,
      _resnet_forward,
    ),
    (
      'simcc_hrnet',
      {'joints': 5, 'split': 2},
      SMALL_HRNET,
      (32, 64, 3),
      _hrnet_tensors,
      lambda images: (_hrnet_forward(images),),
    ),
  ],
  ids=['pspnet', 'deeplabv3plus', 'simcc_hrnet'],
)
def test_a_dense_network_starts_from_a_file_of_its_backbone(
  name, outputs, options, shape, tensors, forward, save, capsys
):
  create = functools.partial(
    models.create, name, image_shape=shape, seed=0, **outputs, **options
  )
  path = save(tensors())
  model, fresh = create(pretrained=path), create()
  images, nchw = _images(shape)
  model.eval()
  features = model.backbone.features(jnp.asarray(images))
  for found, expected in zip(features, forward(nchw), strict=False):
    expected = expected.transpose(0, 2, 3, 1)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)
  for found, expected in zip(
    jax.tree.leaves(nnx.state(model.head, nnx.Param)),
    jax.tree.leaves(nnx.state(fresh.head, nnx.Param)),
    strict=True,
  ):
    np.testing.assert_array_equal(found, expected)
  # What is left out is said once, however often the network is built.
  create(pretrained=path)
  (line,) = capsys.readouterr().err.splitlines()
  head = 'fc' if 'resnet' in tensors.__name__ else 'final_layer'
  assert line.startswith(f'weights: {path}, without {head}.bias, ')


def test_a_classifier_starts_from_a_file_with_its_head(save, capsys):
  model = models.create(
    'resnet',
    num_classes=5,
    image_shape=SHAPE,
    seed=0,
    block='bottleneck',
    pretrained=save(_resnet_tensors()),
    widths=(4, 6),
    blocks=(1, 2),
    stem='imagenet',
  )
  model.eval()
  images, nchw = _images(SHAPE)
  logits = _resnet_forward(nchw)[-1]
  found = model(jnp.asarray(images))
  np.testing.assert_allclose(found, logits, rtol=1e-3, atol=1e-4)
  assert not capsys.readouterr().err


def test_a_quantised_network_keeps_its_steps(save):
  options = {'num_classes': 5, 'image_shape': SHAPE, 'seed': 0}
  options |= {'widths': (4, 6), 'blocks': (1, 2), 'block': 'bottleneck'}
  model = models.create(
    'resnet',
    **options,
    stem='imagenet',
    pretrained=save(_resnet_tensors()),
    quantize=quantize.read({'weights': 4, 'activations': 4}),
  )
  np.testing.assert_allclose(
    model.stem_conv.kernel[...],
    _resnet_tensors()['conv1.weight'].transpose(2, 3, 1, 0),
    rtol=1e-6,
  )
  steps = jax.tree.leaves(nnx.state(model, quantize.StepSize))
  assert len(steps) == 2 * 13  # twelve convolutions and the head


def test_a_network_whose_names_are_not_known(save):
  with pytest.raises(ValueError, match='use a model with one of HRNet, ResNet'):
    models.create(
      'mlp',
      num_classes=5,
      image_shape=SHAPE,
      seed=0,
      pretrained=save(_resnet_tensors()),
    )
