"""The figures of the papers at the size of scikit-learn's digits.

python -m train.sweep --config=configs/digits_figures.py --methods=sgd,sam \
  --seeds=3 --workdir=runs/parts

A small MLP without normalisation on 8x8 digits of which 40 % have a wrong
label: methods differ where labels are wrong, and a run takes seconds, also with
the gradient of the whole training set in every step. results/figures.md has the
command of each figure. All numbers are our choice.
"""

from configs import digits
from train import config as train_config

RHO = 0.2
_SIZE = digits.REFERENCES['sam_full']  # of the training set

# The arguments of a method, and the examples of its second gradient source.
VARIANTS = {
  'sgd': ('identity', {}, None),
  'sam': ('sam', {'rho': RHO}, None),
  'sam_full': ('sam_full', {'rho': RHO}, _SIZE),
  'sam_noise': ('sam_noise', {'rho': RHO}, _SIZE),
  'sam_db': ('sam_db', {'rho': RHO}, 64),
  'fsam': ('fsam', {'rho': RHO, 'decay': 0.6}, None),
  'gsam': ('gsam', {'rho': RHO}, None),
  'rsam': ('rsam', {'rho': RHO}, None),
  'rgsam': ('rgsam', {'rho': RHO}, None),
  'sam_random': ('sam_random', {'rho': RHO}, None),
  'ausam_1': (
    'ausam',
    {'rho': RHO, 'ramp_epochs': 15, 'history': 'last'},
    None,
  ),
  'ausam': ('ausam', {'rho': RHO, 'ramp_epochs': 15}, None),
}


def get_config(variant: str = 'sam'):
  name, changes, reference = train_config.pick_variant(variant, VARIANTS)
  config = digits.get_config('sam')
  config.model = {'name': 'mlp', 'hidden': (128,)}
  config.epochs = 100
  config.eval_every = 100
  config.augment.pad = 0
  config.data.label_noise = 0.4
  config.checkpoint.every = 0
  config.method = train_config.method(name, **changes)
  config.reference.batch_size = reference
  return config
