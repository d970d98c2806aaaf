"""AUSAM, table 5: pose on MPII with SimCC.

python -m train.sweep --config=configs/ausam_table5.py \
  --workdir=runs/ausam_table5

`--config.data.name` is the folder of MPII with `annot` and `images`, and
`--config.model.pretrained` the file of the weights from ImageNet, None for
none. That the network is HRNet is known from `configs/arsam_table4.py`, whose
numbers of Adam and SAM these are, rounded.
"""

from configs import ausam, published, settings
from train import config as train_config

TABLE = published.title('ausam', 5)
PUBLISHED = published.table('ausam', 5)
VARIANTS = settings.trained(PUBLISHED)


def get_config(variant: str = 'simcc_hrnet-mpii-adam'):
  row = train_config.pick_variant(variant, VARIANTS)
  return ausam.config(row)
