"""The strict settings of every test and every doctest.

A mistake that would surprise a user only on an accelerator, in float64 or with
leaves of odd shapes should fail here first. The settings are made in
`jax.config` and not in the environment, because some tests start the training
program in a process of its own, which must have the defaults of a user.
"""

import ctypes
import gc
import math
import os
import pathlib
import resource
import signal

import jax
import pytest

# Enough devices for a 2 x 4 mesh, so that communication is tested too. This
# must be set before the first array is made.
jax.config.update('jax_num_cpu_devices', 8)

# Programs that run only a few times should compile quickly. Processes that
# tests start inherit this, because their results are compared bit for bit with
# ours.
os.environ['JAX_DISABLE_MOST_OPTIMIZATIONS'] = '1'
jax.config.update('jax_disable_most_optimizations', True)
# XLA reads these on first use. The newer emitters take a third longer to
# compile. jaxlib 0.12 has no others, and ends the process at an unknown flag.
_FLAGS = ['--xla_cpu_parallel_codegen_split_count=1']
if jax.__version_info__ < (0, 11):
  _FLAGS.append('--xla_cpu_use_fusion_emitters=false')
os.environ['XLA_FLAGS'] = ' '.join([os.environ.get('XLA_FLAGS', ''), *_FLAGS])

# Otherwise each operation of a program carries its traceback, most of which is
# pytest's, through lowering and compilation.
jax.config.update('jax_traceback_in_locations_limit', 0)

# An operand of another dtype must not turn float32 state into float64, or bf16
# into float32: promotion is explicit, or an error.
jax.config.update('jax_numpy_dtype_promotion', 'strict')

# An operand of lower rank may be broadcast along the wrong axis unnoticed, so
# the library has to name the axis.
jax.config.update('jax_numpy_rank_promotion', 'raise')


# Shells start processes in the background with Ctrl-C ignored, and the program
# respects that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Tracing makes many objects and few cycles: with Python's threshold of 700, a
# tenth of its time goes to looking for them.
gc.set_threshold(100_000, 20, 20)


def pytest_collection_finish():
  """Keeps the modules and the tests, which live to the end, out of it."""
  gc.collect()
  gc.freeze()


# A worker that holds more bytes forgets what it has compiled.
_MOST_MEMORY = 2 * 2**30


def _memory() -> float:
  """The memory of this process in bytes, infinite if the system says none."""
  status = pathlib.Path('/proc/self/statm')
  if not status.exists():
    return math.inf
  return int(status.read_text().split()[1]) * resource.getpagesize()


@pytest.fixture(scope='module', autouse=True)
def _release_compiled_programs():
  """Frees the programs that the tests of some files compiled.

  JAX keeps every compiled program, some 5 GB by the end of a run. Those of its
  single operations serve the next file too, so they are kept for a while.
  """
  yield
  from tests import driving

  driving.stepper.cache_clear()
  if _memory() < _MOST_MEMORY:
    return
  jax.clear_caches()
  gc.collect()
  # glibc would keep most of the freed memory.
  trim = getattr(ctypes.CDLL(None), 'malloc_trim', None)
  if trim is not None:
    trim(0)


def pytest_collection_modifyitems(items):
  """Puts the files with a slow test first.

  With ``--no-loadscope-reorder``, files are given to the workers in this order,
  and none of them starts a file of minutes when the other is almost done.
  """
  slow = {item.path for item in items if item.get_closest_marker('slow')}
  items.sort(key=lambda item: item.path not in slow)


@pytest.fixture
def x64():
  """Runs one test in double precision, for values known to many digits."""
  with jax.enable_x64(True):
    yield


@pytest.fixture
def standard_promotion():
  """Runs one test with JAX's standard dtype promotion.

  Parts of Optax (`adam`, `cosine_decay_schedule`, `MultiSteps`) and of Flax
  (`avg_pool`) combine an integer array with a float. A test of our own
  functions alone should not need this fixture.
  """
  with jax.numpy_dtype_promotion('standard'):
    yield


@pytest.fixture(scope='module')
def scenes(tmp_path_factory):
  """Six images with masks as files, see `dense_files.write_scenes`."""
  from tests import dense_files

  return dense_files.write_scenes(tmp_path_factory.mktemp('voc'))


@pytest.fixture(scope='module')
def people(tmp_path_factory):
  """Six images with joints as files, see `dense_files.write_people`."""
  from tests import dense_files

  return dense_files.write_people(tmp_path_factory.mktemp('mpii'))
