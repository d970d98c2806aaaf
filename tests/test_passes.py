"""How often a step goes over the parameters, and the memory that it needs."""

import pytest

from benchmarks import rows
from benchmarks.hlo import passes

# A matrix of 6 x 4 is multiplied, moved, summed, and copied in a branch.
PROGRAM = """
HloModule step

%sum (x: f32[], y: f32[]) -> f32[] {
  %x = f32[] parameter(0)
  %y = f32[] parameter(1)
  ROOT %add = f32[] add(%x, %y)
}

%moved (p: f32[6,4], q: f32[6,4]) -> f32[6,4] {
  %p = f32[6,4]{1,0} parameter(0)
  %q = f32[6,4]{1,0} parameter(1)
  ROOT %add.1 = f32[6,4]{1,0} add(%p, %q)
}

%product (a: f32[6,5], b: f32[5,4]) -> f32[6,4] {
  %a = f32[6,5]{1,0} parameter(0)
  %b = f32[5,4]{1,0} parameter(1)
  ROOT %dot = f32[6,4]{1,0} dot(%a, %b), lhs_contracting_dims={1}
}

%plain (t: (f32[6,4], f32[])) -> (f32[6,4], f32[]) {
  %t = (f32[6,4]{1,0}, f32[]) parameter(0)
  %g = f32[6,4]{1,0} get-tuple-element(%t), index=0
  %c = f32[6,4]{1,0} copy(%g)
  %h = f32[] get-tuple-element(%t), index=1
  ROOT %u = (f32[6,4]{1,0}, f32[]) tuple(%c, %h)
}

ENTRY %main (w: f32[6,4], a.1: f32[6,5], b.1: f32[5,4], k: s32[]) -> f32[] {
  %w = f32[6,4]{1,0} parameter(0)
  %a.1 = f32[6,5]{1,0} parameter(1)
  %b.1 = f32[5,4]{1,0} parameter(2)
  %k = s32[] parameter(3)
  %zero = f32[] constant(0)
  %d = f32[6,4]{1,0} fusion(%a.1, %b.1), kind=kOutput, calls=%product
  %m = f32[6,4]{1,0} fusion(%w, %d), kind=kLoop, calls=%moved
  %s = f32[] reduce(%m, %zero), dimensions={0,1}, to_apply=%sum
  %v = (f32[6,4]{1,0}, f32[]) tuple(%m, %s)
  %i = (f32[6,4]{1,0}, /*index=1*/f32[]) conditional(%k, %v, %v), \
branch_computations={%plain, %plain}
  ROOT %r = f32[] get-tuple-element(%i), index=1
}
"""


def test_passes_are_read_from_a_program():
  # The fused addition, the sum, and a copy in either branch.
  assert passes.count(PROGRAM, 24) == passes.Passes(reads=4, writes=3)
  assert passes.count(PROGRAM, 30) == passes.Passes(reads=0, writes=0)


# Beside the gradients, per kind of step: arrays of parameters that are read and
# written, and the greatest temporary memory in copies of the parameters. A norm
# reads, a perturbation reads twice and writes, SGD reads and writes.
LIMITS = {
  'sgd': {'plain': (1, 1, 1.1)},
  'sam': {'perturbed': (3, 2, 1.3)},
  'fsam': {'perturbed': (6, 4, 2.0)},
  'arsam': {'perturbed': (5, 3, 2.3), 'plain': (1, 1, 1.1)},
  'ausam': {'perturbed': (3, 2, 1.3)},
  'rsam': {'perturbed': (6, 5, 2.3)},
}


@pytest.mark.parametrize('name', LIMITS)
def test_a_step_goes_over_the_parameters_as_often_as_it_must(name):
  found = passes.counted(rows.chosen(name)[name])
  assert set(found) == set(LIMITS[name])
  for kind, (reads, writes, temporary) in LIMITS[name].items():
    assert found[kind].passes.reads <= reads
    assert found[kind].passes.writes <= writes
    assert found[kind].temporary <= temporary
