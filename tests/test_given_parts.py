"""Parts, wrappers and chains in a wrong place are refused."""

import jax
import jax.numpy as jnp
import optax
import pytest

import sam_optax
from sam_optax import (
  ascent,
  cadence,
  descent,
  diagnostics,
  frameworks,
  selection,
)
from tests import driving
from tests.given import (
  SAM,
  START,
  assert_refused_or_right,
  refused,
  traced,
)
from tests.methods import build, method

SWAPPED = {
  'the cadence as the descent': (
    lambda: {'descent': cadence.every(2)},
    'as the descent',
  ),
  'the descent as the cadence': (
    lambda: {'cadence': descent.perturbed()},
    'as the cadence',
  ),
  'a selection as the cadence': (
    lambda: {'cadence': selection.uniformly()},
    'as the cadence',
  ),
  'an ascent as the selection': (
    lambda: {'selection': ascent.gradient(0.1)},
    'as the selection',
  ),
  'a number as the cadence': (lambda: {'cadence': 2}, 'as the cadence'),
  'a method as the ascent': (
    lambda: {'ascent': sam_optax.sam()},
    'a whole method as the ascent',
  ),
  'a cadence as the ascent': (
    lambda: {'ascent': cadence.every(2)},
    'as the ascent',
  ),
  'a number as the ascent': (lambda: {'ascent': 0.05}, 'a float as the ascent'),
  'a maker of cadences': (
    lambda: {'cadence': cadence.bernoulli},
    'bernoulli as the cadence',
  ),
  'a maker of ascents': (
    lambda: {'ascent': ascent.gradient},
    'gradient as the ascent',
  ),
}


@pytest.mark.parametrize('swapped', SWAPPED)
def test_a_part_in_a_wrong_place_is_refused(swapped):
  make, said = SWAPPED[swapped]
  with refused(said, 'sharpness_aware('):
    sam_optax.sharpness_aware(**({'ascent': ascent.gradient(0.1)} | make()))


UNSEEN = {
  'noise in a chain': lambda: optax.chain(
    ascent.random(ascent.gradient(0.1), gamma=0.5), optax.identity()
  ),
  'noise under a mask': lambda: optax.masked(ascent.posterior(10), True),
  'draws in a chain': lambda: optax.chain(ascent.gaussian(0.1, draws=8)),
}


@pytest.mark.parametrize('unseen', UNSEEN)
def test_an_ascent_whose_noise_would_be_lost_is_refused(unseen):
  method = sam_optax.sharpness_aware(UNSEEN[unseen]())
  state, grad_fn = method.init(START), lambda params: params
  with refused('ascent.chain'):
    method.update(START, state, START, grad_fn=grad_fn)
  with refused('ascent.chain'):
    diagnostics.sharpness(optax.tree.norm, START, UNSEEN[unseen]())


@pytest.mark.parametrize(
  'make', [lambda: ascent.posterior(10), lambda: ascent.gaussian(0.1, draws=2)]
)
def test_noise_around_noise_that_would_be_lost_is_refused(make):
  with refused('ascent.random(ascent.gradient(rho))'):
    ascent.random(make())


@pytest.mark.parametrize(
  ('arguments', 'options'),
  [
    ((optax.sgd(0.1), optax.sgd(0.05)), {}),
    ((optax.adam(1e-3),), {'rho': 0.05}),
    ((), {'optimizer': optax.sgd(0.1), 'adv_optimizer': optax.sgd(0.05)}),
    ((optax.sgd(0.1), optax.sgd(0.05)), {'sync_period': 2}),
  ],
)
def test_a_call_as_in_optax_contrib_is_explained(arguments, options):
  with refused('an optimizer', 'optax.chain(sam_optax.sam(rho=0.05)'):
    sam_optax.sam(*arguments, **options)


@pytest.mark.parametrize('others', [{}, {'perturb': True, 'full_batch': True}])
@pytest.mark.parametrize('flag', ['perturb', 'full_batch'])
@pytest.mark.parametrize('bad', ['yes', 1, jnp.ones(2, jnp.bool_)])
def test_a_decision_is_a_bool(flag, bad, others):
  tx, (batch, ids) = method('ausam'), driving.batch_at(0)
  params, decided = driving.start(), others | {flag: bad}
  state = tx.init(params)
  with refused('`perturb` or `full_batch`', 'True or False'):
    tx.value_and_grad(driving.fit, params, state, batch, ids, **decided)


# -- One call each ------------------------------------------------------------


CHAINED = optax.chain(SAM, driving.BASE)


CALLS = {
  'an optimizer in if_finite': (
    lambda: sam_optax.if_finite(optax.sgd(0.1)),
    ('a GradientTransformation',),
  ),
  'an optimizer in parallel': (
    lambda: sam_optax.parallel(driving.BASE),
    ('Wrap it first',),
  ),
  'a whole chain in if_finite': (
    lambda: sam_optax.if_finite(CHAINED),
    ('a GradientTransformation', 'optax.chain('),
  ),
  'two methods in a chain': (
    lambda: sam_optax.chain(SAM, SAM),
    ('not first', 'single method'),
  ),
  'the arguments of check_chain swapped': (
    lambda: sam_optax.check_chain(START, CHAINED),
    ('a dict', 'check_chain(tx, params)'),
  ),
  'check_chain of an unmade method': (
    lambda: sam_optax.check_chain(sam_optax.sam, START),
    ('function', 'check_chain(tx, params)'),
  ),
  'check_chain of shapes alone': (
    lambda: (
      sam_optax.check_chain(CHAINED, jax.eval_shape(driving.start)) is CHAINED
    ),
    None,
  ),
  'a clip by value before the method': (
    lambda: sam_optax.check_chain(optax.chain(optax.clip(1.0), SAM), START),
    ('changes the gradient', 'method first'),
  ),
  'one leaf set to zero before the method': (
    lambda: sam_optax.check_chain(
      optax.chain(
        optax.masked(optax.set_to_zero(), {'w': True, 'b': False}), SAM
      ),
      START,
    ),
    ('changes the gradient', 'method first'),
  ),
  'an ascent that is a method': (
    lambda: sam_optax.sharpness_aware(sam_optax.if_finite(SAM)),
    ('a whole method as the ascent',),
  ),
  'a text as the cadence': (
    lambda: sam_optax.sharpness_aware(ascent.gradient(0.1), 'every'),
    ('a str as the cadence',),
  ),
  'an optimizer as the descent': (
    lambda: sam_optax.sharpness_aware(
      ascent.gradient(0.1), cadence.every(2), driving.BASE
    ),
    ('as the descent',),
  ),
  'a mask of other params': (
    lambda: traced(build('asam', adapted={'x': True})),
    ('adapted', 'structure', "['b']"),
  ),
  'a mask for the norms of other params': (
    lambda: traced(build('arsam', norm_mask={'x': True}), perturb=True),
    ('mask', 'structure'),
  ),
  'an aux that is no dict': (
    lambda: frameworks.for_update(
      lambda p, x: p['w'], START, driving.batch_at(0)[0]
    ),
    ('one array of shape (3,)', 'loss_fn('),
  ),
  'a loss that is not a scalar': (
    lambda: diagnostics.sharpness(
      lambda p: p['w'], START, ascent.gradient(0.1)
    ),
    ('scalar',),
  ),
  'an axis that no kernel has': (
    lambda: sam_optax.kernels.axes_of(4, (), jnp.ones([3, 2])),
    ('axis=4', '(3, 2)', 'function'),
  ),
}


@pytest.mark.parametrize('name', CALLS)
def test_it_is_refused_in_words_or_right(name, standard_promotion):
  assert_refused_or_right(CALLS[name])
