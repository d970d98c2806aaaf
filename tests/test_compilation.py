"""The kinds of a run's steps compile at the same time."""

import threading
from concurrent import futures

import numpy as np
import pytest

from train.engine.compilation import Compilation, Kind
from train.parallel.devices import SINGLE_DEVICE

STEP, OTHER, THIRD, FOURTH = (
  Kind('step', perturb=perturb, full_batch=full)
  for perturb in (True, False)
  for full in (True, False)
)
SECONDS = 20


class FakeDevices:
  """Lowers to something that compiles once it is let go."""

  def __init__(self, names):
    self.begun = {name: threading.Event() for name in names}
    self.go = {name: threading.Event() for name in names}
    self.traced = {name: threading.Event() for name in names}
    self.lowered = []

  def lower(self, function, arguments, split, donated):
    del arguments, split, donated
    self.lowered.append(function)
    self.traced[function].set()
    return self._Lowered(self, function)

  class _Lowered:
    def __init__(self, devices, name):
      self.devices, self.name = devices, name

    def compile(self):
      self.devices.begun[self.name].set()
      assert self.devices.go[self.name].wait(SECONDS)
      return self.name


@pytest.fixture
def devices():
  fake = FakeDevices(('one', 'two', 'three', 'four'))
  yield fake
  for event in fake.go.values():
    event.set()


def test_the_first_kind_does_not_wait_for_the_others(devices):
  compilation = Compilation(devices, at_once=2)
  with futures.ThreadPoolExecutor(1) as thread:
    first = thread.submit(
      compilation.wait, STEP, 'one', (), beside={OTHER: 'two'}
    )
    # Both are being compiled, and neither is done.
    assert devices.begun['one'].wait(SECONDS)
    assert devices.begun['two'].wait(SECONDS)
    devices.go['one'].set()
    assert first.result(SECONDS) == 'one'
  assert compilation.ready(STEP) == 'one' and compilation.ready(OTHER) is None
  devices.go['two'].set()
  assert compilation.wait(OTHER, 'two', (), beside={STEP: 'one'}) == 'two'
  # Each was lowered once.
  assert devices.lowered == ['one', 'two']


def test_the_others_wait_for_the_first_kind_where_one_compiles_at_once(devices):
  compilation = Compilation(devices, at_once=1)
  with futures.ThreadPoolExecutor(1) as thread:
    first = thread.submit(
      compilation.wait, STEP, 'one', (), beside={OTHER: 'two'}
    )
    assert devices.begun['one'].wait(SECONDS)
    assert devices.traced['two'].wait(SECONDS)
    assert not devices.begun['two'].is_set()
    devices.go['one'].set()
    assert first.result(SECONDS) == 'one'
    # Nobody asked for it yet.
    assert devices.begun['two'].wait(SECONDS)
  devices.go['two'].set()
  assert set(compilation.compiled) == {STEP, OTHER}


def test_the_first_kind_does_not_wait_for_the_tracing_of_the_others(devices):
  compilation = Compilation(devices)
  lower, ready = devices.lower, threading.Event()

  def slowly(function, *arguments):
    if function == 'two':
      devices.go['one'].set()
      assert ready.wait(SECONDS)
    return lower(function, *arguments)

  devices.lower = slowly
  submit = compilation._threads.submit

  def noted(function):
    begun = submit(function)
    if devices.lowered == ['one']:
      begun.add_done_callback(lambda _: ready.set())
    return begun

  compilation._threads.submit = noted
  beside = {OTHER: 'two', THIRD: 'three', FOURTH: 'four'}
  assert compilation.wait(STEP, 'one', (), beside=beside) == 'one'
  assert devices.lowered == ['one', 'two']


def test_what_was_not_begun_is_forgotten_and_compiled_on_demand(devices):
  compilation = Compilation(devices, at_once=2)
  beside = {OTHER: 'two', THIRD: 'three', FOURTH: 'four'}
  with futures.ThreadPoolExecutor(1) as thread:
    first = thread.submit(compilation.wait, STEP, 'one', (), beside=beside)
    assert devices.traced['four'].wait(SECONDS)
    # `one` ends, and the two threads are at `two` and `three`.
    devices.go['one'].set()
    assert first.result(SECONDS) == 'one'
  assert devices.begun['three'].wait(SECONDS)
  compilation.forget_waiting()
  for name in ('two', 'three'):
    devices.go[name].set()
  assert set(compilation.compiled) == {STEP, OTHER, THIRD}
  assert not devices.begun['four'].is_set()
  devices.go['four'].set()
  assert compilation.wait(FOURTH, 'four', ()) == 'four'


def test_a_kind_that_cannot_be_traced_leaves_the_others():
  def fails(x):
    raise ValueError('cannot be traced')

  compilation = Compilation(SINGLE_DEVICE)
  arguments = (np.ones(2, np.float32),)
  with pytest.raises(ValueError, match='cannot be traced'):
    compilation.wait(STEP, fails, arguments)
  doubled = compilation.wait(OTHER, lambda x: 2 * x, arguments)
  np.testing.assert_array_equal(doubled(*arguments), [2, 2])
