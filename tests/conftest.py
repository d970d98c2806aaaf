"""The strict world that every test and every doctest runs in.

What only surprises a user on an accelerator, in float64 or with a leaf of an
odd shape should fail here first. The settings go through `jax.config` and not
through the environment, because tests start the training program as a user
does, in a process of its own, and there it must meet the defaults.
"""

import os

import jax
import pytest

# Enough devices to lay out a 2 x 4 mesh, so that what crosses devices is
# tested as such. It must be said before the first array is made.
jax.config.update('jax_num_cpu_devices', 8)

# What is run a few times is compiled quickly rather than well, in the processes
# that tests start too: they are compared with this one to the last bit.
os.environ['JAX_DISABLE_MOST_OPTIMIZATIONS'] = '1'
jax.config.update('jax_disable_most_optimizations', True)
# XLA reads these when it is first used. The newer emitters take a third longer.
os.environ['XLA_FLAGS'] = ' '.join(
  [
    os.environ.get('XLA_FLAGS', ''),
    '--xla_cpu_use_fusion_emitters=false',
    '--xla_cpu_parallel_codegen_split_count=1',
  ]
)

# float32 state must not become float64, nor bf16 become float32, because an
# operand was of another type: promotion is written out or it is an error.
jax.config.update('jax_numpy_dtype_promotion', 'strict')

# An operand of lower rank is broadcast silently along the wrong axis as easily
# as along the right one; the library says which it means.
jax.config.update('jax_numpy_rank_promotion', 'raise')


@pytest.fixture
def x64():
  """Runs one test in double precision, for values known to many digits."""
  with jax.enable_x64(True):
    yield


@pytest.fixture
def standard_promotion():
  """Lets a test call what cannot live with strict dtype promotion.

  Parts of Optax (`adam`, `cosine_decay_schedule`, `MultiSteps`) and of Flax
  (`avg_pool`) combine an integer array with a float. A test that runs one of
  these asks for this fixture; our own functions alone should not need it.
  """
  with jax.numpy_dtype_promotion('standard'):
    yield
