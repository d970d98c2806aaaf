"""The config files for tests: their rows, data sets and networks."""

import functools
import importlib
import json
import pathlib

import jax
import numpy as np
from flax import nnx

from configs import published, settings
from tests import abstract
from train import config as train_config
from train import models
from train.models import quantize

ROOT = pathlib.Path(__file__).parent.parent
FILES = {
  path.stem: importlib.import_module(f'configs.{path.stem}')
  for path in sorted((ROOT / 'configs').glob('*.py'))
  if 'def get_config' in path.read_text()
}
TABLES = {
  name: file for name, file in FILES.items() if hasattr(file, 'PUBLISHED')
}

# The sets of the files that are no tables.
OTHER_DATA = {
  'digits': settings.Data('digits', 1437, 10, 8),
  'images': settings.Data('images', 1000, 5, 64),
  'cifar10': settings.DATA['cifar10'],
  'lspet_mpii.zip': settings.Data('lspet_mpii', 2400, 16, 64),
  'train/data/coco_ccby/seg': settings.Data('coco_ccby', 32, 21, 81),
  'train/data/coco_ccby/pose': settings.Data('coco_ccby', 22, 16, 64),
  'voc2012_animals.zip': settings.Data('voc2012_animals', 800, 7, 97),
}


# What a network is told of the data, by the task.
OUTPUTS = {
  'classification': {'num_classes': 10},
  'segmentation': {'num_classes': 7},
  'pose': {'joints': 16, 'split': 2},
}


@functools.cache
def configs_of(name):
  """Every row's config by its name."""
  file = FILES[name]
  return {variant: file.get_config(variant) for variant in file.VARIANTS}


def data_of(name, variant, config):
  """The data set of a row, without its images."""
  row = FILES[name].VARIANTS[variant]
  if isinstance(row, published.Row):
    return settings.data_of(row)._replace(pixels=settings.pixels_of(row))
  return OTHER_DATA[config.data.name]


def build(config, images):
  """Builds what a run is made of, but for arrays; returns the method."""
  total_steps = train_config.check(config, images.num_examples)
  optimizer = train_config.build_optimizer(config, total_steps)
  return train_config.build_method(
    config,
    key=0,
    num_examples=images.num_examples,
    num_classes=images.num_classes,
    total_steps=total_steps,
    steps_per_epoch=images.num_examples // config.batch_size,
    learning_rate=train_config.build_schedule(config, total_steps),
    base=optimizer,
  )


# Fewer layers of networks that are pinned elsewhere.
SHALLOW = {
  'pyramidnet': lambda options: {'depth': 20},
  'pspnet': lambda options: {'blocks': (1,) * len(options['blocks'])},
  'deeplabv3plus': lambda options: {'blocks': (1,) * len(options['blocks'])},
  'simcc_hrnet': lambda options: {'modules': (1, 1, 1), 'blocks': 1},
}


@functools.cache
def size_of(options, pixels, task='classification'):
  """Parameters of a network; its outputs for two images are traced too."""
  options = json.loads(options)
  create = models._MODELS[options.pop('name')]
  shape = (pixels, pixels, 3)
  section = options.pop('quantize', None)

  def built(rngs):
    options.update(OUTPUTS[task])
    model = create(image_shape=shape, rngs=rngs, **options)
    if section is None:
      return model
    return quantize.wrap(model, shape, quantize.read(section))

  model = abstract.module(built)
  images = jax.ShapeDtypeStruct((2, *shape), np.float32)
  outputs = nnx.eval_shape(lambda model, images: model(images), model, images)
  for output in jax.tree.leaves(outputs):
    assert output.shape[0] == 2
    assert 10 in output.shape or task != 'classification'
  return abstract.size(model)


def network_of(config):
  """A config's network as a key, without the weights that it starts from."""
  options = config.model.to_dict()
  options.pop('pretrained', None)
  # The whole ones take long to trace.
  if options['name'] in SHALLOW:
    options.update(SHALLOW[options['name']](options))
  return json.dumps(options, sort_keys=True)
