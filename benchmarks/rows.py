"""The networks and the rows (methods) of the benchmark."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

import sam_optax
from train import config as train_config


class Network(NamedTuple):
  """A network, and the defaults of its measurement.

  Attributes:
    model: the model section of a config of the training program.
    batch: batch size on a CPU of two cores; `_BATCH` on an accelerator.
    rows: rows on a CPU of two cores, None if they would take hours; 'all' on an
      accelerator.
    published: images per second relative to SAM, in %, by row.
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
  """A row: a method, and its ideal cost.

  Attributes:
    method: a name in `sam_optax.METHODS`.
    changes: arguments that differ from their defaults.
    settled: numbers to write into fields of the state, by name, if the method
      would reach its steady state only after more steps than are measured.
    forwards: forward passes per step in addition to those of the gradients.
    reference: whether the method has a second gradient source.
    build: config -> the method, if it is not one of `sam_optax`.
  """

  method: str = 'identity'
  changes: Mapping[str, Any] = {}
  settled: Mapping[str, float] = {}
  forwards: float = 0.0
  reference: bool = False
  build: Callable[[Any], sam_optax.SharpnessAware] | None = None


def _optax_sam(config) -> sam_optax.SharpnessAware:
  """`optax.contrib.sam` in opaque mode, with our `value_and_grad`."""
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
      batch_gradients=jnp.zeros([]),
      direction_norm=None,
      dropped_ids=None,
      ascent=inner.init(params),
      cadence=(),
      descent=(),
      selection=(),
    )

  def value_and_grad(
    loss_fn, params, state, batch, example_ids=None, prepare=None, **unused
  ):
    del example_ids, unused
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
      batch_gradients=state.batch_gradients + 2,
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


# The loss rise of every example is known, so that no batch goes in whole.
_SEEN = {'rise_count': 1.0}

# Methods that need arguments, or that pay for more than their gradients. ARSAM
# perturbs in its warm-up of two steps; from then on alpha = 0 keeps its
# probability constant, at samples / segment.
_HELD = {'alpha': 0.0, 'segment': 50, 'warmup_steps': 2}
_SPECIAL = {
  'arsam': Spec(changes=_HELD, settled={'samples': 12.5, 'probability': 0.25}),
  # Half of the batch, and 1.3 gradients per step: 0.65 gradients.
  'arsam_ausam': Spec(
    changes=_HELD, settled={**_SEEN, 'samples': 15.0, 'probability': 0.3}
  ),
  'ausam': Spec(settled=_SEEN),
  # The second gradient is of half of the batch, chosen by a forward pass.
  'esam': Spec(changes={'gamma': 0.5}, forwards=1.0),
  # The reported loss needs a forward pass at the unperturbed parameters.
  'lpfsgd': Spec(forwards=1.0),
  # With epochs of one step it is active from the second step on.
  'mesa': Spec(changes={'start_epoch': 0, 'steps_per_epoch': 1}, forwards=1.0),
  'saf': Spec(changes={'start_epoch': 0}),
  'sam_db': Spec(forwards=1.0, reference=True),
  'sam_full': Spec(reference=True),
  'sam_noise': Spec(reference=True),
  # One SAM step in each segment, whatever training does.
  'vsam': Spec(
    changes={**_HELD, 'alpha_variance': 0.0, 'segment': 4, 'blocks': 2}
  ),
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
  """Every row by name: SGD, every method of the library, and `EXTRA`."""
  rows = {'sgd': Spec()}
  for name in sam_optax.METHODS:
    if name != 'identity':  # which is the row of SGD
      rows[name] = _SPECIAL.get(name, Spec())._replace(method=name)
  return {**rows, **EXTRA}


def chosen(names: str) -> dict[str, Spec]:
  """The rows that a flag names: 'all', 'main', or names; SGD always first."""
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
  """The networks that this machine can measure in minutes."""
  slow = jax.default_backend() == 'cpu'
  return [name for name, it in NETWORKS.items() if not slow or it.rows]


def default_batch(network: Network) -> int:
  """A batch size fit for this machine."""
  return network.batch if jax.default_backend() == 'cpu' else _BATCH


def default_rows(network: Network) -> str:
  """The rows that this machine can measure in minutes."""
  rows = network.rows or 'main'
  return rows if jax.default_backend() == 'cpu' else 'all'
