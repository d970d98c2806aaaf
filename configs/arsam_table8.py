"""ARSAM, table 8: quantised networks, 4 bits for weights and activations.

python -m train --config=configs/arsam_table8.py:resnet18-cifar10 \
  --workdir=runs/resnet18-cifar10
python -m train.sweep --config=configs/arsam_table8.py \
  --methods='resnet18-cifar10-*' --workdir=runs/arsam_table8

The first command trains the float network that the quantised ones start from;
`--config.model.pretrained=FOLDER` names another folder. The
accuracies of SGD and SAM are those of `configs/ausam_table6.py`, digit for
digit, where the weights have 2 bits.
"""

from configs import arsam, published, settings
from train import config as train_config

TABLE = published.title('arsam', 8)
PUBLISHED = published.table('arsam', 8)
VARIANTS = settings.trained(PUBLISHED)


def get_config(variant: str = 'resnet18-cifar10'):
  row = train_config.pick_variant(variant, VARIANTS)
  return arsam.config(row)
