"""How kernels are drawn: the three ways by formula, and who draws which.

The numbers of He et al. 2015: a normal kernel has the variance 2 / fan. Those
of PyTorch's default: uniform between plus and minus fan_in ** -0.5.
"""

import math

import jax
import numpy as np
import pytest
from flax import nnx

from train import models
from train.checks import ConfigError
from train.models import layers
from train.models.streams import streams

SMALL = {'widths': (4, 6), 'blocks': (1, 1)}
DENSE = {**SMALL, 'stem': 'cifar', 'output_stride': 2, 'head_width': 5}


@pytest.mark.parametrize(
  ('way', 'deviation', 'bound'),
  [
    # The kernel below has a fan in of 3 * 3 * 16 = 144 and a fan out of 288.
    ('he_fan_in', math.sqrt(2 / 144), None),
    ('he_fan_out', math.sqrt(2 / 288), None),
    ('torch', 1 / math.sqrt(3 * 144), 1 / 12),
  ],
)
def test_a_way_by_its_formula(way, deviation, bound):
  draw = layers.KERNEL_INITS[way]
  kernel = np.asarray(draw(jax.random.key(0), (3, 3, 16, 32), np.float32))
  # Of 4608 numbers; the first is known to 1.5 and the other to 1 percent.
  assert kernel.mean() == pytest.approx(0, abs=4 * deviation / 4608**0.5)
  assert kernel.std() == pytest.approx(deviation, rel=0.04)
  largest = np.abs(kernel).max()
  if bound is None:
    assert 3 < largest / deviation < 5.5
  else:
    assert 0.995 * bound < largest <= bound


def test_a_bias_of_pytorch():
  bias = layers.torch_bias(25)(jax.random.key(0), (4000,))
  assert bias.dtype == np.float32
  assert bias.std() == pytest.approx(0.2 / math.sqrt(3), rel=0.03)
  assert -0.2 <= bias.min() < -0.199 and 0.199 < bias.max() <= 0.2


@pytest.fixture(name='drawn')
def drawn_fixture(monkeypatch):
  """Builds networks whose kernels say by their numbers how they are drawn.

  As a random draw of every kernel would take long to compile.
  """
  constant = nnx.initializers.constant
  marks = {'he_fan_in': 2.0, 'he_fan_out': 3.0, 'torch': 4.0}
  for way, mark in marks.items():
    monkeypatch.setitem(layers.KERNEL_INITS, way, constant(mark))
  monkeypatch.setattr(layers, 'torch_default', constant(marks['torch']))
  # Of a bias, with the fan in.
  monkeypatch.setattr(layers, 'torch_bias', lambda fan_in: constant(-fan_in))
  words = {0.0: 'zero', **{mark: way for way, mark in marks.items()}}

  def build(name, **options):
    model = models._MODELS[name](
      num_classes=5,
      image_shape=(8, 8, 3),
      rngs=streams(jax.random.key(0)),
      **options,
    )
    leaves = {
      jax.tree_util.keystr(path, simple=True, separator='.'): np.asarray(leaf)
      for path, leaf in jax.tree.leaves_with_path(
        models.functional(model).params
      )
    }
    found = {}
    for path, kernel in leaves.items():
      layer, _, kind = path.rpartition('.')
      if kind == 'kernel':
        same = kernel.min() == kernel.max()
        way = words[float(kernel.max())] if same else 'lecun'
        bias = leaves.get(f'{layer}.bias', np.zeros(1))
        fan_in = math.prod(kernel.shape[:-1])
        # No bias, or one of zeros, or one that was told its fan in.
        found[layer] = way + {0: '', -fan_in: ', bias'}[bias.max()]
    return found

  return build


@pytest.mark.parametrize(
  ('name', 'options', 'others', 'last'),
  [
    (
      'resnet',
      {**SMALL, 'stem': 'deep', 'hidden': 3, 'kernel_init': 'torch'},
      'torch',
      {'head': 'torch, bias'},
    ),
    (
      'resnet',
      {**SMALL, 'block': 'bottleneck', 'kernel_init': 'he_fan_in'},
      'he_fan_in',
      {'head': 'lecun'},
    ),
    ('resnet', SMALL, 'he_fan_out', {'head': 'lecun'}),
    (
      'wrn',
      {'depth': 10, 'width': 1, 'kernel_init': 'he_fan_in', 'zero_head': True},
      'he_fan_in',
      {'head': 'zero'},
    ),
    ('wrn', {'depth': 10, 'width': 1}, 'he_fan_out', {'head': 'lecun'}),
    (
      'vgg',
      {**SMALL, 'kernel_init': 'he_fan_out'},
      'he_fan_out',
      {'head': 'torch'},
    ),
    ('vgg', SMALL, 'torch', {'head': 'torch'}),
    (
      'pspnet',
      {**DENSE, 'bins': (1, 2), 'auxiliary_width': 3, 'kernel_init': 'torch'},
      'torch',
      {
        'head.classifier.classes': 'torch, bias',
        'head.auxiliary.classes': 'torch, bias',
      },
    ),
    (
      'pspnet',
      {**DENSE, 'bins': (1, 2), 'auxiliary_width': 3},
      'he_fan_out',
      {
        'head.classifier.classes': 'torch',
        'head.auxiliary.classes': 'torch',
      },
    ),
    (
      'deeplabv3plus',
      {**DENSE, 'rates': (1,), 'kernel_init': 'he_fan_in'},
      'he_fan_in',
      {'head.classes': 'he_fan_in, bias'},
    ),
    (
      'deeplabv3plus',
      {**DENSE, 'rates': (1,)},
      'he_fan_out',
      {'head.classes': 'torch'},
    ),
  ],
)
def test_every_layer_is_drawn_in_its_way(name, options, others, last, drawn):
  found = drawn(name, **options)
  assert {layer: found.pop(layer) for layer in last} == last
  assert found == dict.fromkeys(found, others) and len(found) > 1


@pytest.mark.parametrize('name', ['resnet', 'wrn', 'vgg', 'deeplabv3plus'])
def test_a_way_that_is_none(name):
  with pytest.raises(ConfigError, match="Did you mean 'torch'"):
    models.create(
      name,
      num_classes=5,
      image_shape=(32, 32, 3),
      seed=0,
      kernel_init='torhc',
    )
