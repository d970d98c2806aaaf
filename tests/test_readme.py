"""Every command and every block of code in the documents runs."""

import json
import os
import pathlib
import re
import subprocess
import sys

import jax
import numpy as np
import optax
import pytest
from PIL import Image

import sam_optax
from configs import digits
from tests import driving, methods
from tests.methods import BATCH_SIZE, METHODS, NUM_EXAMPLES
from tests.test_processes import free_port
from train import run as one_run

ROOT = pathlib.Path(__file__).parent.parent
DOCUMENTS = [
  ROOT / 'README.md',
  *sorted((ROOT / 'docs').glob('*.md')),
  *sorted((ROOT / 'results').glob('*.md')),
]
# Settings for the small images that replace those of a command.
SMALL = [
  '--config.data.name=digits',
  '--config.data.first=(256,100)',
  '--config.augment.cutout=2',
]


def blocks(text: str, language: str) -> list[str]:
  """The fenced blocks of a language, without the indentation of a list."""
  pattern = rf'^( *)```{language}\n(.*?)^ *```$'
  found = re.findall(pattern, text, re.MULTILINE | re.DOTALL)
  return [
    '\n'.join(line.removeprefix(indent) for line in body.splitlines())
    for indent, body in found
  ]


def commands() -> list[str]:
  """Each command of the documents once, on one line and without comments."""
  found = [
    re.sub(r'\s+#.*', '', line)
    for document in DOCUMENTS
    for block in blocks(document.read_text(), 'sh')
    for line in re.sub(r'\s*\\\n\s*', ' ', block).splitlines()
  ]
  return list(dict.fromkeys(found))


@pytest.mark.parametrize('document', DOCUMENTS, ids=lambda path: path.name)
def test_python_blocks_run_one_after_another(document):
  namespace = {}
  # Users do not have our strict settings.
  with jax.numpy_dtype_promotion('standard'):
    for block in blocks(document.read_text(), 'python'):
      exec(compile(block, document.name, 'exec'), namespace)


def test_the_documents_have_commands():
  assert len(commands()) >= 6


def predict_in(folder: pathlib.Path, words: list[str]) -> None:
  """Runs a command of train.predict, after the run that it is about."""
  (workdir,) = (
    word.partition('=')[2] for word in words if word.startswith('--workdir=')
  )
  config = digits.get_config()
  config.model, config.steps = {'name': 'mlp', 'hidden': (8,)}, 2
  with jax.numpy_dtype_promotion('standard'):
    one_run.run(config, folder / workdir, bar=False)
  flags = [word for word in words[3:] if word.startswith('--')]
  side = 20 if '--resize' in flags else 8
  for word in words[3:]:
    if word not in flags:
      path = folder / word
      path = path / 'one.png' if word.endswith('/') else path
      path.parent.mkdir(parents=True, exist_ok=True)
      Image.fromarray(np.zeros((side, side), np.uint8)).save(path)
  command = subprocess.run(
    [sys.executable, *words[1:]],
    cwd=folder,
    env={**os.environ, 'PYTHONPATH': str(ROOT)},
    capture_output=True,
    text=True,
  )
  assert command.returncode == 0, command.stderr
  lines = [json.loads(line) for line in command.stdout.splitlines()]
  assert len(lines) == len(words) - 3 - len(flags)
  assert all(line['class'] in '0123456789' for line in lines)


@pytest.mark.parametrize('command', commands())
def test_command(command, tmp_path):
  words = command.split()
  if words[0] == 'make':
    # Running it would run this test again, so only check that it exists.
    check = subprocess.run(
      ['make', '--dry-run', *words[1:]], cwd=ROOT, capture_output=True
    )
    assert check.returncode == 0
  elif words[:2] == ['pip', 'install']:
    extras = re.findall(r'\[(\w+)\]', command)
    setup = (ROOT / 'setup.py').read_text()
    assert all(f"'{extra}':" in setup for extra in extras)
  elif words[:3] == ['python', '-m', 'train.prepare']:
    run = subprocess.run(
      [sys.executable, *words[1:], f'--data_dir={tmp_path}'],
      cwd=ROOT,
      capture_output=True,
      text=True,
    )
    # The reader replaces this word by a folder.
    assert run.returncode == 1
    assert 'FOLDER' in run.stderr
  elif words[:3] == ['python', '-m', 'train.predict']:
    predict_in(tmp_path, words)
  elif words[:3] == ['python', '-m', 'train.report']:
    # There are no such runs here.
    run = subprocess.run(
      [sys.executable, *words[1:]], cwd=tmp_path, capture_output=True, text=True
    )
    assert run.returncode == 1
    assert words[3] in run.stderr
  elif words[:3] == ['python', '-m', 'train.sweep']:
    method = 'resnet18-cifar10-sam' if '_table' in command else 'sgd'
    method = 'w2a4-sgd' if 'quantized' in command else method
    shrunk = [*words[1:], f'--methods={method}', '--seeds=1']
    shrunk += ['--config.steps=2', '--config.model={"name": "mlp"}']
    shrunk += [f'--workdir={tmp_path}']
    if 'cifar10' in command or '_table' in command:
      shrunk += SMALL
    run = subprocess.run(
      [sys.executable, *shrunk], cwd=ROOT, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert (tmp_path / 'table.md').exists()
  elif words == ['python', '-m', 'configs']:
    run = subprocess.run(
      [sys.executable, *words[1:]], cwd=ROOT, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
  else:
    assert words[:3] == ['python', '-m', 'train'], command
    # The reader gives the address of the first process, which is alone here.
    command = command.replace('HOST:PORT', f'localhost:{free_port()}')
    words = command.replace('--num_processes=2', '--num_processes=1').split()
    shrunk = [word for word in words[1:] if not word.startswith('--workdir')]
    shrunk += [f'--workdir={tmp_path / "run"}', '--config.steps=2']
    if 'cifar10' in command:
      shrunk += SMALL
    if '_table' in command:
      shrunk += ['--config.model.widths=(8, 8)', '--config.model.blocks=(1, 1)']
    run = subprocess.run(
      [sys.executable, *shrunk], cwd=ROOT, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert (tmp_path / 'run' / 'result.json').exists()


def method_table() -> dict[str, str]:
  """The gradients per step by method, from the table in the README."""
  text = (ROOT / 'README.md').read_text().partition('## Methods')[2]
  rows = [line for line in text.splitlines() if line.startswith('| `')]
  cells = [[cell.strip() for cell in row.split('|')[1:-1]] for row in rows]
  return {row[0].strip('`'): row[5] for row in cells if len(row) == 8}


def test_the_method_table_lists_every_method():
  assert set(method_table()) == set(sam_optax.METHODS)


def names(cost: str) -> set[str]:
  """The names in a cost: arguments, and measured quantities."""
  return set(re.findall(r'[a-z_]+', cost))


def cost_of(name: str, **numbers: float) -> float:
  """The cost in the README, where `2 keep` is a product."""
  product = re.sub(r'(\d) (\w)', r'\1 * \2', method_table()[name])
  return eval(product, {}, numbers)


def check_cost(name: str, entry: str, **changes: float) -> None:
  """Compares the cost in the README with the gradients that execute."""
  row = METHODS[name]
  numbers = {number: row.value(number) for number in row.numbers} | changes
  # The fraction of SAM steps approaches the probability over many steps.
  drawn = 'p' in names(method_table()[name])
  method = methods.build(name, **changes) if changes else methods.method(name)
  steps = driving.drive(method, 240 if drawn else 12, entry=entry, how='device')
  steps = steps[row.settles :]
  perturbed = [optax.tree.get(step.state, 'perturbed').item() for step in steps]

  def per_step(counts):
    return sum(map(sum, counts)) / BATCH_SIZE / len(steps)

  numbers['sam_fraction'] = sum(perturbed) / len(steps)
  numbers['reference'] = NUM_EXAMPLES / BATCH_SIZE
  gradients = cost_of(name, **numbers, forward=0, loss=0)
  loss = int(entry == 'value_and_grad')
  forward = cost_of(name, **numbers, forward=1, loss=loss) - gradients
  near = pytest.approx(gradients, abs=0.1 if drawn else 1e-6)
  assert per_step(step.gradients for step in steps) == near
  assert per_step(step.forward for step in steps) == pytest.approx(forward)


@pytest.mark.parametrize('name', METHODS)
@pytest.mark.parametrize('entry', ['update', 'value_and_grad'])
def test_the_costs_in_the_method_table_are_measured(name, entry):
  check_cost(name, entry)


@pytest.mark.parametrize(
  'name',
  [n for n, r in METHODS.items() if any(x.costs for x in r.numbers.values())],
)
def test_the_costs_in_the_method_table_depend_on_the_arguments(name):
  numbers = METHODS[name].numbers
  changes = {n: number.other for n, number in numbers.items() if number.costs}
  check_cost(name, 'value_and_grad', **changes)
