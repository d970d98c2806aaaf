"""What is measured: the networks, and the methods of the rows."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

import sam_optax
from train import config as train_config


class Network(NamedTuple):
  """A model, and what is measured of it where no flag says so.

  Attributes:
    model: of the training program.
    batch: on a CPU of two cores; elsewhere _BATCH.
    rows: on a CPU of two cores, none where they take hours; elsewhere 'all'.
    published: images per second over SAM's, in %, by row.
  """

  model: Mapping[str, Any]
  batch: int
  rows: str | None
  published: Mapping[str, float] = {}


_BATCH = 128
# ViT-Ti, with patches for images of 32x32.
_VIT_TI = {'patch': 4, 'width': 192, 'depth': 12, 'heads': 3}
# `ausam` beside it is AUSAM-0.5 of its own paper.
_ARSAM_TABLE_3 = {'sgd': 170, 'sam': 100, 'looksam': 115, 'esam': 104}
_ARSAM_TABLE_3 |= {'arsam': 140}

NETWORKS = {
  'mlp': Network({'name': 'mlp', 'hidden': (512, 512)}, 128, 'all'),
  'resnet': Network(
    {'name': 'resnet', 'widths': (16, 32, 64), 'blocks': (1, 1, 1)}, 128, 'all'
  ),
  'resnet18': Network(
    {
      'name': 'resnet',
      'widths': (64, 128, 256, 512),
      'blocks': (2, 2, 2, 2),
    },
    8,
    'main',
    _ARSAM_TABLE_3 | {'ausam': 132},
  ),
  'vit': Network({'name': 'vit', **_VIT_TI}, 8, 'main'),
  # WRN-28-10.
  'wrn': Network({'name': 'wrn'}, 8, None, {'ausam': 179}),
}


class Spec(NamedTuple):
  """A row: a method, and what it must pay.

  Attributes:
    method: a public name of `sam_optax`.
    changes: its arguments that differ from their defaults.
    settled: fields of its state and the number that each holds once training
      is under way, where getting there takes more steps than are measured.
    share: of a batch that the mean counted gradient is taken on; None for the
      method's own `keep`, or 1.
    forwards: forward passes per step beside those of its gradients.
    reference: whether it has a second gradient source.
    build: config -> the method, where it has no name.
  """

  method: str = 'identity'
  changes: Mapping[str, Any] = {}
  settled: Mapping[str, float] = {}
  share: float | None = None
  forwards: float = 0.0
  reference: bool = False
  build: Callable[[Any], sam_optax.SharpnessAware] | None = None


def _optax_sam(config) -> sam_optax.SharpnessAware:
  """`optax.contrib.sam` in opaque mode, behind the program's door."""
  inner = optax.contrib.sam(
    train_config.build_optimizer(config, 1),
    optax.chain(optax.contrib.normalize(), optax.sgd(0.05)),
    opaque_mode=True,
  )

  def init(params):
    return sam_optax.SharpnessAwareState(
      step=jnp.zeros([], jnp.int32),
      perturbed=jnp.ones([], jnp.bool_),
      sam_fraction=jnp.ones([]),
      gradient_evaluations=jnp.zeros([], jnp.int32),
      ascent=inner.init(params),
      cadence=(),
      descent=(),
      selection=(),
    )

  def value_and_grad(
    loss_fn, params, state, batch, example_ids=None, prepare=None
  ):
    del example_ids
    batch = batch if prepare is None else prepare(batch)

    def mean_loss(params):
      losses, aux = loss_fn(params, batch)
      return jnp.mean(losses), aux

    grad_fn = jax.value_and_grad(mean_loss, has_aux=True)
    value, grads = grad_fn(params)
    updates, inner_state = inner.update(
      grads, state.ascent, params, grad_fn=lambda at, _: grad_fn(at)[1]
    )
    state = state._replace(
      step=state.step + 1,
      gradient_evaluations=state.gradient_evaluations + 2,
      ascent=inner_state,
    )
    return value, optax.tree.scale(-1.0, updates), state

  return sam_optax.SharpnessAware(
    init,
    inner.update,
    value_and_grad,
    decide=lambda state, *arguments: {},
    is_optimizer=True,
  )


# Every example's rise is known, so that no batch goes in whole.
_SEEN = {'rise_count': 1.0}

# The aliases that need more than their defaults, or whose gradients are not
# all that they pay. ARSAM perturbs in its warm-up of two steps and then with a
# probability that alpha = 0 holds: samples over the segment.
_HELD = {'alpha': 0.0, 'segment': 50, 'warmup_steps': 2}
_SPECIAL = {
  'arsam': Spec(changes=_HELD, settled={'samples': 12.5, 'probability': 0.25}),
  # At half of the batch and a share of 0.3, 0.65 of a gradient.
  'arsam_ausam': Spec(
    changes=_HELD, settled={**_SEEN, 'samples': 15.0, 'probability': 0.3}
  ),
  'ausam': Spec(settled=_SEEN),
  # Half of its batch in the second gradient, chosen by a forward pass.
  'esam': Spec(changes={'gamma': 0.5}, share=0.75, forwards=1.0),
  # The loss that is reported is no gradient's.
  'lpfsgd': Spec(forwards=1.0),
  # An epoch of one step, so that it is past its start at once.
  'mesa': Spec(changes={'start_epoch': 0, 'steps_per_epoch': 1}, forwards=1.0),
  'saf': Spec(changes={'start_epoch': 0}),
  'sam_db': Spec(forwards=1.0, reference=True),
  'sam_full': Spec(reference=True),
  'sam_noise': Spec(reference=True),
}

MAIN = (
  'sam',
  'fsam',
  'rsam',
  'gsam',
  'looksam',
  'arsam',
  'ausam',
  'arsam_ausam',
  'esam',
)
EXTRA = {
  'optax-sam': Spec(build=_optax_sam),
}


def specs() -> dict[str, Spec]:
  """Every row by its name: SGD, every alias of the library, and the rest."""
  rows = {'sgd': Spec()}
  for name in sam_optax.METHODS:
    if name != 'identity':
      rows[name] = _SPECIAL.get(name, Spec())._replace(method=name)
  return {**rows, **EXTRA}


def chosen(names: str) -> dict[str, Spec]:
  """The rows of a flag: 'all', 'main', or names with commas; SGD always."""
  known = specs()
  if names == 'all':
    return known
  wanted = (*MAIN, *EXTRA) if names == 'main' else names.split(',')
  for name in wanted:
    if name not in known:
      raise ValueError(
        f'Given the row {name!r}. There is no such row. Use all, main, or '
        f'some of {", ".join(known)}.'
      )
  return {name: known[name] for name in ('sgd', *wanted)}


def default_networks() -> list[str]:
  """The networks that the machine at hand can measure in a fair time."""
  slow = jax.default_backend() == 'cpu'
  return [name for name, it in NETWORKS.items() if not slow or it.rows]


def default_batch(network: Network) -> int:
  """A batch that the machine at hand can take in a fair time."""
  return network.batch if jax.default_backend() == 'cpu' else _BATCH


def default_rows(network: Network) -> str:
  """The rows that the machine at hand can measure in a fair time."""
  rows = network.rows or 'main'
  return rows if jax.default_backend() == 'cpu' else 'all'
