"""A small ResNet on scikit-learn's 8x8 digits: the quickest real run.

python -m train --config=configs/digits.py --workdir=runs/digits
python -m train --config=configs/digits.py:fsam --workdir=runs/fsam
"""

from train import config as train_config

STEPS_PER_EPOCH = 1437 // 64

# The papers' segment of 50 steps is for runs 200 times as long.
SEGMENTS = {'segment': 10, 'warmup_steps': 3 * STEPS_PER_EPOCH}
ARSAM = {'rho': 0.05, **SEGMENTS}

# The methods' arguments that differ from their defaults, by variant. Chosen
# for this data set: no paper trains on it.
VARIANTS = {
  'sgd': ('identity', {}),
  'sam': ('sam', {'rho': 0.05}),
  'asam': ('asam', {'rho': 0.5}),
  'fishersam': ('fishersam', {'rho': 0.05}),
  'fsam': ('fsam', {'rho': 0.05, 'decay': 0.6}),
  'fasam': ('fasam', {'rho': 0.5, 'decay': 0.6}),
  'vasso': ('vasso', {'rho': 0.05}),
  'rsam': ('rsam', {'rho': 0.05}),
  'rgsam': ('rgsam', {'rho': 0.05}),
  'gsam': ('gsam', {'rho': 0.05}),
  'gnp': ('gnp', {'rho': 0.05}),
  'wsam': ('wsam', {'rho': 0.05, 'gamma': 0.8}),
  'wsam_decoupled': ('wsam_decoupled', {'rho': 0.05, 'gamma': 0.8}),
  'stable_sam': ('stable_sam', {'rho': 0.05}),
  'sam_on': ('sam_on', {'rho': 0.5}),
  'gcsam': ('gcsam', {'rho': 0.05}),
  'unified_sam': ('unified_sam', {'rho': 0.05}),
  'multi_step_sam': ('multi_step_sam', {'rho': 0.05}),
  'late_sam': ('late_sam', {'rho': 0.05, 'start': 10 * STEPS_PER_EPOCH}),
  'sam_k': ('sam_k', {'rho': 0.05}),
  'ss_sam': ('ss_sam', {'rho': 0.05}),
  'looksam': ('looksam', {'rho': 0.05}),
  'aesam': ('aesam', {'rho': 0.05}),
  'aelooksam': ('aelooksam', {'rho': 0.05}),
  'vsam': ('vsam', {'rho': 0.05, **SEGMENTS}),
  'arsam': ('arsam', ARSAM),
  'arsam_a': ('arsam', {**ARSAM, 'horizon': 0}),
  'ausam': ('ausam', {'rho': 0.05, 'ramp_epochs': 3}),
  'ausam_1': ('ausam', {'rho': 0.05, 'ramp_epochs': 3, 'history': 'last'}),
  'arsam_ausam': ('arsam_ausam', {**ARSAM, 'ramp_epochs': 3}),
  'sam_random': ('sam_random', {'rho': 0.05}),
  'infobatch': ('infobatch', {}),
  'sam_infobatch': ('sam_infobatch', {'rho': 0.05}),
  'esam': ('esam', {'rho': 0.05}),
  'lpfsgd': ('lpfsgd', {}),
  'bsam': ('bsam', {}),
  'saf': ('saf', {}),
  'mesa': ('mesa', {'decay': 0.95}),
  'sam_full': ('sam_full', {'rho': 0.05}),
  'sam_noise': ('sam_noise', {'rho': 0.05}),
  'sam_db': ('sam_db', {'rho': 0.05}),
}

# How many examples the second gradient source has.
REFERENCES = {'sam_full': 1437, 'sam_noise': 1437, 'sam_db': 64}

# Where SGD's 0.1 does not suit: what is preconditioned has the released code's.
LEARNING_RATES = {'bsam': 0.5}

# What `make demo TASK=classification` puts side by side.
DEMO = {
  'SGD': 'sgd',
  'SAM': 'sam',
  'F-SAM': 'fsam',
  'R-SAM': 'rsam',
  'ARSAM': 'arsam',
}


def get_config(variant: str = 'sam'):
  config = train_config.default()
  config.epochs = 20
  config.batch_size = 64
  config.data.name = 'digits'
  config.model = {'name': 'resnet', 'widths': (16, 32), 'blocks': (1, 1)}
  config.augment.pad = 1
  config.checkpoint.every = 5 * STEPS_PER_EPOCH
  name, changes = train_config.pick_variant(variant, VARIANTS)
  config.method = train_config.method(name, **changes)
  config.optimizer.learning_rate = LEARNING_RATES.get(variant, 0.1)
  config.reference.batch_size = REFERENCES.get(variant)
  return config
