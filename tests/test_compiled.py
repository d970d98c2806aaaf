"""The size and the buffers of a compiled step."""

import re

import jax
import jax.numpy as jnp
import pytest

import sam_optax
from tests import driving
from tests.methods import METHODS, method


def ridges(params, batch):
  """Losses that depend on every leaf."""
  heights = [jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(params)]
  return batch[1] * sum(heights), None


def instructions(name, leaves):
  """The number of instructions in a step, including fused computations."""
  decisions = {'perturb': True} if METHODS[name].perturbs else {}
  # Named so that the mask of SAM-ON matches.
  params = {f'norm{number}': jnp.ones([2, 3]) for number in range(leaves)}
  stepper = driving.Stepper(method(name), 'value_and_grad', ridges)
  states = stepper.method.init(params), stepper.base.init(params)
  arguments = (params, *states, *driving.batch_at(0))
  compiled = stepper.jitted.lower(*arguments, **decisions).compile()
  return compiled.as_text().count(' = ')


@pytest.mark.parametrize('name', METHODS)
def test_a_step_grows_linearly_with_the_number_of_leaves(name):
  # XLA recomputes a cheap scalar, such as the sum over all leaves in a norm, in
  # the update of every leaf, and the compiled size becomes quadratic.
  few, some, many = (instructions(name, leaves) for leaves in (4, 8, 16))
  assert many - some < 2.4 * (some - few)


@pytest.mark.parametrize('name', ['ausam', 'arsam_ausam'])
def test_a_table_is_not_copied_in_a_branch(name):
  # A table may have millions of rows, and a step changes only a few.
  size = 12_345
  chooses = getattr(sam_optax, name)(num_examples=size)
  loss_fn = lambda w, x: (jnp.tanh(x * w) ** 2, None)
  x, ids = jnp.arange(8.0), jnp.arange(8)

  def step(state):
    return chooses.value_and_grad(loss_fn, jnp.ones([]), state, x, ids)[2]

  jitted = jax.jit(step, donate_argnums=0)
  text = jitted.lower(chooses.init(jnp.ones([]))).compile().as_text()
  assert 'conditional(' in text and f'f32[{size}]' in text
  assert not re.search(rf'= f32\[{size}\]\S* copy\(', text)
