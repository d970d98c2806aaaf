"""The worked examples of the specification, in float64 to 1e-9.

Both entry points are tested. A case lists its random draws, which replace ours.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import sam_optax
from sam_optax import _evaluate, _random
from tests import problems

pytestmark = pytest.mark.usefixtures('x64')

GOLDEN = problems.GOLDEN
TOLERANCE = 1e-9


def close(actual, expected):
  np.testing.assert_allclose(
    np.asarray(actual), np.asarray(expected), rtol=0, atol=TOLERANCE
  )


class Case(NamedTuple):
  """A trajectory: the method, the base optimizer, and the fields to check."""

  method: Callable[[], sam_optax.SharpnessAware]
  base: Callable[[], optax.GradientTransformation] = lambda: optax.sgd(0.1)
  deterministic: bool = False
  l2: float = 0.0  # L2 in the loss, in both passes
  perturb: str | None = None  # the key of the listed decisions
  draws: tuple[str, str] | None = None  # (name in _random, key of the draws)
  state: dict[str, str] = {}  # noqa: RUF012  golden key -> field of the state
  reference: Callable[[Any, int], Any] | None = None  # b of the other data


def momentum(nesterov=False):
  return optax.sgd(0.1, momentum=0.9, nesterov=nesterov)


def coupled_decay():
  return optax.chain(optax.add_decayed_weights(0.05), momentum())


def clipped():
  return optax.chain(optax.clip_by_global_norm(1.0), momentum(True))


def decoupled_decay():
  return optax.chain(optax.sgd(0.1), optax.add_decayed_weights(-0.05 * 0.1))


def gsam(minimize):
  case = GOLDEN['gsam_min_fp_alpha0.4']
  rates = jnp.asarray(case['lr'])
  rho = sam_optax.rho_schedule(
    lambda step: rates[step],
    case['rho_max'],
    case['rho_min'],
    case['lr_max'],
    case['lr_min'],
  )
  return sam_optax.gsam(rho, alpha=0.4, minimize=minimize)


def gsam_base():
  rates = jnp.asarray(GOLDEN['gsam_min_fp_alpha0.4']['lr'])
  return optax.sgd(lambda step: rates[step])


def arsam(**options):
  return sam_optax.arsam(
    0.1, alpha=0.5, beta=0.9, segment=4, warmup_steps=2, **options
  )


ARSAM = dict(
  draws=('uniform', 'u'),
  state={
    'r_ema': 'ratio_change',
    's': 'samples',
    'p_next': 'probability',
    'h': 'psf',
  },
)
RSAM = dict(draws=('normal_like', 'z'))

CASES = {
  'sam_sgd_det': Case(lambda: sam_optax.sam(0.1), deterministic=True),
  'sam_sgd_stoch': Case(lambda: sam_optax.sam(0.1)),
  'sam_momentum_wd_base': Case(
    lambda: sam_optax.sam(0.1), coupled_decay, deterministic=True
  ),
  'sam_momentum_wd_loss': Case(
    lambda: sam_optax.sam(0.1), momentum, deterministic=True, l2=0.05
  ),
  'sam_nesterov_wd_loss_clip1': Case(
    lambda: sam_optax.sam(0.1), clipped, deterministic=True, l2=0.05
  ),
  'sam_sgd_wd_decoupled_eq_coupled_without_momentum': Case(
    lambda: sam_optax.sam(0.1), decoupled_decay, deterministic=True
  ),
  'sam_k2_stoch': Case(lambda: sam_optax.sam_k(0.1, k=2)),
  'ss_sam_given_bernoulli': Case(lambda: sam_optax.ss_sam(0.1), perturb='xi'),
  'asam_eta0_rho0.5': Case(
    lambda: sam_optax.asam(0.5, eta=0.0, adapt_all=True), deterministic=True
  ),
  'gsam_min_fp_alpha0.4': Case(lambda: gsam('perturbed'), gsam_base),
  'gsam_min_f_alpha0.4': Case(lambda: gsam('clean'), gsam_base),
  'fsam_code_sigma1_lambda0.6': Case(
    lambda: sam_optax.fsam(0.1, 1.0, 0.6), state={'m': 'ema'}
  ),
  'fsam_paper_sigma1_lambda0.6': Case(
    lambda: sam_optax.fsam(0.1, 1.0, 0.6, 'paper'), state={'m': 'ema'}
  ),
  'fsam_code_sigma0.5_lambda0.9': Case(
    lambda: sam_optax.fsam(0.1, 0.5, 0.9), state={'m': 'ema'}
  ),
  'fsam_paper_sigma0.5_lambda0.9': Case(
    lambda: sam_optax.fsam(0.1, 0.5, 0.9, 'paper'), state={'m': 'ema'}
  ),
  'fasam_code_sigma1_lambda0.6_rho0.5': Case(
    lambda: sam_optax.fasam(0.5, 1.0, 0.6), state={'m': 'ema'}
  ),
  'arsam_horizon2_default': Case(arsam, **ARSAM),
  'arsam_unlimited_alg1': Case(lambda: arsam(horizon=None), **ARSAM),
  'arsam_arsam_A_no_reuse': Case(lambda: arsam(horizon=0), **ARSAM),
  'arsam_all_sampled_equals_sam': Case(
    lambda: sam_optax.arsam(0.1, warmup_steps=100)
  ),
  'rsam_vector_gamma0.1_lambda2': Case(
    lambda: sam_optax.rsam(0.1, gamma=0.1, lam=2.0), **RSAM
  ),
  'rsam_gamma0_equals_sam': Case(
    lambda: sam_optax.rsam(0.1, gamma=0.0, lam=2.0), **RSAM
  ),
  'rsam_eq6_unprojected_gamma0.1': Case(
    lambda: sam_optax.rsam(0.1, gamma=0.1, lam=2.0, project=False), **RSAM
  ),
  'rgsam_gamma0.1_lambda2_alpha0.3': Case(
    lambda: sam_optax.rgsam(0.1, gamma=0.1, lam=2.0, alpha=0.3), **RSAM
  ),
}

CASES |= {
  'fisher_sam_gamma0.1_eta0': Case(
    lambda: sam_optax.fishersam(0.1, eta=0.0), deterministic=True
  ),
  'fisher_sam_gamma0.1_eta1': Case(
    lambda: sam_optax.fishersam(0.1, eta=1.0), deterministic=True
  ),
  'fisher_sam_l2norm_variant_rho0.1_eta1': Case(
    lambda: sam_optax.fishersam(0.1, eta=1.0, variant='code'),
    deterministic=True,
  ),
  'looksam_k2_alpha0.7_global': Case(
    lambda: sam_optax.looksam(0.1, k=2, alpha=0.7),
    state={'gv': 'look_direction'},
  ),
  'ae_sam_delta0.9': Case(
    lambda: sam_optax.aesam(0.1, total_steps=6),
    state={'mu': 'surge_mean', 'var': 'surge_variance', 'sam': 'perturbed'},
  ),
  'gnp_alpha0.8_r0.1_paper_unnormalised_g1': Case(
    lambda: sam_optax.gnp(0.1, alpha=0.8)
  ),
  'gnp_alpha0.8_r0.1_code_default_normalised_g1': Case(
    lambda: sam_optax.gnp(0.1, alpha=0.8, normalize=True)
  ),
  'wsam_coupled_gamma0.9_mom0.9_lr0.02': Case(
    lambda: sam_optax.wsam(0.1, gamma=0.9),
    lambda: optax.sgd(0.02, momentum=0.9),
  ),
  'wsam_decoupled_gamma0.9_mom0.9_lr0.02': Case(
    lambda: sam_optax.wsam_decoupled(0.02, 0.1, gamma=0.9),
    lambda: optax.sgd(1.0),
  ),
  'sam_full': Case(
    lambda: sam_optax.sam_full(0.1),
    reference=lambda problem, step: problem.mean_linear,
  ),
  'sam_noise_orth': Case(
    lambda: sam_optax.sam_noise(0.1),
    reference=lambda problem, step: problem.mean_linear,
  ),
  'sam_noise_paper': Case(
    lambda: sam_optax.sam_noise(0.1, variant='paper'),
    reference=lambda problem, step: problem.mean_linear,
  ),
  'sam_db': Case(
    lambda: sam_optax.sam_db(0.1),
    reference=lambda problem, step: problem.linear[(step + 1) % 4],
  ),
}

# Cases checked one by one in test_golden_parts.py.
SINGLE = {
  'problem_Q',
  'problem_P',
  'sam_data_parallel_1step',
  'asam_official_eta0.01_bias_plain_rho0.5',
  'arsam_controller_alpha0.4_M50_one_sample_per_segment',
  'arsam_psf_identity',
  'ae_sam_controller_only',
  'bsam',
  'esam_beta0.6_gamma0.5_strict_cutoff_code',
  'esam_beta0.6_gamma0.5_top_k_paper',
  'mesa_ema',
  'saf_mesa_lambda0.3_tau5',
  'saf_mesa_lambda0.8_tau5',
  'saf_ring_buffer',
  'ausam_minmax',
  'ausam_gumbel_topk',
  'ausam_smax_ramp',
  'ausam_scores_3_epochs',
  'rsam_kernel_noise_gamma0.01',
  'rsam_noise_std_schedule_official',
}

# Not a method: the table of the paper beside three models of it.
NOT_A_COMPUTATION = {'arsam_table1_model'}


def test_no_case_is_forgotten():
  named = [*CASES, *SINGLE, *NOT_A_COMPUTATION]
  assert sorted(named) == sorted(GOLDEN)


def per_step(golden: dict[str, Any], key: str) -> list[Any] | None:
  """The listed values of `key`, one per step."""
  if key in golden:
    return golden[key]
  if golden.get('steps') and key in golden['steps'][0]:
    return [step[key] for step in golden['steps']]
  return None


def run(case: Case, golden, monkeypatch, evaluation_door: bool):
  """Runs a case eagerly; returns the values of each step by golden key."""
  problem = problems.Quadratic(case.deterministic)
  method, base = case.method(), case.base()
  if case.draws is not None:
    name, key = case.draws
    draws = jnp.asarray(golden[key])
    monkeypatch.setattr(_random, name, lambda key, step, *like: draws[step])
  params, state = problem.start, method.init(problem.start)
  base_state = base.init(params)
  for step, _ in enumerate(per_step(golden, 'w')):
    points, batch = [], problem.batch(step)

    def losses(w, batch):
      values, aux = problem.losses(w, batch)
      return values + 0.5 * case.l2 * jnp.sum(w**2), aux

    def grad_fn(w, points=points, batch=batch):
      points.append(w)
      decay = lambda w: 0.5 * case.l2 * jnp.sum(w**2)
      return jax.grad(lambda w: problem.loss(w, batch) + decay(w))(w)

    if case.perturb:
      chosen = {'perturb': bool(golden[case.perturb][step])}
    elif evaluation_door:
      chosen = {}  # lax.cond decides
    else:  # the host decides
      chosen = method.decide(state, None, _evaluate.Evaluation(grad_fn(params)))
    if case.reference is not None:
      b = jnp.asarray(case.reference(problem, step))
      chosen['reference_grad_fn'] = lambda w, b=b: problem.hessian @ w - b
    if evaluation_door:
      _, grads, state = method.value_and_grad(
        losses, params, state, batch, **chosen
      )
    else:
      grads, state = method.update(
        grad_fn(params), state, params, grad_fn=grad_fn, **chosen
      )
    updates, base_state = base.update(grads, base_state, params)
    yield {
      'w': optax.apply_updates(params, updates),
      'g': grads,
      'eps': None if evaluation_door else points[-1] - params,
      'state': state,
    }
    params = optax.apply_updates(params, updates)


@pytest.mark.parametrize(
  'evaluation_door', [False, True], ids=['door1', 'door2']
)
@pytest.mark.parametrize('name', CASES)
def test_trajectory(name, evaluation_door, monkeypatch):
  case, golden = CASES[name], GOLDEN[name]
  steps = list(run(case, golden, monkeypatch, evaluation_door))
  close([step['w'] for step in steps], per_step(golden, 'w'))
  checked = {'w'}
  for key in ('g', 'eps'):
    expected = per_step(golden, key)
    if expected is not None and steps[0][key] is not None:
      close([step[key] for step in steps], expected)
      checked.add(key)
  for key, field in case.state.items():
    expected = per_step(golden, key)
    actual = [optax.tree.get(step['state'], field) for step in steps]
    close(actual, expected)
    checked.add(key)
  assert evaluation_door or len(checked) > 1 or 'steps' not in golden


def test_arsam_kinds_are_the_listed_ones(monkeypatch):
  golden = GOLDEN['arsam_horizon2_default']
  case = CASES['arsam_horizon2_default']
  steps = list(run(case, golden, monkeypatch, False))
  perturbed = [bool(step['state'].perturbed) for step in steps]
  assert perturbed == [kind == 'sam' for kind in per_step(golden, 'kind')]
