"""R-SAM, figure 3: against GSAM, and how much rho and lambda matter.

python -m train --config=configs/rsam_figure3.py:vit_b16-imagenet-lambda4-rsam \
  --workdir=runs/lambda

Panel a has the variants of SAM against GSAM, without mixup and RandAugment as
the rows of table 3 with the same accuracy; panels b and c change one number
of R-SAM at a time. Their values are not in the text: our choice. A radius is
the one at the peak of the learning rate; it falls to 0.6 of that, as in the
released code.
"""

from configs import published, rsam
from train import config as train_config

TABLE = published.title('rsam', 3, 'figure')
_VALUES = published.figure('rsam', 3)
_METHODS = ('sam', 'gsam', 'rsam', 'rgsam')
_SETTINGS = (
  *({'rho': rho} for rho in (1.5, 2.0, 3.0, 3.5)),
  *({'lambda': weight} for weight in (0.5, 1, 4, 8)),
)


def _row(method, setting):
  return published.Row(
    accuracy=None if setting else _VALUES.get(method),
    model='vit_b16',
    dataset='imagenet',
    method=method,
    setting=setting,
  )


VARIANTS = published.named(
  [
    *(_row(method, {}) for method in _METHODS),
    *(_row('rsam', setting) for setting in _SETTINGS),
  ],
  'rho',
  'lambda',
)
PUBLISHED = {
  name: row for name, row in VARIANTS.items() if row.accuracy is not None
}


def get_config(variant: str = 'vit_b16-imagenet-sam'):
  row = train_config.pick_variant(variant, VARIANTS)
  changes = {}
  if 'rho' in row.setting:
    first = row.setting['rho']
    changes['rho'] = rsam.following_the_rate(first, 0.6 * first)
  if 'lambda' in row.setting:
    changes['lam'] = float(row.setting['lambda'])
  return rsam.imagenet(row, **changes)
