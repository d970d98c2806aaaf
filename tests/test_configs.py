"""The config files: every row builds, and has the published numbers."""

import functools
import json
import pathlib

import ml_collections
import pytest
from PIL import Image

from configs import published
from tests import image_folders
from tests.config_files import (
  FILES,
  ROOT,
  TABLES,
  build,
  configs_of,
  data_of,
  network_of,
  size_of,
)
from train import checks, tasks, variants
from train.data.open import open_set
from train.engine import step
from train.parallel import mesh

# Optax's schedules divide an integer by a number.
pytestmark = pytest.mark.usefixtures('standard_promotion')


@pytest.fixture(scope='module')
def opened(tmp_path_factory, scenes, people):
  """Opens the data set of a config: tiny images of the kind that it takes."""
  place = tmp_path_factory.mktemp('data')
  for path in pathlib.Path(people, 'images').iterdir():  # in memory: squares
    Image.open(path).resize((16, 16)).save(path)
  found = {
    'classification': image_folders.write_folder(
      place, lambda number: (32, 32), 'png', each=2
    ),
    'segmentation': scenes,
    'pose': people,
  }

  @functools.cache
  def read(options):
    return open_set(ml_collections.ConfigDict(json.loads(options)))

  def open_like(config):
    options = config.data.copy_and_resolve_references()
    options.update(name=found[config.task], first=None, validation=None)
    return read(options.to_json())

  return open_like


@pytest.mark.parametrize('name', FILES)
def test_every_row_passes_all_checks_before_training(name, opened):
  for variant, config in configs_of(name).items():
    variants.check_keys(config, f'{name}:{variant}')
    images = data_of(name, variant, config)
    method = build(config, images)
    size_of(network_of(config), images.pixels, config.task)
    dataset = opened(config)
    step.check_in_memory(config, dataset)
    step.check_pair(config, tasks.create(config, dataset), method)
    mesh.choose(config)


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
      {
        'batch_size': 128,
        'label_smoothing': 0.0,
        'augment.cutout': 16,
        'model.kernel_init': 'torch',
      },
    ),
    (
      'fsam_table3',
      'wrn28_10-cifar100-fasam',
      {
        'method.rho': 4.0,
        'method.decay': 0.9,
        'method.adapt_all': True,
        'model.kernel_init': 'he_fan_in',
        'model.zero_head': True,
      },
    ),
    (
      'fsam_table4',
      'resnet50-imagenet-asam',
      {
        'method.eta': 0.0,
        'model.kernel_init': 'he_fan_out',
        'data.crop_area': None,
      },
    ),
    (
      'fsam_table2',
      'vgg16_bn-cifar100-sam',
      {'model.kernel_init': 'he_fan_out'},
    ),
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
      {
        'method.rho': 0.05,
        'model.stem_stride': 2,
        'model.last_stride': 2,
        'model.activation': 'relu6',
        'data.size': 224,
      },
    ),
    (
      'ausam_table3',
      'resnet50-tiny_imagenet-sam',
      {'model.stem': 'cifar', 'model.kernel_init': 'torch'},
    ),
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
      'rsam_table1',
      'wrn28_10-cifar10-lpfsgd',
      {
        'method.gamma.first': 5e-4,
        'method.gamma.last': pytest.approx(0.0175, rel=1e-12),
        'examples_per_perturbation': 16,
      },
    ),
    (
      'rsam_table2',
      'wrn28_10-cifar100-lpfsgd',
      {'method.gamma.last': pytest.approx(0.0125, rel=1e-12)},
    ),
    (
      'rsam_table2',
      'resnet18-cifar100-lpfsgd',
      {'method.gamma': 0.002, 'examples_per_perturbation': None},
    ),
    (
      'rsam_table3',
      'vit_b16-imagenet-mixup-rsam',
      {
        'mesh': None,
        'examples_per_perturbation': 16,
        'method.rho.first': 2.5,
        'method.rho.last': 1.5,
        'augment.mixup': 0.5,
        'steps': 93_834,
        'data.crop_area': 0.05,
        'data.test_crop': 'squash',
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
        'model.kernel_init': 'torch',
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
        'model.kernel_init': 'he_fan_in',
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


@pytest.mark.parametrize('name', FILES)
def test_a_table_has_the_arithmetic_and_the_devices_of_its_paper(name):
  for variant, config in configs_of(name).items():
    if name not in TABLES:  # ours: what the machine has
      assert (config.dtype, config.mesh) == ('auto', None), variant
      continue
    assert config.dtype == 'float32', variant
    if config.mesh is None:  # R-SAM's ViTs, on any number of devices
      assert config.examples_per_perturbation == 16 or variant.endswith('adamw')
      assert config.model.name == 'vit', variant
    else:
      # Of the eight devices that the tests have.
      assert mesh.choose(config).count == 1, variant


@pytest.mark.parametrize('name', ['ausam_table4', 'rsam_table3'])
@pytest.mark.parametrize(
  ('given', 'count'),
  [('None', 8), ('4', 4), ('4,2', 8), ('(1,)', 1)],
)
def test_a_row_takes_other_devices_on_purpose(name, given, count):
  flags = [f'--config.mesh={given}', '--config.parallel=jit']
  config = variants.overridden(FILES[name].get_config(), flags)
  chosen = mesh.choose(config)
  assert (chosen.count, chosen.route) == (count, 'jit')
