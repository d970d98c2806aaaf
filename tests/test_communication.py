"""How much every method sends between devices, counted in compiled programs."""

import functools
import json
import pathlib
import re

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

import sam_optax
from benchmarks import rows
from benchmarks.hlo import collectives, one_step, ring, traffic
from benchmarks.hlo.collectives import Array, Collective
from tests import driving
from tests.methods import METHODS, NUM_CLASSES, method
from tests.routes import mesh

P = PartitionSpec
ROOT = pathlib.Path(__file__).parent.parent

# One program steps all methods. The parameters of each have a size of their
# own, by which its traffic is found; no array of examples has any such size.
WIDTHS = {name: 200 + i for i, name in enumerate(METHODS)}
SOMETIMES_PLAIN = [
  name for name, row in METHODS.items() if row.perturbs and not row.decided
]


def losses(params, batch):
  x, y = batch
  outputs = jnp.mean(jnp.tanh(x @ params['w']), axis=-1)
  logits = outputs[:, None] * jnp.arange(NUM_CLASSES, dtype='float32')[None]
  return (outputs - y) ** 2, {'logits': logits}


def step(made, perturb, placed, params, states, batch, ids):
  """A step of all methods as in mid-training: {name: (direction, state)}."""
  results = {}
  others = jnp.cos(batch[0]), batch[1]
  for name, row in ((name, METHODS[name]) for name in made):
    _, *results[name] = made[name].value_and_grad(
      lambda params, batch: losses(params, placed(batch)),
      params[name],
      states[name],
      batch,
      ids,
      reference_grad_fn=jax.grad(
        lambda params: driving.mean(losses(params, others)[0])
      ),
      # `perturb` is not for a method that perturbs on every step, or on none.
      perturb=None if row.decided else perturb,
      full_batch=False,
    )
  return results


# Methods that choose examples, or have a second source of them.
SHARING = [
  name
  for name, row in METHODS.items()
  if row.needs_examples or row.needs_reference
]
# Methods that send more than their direction.
KEEPING = [name for name, row in METHODS.items() if row.sends > 1]


@functools.cache
def sent(route, names, perturb=True):
  """Copies of the parameters that each method sends, by name."""
  perturbation, _, unchecked = route.partition(', ')
  made = {name: method(name) for name in names}
  params = {
    name: {'w': jax.ShapeDtypeStruct((3, WIDTHS[name]), jnp.float32)}
    for name in names
  }
  states = {
    name: jax.eval_shape(made[name].init, params[name]) for name in names
  }
  layout = mesh()
  whole, shared = NamedSharding(layout, P()), NamedSharding(layout, P('batch'))
  if route == 'jit':
    # Without it, every device would have all of the chosen examples.
    placed = functools.partial(
      jax.lax.with_sharding_constraint, shardings=shared
    )
    run = functools.partial(step, made, perturb, placed)
  else:
    made = {
      name: sam_optax.parallel(made[name], perturbation=perturbation)
      for name in names
    }
    run = jax.shard_map(
      functools.partial(step, made, perturb, lambda batch: batch),
      mesh=layout,
      in_specs=(P(), P(), P('batch'), P('batch')),
      out_specs=P(),
      check_vma=not unchecked,
    )
  program = jax.jit(
    run, in_shardings=(whole, whole, shared, shared), out_shardings=whole
  )
  lowered = program.lower(params, states, *driving.batch_at(0))
  found = collectives.read(lowered.compile().as_text())
  return {
    name: collectives.traffic(found, [3 * WIDTHS[name]]).total for name in names
  }


@pytest.mark.parametrize('name', METHODS)
def test_local_perturbations_send_the_direction_and_the_kept_averages(name):
  assert sent('local', tuple(METHODS))[name] == METHODS[name].sends


@pytest.mark.parametrize('name', KEEPING)
def test_local_perturbations_send_no_more_with_check_vma_off(name):
  unchecked = sent('local, unchecked', tuple(KEEPING))
  assert unchecked[name] == METHODS[name].sends


@pytest.mark.parametrize('name', METHODS)
def test_synced_perturbations_send_every_gradient(name):
  row = METHODS[name]
  gradients = row.per_sam_step if row.perturbs else 1
  assert sent('synced', tuple(METHODS))[name] == gradients


@pytest.mark.parametrize('name', SHARING)
def test_chosen_examples_are_spread_over_devices_under_plain_jit(name):
  row = METHODS[name]
  gradients = row.per_sam_step if row.perturbs else 1
  assert sent('jit', tuple(SHARING))[name] == gradients


@pytest.mark.parametrize('name', SOMETIMES_PLAIN)
@pytest.mark.parametrize('route', ['local', 'synced'])
def test_a_plain_step_sends_one_gradient(name, route):
  assert sent(route, tuple(SOMETIMES_PLAIN), perturb=False)[name] == 1


def test_the_table_in_the_documents_has_every_method_and_its_traffic():
  text = (ROOT / 'docs' / 'scaling.md').read_text()
  table = text.partition('## Traffic')[2].partition('## ')[0]
  found = {}
  for line in re.findall(r'^\| .*`.* \|$', table, re.MULTILINE)[1:]:
    names, _, local, _ = line.strip('| ').split(' | ')
    for name in re.findall(r'`(\w+)`', names.replace('SGD', '`identity`')):
      assert name not in found
      # Of a perturbed step; a plain one sends its gradient.
      found[name] = int(local.removesuffix(', 1'))
  assert found == {name: row.sends for name, row in METHODS.items()}


# Lines as the compilers of CPU, GPU and TPU write them.
LINES = [
  (
    '  %all-reduce.1 = f32[48,512]{1,0} all-reduce(%dot), channel_id=1, '
    'replica_groups=[1,8]<=[8], use_global_device_ids=true, to_apply=%add',
    Collective('all-reduce', (Array(24576, 98304),)),
  ),
  (
    '  ROOT %ar = (bf16[512]{0:T(512)}, /*index=1*/f32[], pred[2,3]{1,0}) '
    'all-reduce(%a, %b, %c), channel_id=2, replica_groups={{0,1}}',
    Collective('all-reduce', (Array(512, 1024), Array(1, 4), Array(6, 6))),
  ),
  (
    '%s = (f32[4]{0}, f32[6]{0}) all-reduce-start(%a, %b), channel_id=3',
    Collective('all-reduce', (Array(4, 16), Array(6, 24))),
  ),
  (
    '%g = (f32[4]{0}, f32[8]{0:T(8,128)}) all-gather-start(f32[4]{0} %a), '
    'channel_id=3, replica_groups=[1,2]<=[2], dimensions={0}',
    Collective('all-gather', (Array(8, 32),)),
  ),
  (
    '%r = f32[3]{0} reduce-scatter(%a), channel_id=4, '
    'replica_groups={{0,1,2,3},{4,5,6,7}}, dimensions={0}',
    Collective('reduce-scatter', (Array(12, 48),)),
  ),
  (
    '%r = f32[3]{0} reduce-scatter(%a), replica_groups=[2,4]<=[8]',
    Collective('reduce-scatter', (Array(12, 48),)),
  ),
  (
    '%p = (u32[2]{0}, u32[2]{0}, u32[], u32[]) collective-permute-start(%a), '
    'channel_id=5, source_target_pairs={{0,1},{1,0}}',
    Collective('collective-permute', (Array(2, 8),)),
  ),
]


@pytest.mark.parametrize(('line', 'expected'), LINES)
def test_operations_are_read(line, expected):
  assert collectives.read(line) == [expected]


@pytest.mark.parametrize(
  'line',
  [
    '%d = f32[4]{0} all-reduce-done(%s)',
    '%f = f32[4]{0} fusion(%all-reduce.1), kind=kLoop, calls=%fused',
    '%t = f32[4]{0} get-tuple-element(%all-gather-start.2), index=1',
  ],
)
def test_lines_that_use_a_result_are_not_operations(line):
  assert collectives.read(line) == []


def test_combined_operations_examples_and_scalars_are_told_apart():
  found = [expected for _, expected in LINES]
  sums = collectives.traffic(found, [24576, 512, 512, 8, 12])
  assert sums.operations == 5 and sums.arrays == 5
  copy = 24576 + 512 + 512 + 8 + 12
  assert sums.copies == pytest.approx(
    {
      'all-reduce': (24576 + 512) / copy,
      'all-gather': 8 / copy,
      'reduce-scatter': 24 / copy,
    }
  )
  assert sums.scalars == 1 and sums.other_bytes == 6 + 16 + 24 + 8
  losses = Collective('all-reduce', (Array(1, 4), Array(1, 4)))
  alone = collectives.traffic([losses], [2])
  assert alone.scalars == 2 and alone.operations == alone.total == 0


def test_the_group_of_a_reduce_scatter_must_be_known():
  with pytest.raises(ValueError, match='without groups'):
    collectives.read('%r = f32[3]{0} reduce-scatter(%a), dimensions={0}')


@pytest.mark.parametrize(
  ('devices', 'seconds'), [(1, 0), (2, 2 * (1 + 5)), (4, 6 * (1 + 2.5))]
)
def test_a_ring_by_hand(devices, seconds):
  taken = ring.all_reduce(100, devices, bandwidth=10, latency=1)
  assert taken == pytest.approx(seconds)


def test_a_table_of_rings_by_hand():
  assumed = ring.Assumptions(25, compute=0.5, bandwidth=10, latency=1)
  works = {'sgd': ring.Work(1, 1), 'arsam': ring.Work(1.25, 1.5)}
  assert ring.markdown(works, [2], assumed).splitlines() == [
    '| step | gradients | copies | 2 |',
    '|---|---|---|---|',
    '| sgd | 1.00 | 1.00 | 12500.0 ms, 1.00 |',
    # 1.25 x 0.5 s and 1.5 x 12 s
    '| arsam | 1.25 | 1.50 | 18625.0 ms, 1.49 |',
  ]


def test_the_mean_step_weighs_perturbed_and_plain_steps():
  def routes(local, synced):
    return {'local': {'total': local}, 'synced': {'total': synced}}

  counted = {
    'sgd': {'steps': {'plain': {'gradients': 1, 'routes': routes(1, 1)}}},
    'arsam': {
      'steps': {
        'perturbed': {'gradients': 2, 'routes': routes(3, 5)},
        'plain': {'gradients': 1, 'routes': routes(1, 1)},
      }
    },
  }
  assert traffic.works(counted, share=0.25) == {
    'sgd, local': ring.Work(1, 1),
    'sgd, synced': ring.Work(1, 1),
    'arsam, local': ring.Work(1.25, 1.5),
    'arsam, synced': ring.Work(1.25, 2),
  }


@pytest.mark.parametrize(
  ('name', 'kinds'),
  [
    ('sgd', {'plain': None}),
    ('sam', {'perturbed': None}),
    ('arsam', {'perturbed': True, 'plain': False}),
    # It decides about the examples, and always perturbs.
    ('ausam', {'perturbed': None}),
  ],
)
def test_the_kinds_of_steps_are_found(name, kinds):
  made = one_step.make_method(rows.specs()[name], batch=8)
  assert one_step.kinds(made, one_step.make_problem(8)) == kinds


def test_a_row_is_counted_and_reported():
  devices = jax.devices()[:2]
  counted = {'sgd': one_step.count(rows.specs()['sgd'], devices)}
  step = counted['sgd']['steps']['plain']
  assert step['gradients'] == 1
  for route in ('local', 'synced', 'jit'):
    sent = step['routes'][route]
    # The loss, and nothing of the size of examples.
    assert sent['total'] == sent['scalars'] == 1 and not sent['other_bytes']
  sharded = step['routes']['sharded']
  assert sharded['copies']['all-reduce'] == 1
  assert sharded['copies']['all-gather'] >= 1 and not sharded['other_bytes']
  assumed = ring.Assumptions(25, compute=0.5, bandwidth=10, latency=1)
  works = traffic.works(counted, share=0.25)
  text = traffic.report(counted, works, [8], assumed)
  assert '| sgd | 1 | 1 | 1 | 1 | 1 + 1' in text
  assert 'not a measurement' in text and '| sgd, local | 1.00 | 1.00 |' in text
  assert json.loads(json.dumps(counted)) == counted
