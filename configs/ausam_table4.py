"""AUSAM, table 4: against other ways to leave out examples.

python -m train --config=configs/ausam_table4.py:resnet18-cifar100-sam_random \
  --workdir=runs/pruning

InfoBatch records either loss of SAM: `clean` before the perturbation,
`perturbed` after it. The table names no network; ResNet-18 follows from its
speeds and accuracies.
"""

from configs import ausam, published, settings
from train import config as train_config

TABLE = published.title('ausam', 4)
PUBLISHED = published.table('ausam', 4, 'loss')
VARIANTS = settings.trained(PUBLISHED)


def get_config(variant: str = 'resnet18-cifar100-sgd'):
  row = train_config.pick_variant(variant, VARIANTS)
  return ausam.config(row)
