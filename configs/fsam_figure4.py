"""F-SAM, figure 4: SGD, SAM and F-SAM over the batch size.

python -m train --workdir=runs/batch \
  --config=configs/fsam_figure4.py:resnet18-cifar100-batch512-fsam

All else stays, the learning rate too. The text names neither the network nor
the set: our choice, those of figure 3.
"""

from configs import fsam, published
from train import config as train_config

TABLE = published.title('fsam', 4, 'figure')
VARIANTS = published.named(
  (
    published.Row(
      model='resnet18',
      dataset='cifar100',
      method=method,
      setting={'batch_size': size},
    )
    for size in published.figure('fsam', 4)['batch_sizes']
    for method in ('sgd', 'sam', 'fsam')
  ),
  'batch_size',
)
PUBLISHED = {}  # the text gives no value


def get_config(variant: str = 'resnet18-cifar100-batch128-sgd'):
  row = train_config.pick_variant(variant, VARIANTS)
  config = fsam.cifar(row)
  config.batch_size = row.setting['batch_size']
  return config
