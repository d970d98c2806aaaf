"""The worked examples of single parts, and of other problems.

In float64 to 1e-9, as in test_golden.py.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import sam_optax
from sam_optax import (
  _random,
  ascent,
  cadence,
  descent,
  selection,
  trajectory,
)
from tests import problems
from tests.test_golden import close

pytestmark = pytest.mark.usefixtures('x64')

GOLDEN = problems.GOLDEN


def test_asam_official_leaves_biases_plain():
  problem = problems.Quadratic(deterministic=True)
  join = lambda p: jnp.concatenate([p['weight'].ravel(), p['bias']])
  start = problem.start
  params = {'weight': start[:1, None], 'bias': start[1:]}
  loss = lambda p: problem.loss(join(p), problem.batch(0))
  method, base = sam_optax.asam(0.5, eta=0.01), optax.sgd(0.1)
  state, base_state = method.init(params), base.init(params)
  golden = GOLDEN['asam_official_eta0.01_bias_plain_rho0.5']
  for expected in golden['steps']:
    points = []

    def grad_fn(p, points=points):
      points.append(p)
      return jax.grad(loss)(p)

    grads, state = method.update(
      jax.grad(loss)(params), state, params, grad_fn=grad_fn
    )
    close(join(points[-1]) - join(params), expected['eps'])
    updates, base_state = base.update(grads, base_state)
    params = optax.apply_updates(params, updates)
    close(join(params), expected['w'])


def test_sam_on_two_devices_in_one_step():
  golden = GOLDEN['sam_data_parallel_1step']
  problem = problems.Quadratic()
  grads = [
    jax.grad(lambda w, t=t: problem.loss(w, problem.batch(t))) for t in (0, 1)
  ]
  start = problem.start
  method = sam_optax.sam(0.1)

  def second(incoming, grad_fn):
    state = method.init(start)
    return method.update(incoming, state, start, grad_fn=grad_fn)[0]

  local = [second(g(start), g) for g in grads]
  mean = (grads[0](start) + grads[1](start)) / 2
  synced = [second(mean, g) for g in grads]
  close(local, golden['g2_local'])
  close(synced, golden['g2_synced'])
  close(start - 0.1 * (local[0] + local[1]) / 2, golden['w_local_perturb'])
  close(start - 0.1 * (synced[0] + synced[1]) / 2, golden['w_synced_perturb'])


def test_arsam_controller():
  controller = cadence.autoregressive(alpha=0.4, segment=50, warmup_steps=0)
  state = controller.init()
  golden = GOLDEN['arsam_controller_alpha0.4_M50_one_sample_per_segment']
  for segment, expected in enumerate(golden['steps']):
    # One sample in the middle of each segment.
    for step in range(50 * segment, 50 * (segment + 1)):
      if step % 50 == 20:
        close(state.samples, expected['s_before'])
        gradient = jnp.asarray([1.0, 0.0])
        psf = jnp.asarray([0.0, expected['c']])
        state = controller.update(
          gradient, gradient + psf, state, jnp.asarray(step)
        )
      else:
        state = controller.update(None, None, state, jnp.asarray(step))
    close(state.ratio, expected['c'])
    close(state.ratio_change, expected['r_ema'])
    close(state.samples, expected['s_after'])
    close(state.probability, expected['p'])


def test_arsam_psf_is_rho_times_hessian_times_direction():
  problem = problems.Quadratic()
  grad_fn = jax.grad(lambda w: problem.loss(w, problem.batch(0)))
  method = sam_optax.arsam(0.1)
  state = method.init(problem.start)
  gradient = grad_fn(problem.start)
  _, state = method.update(gradient, state, problem.start, grad_fn=grad_fn)
  golden = GOLDEN['arsam_psf_identity']
  close(state.descent.psf, golden['psf'])
  close(state.descent.psf, golden['rho_H_ghat'])


def test_rsam_kernel_noise():
  golden = GOLDEN['rsam_kernel_noise_gamma0.01']
  params, normal = (
    {'conv': golden[k], 'dense': golden[d], 'scale': golden['scale']}
    for k, d in (('K', 'D'), ('ZK', 'ZD'))
  )
  params['bias'] = golden['bias']
  is_list = lambda x: isinstance(x, list)
  params, normal = (
    jax.tree.map(jnp.asarray, t, is_leaf=is_list) for t in (params, normal)
  )
  # The draws of 1-D leaves are not listed; any number will do.
  noise_scale = np.asarray(golden['noise_scale'])
  normal['scale'] = jnp.asarray(noise_scale / (0.01 * np.sqrt(2.0)))
  normal['bias'] = jnp.asarray([1.0, -1.0])
  code = ascent.kernel_noise(normal, params, 0.01)
  close(code['conv'], golden['noise_K_std_gamma_norm'])
  close(code['dense'], golden['noise_D'])
  close(code['bias'], golden['noise_bias'])
  close(code['scale'], golden['noise_scale'])
  paper = ascent.kernel_noise(normal, params, 0.01, variant='paper')
  close(paper['conv'], golden['noise_K_paper_var_gamma2_norm'])


def test_rsam_noise_schedule():
  golden = GOLDEN['rsam_noise_std_schedule_official']
  schedule = sam_optax.noise_schedule(golden['T'])
  for step, expected in golden['values'].items():
    close(schedule(jnp.asarray(int(step))), expected)


def test_ausam_weights():
  golden = GOLDEN['ausam_minmax']
  scores = jnp.asarray(golden['scores'])
  weights = selection.draw_weights(scores, golden['s_min'], golden['s_max'])
  close(weights, golden['p'])
  equal = selection.draw_weights(jnp.ones(6), 0.1, 0.5)
  close(equal, golden['p_equal'])


def test_ausam_gumbel_top_k(monkeypatch):
  golden = GOLDEN['ausam_gumbel_topk']
  noise = -jnp.log(-jnp.log(jnp.asarray(golden['u'], jnp.float32)))
  monkeypatch.setattr(_random, 'gumbel', lambda key, step, size: noise)
  scores = jnp.asarray(GOLDEN['ausam_minmax']['scores'], jnp.float32)
  for keep, expected in (
    (0.5, golden['selected_k3']),
    (1.0, golden['order']),
  ):
    part = selection.by_loss_rise(6, keep=keep, ramp_epochs=0)
    state = part.init()._replace(
      rise_sum=scores, rise_count=jnp.ones(6, jnp.float32)
    )
    chosen = part.choice.positions(state, jnp.arange(6), jnp.asarray(0), 6)
    if keep == 1.0:
      np.testing.assert_array_equal(chosen, expected)
    else:
      assert sorted(chosen.tolist()) == expected


def test_ausam_ramp():
  golden = GOLDEN['ausam_smax_ramp']
  for epoch, expected in golden['values'].items():
    ramp = selection.ramp(
      jnp.asarray(float(epoch)),
      golden['E_start'],
      golden['s_min'],
      golden['s_max'],
    )
    close(ramp, expected)


def test_ausam_three_epochs():
  # Scores are stored in float32, so they are compared to its precision.
  golden = GOLDEN['ausam_scores_3_epochs']
  problem = problems.Regression()
  params = problem.start
  histories = {
    name: selection.by_loss_rise(6, history=name) for name in ('mean', 'last')
  }
  states = {name: part.init() for name, part in histories.items()}
  base = optax.sgd(0.1)
  method = sam_optax.sam(0.1)
  method_state, base_state = method.init(params), base.init(params)
  for expected in golden['steps']:
    ids = jnp.asarray(expected['idx'])
    batch = (problem.x[ids], problem.y[ids])
    points = []

    def losses(w, batch, points=points):
      points.append(w)
      return problem.losses(w, batch)

    loss = lambda w, batch=batch: jnp.mean(problem.losses(w, batch)[0])

    def grad_fn(w, points=points, loss=loss):
      points.append(w)
      return jax.grad(loss)(w)

    grads, method_state = method.update(
      jax.grad(loss)(params), method_state, params, grad_fn=grad_fn
    )
    before, after = (problem.losses(w, batch)[0] for w in (params, points[-1]))
    for name, part in histories.items():
      states[name] = part.update(before, after, states[name], ids)
    close(jnp.abs(after - before), expected['d'])
    mean = states['mean'].rise_sum / states['mean'].rise_count
    last = states['last'].rise_sum / states['last'].rise_count
    for actual, key in ((mean, 'mean_score'), (last, 'ausam1_score')):
      np.testing.assert_allclose(actual, expected[key], rtol=1e-6)
    np.testing.assert_array_equal(states['mean'].rise_count, expected['count'])
    updates, base_state = base.update(grads, base_state)
    params = optax.apply_updates(params, updates)
    close(params, expected['w'])


def test_fsam_variants_agree_at_sigma_1():
  # The printed direction is the decay times that of the code.
  gradient, average = jnp.asarray([0.7, -1.3]), jnp.asarray([0.2, 0.4])
  directions = {}
  for order in ('code', 'paper'):
    part = ascent.friendly(1.0, 0.6, order)
    state = part.init(average)._replace(ema=average)
    directions[order], _ = part.update(gradient, state, step=jnp.asarray(3))
  close(directions['paper'], 0.6 * directions['code'])


def test_reuse_adds_exactly_the_stored_psf():
  reuse = descent.reuse_psf(horizon=2)
  gradient, psf = jnp.asarray([1.0, 2.0]), jnp.asarray([0.5, -0.5])
  state = reuse.init(gradient)
  state = reuse.update(gradient, gradient + psf, state, jnp.asarray(0))
  for expected in (gradient + psf, gradient + psf, gradient, gradient):
    close(reuse.on_plain(gradient, state, jnp.asarray(1)), expected)
    state = reuse.update(gradient, None, state, jnp.asarray(1))


@pytest.mark.parametrize(
  ('far', 'perturbs'), [(-np.inf, True), (np.inf, False)]
)
@pytest.mark.parametrize('gradient', [0.0, 1.0])
def test_an_infinite_threshold_perturbs_always_or_never(
  far, perturbs, gradient
):
  for lambda1, lambda2, step in ((far, far, 0), (far, 1.0, 3), (1.0, far, 0)):
    part = cadence.gradient_surge(9, lambda1, lambda2)
    at = jnp.asarray(step), jnp.asarray([gradient])
    assert bool(part.decide(part.init(), *at)) == perturbs


def test_a_radius_tied_to_an_injected_rate():
  def make(top, bottom):
    return sam_optax.sam(
      sam_optax.rho_schedule(
        0.1, rho_max=0.2, rho_min=0.1, lr_max=top, lr_min=bottom
      )
    )

  params, grads = jnp.ones(2), jnp.asarray([3.0, 4.0])
  for top, bottom, radius in ((0.1, 0.1, 0.2), (0.2, 0.0, 0.15)):
    points = []
    tx = optax.inject_hyperparams(make)(top=top, bottom=bottom)

    def second(point, points=points):
      jax.debug.callback(points.append, point)
      return point

    jax.jit(lambda s, tx=tx, f=second: tx.update(grads, s, params, grad_fn=f))(
      tx.init(params)
    )
    jax.effects_barrier()
    assert np.linalg.norm(points[0] - params) == pytest.approx(radius, 1e-5)


@pytest.mark.parametrize('rate', [1, np.int32(1), lambda step: step + 1])
def test_a_rate_that_is_a_whole_number(rate):
  rho = sam_optax.rho_schedule(rate, 0.2, 0.1, lr_max=2.0, lr_min=0.5)
  close(rho(jnp.int32(0)), 0.1 + 0.1 / 3)


def test_aesam_controller():
  golden = GOLDEN['ae_sam_controller_only']
  controller = cadence.gradient_surge(golden['T'])
  state = controller.init()
  for step, (q, expected) in enumerate(
    zip(golden['q'], golden['steps'], strict=True)
  ):
    gradient = jnp.sqrt(jnp.asarray([q]))
    decided = controller.decide(state, jnp.asarray(step), gradient)
    state = controller.update(gradient, None, state, jnp.asarray(step))
    close(state.surge_mean, expected['mu'])
    close(state.surge_variance, expected['var'])
    threshold = expected['mu'] + expected['c'] * np.sqrt(expected['var'])
    close(threshold, expected['threshold'])
    assert bool(decided) == expected['sam']


def test_bsam(monkeypatch):
  golden = GOLDEN['bsam']
  noise = jnp.asarray(golden['noise'])
  monkeypatch.setattr(
    _random, 'normal_like', lambda key, step, like: noise[step]
  )
  problem = problems.Quadratic()
  method = sam_optax.bsam(
    golden['lr'],
    golden['N'],
    golden['rho'],
    golden['beta1'],
    golden['beta2'],
    golden['damping'],
    prior_precision=golden['wd'] * golden['N'],
  )
  tx = optax.chain(method, optax.sgd(1.0))
  params, state = problem.start, tx.init(problem.start)
  for step, expected in enumerate(golden['steps']):
    points = []

    def grad_fn(w, points=points, batch=problem.batch(step)):  # noqa: B008
      points.append(w)
      return jax.grad(problem.loss)(w, batch)

    updates, state = tx.update(params * 0, state, params, grad_fn=grad_fn)
    close(points[0], expected['w_noisy'])
    close(grad_fn(points[1]), expected['g_pert'])
    params = optax.apply_updates(params, updates)
    close(params, expected['m'])
    close(optax.tree.get(state, 'precision'), expected['s'])
    close(optax.tree.get(state, 'momentum'), expected['mom'])


@pytest.mark.parametrize(
  ('name', 'variant'),
  [
    ('esam_beta0.6_gamma0.5_strict_cutoff_code', 'code'),
    ('esam_beta0.6_gamma0.5_top_k_paper', 'paper'),
  ],
)
def test_esam(name, variant, monkeypatch):
  golden = GOLDEN[name]['steps']
  masks = jnp.asarray([step['mask'] for step in golden])
  # A draw below beta keeps its tensor.
  monkeypatch.setattr(_random, 'uniforms', lambda key, step, n: 1 - masks[step])
  problem = problems.Regression()
  # The masked tensors are the two coordinates.
  params = list(problem.start)
  method = sam_optax.esam(0.1, beta=0.6, gamma=0.5, variant=variant)
  state, base = method.init(params), optax.sgd(0.1)
  base_state = base.init(params)

  def losses(w, batch):
    return problem.losses(jnp.stack(w), batch)

  for expected in golden:
    _, grads, state = method.value_and_grad(
      losses, params, state, (problem.x, problem.y)
    )
    close(grads, expected['g2'])
    updates, base_state = base.update(grads, base_state)
    params = optax.apply_updates(params, updates)
    close(params, expected['w'])


def test_esam_keeps_the_listed_examples():
  for name, variant in (
    ('esam_beta0.6_gamma0.5_strict_cutoff_code', 'code'),
    ('esam_beta0.6_gamma0.5_top_k_paper', 'paper'),
  ):
    between = selection.most_sensitive(0.5, variant).between
    for step in GOLDEN[name]['steps']:
      rise = jnp.asarray(step['diff'])
      kept = between(jnp.zeros_like(rise), rise)
      assert sorted(kept.tolist()) == step['selected']


@pytest.mark.parametrize(
  ('gamma', 'variant', 'number'),
  [
    (0.98, 'code', 979),
    (0.99, 'code', 1000),
    (0.995, 'code', 1000),
    (0.995, 'paper', 995),
    (1.0, 'code', 1000),
  ],
)
def test_esam_keeps_all_of_a_batch_where_the_code_does(gamma, variant, number):
  rise = jnp.arange(1000.0)
  kept = selection.most_sensitive(gamma, variant).between(0 * rise, rise)
  assert kept.shape == (number,)


@pytest.mark.parametrize('lam', [0.3, 0.8])
def test_saf_and_mesa_loss(lam):
  golden = GOLDEN[f'saf_mesa_lambda{lam}_tau5']
  logits = jnp.asarray(golden['logits'])
  earlier = jnp.asarray(golden['ref_logits'])
  close(trajectory.divergence(logits, earlier, 5.0), golden['kl_per_sample'])

  def loss(logits):
    kl = trajectory.divergence(logits, earlier, 5.0)
    return lam * 25 * jnp.mean(kl)

  close(loss(logits), golden['traj_loss'])
  close(jax.grad(loss)(logits), golden['traj_grad_wrt_logits'])
  labels = jnp.asarray(golden['labels'])
  ce = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
  close(jnp.mean(ce), golden['ce'])
  smooth = optax.smooth_labels(jax.nn.one_hot(labels, 3), 0.1)
  smoothed = jnp.mean(optax.softmax_cross_entropy(logits, smooth))
  close(smoothed, golden['ce_label_smoothing0p1_uniformC'])
  close(jnp.mean(ce) + loss(logits), golden['total'])


def test_saf_ring_buffer():
  for table in GOLDEN['saf_ring_buffer']['table']:
    for row in table['rows']:
      slots = trajectory.slots(row['epoch'], table['E_tilde'])
      assert slots == (row['write'], row['read'])


def test_mesa_average():
  golden = GOLDEN['mesa_ema']
  method = sam_optax.mesa(decay=golden['decay'])
  state = method.init(jnp.asarray(golden['v0']))

  def losses(w, batch):
    return w * batch, {'logits': w * jnp.ones((2, 2))}

  for w, expected in zip(golden['w'], golden['v'], strict=True):
    _, _, state = method.value_and_grad(
      losses, jnp.asarray(w), state, jnp.ones(2)
    )
    close(state.average, expected)
