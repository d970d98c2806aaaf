"""Packaging of sam_optax: what it is called and what it needs."""

import pathlib
import re

import setuptools

_ROOT = pathlib.Path(__file__).parent

# Where the project lives: the only line to change when it gets a home.
_URL = 'https://github.com/OWNER/sam_optax'


def _version() -> str:
  # The version is written once, in the package. It is read as text because
  # importing the package here would need jax, which is not installed yet.
  source = (_ROOT / 'sam_optax' / '__init__.py').read_text('utf-8')
  match = re.search(r"^__version__ = '([^']+)'$", source, re.MULTILINE)
  if match is None:
    raise RuntimeError(
      "No line `__version__ = '...'` in sam_optax/__init__.py. setup.py reads"
      ' the version from that line; put it back.'
    )
  return match.group(1)


def _long_description() -> str:
  readme = _ROOT / 'README.md'
  text = readme.read_text('utf-8') if readme.exists() else ''
  # A package index shows the text without the files that it links to.
  local = r'\]\((?![a-z]+:|#)'
  text = re.sub(rf'(!\[[^]]*){local}', rf'\1]({_URL}/raw/main/', text)
  return re.sub(local, f']({_URL}/blob/main/', text)


# Every lower bound is a version that was installed, all of them at once, and
# imported on Python 3.11; none is a guess at the oldest that might do.
_LIBRARY = [
  'jax>=0.10.2',  # The newest for Python 3.11. Brings its own jaxlib.
  'optax>=0.2.8',
]

# The training program. It works without TensorFlow, which would triple the
# size of the installation; see the extra `tf`.
_TRAIN = [
  'absl-py>=2.3.1',
  'array_record>=0.8.6',
  'flax>=0.12.8',
  'grain>=0.2.18',
  # TFDS imports importlib_resources but does not declare it.
  'importlib_resources>=6.5.2',
  'matplotlib>=3.10.8',
  'ml_collections>=1.1.0',
  'orbax-checkpoint>=0.12.8',
  'pillow>=12.0.0',
  'safetensors>=0.8.0',
  'scikit-learn>=1.8.0',
  'scipy>=1.17.1',
  'tensorboard>=2.21.0',  # the command that shows what tensorboardX writes
  'tensorboardX>=2.6.5',
  'tensorflow-datasets>=4.9.10',
  'tqdm>=4.67.1',
]

_TEST = [
  'chex>=0.1.92',
  'matfree>=0.6.3',
  'pytest>=9.0.0',
  'pytest-xdist>=3.8.0',
  # The next minor release of a linter or of a type checker may judge the same
  # code differently; it is let in by a change here, not by its release.
  # basedpyright is pyright with its own Node.js in a wheel: nothing is
  # downloaded at its first run.
  'basedpyright>=1.40.2,<1.41',
  'ruff>=0.17.6,<0.18',
]

# The documentation site, 125 MB: icons and translations for the most part.
_DOCS = [
  'latex2mathml>=3.81.1',
  'mkdocs>=1.6.1,<2',  # 2 has no plugins, and the theme needs them.
  'mkdocs-material>=9.8.2',
  'mkdocstrings>=1.0.8',
  'mkdocstrings-python>=2.0.11',
]

_EXAMPLES = ['equinox>=0.13.8']

# What runs examples/ as notebooks. The documentation shows the result, which
# is kept in the repository, and does without these.
_NOTEBOOKS = [
  'ipykernel>=7.4.0',
  'nbclient>=0.11.0',
  'nbconvert>=7.17.2',
]

setuptools.setup(
  name='sam_optax',
  version=_version(),
  description='Sharpness-aware optimizers for JAX, as Optax transformations.',
  long_description=_long_description(),
  long_description_content_type='text/markdown',
  author='The sam_optax authors',
  url=_URL,
  project_urls={
    'Changelog': f'{_URL}/blob/main/CHANGELOG.md',
    'Issues': f'{_URL}/issues',
  },
  license='Apache-2.0',
  license_files=['LICENSE'],
  # The library alone: the training program and its configs are run from a
  # checkout. `package_dir` makes `pip install -e` put this folder itself on
  # the path, so that they are found there, and a package added later too.
  package_dir={'': '.'},
  packages=setuptools.find_packages(include=['sam_optax', 'sam_optax.*']),
  package_data={'sam_optax': ['py.typed']},
  python_requires='>=3.11',
  install_requires=_LIBRARY,
  extras_require={
    'train': _TRAIN,
    # Only for data sets whose TFDS builder, or whose tf.data pipeline, needs
    # it.
    'tf': ['tensorflow>=2.20.0'],
    'docs': _TRAIN + _DOCS + _NOTEBOOKS + _EXAMPLES,
    'test': _TRAIN + _DOCS + _EXAMPLES + _TEST,
    # What we are compared with in benchmarks/ and in the golden values.
    'peers': ['torch==2.13.0', 'pytorch-optimizer>=4.1.0'],
  },
  classifiers=[
    'Development Status :: 4 - Beta',
    'Intended Audience :: Science/Research',
    'Programming Language :: Python :: 3',
    'Programming Language :: Python :: 3.11',
    'Programming Language :: Python :: 3.12',
    'Programming Language :: Python :: 3.13',
    'Topic :: Scientific/Engineering :: Artificial Intelligence',
  ],
)
