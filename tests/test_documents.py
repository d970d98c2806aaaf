"""Every block of Python, every diff and every command of the documents."""

import contextlib
import importlib
import io
import itertools
import json
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


def fenced(text: str) -> list[tuple[str, str]]:
  """All fenced blocks in order: language and text, without its indentation."""
  pattern = r'^( *)```(\w*)\n(.*?)^ *```$'
  found = re.findall(pattern, text, re.MULTILINE | re.DOTALL)
  return [
    (
      language,
      '\n'.join(line.removeprefix(indent) for line in body.splitlines()),
    )
    for indent, language, body in found
  ]


def blocks(text: str, language: str) -> list[str]:
  """The fenced blocks of a language."""
  return [block for found, block in fenced(text) if found == language]


def commands(block: str) -> list[str]:
  """The commands of a block, each on one line and without comments."""
  lines = re.sub(r'\s*\\\n\s*', ' ', block).splitlines()
  without = [re.sub(r'(^|\s+)#.*', '', line) for line in lines]
  return [line for line in without if line]


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


@pytest.fixture
def checkout(tmp_path, monkeypatch):
  """A folder with what the documents take for granted: configs and images."""
  for name in ('configs', 'train'):
    (tmp_path / name).symlink_to(ROOT / name)
  for split, name in itertools.product(('train', 'test'), ('cat', 'dog')):
    folder = tmp_path / 'photos' / split / name
    folder.mkdir(parents=True)
    for number in range(6):
      pixels = np.full((9, 8, 3), 40 * number, np.uint8)
      Image.fromarray(pixels).save(folder / f'{number}.jpg')
  monkeypatch.chdir(tmp_path)
  return tmp_path


@pytest.mark.parametrize(
  'document', [x for x in DOCUMENTS if fenced(x.read_text())], ids=name_of
)
def test_a_document_runs_from_top_to_bottom(document, checkout):
  namespace, done = {}, set()
  for language, block in fenced(document.read_text()):
    if language == 'python':
      with as_a_user():
        run_python(block, name_of(document), namespace)
    elif language == 'sh':
      for line in commands(block):
        # The second time, it would resume what the reader has stopped.
        if line not in done:
          run_command(line)
        done.add(line)


def run_python(block: str, name: str, namespace: dict[str, object]) -> None:
  """Runs a block, and compares each figure that stands beside a print."""
  printed = io.StringIO()
  with contextlib.redirect_stdout(printed):
    exec(compile(block, name, 'exec'), namespace)
  promised = re.findall(r'^print\(.*\)  # (.*)$', block, re.MULTILINE)
  # Runs of the training program say more, before.
  lines = printed.getvalue().splitlines()
  assert lines[len(lines) - len(promised) :] == promised, block


def test_a_wrong_figure_beside_a_print_fails():
  run_python('print(2 + 2)  # 4', 'here', {})
  with pytest.raises(AssertionError):
    run_python('print(2 + 2)  # 5', 'here', {})


# tests/test_readme.py runs both sides of the one in the README.
@pytest.mark.parametrize('document', having('diff')[1:], ids=name_of)
def test_a_diff_is_between_blocks_of_its_page(document):
  text = document.read_text()
  # By its words: the block after may be indented in a function.
  code = re.sub(r'\s+', ' ', ' '.join(blocks(text, 'python')))
  for diff in blocks(text, 'diff'):
    for line in diff.splitlines():
      words = ' '.join(line[1:].split())
      assert words in code, line


# Commands

MODEL = pathlib.Path('model', 'model.json')

# Settings that replace those of a command: the smallest run that is one.
TINY = [
  '--config.steps=2',
  '--config.batch_size=8',
  '--config.model={"name": "mlp", "hidden": (8,)}',
]
# Likewise, for data sets that are not here.
SMALL = [
  '--config.data.name=digits',
  '--config.data.first=(256,100)',
  '--config.augment.cutout=2',
  '--config.optimizer.warmup_steps=0',
]
# Likewise, of tasks that need a network of their own.
NETWORKS = {
  'coco_segmentation': (
    '{"name": "deeplabv3plus", "widths": (4, 6), "blocks": (1, 1),'
    ' "block": "basic", "stem": "cifar", "output_stride": 2, "rates": (1, 2),'
    ' "head_width": 6}'
  ),
  'coco_pose': (
    '{"name": "simcc_hrnet", "width": 4, "modules": (1,), "blocks": 1,'
    ' "stem_width": 4, "stem_blocks": 1}'
  ),
}


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
  network = NETWORKS.get(pathlib.Path(config.partition(':')[0]).stem)
  own = [f'--config.model={network}'] if network else []
  own += ['--config.optimizer.warmup_steps=0'] if network else []
  # As many images are held out as the small set can spare.
  words = [re.sub(r'(data\.validation=)\d{4,}$', r'\g<1>64', w) for w in words]
  return [*words, *TINY, *(SMALL if elsewhere else []), *own]


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
  if value(words, '--config.data.name=').endswith('.zip'):
    # A data set that is not here: only that the config is read.
    for variant in variants.choose(module, value(words, '--methods=') or None):
      module['get_config'](variant)
    return
  chosen = variants.choose(module, value(words, '--methods=') or None)
  # The base optimizer comes first, and has no arguments of a method.
  one = chosen[-1 if '--grid=method.' in ' '.join(words) else 0]
  words = [word for word in words if not word.startswith('--jobs=')]
  # The first and the second value of a grid.
  words = [re.sub(r'^(--grid=[^,]*,[^,]*).*', r'\1', word) for word in words]
  words = [*shrunk(words), f'--methods={one}', '--seeds=1']
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
  images = [word for word in words if word not in flags]
  *side, channels = json.loads((workdir / MODEL).read_text())['image_shape']
  shape = [20, 20] if '--resize' in flags else side
  pixels = np.zeros([*shape, 3][: 3 if channels == 3 else 2], np.uint8)
  for name in images:
    path = pathlib.Path(name + 'one.png' if name.endswith('/') else name)
    if not path.exists():
      path.parent.mkdir(parents=True, exist_ok=True)
      Image.fromarray(pixels).save(path)
  status, output, errors = call('train.predict', words)
  assert status == 0, errors
  assert len(output.splitlines()) >= len(images)


def look(words: list[str]) -> None:
  # tests/test_look.py makes such a page: here, that the flags are read.
  parser = importlib.import_module('train.look.__main__')._parser()
  assert parser.parse_args(words).out


def expanded(word: str) -> list[str]:
  """The words that a shell makes of ``a{b,c}d``."""
  found = re.fullmatch(r'(.*)\{(.*)\}(.*)', word)
  if found is None:
    return [word]
  before, inner, after = found.groups()
  return [before + part + after for part in inner.split(',')]


def draw_figure(words: list[str]) -> None:
  words = sum(map(expanded, words), [])
  # A sweep was of one method.
  is_there = lambda word: word.startswith('--') or pathlib.Path(word).exists()
  words = list(filter(is_there, words))
  status, _, errors = call('train.report.figures', words)
  assert status == 0, errors
  assert pathlib.Path(value(words, '--out=')).exists()


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
  'train.report.figures': draw_figure,
  'train.look': look,
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
  if words[:2] in (['python', '-m'], ['python3', '-m']):
    OURS[words[2]](words[3:])
  elif words[0] in OTHERS:
    OTHERS[words[0]](words[1:])
  else:
    assert words[0] in NOT_RUN, line


def test_the_documents_have_commands_and_blocks():
  assert len(having('sh')) >= 3 and len(having('python')) >= 5


def test_every_command_named_in_the_prose_has_a_test():
  # `python -m NAME` in the text, outside of blocks too.
  for document in DOCUMENTS:
    named = set(re.findall(r'python -m ([\w.]+)', document.read_text()))
    others = {n for n in named if n.startswith('benchmarks')}
    assert named - others <= set(OURS), document
