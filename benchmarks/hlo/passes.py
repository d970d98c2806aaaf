r"""Counts the passes of every method over the parameters.

python -m benchmarks.hlo.passes
python -m benchmarks.hlo.passes sam fsam arsam

Compiles one step of each method for a small network on one device, and reads
from the optimized HLO how often it goes over the largest array of parameters,
or over another array of that size, without counting the products of matrices:
these are the gradients. Beside it stands the memory that the step needs for the
time that it takes. Nothing is timed. Prints a Markdown table.
"""

import functools
import math
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
from absl import app, logging

import sam_optax
from benchmarks import rows
from benchmarks.hlo import one_step
from train.report import table

_HEAD = re.compile(r'^(ENTRY )?%?([\w.-]+) \(.*\{$')
# The arrays of a result may be several, in parentheses.
_INSTRUCTION = re.compile(
  r'^ +(?:ROOT )?%?([\w.-]+) = (\(.*?\)|\S+) ([\w-]+)\((.*)$'
)
_ARRAY = re.compile(r'\b[a-z]+\d*\w*\[([\d,]*)\]')
_CALLED = re.compile(
  r'(?:calls|to_apply|body|branch_computations|(?:true|false)_computation)='
  r'(?:\{(.*?)\}|%?([\w.-]+))'
)
# What moves no array.
_FREE = {
  'after-all',
  'bitcast',
  'constant',
  'get-tuple-element',
  'opt-barrier',
  'parameter',
  'tuple',
}
_PRODUCTS = {'convolution', 'dot'}


class Passes(NamedTuple):
  """Instructions of a program that go over arrays of a size.

  Attributes:
    reads: those that read one or more of them.
    writes: those that write one.
  """

  reads: int
  writes: int


class Counted(NamedTuple):
  """What a compiled step takes.

  Attributes:
    passes: see `Passes`.
    temporary: memory beside arguments and results, in copies of the parameters.
    state: size of the method's state, likewise.
  """

  passes: Passes
  temporary: float
  state: float


class _Instruction(NamedTuple):
  name: str
  elements: list[int]  # of each array of its result
  opcode: str
  rest: str  # operands and attributes

  @property
  def called(self) -> list[str]:
    """The computations that it runs, or that it is fused of."""
    found = (one or several for several, one in _CALLED.findall(self.rest))
    return [
      name.strip().lstrip('%') for names in found for name in names.split(',')
    ]


def count(text: str, elements: int) -> Passes:
  """Counts the passes of a program over arrays of a size.

  An instruction in a branch or in the body of a loop counts once.

  Args:
    text: the optimized HLO module, as `compiled.as_text()` gives it.
    elements: the number of elements of such an array.
  """
  computations, entry = _read(text)

  def multiplies(instruction):
    if instruction.opcode in _PRODUCTS:
      return True
    if instruction.opcode == 'custom-call':
      return re.search('matmul|dot|conv', instruction.rest) is not None
    return instruction.opcode == 'fusion' and any(
      multiplies(inside)
      for name in instruction.called
      for inside in computations[name]
    )

  def run(name) -> Iterator[Passes]:
    large = {x.name for x in computations[name] if elements in x.elements}
    for instruction in computations[name]:
      if instruction.opcode in ('call', 'conditional', 'while'):
        for called in instruction.called:
          yield from run(called)
      elif instruction.opcode not in _FREE and not multiplies(instruction):
        operands = re.findall(r'[\w.-]+', instruction.rest.split('), ')[0])
        yield Passes(
          not large.isdisjoint(operands), elements in instruction.elements
        )

  found = list(run(entry))
  return Passes(sum(x.reads for x in found), sum(x.writes for x in found))


def _read(text: str) -> tuple[dict[str, list[_Instruction]], str]:
  """The instructions of each computation, and the name of the first to run."""
  computations: dict[str, list[_Instruction]] = {}
  entry, name = '', ''
  for line in text.splitlines():
    head = _HEAD.match(line)
    if head is not None:
      name = head[2]
      entry = name if head[1] else entry
      computations[name] = []
    match = _INSTRUCTION.match(line)
    if match is not None:
      shapes = _ARRAY.findall(match[2])
      sizes = [math.prod(int(n) for n in s.split(',') if n) for s in shapes]
      computations[name].append(
        _Instruction(match[1], sizes, match[3], match[4])
      )
  return computations, entry


def measure(
  method: sam_optax.SharpnessAware, perturb: bool | None, batch: int = 8
) -> Counted:
  """Compiles a step of a method for one device, and counts.

  Args:
    method: the method.
    perturb: the kind of the step; None for a method that has one kind.
    batch: images in a batch.
  """
  problem = one_step.make_problem(batch)
  state = method.init(problem.params)
  step = functools.partial(one_step.take, method, perturb=perturb)
  # Compile quickly, since nothing is timed. This stage follows the HLO.
  options: dict[str, Any] = {'xla_backend_optimization_level': 0}
  compiled = (
    jax.jit(step, donate_argnums=(0, 1))
    .lower(problem.params, state, problem.examples, problem.reference)
    .compile(options)
  )
  arrays = jax.tree.leaves(problem.params)
  copy = sum(x.nbytes for x in arrays)
  like_params = {x.shape for x in arrays}
  kept = [x for x in jax.tree.leaves(state) if x.shape in like_params]
  return Counted(
    count(compiled.as_text(), max(x.size for x in arrays)),
    compiled.memory_analysis().temp_size_in_bytes / copy,
    sum(x.nbytes for x in kept) / copy,
  )


def counted(spec: rows.Spec, batch: int = 8) -> dict[str, Counted]:
  """The counts of the steps of a row, by kind of step."""
  method = one_step.make_method(spec, batch)
  kinds = one_step.kinds(method, one_step.make_problem(batch))
  return {
    kind: measure(method, perturb, batch) for kind, perturb in kinds.items()
  }


def report(results: dict[str, dict[str, Counted]]) -> str:
  """A Markdown table with a line for each row and kind of step."""
  head = ['row', 'step', 'reads', 'writes', 'temporary', 'state']
  body = [
    [
      name,
      kind,
      str(found.passes.reads),
      str(found.passes.writes),
      f'{found.temporary:.2f}',
      f'{found.state:.2f}',
    ]
    for name, kinds in results.items()
    for kind, found in kinds.items()
  ]
  return table.markdown(head, body)


def main(argv: list[str]) -> None:
  """Counts for the rows that are named, or for all; prints the table."""
  logging.set_verbosity(logging.ERROR)
  chosen = rows.chosen(','.join(argv[1:]) or 'all').items()
  print(
    report({name: counted(spec) for name, spec in chosen if spec.build is None})
  )


if __name__ == '__main__':
  app.run(main)
