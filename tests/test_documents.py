"""Every block of Python, every diff and every command of the documents."""

import contextlib
import importlib
import io
import pathlib
import re
import shlex
import subprocess
from unittest import mock

import jax
import numpy as np
import pytest
from PIL import Image

from train import command as commands_of_train
from train import variants

ROOT = pathlib.Path(__file__).parent.parent
# Its blocks and commands are about files that tests/test_own_images.py makes.
OF_OWN_IMAGES = ROOT / 'docs' / 'your-own-images.md'
DOCUMENTS = [
  ROOT / 'README.md',
  *sorted({*(ROOT / 'docs').rglob('*.md')} - {OF_OWN_IMAGES}),
  *sorted((ROOT / 'results').glob('*.md')),
]


def name_of(document: pathlib.Path) -> str:
  return str(document.relative_to(ROOT))


def blocks(text: str, language: str) -> list[str]:
  """The fenced blocks of a language, without the indentation of a list."""
  pattern = rf'^( *)```{language}\n(.*?)^ *```$'
  found = re.findall(pattern, text, re.MULTILINE | re.DOTALL)
  return [
    '\n'.join(line.removeprefix(indent) for line in body.splitlines())
    for indent, body in found
  ]


def commands(document: pathlib.Path) -> list[str]:
  """The commands of a document, each on one line and without comments."""
  return [
    re.sub(r'(^|\s+)#.*', '', line)
    for block in blocks(document.read_text(), 'sh')
    for line in re.sub(r'\s*\\\n\s*', ' ', block).splitlines()
    if line and not line.startswith('#')
  ]


def having(language: str) -> list[pathlib.Path]:
  return [path for path in DOCUMENTS if blocks(path.read_text(), language)]


@contextlib.contextmanager
def as_a_user():
  """Without our strict settings."""
  with (
    jax.numpy_dtype_promotion('standard'),
    jax.numpy_rank_promotion('allow'),
  ):
    yield


# Python


@pytest.mark.parametrize('document', having('python'), ids=name_of)
def test_python_blocks_run_one_after_another(document):
  namespace = {}
  with as_a_user():
    for block in blocks(document.read_text(), 'python'):
      printed = io.StringIO()
      with contextlib.redirect_stdout(printed):
        exec(compile(block, name_of(document), 'exec'), namespace)
      promised = re.findall(r'^print\(.*\)  # (.*)$', block, re.MULTILINE)
      if promised:
        # Runs of the training program say more, before.
        lines = printed.getvalue().splitlines()
        assert lines[-len(promised) :] == promised, block


def test_a_figure_beside_a_print_is_compared():
  # The rule that the test above relies on.
  assert re.findall(r'^print\(.*\)  # (.*)$', 'print(f(2))  # 4', re.M) == ['4']


@pytest.mark.parametrize('document', having('diff'), ids=name_of)
def test_a_diff_is_between_blocks_of_its_page(document):
  text = document.read_text()
  # By its words: the block after may be indented in a function.
  code = re.sub(r'\s+', ' ', ' '.join(blocks(text, 'python')))
  for diff in blocks(text, 'diff'):
    for line in diff.splitlines():
      words = ' '.join(line[1:].split())
      assert words in code, line


# Commands

# Settings that replace those of a command: the smallest run that is one.
TINY = ['--config.steps=2', '--config.model={"name": "mlp", "hidden": (8,)}']
# Likewise, for data sets that are not here.
SMALL = [
  '--config.data.name=digits',
  '--config.data.first=(256,100)',
  '--config.augment.cutout=2',
]


@pytest.fixture
def checkout(tmp_path, monkeypatch):
  """A folder in which a command finds what it finds in a checkout."""
  for name in ('configs',):
    (tmp_path / name).symlink_to(ROOT / name)
  monkeypatch.chdir(tmp_path)
  return tmp_path


def call(module: str, words: list[str]) -> tuple[int, str, str]:
  """Runs a command of ours in this process: its status, output and errors."""
  output, errors = io.StringIO(), io.StringIO()
  main = importlib.import_module(module).main
  with (
    as_a_user(),
    mock.patch('sys.argv', [module, *words]),
    contextlib.redirect_stdout(output),
    contextlib.redirect_stderr(errors),
  ):
    status = main()
  return status or 0, output.getvalue(), errors.getvalue()


def value(words: list[str], flag: str) -> str:
  """The value of a flag, '' if it is not given."""
  given = [word.partition('=')[2] for word in words if word.startswith(flag)]
  return given[-1] if given else ''


def shrunk(words: list[str]) -> list[str]:
  config = value(words, '--config=')
  elsewhere = 'cifar10' in config or '_table' in config
  return [*words, *TINY, *(SMALL if elsewhere else [])]


def train(words: list[str]) -> None:
  if '--help' in words:
    with pytest.raises(SystemExit, match='0'):
      call('train.__main__', words)
    return
  if '--coordinator=HOST:PORT' in words or 'imagenet' in words[0]:
    # Several processes are tested elsewhere, and such images are not here:
    # here, that the flags and the config are read.
    parser = importlib.import_module('train.__main__')._parser()
    args, settings = commands_of_train.parse(parser, words)
    variants.load(args.config, settings)
    return
  status, _, errors = call('train.__main__', shrunk(words))
  assert status == 0, errors
  assert (pathlib.Path(value(words, '--workdir=')) / 'result.json').exists()


def sweep(words: list[str]) -> None:
  module = variants.read(value(words, '--config='))
  first = variants.choose(module, value(words, '--methods=') or None)[0]
  words = [word for word in words if not word.startswith('--jobs=')]
  # The first and the second value of a grid.
  words = [re.sub(r'^(--grid=[^,]*,[^,]*).*', r'\1', word) for word in words]
  words = [*shrunk(words), f'--methods={first}', '--seeds=1']
  status, _, errors = call('train.sweep.__main__', words)
  assert status == 0, errors
  assert (pathlib.Path(value(words, '--workdir=')) / 'table.md').exists()


def report(words: list[str]) -> None:
  status, _, errors = call('train.report.__main__', words)
  if not pathlib.Path(words[0]).exists():
    # The page trained nothing there.
    assert status == 1 and words[0] in errors
  else:
    assert status == 0, errors


def predict(words: list[str]) -> None:
  workdir = pathlib.Path(value(words, '--workdir='))
  if not workdir.exists():
    train(['--config=configs/digits.py:sgd', f'--workdir={workdir}'])
  flags = [word for word in words if word.startswith('--')]
  side = 20 if '--resize' in flags else 8
  images = [word for word in words if word not in flags]
  for name in images:
    path = pathlib.Path(name + 'one.png' if name.endswith('/') else name)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((side, side), np.uint8)).save(path)
  status, output, errors = call('train.predict', words)
  assert status == 0, errors
  assert len(output.splitlines()) == len(images)


def prepare(words: list[str]) -> None:
  status, _, errors = call('train.prepare', [*words, '--data_dir=data'])
  # The reader replaces this word by a folder.
  assert status == 1 and 'FOLDER' in errors


def list_configs(words: list[str]) -> None:
  status, output, _ = call('configs.__main__', words)
  assert status == 0 and output


def draw(words: list[str]) -> None:
  status, _, errors = call('train.tools.contact_sheet', words)
  assert status == 0, errors


def make(words: list[str]) -> None:
  # Running it would run this test again, so only check that it exists.
  check = subprocess.run(
    ['make', '--dry-run', *words], cwd=ROOT, capture_output=True
  )
  assert check.returncode == 0


def install(words: list[str]) -> None:
  assert words[0] == 'install'
  extras = re.findall(r'\[(\w+)\]', ' '.join(words))
  setup = (ROOT / 'setup.py').read_text()
  assert all(f"'{extra}':" in setup for extra in extras)


OURS = {
  'train': train,
  'train.sweep': sweep,
  'train.report': report,
  'train.predict': predict,
  'train.prepare': prepare,
  'train.tools.contact_sheet': draw,
  'configs': list_configs,
  'venv': lambda words: None,  # Python's own
}
OTHERS = {'make': make, 'pip': install}
# Programs that are not ours, on files that are.
NOT_RUN = {'.', 'tail', 'tensorboard', 'tfds', 'cat', 'ls', 'cp', 'git', 'cd'}


def run_command(line: str) -> None:
  words = shlex.split(line)
  if words[:2] == ['python', '-m']:
    OURS[words[2]](words[3:])
  elif words[0] in OTHERS:
    OTHERS[words[0]](words[1:])
  else:
    assert words[0] in NOT_RUN, line


@pytest.mark.parametrize('document', having('sh'), ids=name_of)
def test_commands_run_one_after_another(document, checkout):
  for line in commands(document):
    run_command(line)


def test_the_documents_have_commands_and_blocks():
  assert len(having('sh')) >= 3 and len(having('python')) >= 5


def test_every_command_named_in_the_prose_has_a_test():
  # `python -m NAME` in the text, outside of blocks too.
  for document in DOCUMENTS:
    named = set(re.findall(r'python -m ([\w.]+)', document.read_text()))
    others = {n for n in named if n.startswith('benchmarks')}
    assert named - others <= set(OURS), document
