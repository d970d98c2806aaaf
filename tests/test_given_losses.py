"""Loss functions that return anything else than (losses, aux) are refused."""

import jax
import jax.numpy as jnp
import pytest

from tests import driving
from tests.given import (
  SAM,
  START,
  WITH_TABLE,
  assert_refused_or_right,
  called,
  every_method,
  every_route,
  refused,
  same,
  traced,
)
from tests.methods import METHODS, build, method

LOSSES = {
  'a scalar': (lambda losses, aux: (jnp.mean(losses), aux), 'whose losses'),
  'a column': (lambda losses, aux: (losses[:, None], aux), 'whose losses'),
  'a table': (
    lambda losses, aux: (losses[:, None] * jnp.ones([1, 3]), aux),
    'whose',
  ),
  'integers': (lambda losses, aux: (losses.astype(jnp.int32), aux), 'int32'),
  'bools': (lambda losses, aux: (losses > 0, aux), 'bool'),
  'complex': (lambda losses, aux: (losses + 0j, aux), 'complex'),
  'a Python float': (lambda losses, aux: (0.5, aux), 'whose losses'),
  # A method may have chosen half of the batch of eight.
  'no aux': (lambda losses, aux: losses, 'one array of shape ('),
  'no aux of two': (lambda losses, aux: losses[:2], 'one array of shape (2,)'),
  'three': (lambda losses, aux: (losses, aux, aux), 'a tuple of 3'),
  'a dict': (lambda losses, aux: {'losses': losses}, 'a dict'),
  'nothing': (lambda losses, aux: None, 'a NoneType'),
  'no losses': (lambda losses, aux: (losses[:0], aux), 'no examples'),
}


@every_route
@pytest.mark.parametrize('broken', LOSSES)
def test_losses_of_another_kind_are_refused(name, broken):
  tx = method(name)
  spoil, said = LOSSES[broken]
  losses = driving.losses_for(tx)
  with jax.numpy_dtype_promotion('standard'), refused(said, '. '):
    traced(tx, loss_fn=lambda *at: spoil(*losses(*at)))


@pytest.mark.parametrize(
  'name', [name for name in WITH_TABLE if not METHODS[name].another_loss]
)
def test_each_example_has_a_loss(name):
  with refused('losses for 8 examples'):
    traced(
      method(name),
      loss_fn=lambda p, batch: (driving.fit(p, batch)[0][:3], None),
    )


@pytest.mark.parametrize(
  'name',
  [n for n, r in METHODS.items() if r.needs_examples and not r.another_loss],
)
def test_a_method_says_whether_it_compares_losses(name):
  """By whether it takes losses that are not one for each example."""
  refuses = False
  try:
    traced(
      method(name),
      loss_fn=lambda p, batch: (driving.fit(p, batch)[0][:3], None),
    )
  except ValueError as error:
    refuses = 'losses for 8 examples' in str(error)
    assert refuses, error
  assert method(name).reads_losses == refuses


@every_method
def test_a_method_that_sees_no_examples_compares_none(name):
  row = METHODS[name]
  if not row.needs_examples or row.another_loss:
    assert not method(name).reads_losses


@pytest.mark.parametrize(
  'name', [n for n, r in METHODS.items() if 'num_classes' in r.static_args]
)
def test_the_classes_are_those_of_the_network(name):
  with refused('logits of shape (8, 2)', '(8, 5)', 'num_classes'):
    traced(build(name, num_classes=5))


# -- One call each ------------------------------------------------------------


LOGITS = method('mesa')


def losses(spoil, tx=SAM):
  """A call whose loss_fn returns what `spoil` makes of (losses, aux)."""
  plain = driving.losses_for(tx)
  return lambda: traced(tx, loss_fn=lambda *at: spoil(*plain(*at)))


CALLS = {
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


@pytest.mark.parametrize('name', CALLS)
def test_it_is_refused_in_words_or_right(name, standard_promotion):
  assert_refused_or_right(CALLS[name])
