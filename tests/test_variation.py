"""vSAM: the quota of a segment, what it follows, and the PSF that fades."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sam_optax
from sam_optax import ascent, cadence, descent
from tests import driving

SEGMENT, BLOCKS, WARMUP = 6, 2, 13


@pytest.mark.parametrize('probability', [0.0, 0.2, 0.7, 1.0])
def test_a_quota_is_drawn_as_step_by_step(probability):
  draws = np.random.default_rng(0).uniform(size=(50, 9)).astype(np.float32)
  for quota in range(10):
    chosen = jax.vmap(cadence.draw_quota, (0, None, None))(
      draws, jnp.float32(probability), jnp.int32(quota)
    )
    assert np.all(np.sum(chosen, axis=1) == quota)
    for row, found in zip(draws, np.asarray(chosen), strict=True):
      taken = 0
      for position, draw in enumerate(row):
        missing = quota - taken
        drawn = missing > 0 and draw < np.float32(probability)
        takes = drawn or len(row) - position <= missing
        assert found[position] == takes
        taken += takes


class Record:
  """What the released program remembers, in plain Python."""

  def __init__(self):
    self.ratios, self.norms, self.variances, self.samples = [], [], [], 1.0

  def take(self, norm, gradient_norm):
    self.ratios.append(norm / gradient_norm)
    self.norms.append(norm)
    last = np.sort(self.norms[-SEGMENT:])
    known = len(last) == SEGMENT
    parts = np.split(last, BLOCKS) if known else []
    variance = np.mean([np.var(part, ddof=1) for part in parts] or [0.0])
    self.variances.append(variance)

  def begin(self, alpha, alpha_variance, most):
    rise = alpha * self.change(self.ratios)
    rise += alpha_variance * self.change(self.variances)
    self.samples = min(max(self.samples * (1 + rise), 1), most)

  @staticmethod
  def change(values):
    last = values[-SEGMENT:]
    pairs = zip(last[:-1], last[1:], strict=True)
    changes = [(new - old) / old for old, new in pairs if old > 0]
    return float(np.clip(np.mean(changes or [0.0]), -1, 1))


def walk(part, norms, gradient_norms):
  """(decision, state after the step) for each step on PSFs of these norms.

  They are those of the leaf `a` alone.
  """
  state = part.init()
  for step, pair in enumerate(zip(norms, gradient_norms, strict=True)):
    step = jnp.asarray(step, jnp.int32)
    perturb = bool(part.decide(state, step))
    norm, gradient_norm = map(float, pair)
    gradient = {'a': jnp.asarray([gradient_norm]), 'b': jnp.zeros([1])}
    there = {'a': gradient['a'] + norm, 'b': gradient['b'] + 100.0}
    state = part.update(gradient, there if perturb else None, state, step)
    yield perturb, state


def only_a(params):
  return {name: name == 'a' for name in params}


@pytest.mark.parametrize('warmup', [WARMUP, 3, 0])
@pytest.mark.parametrize('p_max', [0.8, 0.5])
@pytest.mark.parametrize('alphas', [(0.3, 0.0), (0.0, 0.5), (0.4, 0.2)])
def test_the_quota_follows_the_ratio_and_the_variance(warmup, p_max, alphas):
  # Beyond a full record it is the released program's; before, unknown changes
  # are left out.
  generator = np.random.default_rng(1)
  trend = 1.03 ** np.arange(80)
  norms = trend * generator.uniform(1, 1.5, 80)
  gradient_norms = generator.uniform(2, 2.2, 80)
  part = cadence.quota(
    *alphas, SEGMENT, warmup, blocks=BLOCKS, p_max=p_max, norm_mask=only_a
  )
  record, taken, quotas = Record(), 0, []
  most = int(SEGMENT * p_max)
  for step, (perturb, state) in enumerate(walk(part, norms, gradient_norms)):
    number = step + 1 - warmup
    if number <= 0:
      assert perturb
    else:
      taken += perturb
    if perturb:
      record.take(norms[step], gradient_norms[step])
    if number + 1 > 0 and (number + 1) % SEGMENT == 0:
      # The first segment is one step shorter, and plain.
      assert taken == (int(quotas[-1]) if quotas else 0)
      record.begin(*alphas, most)
      quotas.append(float(state.samples))
      taken = 0
    assert float(state.samples) == pytest.approx(record.samples, rel=1e-4)
    np.testing.assert_allclose(state.probability, state.samples / SEGMENT)
  assert len(quotas) > 10
  if warmup:
    assert len(set(quotas)) > 1
    assert 1 <= min(quotas) and max(quotas) <= most


def test_an_unusable_norm_is_not_recorded():
  part = cadence.quota(0.3, 0.3, SEGMENT, 100, blocks=BLOCKS)
  good, big, none = jnp.ones(1), jnp.full(1, 1e30), jnp.zeros(1)
  state = part.update(good, 2 * good, part.init(), jnp.int32(0))
  for gradient, there in [(good, big), (none, good), (good, good)]:
    later = part.update(gradient, there, state, jnp.int32(1))
    assert driving.equal(later, state)


@pytest.mark.parametrize('number', ['alpha', 'alpha_variance', 'p_max'])
def test_a_schedule_acts_from_its_step_on(number):
  constants = {'alpha': 0.3, 'alpha_variance': 0.3, 'p_max': 0.6}
  start = WARMUP + 5 * SEGMENT

  def samples(value):
    part = cadence.quota(
      segment=SEGMENT,
      warmup_steps=WARMUP,
      blocks=BLOCKS,
      norm_mask=only_a,
      **(constants | {number: value}),
    )
    generator = np.random.default_rng(1)
    norms = 1.1 ** np.arange(60) * generator.uniform(1, 1.5, 60)
    steps = walk(part, norms, np.full(60, 2.0))
    return [float(state.samples) for _, state in steps]

  constant = samples(constants[number])
  assert samples(lambda step: jnp.asarray(constants[number])) == constant
  other = {'alpha': -0.3, 'alpha_variance': -2.0, 'p_max': 0.2}[number]
  schedule = lambda step: jnp.where(step < start, constants[number], other)
  changed = samples(schedule)
  assert changed[:start] == constant[:start]
  assert changed[start:] != constant[start:]


def test_a_segment_must_hold_its_blocks():
  with pytest.raises(ValueError, match=r'Given segment=9 and blocks=5.*10'):
    sam_optax.vsam(segment=9)
  assert sam_optax.vsam(segment=10)


@pytest.mark.parametrize('horizon', [6, 2, None])
def test_a_psf_fades_over_the_horizon(horizon):
  part = descent.reuse_psf(horizon, decay=0.7)
  gradient, there = {'w': jnp.asarray([1.0, 2.0])}, {'w': jnp.asarray([4.0, 0])}
  state, step = part.init(gradient), jnp.int32(0)
  # Before the first SAM step there is nothing to reuse.
  assert driving.equal(part.on_plain(gradient, state, step), gradient)
  assert driving.equal(part.on_perturbed(gradient, there, state, step), there)
  state = part.update(gradient, there, state, step)
  for n in range(1, 9):
    reused = part.on_plain(gradient, state, step)['w'] - gradient['w']
    factor = 0.7**n if horizon is None or n <= horizon else 0
    np.testing.assert_allclose(reused, factor * np.array([3, -2]), rtol=1e-5)
    state = part.update(gradient, None, state, step)


def test_without_decay_a_psf_is_reused_bit_for_bit():
  def run(**options):
    part = descent.reuse_psf(3, **options)
    method = sam_optax.sharpness_aware(
      ascent.gradient(0.1), cadence.every(4), part
    )
    return driving.results(driving.drive(method))

  plain = run()
  assert driving.equal(run(decay=lambda step: 1.0), plain)
  assert driving.equal(run(decay=1.0), plain)
  assert not driving.equal(run(decay=0.9), plain)
