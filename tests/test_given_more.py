"""More bad inputs of the same kinds: each is refused in words, or right.

A row is (call, words): the words of the refusal, in order; None where the call
is right, and returns whether its result is.
"""

import fractions

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import sam_optax
from sam_optax import ascent, cadence, diagnostics, frameworks
from tests import driving
from tests.given import TAKES_ROWS, WITH_TABLE, called, refused, traced
from tests.methods import METHODS, NUM_EXAMPLES, build, method

SAM, LOGITS = method('sam'), method('mesa')
START = driving.start()
GRAD = driving.grad_fn_of(driving.fit, driving.batch_at(0)[0])
TABLE, ROWS = method(WITH_TABLE[0]), method(TAKES_ROWS[-1])


def grad_fn(spoil):
  """A call whose grad_fn is spoilt."""
  return lambda: traced(
    SAM, 'update', grad_fn=lambda p: spoil(GRAD(p)), loss_fn=None
  )


def updates(value):
  return lambda: SAM.update(value, SAM.init(START), START, grad_fn=GRAD)


def losses(spoil, tx=SAM):
  """A call whose loss_fn returns what `spoil` makes of (losses, aux)."""
  plain = driving.losses_for(tx)
  return lambda: traced(tx, loss_fn=lambda *at: spoil(*plain(*at)))


def params(value, loss=lambda p, batch: (batch[1], None)):
  return lambda: SAM.value_and_grad(
    loss, value, SAM.init(START), driving.batch_at(0)[0]
  )


def state(value, tx=SAM):
  return lambda: called(tx, state=value)


def ids(value, tx=TABLE):
  return lambda: called(tx, example_ids=value)


def batch(value, tx=ROWS):
  loss = lambda p, batch: (jnp.ones(8) * p['b'][0], None)
  return lambda: traced(tx, loss_fn=loss, batch=value)


def same(first, second):
  return lambda: driving.equal(first(), second())


def rho(schedule):
  return lambda: traced(sam_optax.sam(rho=schedule))


def step_of(tx):
  """The gradient of one step of SAM, for what must equal it."""
  return called(tx, 'update', loss_fn=None)[0]


def as_numpy(tree):
  return jax.tree.map(np.asarray, tree)


CHAINED = optax.chain(SAM, driving.BASE)
INF = float('inf')
CALL = 'jax.grad(loss)'

GRADIENTS = {
  'a pair of value and gradient': (
    grad_fn(lambda g: (jnp.zeros([]), g)),
    ('grad_fn', 'value_and_grad'),
  ),
  'nothing': (grad_fn(lambda g: None), ('grad_fn', CALL)),
  'a list of leaves': (grad_fn(jax.tree.leaves), ('grad_fn', CALL)),
  'one more leaf': (grad_fn(lambda g: g | {'c': g['w']}), ('grad_fn', CALL)),
  'a raveled gradient': (
    grad_fn(lambda g: jnp.concatenate(list(g.values()))),
    ('grad_fn', CALL),
  ),
  'a batch of gradients': (
    grad_fn(lambda g: jax.tree.map(lambda x: x[None].repeat(8, 0), g)),
    ('grad_fn', '(8,', CALL),
  ),
  'a scalar where a vector is': (
    grad_fn(lambda g: g | {'b': g['b'][0]}),
    ('grad_fn', "['b']", CALL),
  ),
  'a string as grad_fn': (
    lambda: called(SAM, 'update', grad_fn='grad'),
    ('a grad_fn of type str', 'jax.grad'),
  ),
  'a reference that is no function': (
    lambda: called(method('sam_full'), reference_grad_fn=START),
    ('a reference_grad_fn of type dict', 'jax.grad'),
  ),
  'no updates': (updates(None), ('`updates`', CALL)),
  'updates that are the params and more': (
    updates(START | {'c': jnp.ones(1)}),
    ('`updates`', CALL),
  ),
  'updates of another order of axes': (
    updates(START | {'w': jnp.ones([1, 3])}),
    ('`updates`', "['w']"),
  ),
  'a gradient of NumPy': (
    same(
      lambda: SAM.update(
        as_numpy(GRAD(START)),
        SAM.init(START),
        START,
        grad_fn=lambda p: as_numpy(GRAD(p)),
      )[0],
      lambda: step_of(SAM),
    ),
    None,
  ),
}

LOSSES = {
  'aux first': (losses(lambda x, aux: ({}, x)), ('whose losses are dict',)),
  'a list of losses': (
    losses(lambda x, aux: (list(x), aux)),
    ('whose losses are list', 'squeeze'),
  ),
  'two heads': (
    losses(lambda x, aux: ({'a': x, 'b': x}, aux)),
    ('whose losses are dict',),
  ),
  'a string': (losses(lambda x, aux: 'loss'), ('a str', LOSS := 'loss_fn(')),
  'only aux': (losses(lambda x, aux: aux), ('a dict', LOSS)),
  'losses that are a string': (
    losses(lambda x, aux: ('loss', aux)),
    ('whose losses are str', LOSS),
  ),
  'a text in aux': (
    losses(lambda x, aux: (x, {'name': 'train'})),
    ('aux', "['name']", 'str'),
  ),
  'a function in aux': (
    losses(lambda x, aux: (x, {'f': jnp.tanh})),
    ('aux', "['f']"),
  ),
  'int8 losses': (losses(lambda x, aux: (x.astype('int8'), aux)), ('int8',)),
  'unsigned losses': (
    losses(lambda x, aux: (x.astype('uint32'), aux)),
    ('uint32',),
  ),
  'losses of [1, batch]': (
    losses(lambda x, aux: (x[None], aux)),
    ('(1, 8)', '[batch]'),
  ),
  'an aux without logits': (
    losses(lambda x, aux: (x, aux['logits']), LOGITS),
    ("no 'logits'",),
  ),
  'logits of integers': (
    losses(lambda x, aux: (x, {'logits': jnp.ones([8, 2], 'int32')}), LOGITS),
    ('logits', 'int32', '[batch, classes]'),
  ),
  'logits without a batch': (
    losses(lambda x, aux: (x, {'logits': jnp.ones(2)}), LOGITS),
    ('logits', '(2,)', '[batch, classes]'),
  ),
  'logits of another batch': (
    losses(lambda x, aux: (x, {'logits': jnp.ones([1, 2])}), LOGITS),
    ('logits', '(1, 2)', '[batch, classes]'),
  ),
  'a teacher of other classes': (
    lambda: traced(build('mesa', teacher=lambda p, batch: jnp.ones([8, 5]))),
    ('teacher', '(8, 5)', '(8, 2)'),
  ),
  'a teacher that is no function': (
    lambda: build('mesa', teacher=START),
    ('a teacher of type dict',),
  ),
  'a pair in a list': (
    same(
      lambda: called(SAM, loss_fn=lambda *at: list(driving.fit(*at)))[1],
      lambda: called(SAM)[1],
    ),
    None,
  ),
}

PARAMS = {
  'a Python int': (lambda: SAM.init({'w': 1}), ("['w']", 'int32')),
  'a list of names': (lambda: SAM.init(['w', 'b']), ('[0]', 'str')),
  'NumPy strings': (
    lambda: SAM.init({'w': np.array(['a'])}),
    ("['w']", 'eqx.partition'),
  ),
  'NumPy objects': (
    lambda: SAM.init({'w': np.array([None])}),
    ("['w']", 'eqx.partition'),
  ),
  'a Python complex': (lambda: SAM.init({'w': 1j}), ("['w']", 'complex64')),
  'a NumPy bool': (lambda: SAM.init({'w': np.True_}), ("['w']", 'bool')),
  'uint8 images': (
    lambda: SAM.init({'w': np.zeros([2, 2], np.uint8)}),
    ("['w']", 'uint8'),
  ),
  'shapes alone, in a step': (
    params(jax.eval_shape(driving.start)),
    ("['b']", 'ShapeDtypeStruct'),
  ),
  'no params at a step': (
    lambda: SAM.value_and_grad(
      driving.fit, None, SAM.init(START), driving.batch_at(0)[0]
    ),
    ('no params',),
  ),
  'None among the leaves': (
    lambda: jax.tree.structure(SAM.init({'w': jnp.ones(2), 'n': None})),
    None,
  ),
  'float16 of NumPy': (
    lambda: SAM.init({'w': np.ones(2, np.float16)}) is not None,
    None,
  ),
}

STATES = {
  'None': (state(None), ('a state of type NoneType', 'init')),
  'of an optimizer': (
    state(driving.BASE.init(START)),
    ('a state of type tuple', 'opt_state[0]'),
  ),
  'restored as a dict': (
    state(SAM.init(START)._asdict()),
    ('a state of type dict', 'restored'),
  ),
  'restored as a list': (
    state(list(SAM.init(START))),
    ('a state of type list', 'restored'),
  ),
  'a step of float': (
    state(SAM.init(START)._replace(step=0.0)),
    ('.step', 'a float', 'int32'),
  ),
  'for many devices': (
    state(jax.tree.map(lambda x: jnp.stack([x] * 8), SAM.init(START))),
    ('(8,)', 'init(params)'),
  ),
  'of if_finite': (
    state(sam_optax.if_finite(SAM).init(START)),
    ('a state of type IfFiniteState',),
  ),
  'of the method inside if_finite': (
    state(SAM.init(START), sam_optax.if_finite(SAM)),
    ('a state of type SharpnessAwareState', 'IfFiniteState'),
  ),
  'of a chain, to plan': (
    lambda: method('ss_sam').plan(CHAINED.init(START), np.zeros([2, 8])),
    ('a state of type tuple', 'opt_state[0]'),
  ),
  'of a chain, at an epoch': (
    lambda: method('infobatch').start_epoch(CHAINED.init(START)),
    ('a state of type tuple',),
  ),
  'a member missing': (
    state(SAM.init(START)._replace(direction_norm=None)),
    ('`direction_norm`', 'init(params)'),
  ),
  'of another cadence': (
    state(method('ss_sam').init(START), method('arsam')),
    ('`cadence`', 'another method'),
  ),
  'arrays and likeness swapped': (
    lambda: sam_optax.from_arrays(
      method('rsam').init(START),
      sam_optax.to_arrays(method('rsam').init(START)),
    ),
    ('typed keys', 'like'),
  ),
  'arrays like nothing': (
    lambda: sam_optax.from_arrays(sam_optax.to_arrays(SAM.init(START)), None),
    ('another',),
  ),
  'arrays of NumPy': (
    same(
      lambda: called(SAM, state=as_numpy(SAM.init(START)))[1:],
      lambda: called(SAM)[1:],
    ),
    None,
  ),
}

NUMBERS = {
  'an infinite radius': (lambda: sam_optax.sam(INF), ('rho=inf',)),
  'an infinite radius of JAX': (
    lambda: sam_optax.sam(jnp.asarray(jnp.inf)),
    ('rho=',),
  ),
  'a complex radius': (lambda: sam_optax.sam(0.05 + 0j), ('rho=',)),
  'no radius': (lambda: sam_optax.sam(None), ('rho=None',)),
  'a fraction of Python': (
    same(
      lambda: step_of(sam_optax.sam(fractions.Fraction(1, 10))),
      lambda: step_of(SAM),
    ),
    None,
  ),
  'an integer of JAX': (
    same(
      lambda: step_of(sam_optax.sam(jnp.int32(1))),
      lambda: step_of(sam_optax.sam(1.0)),
    ),
    None,
  ),
  'a period that int32 has not': (
    lambda: sam_optax.sam_k(k=10**12),
    ('k=1000000000000', 'whole number'),
  ),
  'an infinite period': (lambda: sam_optax.sam_k(k=INF), ('k=inf',)),
  'an end at infinity': (lambda: sam_optax.late_sam(stop=INF), ('stop=inf',)),
  'a set that int32 has not': (
    lambda: sam_optax.ausam(num_examples=2**31),
    ('num_examples=2147483648',),
  ),
  'a schedule without arguments': (
    rho(lambda: 0.1),
    ('a schedule', 'step'),
  ),
  'a schedule of two arguments': (
    rho(lambda step, value: 0.1),
    ('a schedule', 'step'),
  ),
  'a schedule that gives nothing': (rho(lambda step: None), ('a schedule',)),
  'a schedule that gives text': (rho(lambda step: '0.1'), ('a schedule',)),
  'a schedule that gives a pair': (
    rho(lambda step: (0.1, 0.2)),
    ('a schedule',),
  ),
  'a schedule that gives a complex number': (
    rho(lambda step: 0.1j),
    ('a schedule', 'complex'),
  ),
  'a schedule of integers': (
    same(
      lambda: step_of(sam_optax.sam(lambda step: 1)),
      lambda: step_of(sam_optax.sam(1.0)),
    ),
    None,
  ),
  'an optimizer as a radius': (
    lambda: sam_optax.gsam(rho=optax.sgd(0.1)),
    ('an optimizer as rho', 'optax.chain('),
  ),
  'a maker of schedules': (
    rho(optax.constant_schedule),
    ('a schedule',),
  ),
  'a generator of NumPy as the key': (
    lambda: build('rsam', key=np.random.default_rng(0)),
    ('key=', 'jax.random.key(0)'),
  ),
  'a seed beyond 64 bits': (
    lambda: build('rsam', key=2**70),
    ('key=', 'jax.random.key(0)'),
  ),
  'a seed as text': (lambda: build('rsam', key='0'), ('key=',)),
  'the type of keys': (lambda: build('rsam', key=jax.random.key), ('key=',)),
  'a misspelt variant': (
    lambda: sam_optax.fsam(variant='Code'),
    ("variant='Code'", "'code'"),
  ),
  'no group': (
    lambda: sam_optax.parallel(SAM, None, examples_per_perturbation=0),
    ('examples_per_perturbation=0',),
  ),
  'half a group': (
    lambda: sam_optax.parallel(SAM, None, examples_per_perturbation=1.5),
    ('examples_per_perturbation=1.5',),
  ),
  'a number as an axis': (
    lambda: sam_optax.parallel(SAM, 3),
    ('axis_name=3',),
  ),
  'no axis at all': (lambda: sam_optax.parallel(SAM, ()), ('axis_name=()',)),
  'micro-batches of none': (
    lambda: sam_optax.accumulate(driving.fit, 0),
    ('micro_batch_size=0',),
  ),
  'micro-batches of a loss that is none': (
    lambda: sam_optax.accumulate(START, 2)(START, driving.batch_at(0)[0]),
    ('a loss_fn of type dict',),
  ),
  'radii of one rate': (
    lambda: (
      sam_optax.rho_schedule(lambda step: 0.1, 0.2, 0.0, 0.1, 0.1)(0) == 0.2
    ),
    None,
  ),
}

WRAPPERS = {
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
    ('one array of shape (3,)', LOSS),
  ),
  'a loss that is not a scalar': (
    lambda: diagnostics.sharpness(
      lambda p: p['w'], START, ascent.gradient(0.1)
    ),
    ('scalar',),
  ),
}

EXAMPLES = {
  'ids of text': (ids(np.array(list('abcdefgh'))), ('example_ids', 'int32')),
  'ids with a hole': (ids([0, 1, None, 3]), ('example_ids',)),
  'no ids': (ids([]), ('example_ids', '(0,)')),
  'ids in two axes': (ids(np.arange(8).reshape(2, 4)), ('(2, 4)',)),
  'ids of complex numbers': (ids(np.arange(8) + 0j), ('complex',)),
  'one id': (ids(3), ('shape ()',)),
  'an id of int64': (ids(np.r_[2**40, np.arange(7)]), ('1099511627776',)),
  'the number of all examples': (
    ids(np.arange(17, 25)),
    (f'{NUM_EXAMPLES}', f'0 to {NUM_EXAMPLES - 1}'),
  ),
  'a range of ids': (
    same(lambda: ids(range(8))()[1], lambda: ids(np.arange(8))()[1]),
    None,
  ),
  'no batch': (batch(None, TABLE), ('no batch',)),
  'an axis that no kernel has': (
    lambda: sam_optax.kernels.axes_of(4, (), jnp.ones([3, 2])),
    ('axis=4', '(3, 2)', 'function'),
  ),
  'a batch of lists': (batch({'x': [1.0, 2.0]}), ("['x'][0]", 'close over')),
  'a text in the batch': (
    batch({'x': jnp.ones(8), 'name': 'train'}),
    ("['name']", 'close over'),
  ),
  'a step in the batch': (
    batch({'x': jnp.ones(8), 'step': 3}),
    ("['step']", 'close over'),
  ),
  'examples on the second axis': (
    batch({'x': jnp.ones([3, 8]), 'y': jnp.ones(8)}),
    ("['x']", '(3, 8)'),
  ),
}

ALL = {
  f'{kind}: {name}': row
  for kind, rows in {
    'gradients': GRADIENTS,
    'losses': LOSSES,
    'params': PARAMS,
    'states': STATES,
    'numbers': NUMBERS,
    'wrappers': WRAPPERS,
    'examples': EXAMPLES,
  }.items()
  for name, row in rows.items()
}


@pytest.mark.parametrize('name', ALL)
def test_it_is_refused_in_words_or_right(name, standard_promotion):
  call, words = ALL[name]
  if words is None:
    assert call()
    return
  with refused(*words):
    call()


@pytest.mark.parametrize(
  ('name', 'argument'),
  [
    (name, argument)
    for name, row in METHODS.items()
    for argument in row.static_args
    if argument in row.numbers
  ],
)
def test_a_static_number_that_is_traced_is_named(name, argument):
  def make(value):
    build(name, **{argument: value})

  with refused(argument, f"static_args=('{argument}',)"):
    jax.eval_shape(make, METHODS[name].value(argument))
