"""Each config of a printed row against the published settings, field by field.

The data is read here as it lies in the files, without the code of `configs`.
"""

import collections
import functools
import importlib
import json
import pathlib

import pytest

from configs import index

ROOT = pathlib.Path(__file__).parent.parent
PAPERS = {
  name: json.loads((ROOT / 'configs/published' / f'{name}.json').read_text())
  for name in ('arsam', 'ausam', 'fsam', 'rsam')
}
# Which settings a table has beside those that are printed with its rows.
EXPERIMENTS = {
  'arsam': {
    **dict.fromkeys('123', ('cifar',)),
    '5': ('label_noise', 'cifar'),
    '4': ('pose',),
    '6': ('tiny_imagenet',),
    '7': ('segmentation',),
    '8': ('quantization',),
  },
  'ausam': {
    **dict.fromkeys('127', ('cifar',)),
    **dict.fromkeys('38', ('tiny_imagenet',)),
    '4': ('data_pruning', 'cifar'),
    **dict.fromkeys('59', ('pose',)),
    **dict.fromkeys(('6', '10'), ('quantization',)),
  },
  'fsam': {
    **dict.fromkeys('123', ('cifar',)),
    '4': ('imagenet',),
    '5': ('transfer',),
    '6': ('label_noise',),
  },
  'rsam': {
    **dict.fromkeys('12', ('cifar',)),
    **dict.fromkeys('34', ('vit',)),
  },
}
# The methods that a number of an experiment is meant for, where it is one of a
# method and is not given by method.
_ARSAM = {'arsam', 'arsam_a'}
MEANT_FOR = {
  'rho': {'sam', 'ausam', 'fsam'},
  'lambda': {'fsam'},
  'sigma': {'fsam', 'fasam'},
  'keep': {'ausam'},
  's_min': {'ausam'},
  's_max': {'ausam'},
  **dict.fromkeys(('alpha', 'M', 'beta', 'horizon'), _ARSAM),
}
# The constant of ARSAM that the program names otherwise.
CONSTANTS = {'reuse_iterations_after_a_sample': 'horizon'}
# Said of an experiment, and no number of a run.
NO_NUMBER = {
  'where',
  'models',
  'datasets',
  'seeds',
  'hardware',
  'framework',
  'remark',
  'start',
  'images',
  'samples',
  'classes',
  'annotations',
  'noise',
  'noise_percent',
  'gamma',
  'E_start',
  's_0',
  'I_start',
  'reuse_where',
  'indicator_layers',
  'p_limits',
  'm_initial',
  'order',
  'bias_correction',
  'score',
  's_max_ramp',
}


def side(config):
  """Of the images that the network sees, in pixels."""
  sizes = {'cifar10': 32, 'cifar100': 32, 'tiny-imagenet-200': 64}
  return config.data.size or sizes[config.data.name]


def base_optimizer(config):
  options = config.optimizer
  momentum = options.name == 'sgd' and options.momentum > 0
  return {options.name, 'sgd_momentum' if momentum else options.name}


# What a config has in place of a published field.
FIELDS = {
  'rho': lambda config: config.method.get('rho'),
  'lambda': lambda config: config.method.get('decay'),
  'sigma': lambda config: config.method.get('sigma'),
  'alpha': lambda config: config.method.get('alpha'),
  'M': lambda config: config.method.get('segment'),
  'beta': lambda config: config.method.get('beta'),
  'keep': lambda config: config.method.get('keep'),
  's_min': lambda config: config.method.get('s_min'),
  's_max': lambda config: config.method.get('s_max'),
  'k': lambda config: config.method.get('k'),
  'loss': lambda config: config.method.get('loss'),
  'horizon': lambda config: config.method.get('horizon'),
  'epochs': lambda config: config.epochs,
  'batch_size': lambda config: config.batch_size,
  'learning_rate': lambda config: config.optimizer.learning_rate,
  'peak_learning_rate': lambda config: config.optimizer.learning_rate,
  'weight_decay': lambda config: config.optimizer.weight_decay,
  'momentum': lambda config: config.optimizer.momentum,
  'schedule': lambda config: config.optimizer.schedule,
  'base_optimizer': base_optimizer,
  'resolution': side,
  'noise_percent': lambda config: 100 * config.data.label_noise,
  'noise': lambda config: {('all', 'exact'): 'symmetric'}[
    config.data.noise_over, config.data.noise_count
  ],
  'mixup': lambda config: config.augment.mixup > 0,
  'randaugment': lambda config: config.augment.randaugment_layers > 0,
  'first_convolution': lambda config: {
    'cifar': '3x3',
    'imagenet': '7x7',
  }[config.model.stem],
  'augmentation': lambda config: config.augment.cutout > 0,
  'weight_bits': lambda config: config.model.quantize.weights,
  'activation_bits': lambda config: config.model.quantize.activations,
  'quantizer': lambda config: {True: 'lsq'}['quantize' in config.model],
  'precision': lambda config: {False: 'full'}['quantize' in config.model],
}


def entries():
  lines = index.as_json(index.entries()).splitlines()
  return [json.loads(line) for line in lines]


@functools.cache
def read(entry):
  """The row of an index's line, and its config."""
  paper, table, position, name = entry
  file, variant = name.split(':')
  module = importlib.import_module(file.removesuffix('.py').replace('/', '.'))
  row = PAPERS[paper]['tables'][table]['rows'][position]
  return row, module.get_config(variant)


TRAINED = [
  (line['paper'], line['table'], line['row'], line['config'])
  for line in entries()
  if line['config'] is not None
]


def pick(value, row):
  """A published value for a row: some are by network, set or method."""
  if not isinstance(value, dict):
    return value
  decays = 'sgd' if row['method'] == 'sgd' else 'sam_and_variants'
  keys = [row['method'], row['model'], *row['dataset'].split('+'), decays]
  for key in keys:
    if key in value:
      return pick(value[key], row)
  return None


def expected(paper, table, row):
  """The published fields of a row; what is printed with it comes first."""
  blocks = [
    PAPERS[paper]['settings'][name]
    for name in (*EXPERIMENTS[paper][table], 'method_constants')
  ]
  found = {**row['setting'], **row.get('inferred', {})}
  if 'precision' in found:
    return found  # of the float network nothing else is known
  for block in blocks:
    for key, published in block.items():
      key = CONSTANTS.get(key, key)
      if key in NO_NUMBER or found.get(key) is not None:
        continue
      named = isinstance(published, dict) and row['method'] in published
      meant_for = MEANT_FOR.get(key, {row['method']})
      if row['method'] not in meant_for and not named:
        continue
      if key == 'base_optimizer' and row['method'] in OPTIMIZERS:
        continue
      found[key] = pick(published, row)
  return {key: value for key, value in found.items() if value is not None}


OPTIMIZERS = {
  'sgd': ('sgd', None),
  'sgd_momentum': ('sgd', 0.9),
  'rmsprop': ('rmsprop', None),
  'adam': ('adam', None),
  'adamw': ('adamw', None),
}


def agrees(key, value, found, row):
  if key == 'horizon' and row['method'] == 'arsam_a':
    return found == 0  # it does not reuse
  if key == 'augmentation':
    return found == ('cutout' in value or 'as in' in value)
  if key == 'base_optimizer':
    return value in found
  if key == 's_max' and isinstance(value, str):
    return True
  if isinstance(value, list):
    return found in value
  if isinstance(value, str | bool):
    return found == value
  return found == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize('paper', PAPERS)
def test_every_config_has_the_published_settings(paper):
  wrong = []
  for entry in (entry for entry in TRAINED if entry[0] == paper):
    row, config = read(entry)
    for key, value in expected(paper, entry[1], row).items():
      found = FIELDS[key](config)
      if not agrees(key, value, found, row):
        wrong.append(f'{entry[-1]}: {key} is {found}, published {value}')
  assert not wrong, '\n'.join(wrong)


def test_how_much_was_compared():
  compared = collections.Counter()
  for entry in TRAINED:
    compared.update(list(expected(entry[0], entry[1], read(entry)[0])))
  # So that no field drops out unseen.
  assert compared == {
    'rho': 125,
    'lambda': 13,
    'sigma': 22,
    'alpha': 25,
    'M': 30,
    'beta': 30,
    'horizon': 30,
    'keep': 45,
    's_min': 44,
    's_max': 44,
    'k': 20,
    'loss': 2,
    'epochs': 343,
    'batch_size': 304,
    'learning_rate': 183,
    'peak_learning_rate': 20,
    'weight_decay': 183,
    'momentum': 64,
    'schedule': 244,
    'base_optimizer': 113,
    'resolution': 81,
    'noise_percent': 36,
    'noise': 36,
    'mixup': 12,
    'randaugment': 12,
    'first_convolution': 19,
    'augmentation': 322,
    'precision': 4,
    'quantizer': 6,
    'weight_bits': 18,
    'activation_bits': 18,
  }


@pytest.mark.parametrize('paper', PAPERS)
def test_a_config_trains_the_network_and_the_set_of_its_row(paper):
  sets = {
    'tiny_imagenet': 'tiny-imagenet-200',
    'imagenet': 'imagenet2012',
    'stanford_cars': 'cars196',
    'flowers102': 'oxford_flowers102',
    'voc2012': 'VOCdevkit/VOC2012',
  }
  networks = {
    'resnet18': ('resnet', (2, 2, 2, 2)),
    'resnet50': ('resnet', (3, 4, 6, 3)),
    'wrn28_10': ('wrn', None),
    'pyramidnet110': ('pyramidnet', None),
    'vgg16_bn': ('vgg', None),
    'mobilenet_v1': ('mobilenet', None),
    'vit_b16': ('vit', None),
    'vit_s16': ('vit', None),
    'deit_s': ('vit', None),
    'pspnet': ('pspnet', (3, 4, 23, 3)),
    'deeplabv3plus': ('deeplabv3plus', (3, 4, 6, 3)),
    'simcc_hrnet': ('simcc_hrnet', None),
  }
  for entry in (entry for entry in TRAINED if entry[0] == paper):
    row, config = read(entry)
    # Networks that are trained on ImageNet are tested on other sets too.
    name = row['dataset'].split('+')[0]
    name = 'imagenet' if name.startswith('imagenet') else name
    assert config.data.name == sets.get(name, name), entry
    network = config.model.name, config.model.get('blocks')
    assert network == networks[row['model']], entry


@pytest.mark.parametrize('paper', PAPERS)
def test_an_optimizer_of_its_own_is_the_base_optimizer(paper):
  seen = set()
  for entry in (entry for entry in TRAINED if entry[0] == paper):
    row, config = read(entry)
    if row['method'] in OPTIMIZERS:
      seen.add(row['method'])
      name, momentum = OPTIMIZERS[row['method']]
      assert config.method.name == 'identity', entry
      assert config.optimizer.name == name, entry
      if name == 'sgd' and paper == 'rsam':
        # The one paper that tells SGD without momentum from SGD with it.
        assert config.optimizer.momentum == (momentum or 0.0), entry
      elif name == 'sgd':
        assert config.optimizer.momentum == 0.9, entry
    else:
      # A float network beside quantised ones has no method.
      float_one = row['method'] is None
      assert (config.method.name == 'identity') == float_one, entry
  assert seen


# The index


def test_the_index_has_every_row_once():
  assert [
    (line['paper'], line['table'], line['row']) for line in entries()
  ] == [
    (paper, table, position)
    for paper, file in PAPERS.items()
    for table, content in file['tables'].items()
    for position in range(len(content['rows']))
  ]


def test_only_quoted_rows_have_no_config():
  for line in entries():
    assert set(line) == {'paper', 'table', 'row', 'config', 'why'}
    assert (line['config'] is None) == bool(line['why'])
    row = PAPERS[line['paper']]['tables'][line['table']]['rows'][line['row']]
    assert (line['config'] is None) == bool(row['quoted_from'])
    if row['quoted_from']:
      assert line['why'].endswith(row['quoted_from'])


def test_every_variant_of_a_table_is_in_the_index():
  files = collections.defaultdict(set)
  for *_, name in TRAINED:
    file, variant = name.split(':')
    files[file].add(variant)
  for path in sorted((ROOT / 'configs').glob('*_table*.py')):
    module = importlib.import_module(f'configs.{path.stem}')
    assert files.pop(f'configs/{path.name}') == set(module.VARIANTS)
  assert not files
