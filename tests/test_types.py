"""What a type checker, and so an editor, tells a user of the library."""

import inspect
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import optax
import pytest

import sam_optax

ROOT = pathlib.Path(__file__).parent.parent

# The steps of README.md, as somebody would write them who checks strictly. jax
# does not say of its own functions what all their arguments are.
PROGRAM = """
import jax
import jax.numpy as jnp
import optax
import sam_optax

Params = dict[str, jax.Array]


def losses(params: Params, batch: jax.Array) -> tuple[jax.Array, None]:
  return jnp.square(batch @ params['w']), None


def step(params: Params, opt_state: optax.OptState, batch: jax.Array):
  def loss(params: Params) -> jax.Array:
    return jnp.mean(losses(params, batch)[0])

  value_and_grad = jax.value_and_grad(loss)  # pyright: ignore
  value, grads = value_and_grad(params)

  def grad_fn(params: Params) -> Params:
    return value_and_grad(params)[1]

  updates, opt_state = tx.update(
    grads, opt_state, params, grad_fn=grad_fn, value=value
  )
  return optax.apply_updates(params, updates), opt_state


params = {'w': jax.random.normal(jax.random.key(0), [2])}
batch = jnp.stack([params['w']])
tx = optax.chain(sam_optax.sam(rho=0.05), optax.sgd(0.1, momentum=0.9))
new_params, opt_state = step(params, tx.init(params), batch)

method = sam_optax.sharpness_aware(
  sam_optax.ascent.gradient(0.05), sam_optax.cadence.every(2)
)
state = method.init(params)
(value, aux), grads, state = method.value_and_grad(losses, params, state, batch)
grads, state = method.update(
  grads, state, params, loss_fn=losses, batch=batch, **method.decide(state)
)
"""


def pyright(*arguments, path, folder):
  """What pyright prints, run in a folder; `path` is where it finds modules."""
  env = os.environ | {'PYTHONPATH': os.pathsep.join(map(str, path))}
  # It asks the first Python on the path what else is installed.
  here = pathlib.Path(sys.executable).parent
  env['PATH'] = f'{here}{os.pathsep}{env["PATH"]}'
  command = [sys.executable, '-m', 'basedpyright', '--outputjson', *arguments]
  ran = subprocess.run(
    command, cwd=folder, env=env, capture_output=True, text=True
  )
  assert ran.stdout, ran.stderr
  return json.loads(ran.stdout)


def test_every_public_type_is_known(tmp_path):
  # Optax has types and no py.typed. `--verifytypes` then reads nothing of it,
  # and counts whatever derives from a class of Optax as unknown. Here it gets
  # the types of Optax's base module, and Any for the rest.
  stub = tmp_path / 'optax'
  stub.mkdir()
  base = inspect.getsourcefile(optax.GradientTransformation)
  shutil.copy(base, stub / '_base.pyi')
  (stub / '__init__.pyi').write_text(
    'from typing import Any\n'
    'from optax._base import *\n'
    'def __getattr__(name: str) -> Any: ...\n'
  )
  (stub / 'py.typed').touch()
  said = pyright(
    '--verifytypes',
    'sam_optax',
    '--ignoreexternal',
    path=[tmp_path, ROOT],
    folder=tmp_path,
  )['typeCompleteness']
  assert pathlib.Path(said['packageRootDirectory']) == ROOT / 'sam_optax'
  bad = {
    symbol['name']: [each['message'] for each in symbol['diagnostics']]
    for symbol in said['symbols']
    if symbol['isExported'] and not symbol['isTypeKnown']
  }
  assert not bad
  counts = said['exportedSymbolCounts']
  assert counts['withAmbiguousType'] == counts['withUnknownType'] == 0
  assert counts['withKnownType'] > 300
  assert said['completenessScore'] == 1


@pytest.fixture(scope='module')
def report(tmp_path_factory):
  """What a strict check says of a user's program, and of each method."""
  folder = tmp_path_factory.mktemp('user')
  program = PROGRAM + ''.join(
    f'reveal_type(sam_optax.{name})\n' for name in sam_optax.METHODS
  )
  program += 'reveal_type(method.update)\nreveal_type(method.decide(state))\n'
  (folder / 'program.py').write_text(program)
  settings = {'typeCheckingMode': 'strict', 'reportMissingTypeStubs': False}
  (folder / 'pyrightconfig.json').write_text(json.dumps(settings))
  return pyright(path=[ROOT], folder=folder)['generalDiagnostics']


def test_a_program_passes_the_strict_check(report):
  wrong = [each for each in report if each['severity'] != 'information']
  assert not wrong
  exec(PROGRAM, {})  # And it runs.


def test_an_editor_shows_signatures(report):
  revealed = [re.search('"(.*)" is "(.*)"', each['message']) for each in report]
  types = {each[1]: each[2] for each in revealed}
  assert len(types) == len(sam_optax.METHODS) + 2
  for name, method in sam_optax.METHODS.items():
    shown = types[f'sam_optax.{name}']
    assert shown.endswith(' -> SharpnessAware')
    for parameter in inspect.signature(method).parameters:
      assert f'{parameter}: ' in shown
      assert not re.search(rf'\b{parameter}: Any(,| =)', shown)
  assert 'grad_fn: GradFn | None = None' in types['method.update']
  assert types['method.decide(state)'] == 'Decisions'
