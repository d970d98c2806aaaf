"""A chain that changes the gradient before the method is found."""

import jax
import optax
import pytest

import sam_optax
from tests import driving
from tests.given import (
  every_route,
  refused,
)
from tests.methods import method

BEFORE = {
  'clip': optax.clip_by_global_norm(1.0),
  'adam': optax.adam(1e-2),
  'sgd': optax.sgd(0.1),
  'momentum': optax.trace(0.9, nesterov=True),
  'scale': optax.scale(2.0),
  'decay': optax.add_decayed_weights(1e-5),
  'large clip': optax.clip_by_global_norm(1e5),
  'slight scale': optax.scale(0.9999),
  'momentum that starts as the gradient': optax.trace(0.9),
  'average that starts as the gradient': optax.ema(0.9),
  'schedule that starts at 1': optax.scale_by_schedule(
    optax.linear_schedule(1.0, 0.0, 100)
  ),
  'noise': optax.add_noise(1e-3, 0.55, 0),
  'sign': optax.scale_by_sign(),
}


@every_route
def test_a_chain_in_order_passes(name):
  tx = optax.chain(optax.identity(), method(name), driving.BASE)
  assert sam_optax.check_chain(tx, driving.start()) is tx
  wrapped = optax.chain(sam_optax.if_finite(method(name)), driving.BASE)
  sam_optax.check_chain(wrapped, driving.start())


def assert_found(before, name):
  tx = optax.chain(BEFORE[before], method(name), driving.BASE)
  with (
    jax.numpy_dtype_promotion('standard'),
    refused('a chain that changes', 'method first', 'optax.chain('),
  ):
    sam_optax.check_chain(tx, driving.start())


@every_route
def test_every_method_shows_what_reaches_it(name):
  assert_found('clip', name)


@pytest.mark.parametrize('before', BEFORE)
def test_a_chain_out_of_order_is_found(before):
  assert_found(before, 'sam')


def test_what_follows_the_method_may_need_arguments():
  needs_more = optax.scale_by_backtracking_linesearch(max_backtracking_steps=3)
  tx = optax.chain(method('sam'), needs_more)
  assert sam_optax.check_chain(tx, driving.start()) is tx
  tx = optax.chain(BEFORE['decay'], method('sam'), needs_more)
  with refused('a chain that changes'):
    sam_optax.check_chain(tx, driving.start())


def test_check_chain_looks_into_a_condition():
  later = optax.transforms.conditionally_transform(
    optax.chain(BEFORE['clip'], method('sam')), lambda step: step >= 0
  )
  with refused('a chain that changes'):
    sam_optax.check_chain(later, driving.start())


def test_check_chain_looks_through_wrappers():
  first, clip = sam_optax.parallel(method('sam')), BEFORE['clip']
  sam_optax.check_chain(optax.chain(first, clip), driving.start())
  with refused('a chain that changes'):
    sam_optax.check_chain(optax.chain(clip, first), driving.start())
  with refused('a chain without a method'):
    sam_optax.check_chain(optax.sgd(0.1), driving.start())
  with refused('a method that is not first'):
    sam_optax.chain(clip, method('sam'))
