"""The config files: every row builds, and one of each kind trains."""

import functools
import importlib
import inspect
import json
import pathlib
import sys

import jax
import numpy as np
import pytest
from flax import nnx

from configs import __main__ as command
from configs import published, reproduction, settings
from tests import abstract, dense_sets
from train import checks, models
from train import config as train_config
from train.data import memory
from train.engine import loop
from train.models import quantize
from train.optim import varying

ROOT = pathlib.Path(__file__).parent.parent
FILES = {
  path.stem: importlib.import_module(f'configs.{path.stem}')
  for path in sorted((ROOT / 'configs').glob('*.py'))
  if 'def get_config' in path.read_text()
}
TABLES = {name: file for name, file in FILES.items() if hasattr(file, 'TABLE')}

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


# Optax's schedules divide an integer by a number.
@pytest.fixture(autouse=True)
def _standard_promotion(standard_promotion):
  yield


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
  """Builds what a run is made of, but for arrays."""
  total_steps = train_config.check(config, images.num_examples)
  optimizer = train_config.build_optimizer(config, total_steps)
  train_config.build_method(
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


@pytest.mark.parametrize('name', FILES)
def test_every_row_builds(name):
  for variant, config in configs_of(name).items():
    images = data_of(name, variant, config)
    build(config, images)
    size_of(network_of(config), images.pixels, config.task)


@pytest.mark.parametrize('name', FILES)
def test_no_two_rows_are_the_same(name):
  texts = {}
  for variant, config in configs_of(name).items():
    text = json.dumps(config.to_dict(), sort_keys=True, default=str)
    assert text not in texts, f'{variant} is {texts.get(text)}'
    texts[text] = variant


@pytest.mark.parametrize('name', TABLES)
def test_a_table_says_what_it_is(name):
  file = TABLES[name]
  title = file.TABLE.partition(':')[0]
  # 'F-SAM, table 1' is fsam_table1.
  short = title.replace('-', '').replace(', ', '_').replace(' ', '')
  assert short.lower() == name
  assert file.__doc__.startswith(f'{title}:')
  # Without a name it is the first row.
  assert file.get_config() == configs_of(name)[next(iter(file.VARIANTS))]


@pytest.mark.parametrize('name', [name for name in TABLES if 'table' in name])
def test_a_table_has_the_published_rows_in_their_order(name):
  paper, number = name.split('_table')
  path = ROOT / 'configs' / 'published' / f'{paper}.json'
  rows = json.loads(path.read_text())['tables'][number]['rows']
  table = TABLES[name].PUBLISHED
  keys = ('model', 'dataset', 'method', 'accuracy', 'accuracy_std', 'note')
  # The mean of the joints is the score of pose.
  rows = [{**row, 'accuracy': row.get('mean', row['accuracy'])} for row in rows]
  assert [[getattr(row, key) for key in keys] for row in table.values()] == [
    [row[key] for key in keys] for row in rows
  ]
  # What can be trained, in the same order; the rest is said in the index.
  trained = [key for key in table if key in TABLES[name].VARIANTS]
  assert trained == list(TABLES[name].VARIANTS)
  for key, row in table.items():
    assert (row.quoted_from is None) or key.endswith('-quoted')


@pytest.mark.parametrize('name', [name for name in TABLES if 'figure' in name])
def test_a_figure_has_the_values_of_the_text(name):
  file = TABLES[name]
  assert set(file.PUBLISHED) <= set(file.VARIANTS)
  values = published.figure(*name.split('_figure'))
  for row in file.PUBLISHED.values():
    assert row.accuracy in values.values()


@pytest.mark.parametrize('name', FILES)
def test_a_row_that_is_not_there(name):
  with pytest.raises(checks.ConfigError, match='There is no such choice'):
    FILES[name].get_config('resnet18-cifar10-smm')


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


def number(config, path):
  for key in path.split('.'):
    config = config[key]
  return config


@pytest.mark.parametrize(
  ('name', 'variant', 'numbers'),
  [
    (
      'fsam_table2',
      'resnet18-cifar100-fsam',
      {'batch_size': 128, 'label_smoothing': 0.0, 'augment.cutout': 16},
    ),
    (
      'fsam_table3',
      'wrn28_10-cifar100-fasam',
      {'method.rho': 4.0, 'method.decay': 0.9, 'method.adapt_all': True},
    ),
    ('fsam_table4', 'resnet50-imagenet-asam', {'method.eta': 0.0}),
    (
      'fsam_table5',
      'deit_s-cifar10-fsam',
      {'data.size': 224, 'data.crop': 'inception', 'method.decay': 0.95},
    ),
    (
      'arsam_table3',
      'pyramidnet110-cifar100-arsam',
      {
        'method.rho': 0.2,
        'method.warmup_steps': 1170,
        'optimizer.learning_rate': 0.1,
        'optimizer.weight_decay': 5e-4,
        'label_smoothing': 0.1,
        'smoothing_over': 'wrong',
      },
    ),
    ('arsam_table2', 'resnet18-cifar10-arsam_a', {'method.horizon': 0}),
    (
      'arsam_table6',
      'mobilenet_v1-tiny_imagenet-arsam',
      {'method.rho': 0.05, 'model.stem_stride': 2, 'data.size': 224},
    ),
    ('ausam_table3', 'resnet50-tiny_imagenet-sam', {'model.stem': 'tiny'}),
    (
      'ausam_table4',
      'resnet18-cifar100-clean-sam_infobatch',
      {'method.share': 0.5, 'method.delta': 0.875},
    ),
    (
      'ausam_figure1',
      'wrn28_10-cifar100-ausam_1',
      {'method.history': 'last', 'method.keep': 0.5},
    ),
    ('fsam_figure4', 'resnet18-cifar100-batch512-sam', {'batch_size': 512}),
    ('fsam_figure3', 'resnet18-cifar100-rho0.8-fsam', {'method.rho': 0.8}),
    (
      'fsam_figure2',
      'resnet18-cifar100-k3-sam_db',
      {'reference.batch_size': 384, 'reference.contains_batch': True},
    ),
    (
      'fsam_figure2',
      'resnet18-cifar100-sam_db',
      {'reference.batch_size': 128, 'reference.contains_batch': False},
    ),
    (
      'fsam_figure2',
      'deit_s-oxford_iiit_pet-sam_full',
      {'reference.batch_size': 3680, 'data.stream': False},
    ),
    (
      'rsam_table3',
      'vit_b16-imagenet-mixup-rsam',
      {
        'method.rho.first': 2.5,
        'method.rho.last': 1.5,
        'augment.mixup': 0.5,
        'steps': 93_834,
      },
    ),
    (
      'rsam_figure3',
      'vit_b16-imagenet-rho2.0-rsam',
      {'method.rho.first': 2.0, 'method.rho.last': 1.2},
    ),
    ('rsam_figure3', 'vit_b16-imagenet-lambda8-rsam', {'method.lam': 8.0}),
    # Of the codes that the papers on segmentation and pose have numbers from.
    (
      'arsam_table7',
      'pspnet-voc2012-arsam',
      {
        'segmentation.crop': 473,
        'segmentation.rotation': 10.0,
        'segmentation.auxiliary_weight': 0.4,
        'segmentation.window': 473,
        'model.output_stride': 8,
        'model.stem': 'deep',
        'batch_size': 16,
        'epochs': 50,
        'steps': None,
        'optimizer.learning_rate': 0.01,
        'optimizer.weight_decay': 1e-4,
        'optimizer.momentum': 0.9,
        'optimizer.schedule': 'poly',
        'optimizer.power': 0.9,
        'optimizer.multipliers': (('head', 10.0),),
        'method.segment': 50,
        'method.alpha': 0.4,
        'method.warmup_steps': 3 * 661,
      },
    ),
    (
      'arsam_table7',
      'deeplabv3plus-voc2012-sam',
      {
        'segmentation.crop': 513,
        'segmentation.rotation': 0.0,
        'model.output_stride': 16,
        'model.rates': (6, 12, 18),
        'steps': 30_000,
        'optimizer.multipliers': (('backbone', 0.1),),
        'method.rho': 0.05,
      },
    ),
    (
      'arsam_table4',
      'simcc_hrnet-mpii-arsam',
      {
        'pose.split': 2,
        'pose.sigma': 6.0,
        'model.width': 32,
        'epochs': 200,
        'optimizer.name': 'adam',
        'optimizer.learning_rate': 1e-3,
        'optimizer.schedule': 'drops',
        'optimizer.drop_at': (170 / 210, 200 / 210),
        'optimizer.drop': 0.1,
        'method.warmup_steps': 3 * 347,
      },
    ),
    (
      'ausam_table5',
      'simcc_hrnet-mpii-ausam',
      {'method.keep': 0.5, 'method.s_min': 0.1, 'method.ramp_epochs': 30},
    ),
  ],
)
def test_numbers_beside_those_of_the_published_rows(name, variant, numbers):
  config = configs_of(name)[variant]
  assert {path: number(config, path) for path in numbers} == numbers


# What stands in for a network's sizes, by the program's name of the model.
SMALL = {
  'resnet': {'widths': (8,), 'blocks': (1,)},
  'vgg': {'widths': (8,), 'blocks': (1,)},
  'mobilenet': {'widths': (8,), 'blocks': (1,)},
  'wrn': {'depth': 10, 'width': 1},
  'pyramidnet': {'depth': 8, 'alpha': 6},
  'vit': {'patch': 4, 'width': 8, 'depth': 1, 'heads': 2},
  'pspnet': {
    'widths': (4, 6),
    'blocks': (1, 1),
    'bins': (1, 2),
    'head_width': 6,
    'auxiliary_width': 4,
  },
  'deeplabv3plus': {
    'widths': (4, 6),
    'blocks': (1, 1),
    'output_stride': 8,
    'rates': (1, 2),
    'head_width': 6,
  },
  'simcc_hrnet': {
    'width': 4,
    'modules': (1,),
    'blocks': 1,
    'stem_width': 4,
    'stem_blocks': 1,
  },
}


def traits(name, config):
  """What a step is made of: the network's family, and each of the recipe.

  A table with results beyond classification in float has a trait of its own.
  """
  model, optimizer, augment = config.model, config.optimizer, config.augment
  varies = any(isinstance(x, dict) for x in config.method.to_dict().values())
  beyond = config.task != 'classification' or 'quantize' in model
  scores = [row.accuracy for row in TABLES[name].PUBLISHED.values()]
  beyond = beyond and any(score is not None for score in scores)
  return set(
    {
      'network': (model.name, model.get('block')),
      'quantised': 'quantize' in model and model.name,
      'file': beyond and name,
      'optimizer': optimizer.name,
      'schedule': optimizer.schedule,
      'loss': config.loss,
      'smoothing': bool(config.label_smoothing) and config.smoothing_over,
      'noise': bool(config.data.label_noise),
      'varies': varies,
      **{key: bool(augment[key]) for key in ('pad', 'cutout', 'mixup')},
      'randaugment': bool(augment.randaugment_layers),
    }.items()
  )


def cover(rows):
  """Rows among whose traits are those of all rows: the next has most new."""
  left = set().union(*rows.values())
  while left:
    best = max(rows, key=lambda row: len(rows[row] & left))
    yield best
    left -= rows[best]


SHRUNKEN = list(
  cover(
    {
      (name, variant): traits(name, config)
      for name in TABLES
      if 'table' in name
      for variant, config in configs_of(name).items()
    }
  )
)


def shrink(config, path):
  """The same run with a tiny network on the images of a file, for two steps."""
  config = config.copy_and_resolve_references()
  if 'segmentation' in config:
    config.segmentation.crop = 16
    if 'window' in config.segmentation:
      config.segmentation.window = 12
  options = config.model.to_dict()
  options.pop('pretrained', None)
  if 'representation' in options:
    options['representation'] = 8
  config.model = {**options, **SMALL[options['name']]}
  config.data.name = str(path)
  for key, value in {'stream': False, 'size': None, 'crop': 'none'}.items():
    if key in config.data:
      config.data[key] = value
  config.update({'batch_size': 8, 'steps': 2})
  config.optimizer.warmup_steps = min(config.optimizer.warmup_steps, 1)
  config.checkpoint.every = 0
  return config


@pytest.fixture(scope='module')
def images(tmp_path_factory):
  path = tmp_path_factory.mktemp('data') / 'images.npz'
  rng = np.random.default_rng(0)
  arrays = {}
  for split in ('train', 'test'):
    arrays[f'{split}_x'] = rng.integers(0, 256, (32, 8, 8, 3)).astype(np.uint8)
    arrays[f'{split}_y'] = np.arange(32) % 4
  np.savez(path, **arrays)
  return path


@pytest.fixture
def quick_compilation():
  before = jax.config.read('jax_disable_most_optimizations')
  jax.config.update('jax_disable_most_optimizations', True)
  yield
  jax.config.update('jax_disable_most_optimizations', before)


@pytest.mark.parametrize(('name', 'variant'), SHRUNKEN)
def test_a_shrunken_row_trains(name, variant, images, quick_compilation):
  config = shrink(configs_of(name)[variant], images)
  dataset = {
    'classification': lambda: memory.load(config.data.name),
    'segmentation': lambda: dense_sets.scenes(16),
    'pose': lambda: dense_sets.people(16),
  }[config.task]()
  program = loop.Program(config, dataset)
  state, order = program.start_epoch(program.init(0), 0, 0)
  before = jax.tree.map(np.array, state.params)
  for ids in order[:2]:
    state, record = program.train_step(state, ids)
    assert np.isfinite(record['loss'])
  assert int(state.step) == 2
  moved = jax.tree.map(lambda a, b: np.any(a != b), before, state.params)
  assert any(jax.tree.leaves(moved))


# The command


def output_of(monkeypatch, capsys, *flags):
  monkeypatch.setattr(sys, 'argv', ['configs', *flags])
  assert command.main() == 0
  return capsys.readouterr().out


def test_the_index_is_a_table_or_json(monkeypatch, capsys):
  table = output_of(monkeypatch, capsys).splitlines()
  lines = output_of(monkeypatch, capsys, '--json').splitlines()
  assert len(table) == 1 + len(lines)
  for text, line in zip(table[1:], map(json.loads, lines), strict=True):
    paper, number, row, rest = text.split(maxsplit=3)
    assert (paper, number, row) == (
      line['paper'],
      line['table'],
      str(line['row']),
    )
    assert rest == (line['config'] or f'({line["why"]})')


def test_the_page_on_reproduction_is_up_to_date(monkeypatch, capsys):
  page = (ROOT / 'docs' / 'reproduction.md').read_text()
  assert page == output_of(monkeypatch, capsys, '--markdown')


def test_gpu_hours_are_those_of_the_published_speed():
  row = published.rows('ausam', '2')[1]
  assert (row.method, row.images_per_second) == ('sam', 1855)
  assert reproduction.hours(row, 200) == (200 * 50_000 / 1855 / 3600, False)
  # A row without a speed has that of SAM on the same network and set.
  row = published.rows('fsam', '1')[9]
  assert (row.model, row.method) == ('resnet18', 'fsam')
  assert reproduction.hours(row, 200) == (200 * 50_000 / 1855 / 3600, True)
  row = published.rows('fsam', '1')[0]
  assert (row.model, reproduction.hours(row, 200)) == ('vgg16_bn', (None, True))


@pytest.mark.parametrize(
  ('paper', 'table', 'claim'),
  [
    ('arsam', '2', '-0.16 to -0.12 points, 136 to 140 % speed'),
    ('fsam', '4', '+0.21 points'),
    ('fsam', '6', '+0.15 to +27.66 points'),
    ('ausam', '4', '-'),
  ],
)
def test_the_claim_of_a_table(paper, table, claim):
  assert reproduction.claim(published.rows(paper, table)) == claim


# Arguments that vary


def rate(step):
  """Rises to 2 in two steps, and falls to 1 in eight more."""
  return np.where(step < 2, step, 2 - (step - 2) / 8)


def test_an_argument_follows_the_learning_rate():
  section = {'follows': 'learning_rate', 'first': 0.5, 'last': 0.1}
  rho = varying.build('rho', section, 2.0, rate, 10)
  np.testing.assert_allclose(
    [rho(2), rho(6), rho(10)], [0.5, 0.3, 0.1], rtol=1e-6
  )


def test_an_argument_follows_the_steps():
  section = {'follows': 'steps', 'first': 0.5, 'last': 2.5}
  gamma = varying.build('gamma', section, 2.0, rate, 10)
  np.testing.assert_allclose(
    [gamma(0), gamma(5), gamma(10)], [0.5, 1.5, 2.5], rtol=1e-6
  )


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'follows': 'learning_rat'}, "Did you mean 'learning_rate'"),
    ({'last': None}, 'first, follows, last'),
    ({'from': 1.0}, 'first, follows, last'),
    ({'first': 0.05}, 'method.rho.first=0.05'),
    ({'last': -1.0}, 'method.rho.last=-1.0'),
    ({'follows': 'steps', 'first': 0.0}, 'Use a number above 0'),
  ],
)
def test_an_argument_that_cannot_vary_so(change, message):
  section = {'follows': 'learning_rate', 'first': 0.5, 'last': 0.1} | change
  section = {key: x for key, x in section.items() if x is not None}
  config = FILES['fsam_table4'].get_config('resnet50-imagenet-sam')
  config.method = train_config.method('sam', rho=section)
  with pytest.raises(checks.ConfigError, match=message):
    build(config, settings.DATA['imagenet'])
