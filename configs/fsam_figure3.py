"""F-SAM, figure 3: SAM and F-SAM over the radius.

python -m train --config=configs/fsam_figure3.py:resnet18-cifar100-rho0.4-fsam \
  --workdir=runs/radius

The text names CIFAR-100 only, and gives accuracies at the best radius of SAM
and at twice that. The accuracy at the best one is that of ResNet-18 with radius
0.2 in table 2. The other radii are our choice.
"""

from configs import fsam, published
from train import config as train_config

TABLE = published.title('fsam', 3, 'figure')
_VALUES = published.figure('fsam', 3)
_ACCURACIES = {
  ('sam', 0.2): _VALUES['cifar100_sam_at_best_rho'],
  ('sam', 0.4): _VALUES['cifar100_sam_at_twice_best_rho'],
  ('fsam', 0.4): _VALUES['cifar100_fsam_at_twice_best_rho'],
}
VARIANTS = published.named(
  (
    published.Row(
      accuracy=_ACCURACIES.get((method, rho)),
      model='resnet18',
      dataset='cifar100',
      method=method,
      setting={'rho': rho},
    )
    for rho in (0.05, 0.1, 0.2, 0.4, 0.8)
    for method in ('sam', 'fsam')
  ),
  'rho',
)
PUBLISHED = {
  name: row for name, row in VARIANTS.items() if row.accuracy is not None
}


def get_config(variant: str = 'resnet18-cifar100-rho0.05-sam'):
  row = train_config.pick_variant(variant, VARIANTS)
  return fsam.cifar(row, rho=row.setting['rho'])
