"""The networks of the config files are the published ones."""

import functools
import inspect
import json

import pytest

from configs import published, settings
from tests import abstract
from tests.config_files import configs_of, network_of, size_of
from train import models

# Optax's schedules divide an integer by a number.
pytestmark = pytest.mark.usefixtures('standard_promotion')


@pytest.mark.parametrize(
  ('network', 'images', 'parameters', 'classes', 'features'),
  [
    ('resnet18', 'cifar10', 11_173_962, 10, 512),
    ('resnet18', 'tiny_imagenet', 11_173_962, 10, 512),
    # torchvision's.
    ('resnet50', 'imagenet', 25_557_032, 1000, 2048),
    ('wrn28_10', 'cifar10', 36_479_194, 10, 640),
    ('vgg16_bn', 'cifar10', 14_728_266, 10, 512),
    ('mobilenet_v1', 'tiny_imagenet', 3_217_226, 10, 1024),
    ('mobilenet_v1', 'cifar10', 3_217_226, 10, 1024),
    # timm's; those of R-SAM have a layer more before the head.
    ('deit_s', 'stanford_cars', 22_050_664, 1000, 384),
    ('vit_s16', 'imagenet', 22_050_664 + 384 * 385, 1000, 384),
    ('vit_b16', 'imagenet', 86_567_656 + 768 * 769, 1000, 768),
  ],
)
def test_a_name_is_the_published_network(
  network, images, parameters, classes, features
):
  row = published.Row(model=network, dataset=images, method='sgd')
  config = settings.start(row, {})
  found = size_of(network_of(config), settings.pixels_of(row))
  assert found + (classes - 10) * (features + 1) == parameters


@pytest.mark.parametrize(
  ('names', 'network', 'outputs', 'parameters'),
  [
    (
      ('arsam_table4', 'ausam_table5', 'ausam_table9'),
      'simcc_hrnet',
      {'joints': 16, 'split': 2},
      32_731_408,
    ),
    (('arsam_table7',), 'pspnet', {'num_classes': 21}, 68_073_706),
    (('arsam_table7',), 'deeplabv3plus', {'num_classes': 21}, 39_761_845),
  ],
)
def test_the_networks_of_dense_tasks_are_the_published_ones(
  names, network, outputs, parameters
):
  (options,) = {
    json.dumps(config.model.to_dict(), sort_keys=True)
    for name in names
    for variant, config in configs_of(name).items()
    if variant.startswith(network)
  }
  options = json.loads(options)
  assert options.pop('pretrained').endswith('.safetensors')
  create = models._MODELS[options.pop('name')]
  shape = (256, 256, 3)
  model = abstract.module(
    functools.partial(create, **outputs, image_shape=shape, **options)
  )
  assert abstract.size(model) == parameters


@pytest.mark.parametrize(
  ('name', 'bits'), [('arsam_table8', (4, 4)), ('ausam_table6', (2, 4))]
)
@pytest.mark.parametrize(
  ('network', 'parameters', 'layers'),
  [('resnet18', 11_173_962, 21), ('mobilenet_v1', 3_217_226, 28)],
)
def test_a_quantised_network_has_two_steps_for_each_layer(
  name, bits, network, parameters, layers
):
  config = configs_of(name)[f'{network}-cifar10-sam']
  section = config.model.quantize
  assert (section.weights, section.activations, section.ends) == (*bits, 8)
  assert size_of(network_of(config), 32) == parameters + 2 * layers
  # It starts from the row that is not quantised.
  start = configs_of(name)[f'{network}-cifar10']
  assert config.model.pretrained == f'runs/{network}-cifar10'
  assert {**start.model} == {
    key: value
    for key, value in config.model.items()
    if key not in ('quantize', 'pretrained')
  }


def test_the_pyramid_is_the_default_one():
  # Its size is pinned in test_architectures.py, and takes long to trace.
  defaults = inspect.signature(models.PyramidNet.__init__).parameters
  options = dict(settings.NETWORKS['pyramidnet110'])
  assert options.pop('name') == 'pyramidnet'
  assert options == {name: defaults[name].default for name in options}
  assert set(options) == {'depth', 'alpha'}
