"""AUSAM, table 4: against a random part of the batch, and pruned epochs.

python -m train --config=configs/ausam_table4.py --workdir=runs/pruning

InfoBatch records either of SAM's two losses. Not checked in the paper: that
this is its fourth table, and the network. PUBLISHED is empty: the paper's
accuracies were not at hand.
"""

from configs import recipes, settings
from train import config as train_config

TABLE = 'AUSAM, table 4: other ways of choosing examples'
VARIANTS = settings.grid(
  ['resnet18'],
  ['cifar10', 'cifar100'],
  ['random', 'infobatch_clean', 'infobatch_perturbed', 'ausam'],
)
PUBLISHED = {}


def get_config(variant: str = 'resnet18-cifar10-random'):
  row = train_config.pick_variant(variant, VARIANTS)
  rho = recipes.accelerated_numbers(row).rho
  # InfoBatch's released code. A run has the steps of whole epochs, and so more
  # of the pruned ones.
  infobatch = {'rho': rho, 'share': 0.5, 'delta': 0.875}
  return recipes.accelerated(
    row,
    random=('sam_random', {'rho': rho, 'keep': 0.5}),  # AUSAM's keep
    infobatch_clean=('sam_infobatch', {**infobatch, 'loss': 'clean'}),
    infobatch_perturbed=('sam_infobatch', {**infobatch, 'loss': 'perturbed'}),
  )
