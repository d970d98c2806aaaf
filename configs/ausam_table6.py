"""AUSAM, table 6: quantised networks, weights of 2 bits and activations of 4.

python -m train --config=configs/ausam_table6.py:resnet18-cifar10 \
  --workdir=runs/resnet18-cifar10
python -m train.sweep --config=configs/ausam_table6.py \
  --methods='resnet18-cifar10-*' --workdir=runs/ausam_table6

The first command trains the float network that the quantised ones start from;
`--config.model.pretrained=FOLDER` names another folder. The
accuracies of SGD and SAM are those of `configs/arsam_table8.py`, digit for
digit, where the weights have 4 bits.
"""

from configs import ausam, published, settings
from train import config as train_config

TABLE = published.title('ausam', 6)
PUBLISHED = published.table('ausam', 6)
VARIANTS = settings.trained(PUBLISHED)


def get_config(variant: str = 'resnet18-cifar10'):
  row = train_config.pick_variant(variant, VARIANTS)
  return ausam.config(row)
