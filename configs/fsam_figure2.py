"""F-SAM, figure 2: what the gradient of SAM owes to its batch.

python -m train --config=configs/fsam_figure2.py:resnet18-cifar100-sam_db \
  --workdir=runs/parts

Panel a has the base optimizer, SAM and SAM-full on four sets; panel b has SGD,
SAM-db (perturbed along another batch) and SAM-noise in four settings; panel c
has SAM perturbed along a batch k times as large that contains the one of the
step, for k from 1 to 10.

The text names the sets of panel a, and ResNet-18 on CIFAR-100 for panel c. That
the Pet and Flower sets are those of the transfer runs follows from AdamW; the
other networks, and the settings of panel b, are our choice. For the cost of
SAM-full and SAM-noise see fsam_figure1.py.
"""

import itertools

from configs import fsam, published
from train import config as train_config

TABLE = published.title('fsam', 2, 'figure')
_FIRST, _LAST = published.figure('fsam', 2)['k_range']
_SCRATCH = itertools.product(
  ('resnet18', 'vgg16_bn'),
  ('cifar10', 'cifar100'),
  ('sgd', 'sam', 'sam_full', 'sam_db', 'sam_noise'),
)
_TRANSFER = itertools.product(
  ('deit_s',), ('oxford_iiit_pet', 'flowers102'), ('adamw', 'sam', 'sam_full')
)
VARIANTS = published.named(
  [
    *(
      published.Row(model=model, dataset=dataset, method=method)
      for model, dataset, method in (*_SCRATCH, *_TRANSFER)
    ),
    *(
      published.Row(
        model='resnet18', dataset='cifar100', method='sam_db', setting={'k': k}
      )
      for k in range(_FIRST, _LAST + 1)
    ),
  ],
  'k',
)
PUBLISHED = {}  # the text gives no value


def get_config(variant: str = 'resnet18-cifar10-sgd'):
  row = train_config.pick_variant(variant, VARIANTS)
  if row.model != 'deit_s':
    return fsam.with_reference(fsam.cifar(row), row)
  config = fsam.transfer(row)
  # The whole set must be at hand for its gradient, so it is kept in memory.
  config.data.update(stream=False, crop='none')
  return fsam.with_reference(config, row)
