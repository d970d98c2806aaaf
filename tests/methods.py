"""THE TABLE: every method, its traits, and the settings at which it is SAM.

Each battery of tests runs over these rows. A special case is a column here, and
no test mentions a method by name.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax

import sam_optax


class Number(NamedTuple):
  """An argument that is a number.

  Attributes:
    other: a second value, which changes the results.
    shows_at: the first step whose result differs if the number changes at
      step 2. It is later than 2 if step 2 is plain, or if the number acts on a
      statistic or on a random draw.
    is_schedule: whether it may be a schedule.
    minimum: the smallest valid value.
    maximum: the largest valid value.
    costs: whether the cost of a step depends on it.
    whole: whether it counts something, so that a fraction is refused.
  """

  other: float
  shows_at: int = 2
  is_schedule: bool = True
  minimum: float = 0.0
  maximum: float = float('inf')
  costs: bool = False
  whole: bool = False


class Row(NamedTuple):
  """One method.

  Attributes:
    make: the constructor; tests pass further arguments by name.
    options: the arguments with which the tests reach every branch in few steps.
    is_sam: arguments at which it is `sam(rho)`, None if there are none. A rho
      among them is passed to both methods.
    is_base: arguments at which it is the base optimizer, None if there are
      none.
    evaluations: gradients evaluated in the first 4 steps with `options`, None
      if they depend on random draws or on the gradient.
    numbers: its numbers by name: each may be injected by
      `optax.inject_hyperparams`, and each is checked by the constructor.
    exact: whether `is_sam` gives SAM bit for bit (otherwise to rounding).
    exact_base: whether `is_base` gives the base optimizer bit for bit.
    also: other reductions: (another method, the arguments at which this one
      equals it with its own test options, changes to those options).
    decided: whether the branch of every step is known at construction.
    first_at_params: whether the first pass is at the parameters.
    perturbs: whether it ever perturbs.
    per_sam_step: gradients evaluated in a SAM step.
    batches: the size of each of these gradients in batches, the smallest first;
      one batch each by default.
    forward: forward passes of the whole batch, without a gradient, per step.
    loss_costs: whether it takes no gradient at the parameters, so that the loss
      there, which value_and_grad returns, costs one more forward pass.
    sends: copies of the parameters that cross devices in a SAM step with local
      perturbations: the direction, and the mean gradient if the method averages
      it over steps or decides by it.
    settles: the step from which `batches` and `forward` hold; before it, every
      gradient is of one batch and there is no other forward pass.
    rounding: the rounding error of a gradient in the direction, relative to
      SAM.
    takes_empty: whether it works on a tree without leaves.
    needs_reference: whether it needs reference_grad_fn.
    needs_examples: whether it needs loss_fn and batch.
    needs_ids: whether it needs example_ids.
    plain_radius: arguments at which the perturbation has the Euclidean norm rho
      if all parameters are 1, to be added to the test options; None if there
      are none.
    static_args: arguments that `inject_hyperparams` must not inject, because
      they shape arrays.
    another_loss: whether it trains on a modified loss: its step takes loss_fn,
      whose aux has 'logits', and does not use grad_fn.
    whole_step: whether it is an optimizer, whose direction is minus the update;
      in the tests `optax.sgd(1.0)` follows it.
    no_decay: arguments at which nothing but the gradient moves the parameters.
    trains: arguments for a long run, with a small learning rate and no noise.
  """

  make: Callable[..., sam_optax.SharpnessAware]
  options: dict[str, Any]
  is_sam: dict[str, Any] | None
  is_base: dict[str, Any] | None
  evaluations: int | None
  numbers: dict[str, Number]
  exact: bool = True
  exact_base: bool = True
  also: tuple[tuple[str, dict[str, Any], dict[str, Any]], ...] = ()
  decided: bool = True
  first_at_params: bool = True
  perturbs: bool = True
  per_sam_step: int = 2
  batches: tuple[float, ...] | None = None
  forward: int = 0
  loss_costs: bool = False
  sends: int = 1
  settles: int = 0
  rounding: float = 1.0
  takes_empty: bool = True
  needs_reference: bool = False
  needs_examples: bool = False
  needs_ids: bool = False
  plain_radius: dict[str, Any] | None = {}  # noqa: RUF012
  static_args: tuple[str, ...] = ()
  another_loss: bool = False
  whole_step: bool = False
  no_decay: dict[str, Any] = {}  # noqa: RUF012
  trains: dict[str, Any] = {}  # noqa: RUF012

  def value(self, name: str) -> Any:
    """The value of an argument in the tests: an option, or the default."""
    default = inspect.signature(self.make).parameters[name].default
    return self.options.get(name, default)


NUM_EXAMPLES = 24
NUM_CLASSES = 2
BATCH_SIZE = 8
EPOCH = NUM_EXAMPLES // BATCH_SIZE  # in steps


def every_leaf(params: Any) -> Any:
  """The mask of all leaves."""
  return jax.tree.map(lambda leaf: True, params)


def all_but_the_first(params: Any) -> Any:
  """A mask of some leaves of a tree that has several."""
  leaves, structure = jax.tree.flatten(params)
  kept = [i > 0 or len(leaves) == 1 for i in range(len(leaves))]
  return jax.tree.unflatten(structure, kept)


def no_leaf(params: Any) -> Any:
  """The mask of no leaf."""
  return jax.tree.map(lambda leaf: False, params)


# What AE-SAM's policy takes. The thresholds may have any sign.
SURGE = {
  'total_steps': Number(3, is_schedule=False),
  'lambda1': Number(2.0, is_schedule=False, minimum=-float('inf')),
  'lambda2': Number(-1.0, is_schedule=False, minimum=-float('inf')),
  'decay': Number(0.3, is_schedule=False, maximum=1.0),
}

METHODS = {
  'identity': Row(
    sam_optax.identity,
    options={},
    is_sam=None,
    is_base={},
    evaluations=4,
    numbers={},
    plain_radius=None,
    perturbs=False,
  ),
  'sam': Row(
    sam_optax.sam,
    options={'rho': 0.1},
    is_sam={},
    is_base={'rho': 0.0},
    evaluations=8,
    numbers={'rho': Number(0.3)},
  ),
  'asam': Row(
    sam_optax.asam,
    options={'rho': 0.1, 'adapt_all': True},
    is_sam={'adapt_all': False},  # every leaf of the problem is 1-D
    is_base={'rho': 0.0},
    evaluations=8,
    numbers={'rho': Number(0.3), 'eta': Number(0.5)},
  ),
  'fsam': Row(
    sam_optax.fsam,
    options={'rho': 0.1, 'decay': 0.6},
    is_sam={'sigma': 0.0},
    is_base={'rho': 0.0},
    evaluations=8,
    numbers={
      'rho': Number(0.3),
      'sigma': Number(0.5),
      'decay': Number(0.1, maximum=1.0),
    },
    sends=2,
  ),
  'fasam': Row(
    sam_optax.fasam,
    options={'rho': 0.1, 'decay': 0.6},
    is_sam={'sigma': 0.0, 'adapt_all': False},
    is_base={'rho': 0.0},
    evaluations=8,
    numbers={
      'rho': Number(0.3),
      'sigma': Number(0.5),
      'decay': Number(0.1, maximum=1.0),
      'eta': Number(0.5),
    },
    also=(
      ('asam', {'sigma': 0.0}, {'eta': 0.0}),
      ('fsam', {'adapt_all': False}, {}),
    ),
    sends=2,
  ),
  'rsam': Row(
    sam_optax.rsam,
    options={'rho': 0.1, 'gamma': 0.1, 'key': 0},
    is_sam={'gamma': 0.0},
    is_base={'rho': 0.0},
    evaluations=8,
    numbers={'rho': Number(0.3), 'gamma': Number(0.3), 'lam': Number(0.5)},
    exact=False,  # lam * g is normalised instead of g
    first_at_params=False,
    static_args=('axis',),
  ),
  'rgsam': Row(
    sam_optax.rgsam,
    options={'rho': 0.1, 'gamma': 0.1, 'key': 0},
    is_sam={'gamma': 0.0, 'alpha': 0.0},
    is_base={'rho': 0.0, 'gamma': 0.0},
    evaluations=8,
    numbers={
      'rho': Number(0.3),
      'gamma': Number(0.3),
      'lam': Number(0.5),
      'alpha': Number(0.9),
    },
    exact=False,
    first_at_params=False,
    exact_base=False,  # as in GSAM
    also=(
      ('rsam', {'alpha': 0.0}, {}),
      ('gsam', {'gamma': 0.0}, {'alpha': 0.3}),
    ),
  ),
  'gsam': Row(
    sam_optax.gsam,
    options={'rho': 0.1},
    is_sam={'alpha': 0.0},
    is_base={'rho': 0.0},
    evaluations=8,
    numbers={'rho': Number(0.3), 'alpha': Number(0.9)},
    exact_base=False,  # g - <g, u> u is rounding noise, not 0
  ),
  'sam_k': Row(
    sam_optax.sam_k,
    options={'rho': 0.1, 'k': 2},
    is_sam={'k': 1},
    is_base={'rho': 0.0},
    evaluations=6,
    numbers={'rho': Number(0.3), 'k': Number(3, costs=True, whole=True)},
    decided=False,
  ),
  'ss_sam': Row(
    sam_optax.ss_sam,
    options={'rho': 0.1, 'p': 0.5, 'key': 0},
    is_sam={'p': 1.0},
    is_base={'p': 0.0},
    evaluations=None,
    numbers={
      'rho': Number(0.3, shows_at=3),
      'p': Number(1.0, maximum=1.0, costs=True),
    },
    decided=False,
  ),
  'arsam': Row(
    sam_optax.arsam,
    options={
      'rho': 0.1,
      'segment': 2,
      'warmup_steps': 1,
      'horizon': 1,
      'key': 0,
    },
    is_sam={'warmup_steps': 1000},
    is_base={'rho': 0.0},
    evaluations=None,
    numbers={
      'rho': Number(0.3, shows_at=3),
      'alpha': Number(5.0, shows_at=3),
      'beta': Number(0.1, shows_at=3, maximum=1.0),
      'segment': Number(3, is_schedule=False, whole=True),
      'warmup_steps': Number(6, is_schedule=False, whole=True),
      'horizon': Number(3, is_schedule=False, whole=True),
      'p_min': Number(1.0, shows_at=3, maximum=1.0),
      'p_max': Number(0.5, is_schedule=False, maximum=1.0),
    },
    decided=False,
    sends=2,
  ),
  'vsam': Row(
    sam_optax.vsam,
    options={
      'rho': 0.1,
      'alpha': 2.0,
      'alpha_variance': 1.0,
      'segment': 4,
      'warmup_steps': 2,
      'horizon': 2,
      'blocks': 2,
      'key': 0,
    },
    is_sam={'warmup_steps': 1000},
    is_base={'rho': 0.0},
    evaluations=None,
    numbers={
      'rho': Number(0.3, shows_at=5),
      'alpha': Number(0.0, shows_at=4),
      # As a schedule in test_variation: it acts from the second segment on.
      'alpha_variance': Number(5.0, is_schedule=False),
      'segment': Number(6, is_schedule=False, whole=True),
      'warmup_steps': Number(6, is_schedule=False, whole=True),
      'decay': Number(0.2, maximum=1.0),
      'horizon': Number(1, is_schedule=False, whole=True),
      'blocks': Number(1, is_schedule=False, whole=True),
      'p_max': Number(0.5, is_schedule=False, maximum=1.0),
    },
    decided=False,
    static_args=('segment', 'blocks'),
    sends=2,
  ),
  'ausam': Row(
    sam_optax.ausam,
    options={
      'rho': 0.1,
      'num_examples': NUM_EXAMPLES,
      'ramp_epochs': 1,
      'key': 0,
    },
    is_sam={'keep': 1.0},
    is_base={'rho': 0.0, 'keep': 1.0},
    evaluations=8,
    numbers={
      'rho': Number(0.3),
      's_min': Number(0.4, shows_at=4),
      's_max': Number(5.0, shows_at=3),
      'num_examples': Number(30, is_schedule=False, whole=True),
      'keep': Number(0.75, is_schedule=False, maximum=1.0, costs=True),
      'ramp_epochs': Number(2, shows_at=4),
    },
    exact=False,  # the batch's mean is taken in another order
    needs_examples=True,
    needs_ids=True,
    decided=False,
    exact_base=False,
    static_args=('num_examples', 'keep'),
    batches=(0.5, 0.5),
    settles=EPOCH,  # a batch with an example never seen goes in whole
  ),
  'fishersam': Row(
    sam_optax.fishersam,
    options={'rho': 0.1},
    is_sam={'eta': 0.0},
    is_base={'rho': 0.0},
    evaluations=8,
    numbers={'rho': Number(0.3), 'eta': Number(9.0)},
    exact=False,  # the norm is another expression
    plain_radius={'eta': 0.0},
  ),
  'looksam': Row(
    sam_optax.looksam,
    options={'rho': 0.1, 'k': 2},
    is_sam={'k': 1},
    is_base={'rho': 0.0, 'alpha': 0.0},
    evaluations=6,
    numbers={
      'rho': Number(0.3),
      'k': Number(3, costs=True, whole=True),
      'alpha': Number(0.2, shows_at=3),
    },
    also=(('sam_k', {'alpha': 0.0}, {}),),
    decided=False,
    sends=2,
  ),
  'gnp': Row(
    sam_optax.gnp,
    options={'rho': 0.1},
    is_sam={'alpha': 1.0},
    is_base={'alpha': 0.0},
    evaluations=8,
    numbers={'rho': Number(0.3), 'alpha': Number(0.3)},
  ),
  'wsam': Row(
    sam_optax.wsam,
    options={'rho': 0.1},
    is_sam={'gamma': 0.5},
    is_base={'gamma': 0.0},
    evaluations=8,
    numbers={
      'rho': Number(0.3),
      'gamma': Number(0.6, is_schedule=False, maximum=1.0),
    },
    also=(('gnp', {'gamma': 0.75}, {'alpha': 3.0}),),
    rounding=17.0,  # 9 g_p - 8 g
  ),
  'aesam': Row(
    sam_optax.aesam,
    options={'rho': 0.1, 'total_steps': 12},
    is_sam={'lambda1': -1e6, 'lambda2': -1e6},
    is_base={'rho': 0.0},
    evaluations=None,
    numbers={'rho': Number(0.3), **SURGE},
    decided=False,
    sends=2,
  ),
  'aelooksam': Row(
    sam_optax.aelooksam,
    options={'rho': 0.1, 'total_steps': 12},
    is_sam={'lambda1': -1e6, 'lambda2': -1e6},
    is_base={'rho': 0.0, 'alpha': 0.0},
    evaluations=None,
    numbers={'rho': Number(0.3), 'alpha': Number(0.2, shows_at=3), **SURGE},
    also=(('aesam', {'alpha': 0.0}, {}),),
    decided=False,
    sends=2,
  ),
  'arsam_ausam': Row(
    sam_optax.arsam_ausam,
    options={
      'rho': 0.1,
      'num_examples': NUM_EXAMPLES,
      'segment': 2,
      'warmup_steps': 3,
      'horizon': 1,
      'ramp_epochs': 1,
      'key': 5,
    },
    is_sam={'keep': 1.0, 'warmup_steps': 1000},
    is_base={'rho': 0.0, 'keep': 1.0},
    evaluations=None,
    numbers={
      'rho': Number(0.3),
      'alpha': Number(5.0, shows_at=3),
      'beta': Number(0.1, maximum=1.0),
      's_min': Number(0.4, shows_at=4),
      's_max': Number(5.0, shows_at=3),
      'num_examples': Number(30, is_schedule=False, whole=True),
      'keep': Number(0.75, is_schedule=False, maximum=1.0, costs=True),
      'segment': Number(3, is_schedule=False, whole=True),
      'warmup_steps': Number(6, is_schedule=False, whole=True),
      'horizon': Number(3, is_schedule=False, whole=True),
      'ramp_epochs': Number(2, shows_at=4),
      'p_min': Number(1.0, shows_at=3, maximum=1.0),
      'p_max': Number(0.5, is_schedule=False, maximum=1.0),
    },
    exact=False,  # as in AUSAM
    exact_base=False,
    needs_examples=True,
    needs_ids=True,
    batches=(0.5, 0.5),
    settles=EPOCH,  # as in AUSAM
    decided=False,
    static_args=('num_examples', 'keep'),
    sends=2,
  ),
  'sam_random': Row(
    sam_optax.sam_random,
    options={'rho': 0.1, 'key': 0},
    is_sam={'keep': 1.0},
    is_base={'rho': 0.0, 'keep': 1.0},
    evaluations=8,
    numbers={
      'rho': Number(0.3),
      'keep': Number(0.75, is_schedule=False, maximum=1.0, costs=True),
    },
    exact=False,  # as in AUSAM
    exact_base=False,
    decided=False,
    needs_examples=True,
    needs_ids=True,
    static_args=('keep',),
    batches=(0.5, 0.5),
  ),
  'infobatch': Row(
    sam_optax.infobatch,
    # Without a call of start_epoch no example is left out; see test_epochs.
    options={'num_examples': NUM_EXAMPLES, 'total_steps': 12},
    is_sam=None,
    is_base={},
    evaluations=4,
    numbers={},
    plain_radius=None,
    perturbs=False,
    needs_examples=True,
    needs_ids=True,
    static_args=('num_examples', 'total_steps', 'share', 'delta'),
  ),
  'sam_infobatch': Row(
    sam_optax.sam_infobatch,
    # As in infobatch.
    options={'rho': 0.1, 'num_examples': NUM_EXAMPLES, 'total_steps': 12},
    is_sam={},
    is_base={'rho': 0.0},
    evaluations=8,
    numbers={'rho': Number(0.3)},
    needs_examples=True,
    needs_ids=True,
    static_args=('num_examples', 'total_steps', 'share', 'delta'),
  ),
  'esam': Row(
    sam_optax.esam,
    # With this key some steps leave out one of the two leaves, and no step
    # both: no loss would rise then, and rounding would choose the examples.
    options={'rho': 0.1, 'beta': 0.8, 'key': 4},
    is_sam={'beta': 1.0, 'gamma': 1.0},
    is_base={'rho': 0.0, 'gamma': 1.0},
    evaluations=8,
    numbers={
      'rho': Number(0.3),
      'beta': Number(0.3, is_schedule=False, maximum=1.0),
      'gamma': Number(0.75, is_schedule=False, maximum=1.0, costs=True),
    },
    exact=False,  # 1e-7 under the gradient, and the order of the batch
    exact_base=False,
    needs_examples=True,
    plain_radius={'beta': 1.0},
    static_args=('gamma',),
    batches=(0.5, 1),
    forward=1,
  ),
  'vasso': Row(
    sam_optax.vasso,
    options={'rho': 0.1, 'theta': 0.6},
    is_sam={'theta': 1.0},
    is_base={'rho': 0.0},
    evaluations=8,
    numbers={'rho': Number(0.3), 'theta': Number(0.3, maximum=1.0)},
    exact=False,  # d + 1 (g - d) is g to rounding
    sends=2,
  ),
  'sam_on': Row(
    sam_optax.sam_on,
    options={'rho': 0.1, 'mask': all_but_the_first},
    is_sam={'mask': every_leaf},
    is_base={'rho': 0.0},
    evaluations=8,
    numbers={'rho': Number(0.3)},
    takes_empty=False,
    static_args=('mask',),
  ),
  'gcsam': Row(
    sam_optax.gcsam,
    options={'rho': 0.1, 'mask': every_leaf},  # every leaf is one kernel
    is_sam={'mask': no_leaf},
    is_base={'rho': 0.0},
    evaluations=8,
    numbers={'rho': Number(0.3)},
    plain_radius={'mask': no_leaf},  # a constant gradient has no direction
    static_args=('mask', 'axis'),
  ),
  'unified_sam': Row(
    sam_optax.unified_sam,
    options={'rho': 0.1},
    is_sam={'lam': 1.0},
    is_base={'rho': 0.0},
    evaluations=8,
    numbers={'rho': Number(0.3), 'lam': Number(0.9, maximum=1.0)},
    exact=False,  # 0 + 1 / norm is another expression
    plain_radius={'lam': 1.0},
  ),
  'stable_sam': Row(
    sam_optax.stable_sam,
    options={'rho': 0.1},
    is_sam={'rho': 0.0},
    is_base={'rho': 0.0},
    evaluations=8,
    numbers={'rho': Number(0.3)},
    exact=False,  # norm / norm is 1 to rounding
    exact_base=False,
  ),
  'multi_step_sam': Row(
    sam_optax.multi_step_sam,
    options={'rho': 0.1, 'steps': 2, 'step_size': 0.06},
    is_sam={'steps': 1, 'step_size': None},
    is_base={'rho': 0.0},
    evaluations=12,
    numbers={
      'rho': Number(0.3),
      'step_size': Number(0.02),
      'steps': Number(3, is_schedule=False, costs=True, whole=True),
    },
    exact=False,  # projected to the ball
    per_sam_step=3,
    plain_radius={'steps': 1, 'step_size': None},
    static_args=('steps',),
  ),
  'late_sam': Row(
    sam_optax.late_sam,
    options={'rho': 0.1, 'start': 1, 'stop': 3},
    is_sam={'start': 0, 'stop': None},
    is_base={'stop': 0},
    evaluations=6,
    numbers={
      'rho': Number(0.3),
      'start': Number(2, is_schedule=False, whole=True),
      'stop': Number(5, is_schedule=False, whole=True),
    },
    decided=False,
  ),
  'lpfsgd': Row(
    sam_optax.lpfsgd,
    options={'gamma': 0.1, 'key': 0},
    is_sam={'gamma': 0.0},
    is_base={'gamma': 0.0},
    evaluations=4,
    numbers={
      'gamma': Number(0.3),
      'draws': Number(2, is_schedule=False, costs=True, whole=True),
    },
    per_sam_step=1,
    plain_radius=None,
    static_args=('draws',),
    loss_costs=True,
  ),
  'sam_full': Row(
    sam_optax.sam_full,
    options={'rho': 0.1},
    is_sam=None,  # it is where the reference is the batch
    is_base={'rho': 0.0},
    evaluations=12,
    numbers={'rho': Number(0.3)},
    needs_reference=True,
    per_sam_step=3,
    batches=(1, 1, EPOCH),
  ),
  'sam_noise': Row(
    sam_optax.sam_noise,
    options={'rho': 0.1},
    is_sam=None,
    is_base={'rho': 0.0},
    evaluations=12,
    numbers={'rho': Number(0.3)},
    needs_reference=True,
    per_sam_step=3,
    plain_radius=None,
    batches=(1, 1, EPOCH),
  ),
  'sam_db': Row(
    sam_optax.sam_db,
    options={'rho': 0.1},
    is_sam=None,  # as in sam_full
    is_base={'rho': 0.0},
    evaluations=8,
    numbers={'rho': Number(0.3)},
    needs_reference=True,
    batches=(1, EPOCH),
    loss_costs=True,
  ),
  'saf': Row(
    sam_optax.saf,
    options={
      'num_examples': NUM_EXAMPLES,
      'num_classes': NUM_CLASSES,
      'epochs_ago': 1,
      'start_epoch': 0,
      'stop_epoch': 1000,
      'steps_per_epoch': EPOCH,
    },
    is_sam=None,
    is_base={'lam': 0.0},
    evaluations=4,
    numbers={
      'num_examples': Number(48, is_schedule=False, minimum=1.0, whole=True),
      'lam': Number(0.9, shows_at=EPOCH),
      'tau': Number(1.0, shows_at=EPOCH),
      'epochs_ago': Number(2, is_schedule=False, minimum=1.0, whole=True),
      'start_epoch': Number(1, shows_at=EPOCH),
      'stop_epoch': Number(1, shows_at=EPOCH),
      'steps_per_epoch': Number(1, minimum=1.0),
    },
    perturbs=False,
    needs_examples=True,
    needs_ids=True,
    plain_radius=None,
    static_args=('num_examples', 'num_classes', 'epochs_ago'),
    another_loss=True,
  ),
  'mesa': Row(
    sam_optax.mesa,
    options={
      'decay': 0.875,
      'start_epoch': 0,
      'stop_epoch': 1000,
      'steps_per_epoch': 1,
    },
    is_sam=None,
    is_base={'lam': 0.0},
    evaluations=4,
    numbers={
      'lam': Number(0.3),
      'tau': Number(1.0),
      'decay': Number(0.5, maximum=1.0),
      'start_epoch': Number(2),
      'stop_epoch': Number(2),
      'steps_per_epoch': Number(4, minimum=1.0),
    },
    perturbs=False,
    needs_examples=True,
    plain_radius=None,
    another_loss=True,
    forward=1,
    settles=1,  # active after the start epoch, and an epoch is one step
  ),
  'wsam_decoupled': Row(
    sam_optax.wsam_decoupled,
    options={
      'learning_rate': 0.1,
      'rho': 0.1,
      'gamma': 0.75,
      'base': optax.sgd(0.1, momentum=0.9),
    },
    is_sam=None,  # with plain SGD it is, at gamma = 0.5
    is_base={'gamma': 0.0},
    evaluations=8,
    numbers={
      'learning_rate': Number(0.3),
      'rho': Number(0.3),
      'gamma': Number(0.6, maximum=1.0),
    },
    whole_step=True,
    trains={'learning_rate': 2e-3, 'base': None},
    sends=2,
  ),
  'bsam': Row(
    sam_optax.bsam,
    options={
      'learning_rate': 0.1,
      'num_examples': NUM_EXAMPLES,
      'rho': 0.1,
      'key': 0,
    },
    is_sam=None,
    is_base=None,  # its momentum is divided by the precision
    evaluations=8,
    numbers={
      'learning_rate': Number(0.3),
      'rho': Number(0.3),
      'num_examples': Number(1000, minimum=1.0),
      'beta1': Number(0.5, maximum=1.0),
      'beta2': Number(0.5, maximum=1.0),
      'damping': Number(0.5),
      'prior_precision': Number(3.0),
    },
    first_at_params=False,
    plain_radius=None,
    whole_step=True,
    no_decay={'prior_precision': 0.0},
    trains={
      'learning_rate': 5e-3,
      'num_examples': 1e12,
      'prior_precision': 0.0,
    },
    sends=2,
  ),
}

PERTURBING = [name for name, row in METHODS.items() if row.perturbs]
RANDOM = [name for name, row in METHODS.items() if 'key' in row.options]


def build(name: str, **changes: Any) -> sam_optax.SharpnessAware:
  """The method of a row with its test options, some of them changed."""
  row = METHODS[name]
  return row.make(**{**row.options, **changes})


@functools.cache
def method(name: str) -> sam_optax.SharpnessAware:
  """The method of a row: one object, so that tests share compiled steps."""
  return build(name)
